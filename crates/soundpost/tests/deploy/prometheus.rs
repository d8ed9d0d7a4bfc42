//! The rules and the scrape configuration, judged by `promtool`.

use std::process::Command;

use serde_json::json;

use crate::{
    metrics::dashboard_queries,
    tools::{Folder, path, succeed, text},
};

fn promtool(words: &[&str]) -> String {
    succeed(Command::new("promtool").args(words).current_dir(path("prometheus")))
}

#[test]
fn the_rules_and_the_configuration_are_sound() {
    promtool(&["check", "rules", "rules.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    promtool(&["test", "rules", "rules_test.yml"]);
    let (rules, tests) = (text("prometheus/rules.yml"), text("prometheus/rules_test.yml"));
    for alert in alerts(&rules) {
        assert_eq!(
            tests.matches(&format!("alertname: {alert}")).count(),
            2,
            "{alert}: once quiet, once firing"
        );
    }
}

#[test]
fn each_alert_has_a_place_in_the_operating_guide() {
    let guide = text("../docs/operating.md");
    let rules = text("prometheus/rules.yml");
    for alert in alerts(&rules) {
        let anchor = format!("docs/operating.md#{}", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{anchor}");
        assert!(guide.contains(&format!("\n### {alert}\n")), "{alert}");
    }
}

#[test]
fn the_queries_of_the_dashboard_are_sound() {
    let rules: Vec<_> = dashboard_queries()
        .into_iter()
        .enumerate()
        // What Grafana puts in the place of its variables.
        .map(|(number, query)| (number, query.replace("$__rate_interval", "1m")))
        .map(|(number, expr)| json!({ "record": format!("query:{number}"), "expr": expr }))
        .collect();
    assert!(rules.len() > 20);
    let folder = Folder::new();
    // JSON is YAML.
    let file =
        folder.write("queries.yml", &json!({ "groups": [{ "name": "g", "rules": rules }] }).to_string());
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

fn alerts(rules: &str) -> impl Iterator<Item = &str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "))
}
