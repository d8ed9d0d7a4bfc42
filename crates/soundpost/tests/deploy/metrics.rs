//! That what is watched exists: every metric and label of the rules, the dashboard and the operating guide.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use soundpost_client::{Client, Publisher};
use soundpost_protocol::{channel::ChannelKind, close::CloseReason, connection::Refused};
use soundpost_server::{
    metrics::{ClientEventResult, TriggerResult},
    tls::Handshake,
    webhook::metrics::Dropped,
};
use yaml_rust2::YamlLoader;

use crate::{
    promql::{Names, names},
    server::{Server, app, block_on, channel, client, fetch, options},
    tools::{Folder, Running, certificate, text, until},
};

/// Labels that Prometheus gives to whatever it scrapes.
const OF_TARGETS: [&str; 2] = ["job", "instance"];
/// A metric that Prometheus makes itself.
const OF_PROMETHEUS: &str = "up";

/// Every query of the dashboard: its panels, its variables, its annotations.
pub(crate) fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("grafana/soundpost.json")).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard, "expr", &mut queries);
    let mut variables = Vec::new();
    collect(&dashboard["templating"], "definition", &mut variables);
    // label_values(METRIC, LABEL), where METRIC may have matchers with commas in them
    queries.extend(variables.iter().map(|query| {
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = inner.rsplit_once(", ").unwrap();
        format!("count by ({label}) ({metric})")
    }));
    queries
}

fn collect(value: &Value, key: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get(key).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, key, into));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn rule_queries() -> Vec<String> {
    let rules = YamlLoader::load_from_str(&text("prometheus/rules.yml")).unwrap();
    let rules = rules[0]["groups"][0]["rules"].as_vec().unwrap();
    rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

/// Labels of each metric of a scrape, without the metrics that have no sample.
fn samples(scrape: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut samples: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (_head, body) = scrape.split_once("\r\n\r\n").unwrap();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let Some((sample, _)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        samples.entry(name.to_owned()).or_default().extend(labels);
    }
    samples
}

/// A scrape after some of everything: connections, events both ways, goodbyes and refusals.
fn scrape() -> String {
    // Nobody listens there.
    let app_lines = "connections_max = 40\n[[apps.webhooks]]\nurl = \"http://127.0.0.1:9/\"";
    let server = Server::start("connections_max = 50", app_lines, |_| {});
    block_on(async {
        let url = format!("http://{}", server.address);
        let mut publisher = Publisher::new(&url, app(), options()).unwrap();
        let mut one = client(server.address).await;
        let mut other = client(server.address).await;
        for client in [&mut one, &mut other] {
            client.subscribe(&channel("private-a")).await.unwrap();
        }
        publisher.trigger(&[channel("private-a")], "e", "data", None).await.unwrap();
        one.next_named("e").await.unwrap();
        one.whisper(&channel("private-a"), "client-x", json!({})).await.unwrap();
        other.next_named("client-x").await.unwrap();
        assert!(publisher.post("/events", &json!({})).await.is_err());
        let stranger = app().as_ref().clone();
        let stranger = soundpost_protocol::app::App {
            key: soundpost_protocol::app::AppKey::parse("nobody").unwrap(),
            ..stranger
        };
        let refused = Client::connect(&url.replace("http", "ws"), stranger.into(), options()).await;
        assert_eq!(refused.unwrap_err().code(), Some(4001));
        one.close().await.unwrap();
        until("the end of a connection to be counted", || {
            fetch(server.admin, "/metrics").contains("soundpost_closed_total{")
        });
        fetch(server.admin, "/metrics")
    })
}

/// The same from a server that speaks TLS, which has metrics of that.
fn scrape_with_tls() -> String {
    let folder = Folder::new();
    let [certificate, key] = certificate(&folder);
    let lines = format!("[server.tls]\ncertificate = {certificate:?}\nkey = {key:?}");
    let server = Server::start(&lines, "", |_| {});
    fetch(server.admin, "/metrics")
}

/// The same from a server that is one of several.
fn scrape_with_redis() -> String {
    let folder = Folder::new();
    let socket = folder.path("redis.sock");
    let mut redis = Command::new("redis-server");
    redis.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    let _redis = Running::start(redis.stdout(Stdio::null()).current_dir(folder.path("")));
    until("redis to listen", || UnixStream::connect(&socket).is_ok());
    let lines = format!("[redis]\nenabled = true\nurl = \"unix://{}\"", socket.display());
    let server = Server::start(&lines, "", |_| {});
    until("the server to reach it", || {
        fetch(server.admin, "/metrics").contains("\nsoundpost_redis_connected 1\n")
    });
    fetch(server.admin, "/metrics")
}

fn all_samples() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = samples(&scrape());
    for scrape in [scrape_with_tls(), scrape_with_redis()] {
        for (name, labels) in samples(&scrape) {
            all.entry(name).or_default().extend(labels);
        }
    }
    all
}

/// Whether all that `names` names is in the scrape.
fn check(query: &str, names: &Names, samples: &BTreeMap<String, BTreeSet<String>>) {
    let mut labels: BTreeSet<&str> = OF_TARGETS.into();
    for metric in names.metrics.iter().filter(|metric| *metric != OF_PROMETHEUS) {
        let of_metric = samples.get(metric).unwrap_or_else(|| panic!("{query}: there is no {metric}"));
        labels.extend(of_metric.iter().map(String::as_str));
    }
    for label in &names.labels {
        assert!(labels.contains(label.as_str()), "{query}: no metric of it has the label {label}");
    }
    for (metric, label, value) in &names.matchers {
        if OF_TARGETS.contains(&label.as_str()) {
            continue;
        }
        assert!(samples[metric].contains(label), "{query}: {metric} has no label {label}");
        let known: Vec<&str> = match label.as_str() {
            "reason" if metric.starts_with("soundpost_webhooks") => {
                Dropped::ALL.iter().map(|(_, word)| *word).chain(["inbox"]).collect()
            }
            "reason" => CloseReason::ALL
                .iter()
                .map(|reason| reason.word())
                .chain(Refused::ALL.iter().map(|refused| refused.word()))
                .chain(["request_rate", "address"])
                .collect(),
            "result" if metric.starts_with("soundpost_reloads") => vec!["applied", "unchanged", "refused"],
            "result" if metric.starts_with("soundpost_tls") => {
                Handshake::ALL.iter().map(|(_, word)| *word).collect()
            }
            "result" => TriggerResult::ALL
                .iter()
                .map(|(_, word)| *word)
                .chain(ClientEventResult::ALL.iter().map(|(_, word)| *word))
                .collect(),
            "kind" => ChannelKind::ALL.iter().map(|kind| kind.word()).collect(),
            // Any app, by a variable of the dashboard.
            _ => continue,
        };
        assert!(value.split('|').all(|value| known.contains(&value)), "{query}: {label} is never {value}");
    }
}

#[test]
fn every_metric_and_label_that_is_watched_exists() {
    let samples = all_samples();
    let queries = [rule_queries(), dashboard_queries()].concat();
    for query in &queries {
        check(query, &names(query), &samples);
    }
    let mut watched = BTreeSet::new();
    for query in &queries {
        watched.extend(names(query).metrics);
    }
    // And the other way round: what is there is shown, but for the one that says nothing of a Linux process.
    for metric in samples.keys().filter(|metric| *metric != "process_virtual_memory_bytes") {
        assert!(watched.contains(metric), "{metric} is watched nowhere");
    }
}

#[test]
fn every_metric_that_the_operating_guide_names_exists() {
    let samples = all_samples();
    let guide = text("../docs/operating.md");
    let words = guide.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named: BTreeSet<&str> =
        words.filter(|word| word.starts_with("soundpost_") || word.starts_with("process_")).collect();
    assert!(named.len() > 10);
    for name in &named {
        assert!(samples.contains_key(*name), "there is no {name}");
    }
    for metric in samples.keys() {
        assert!(named.contains(metric.as_str()), "the guide does not explain {metric}");
    }
}
