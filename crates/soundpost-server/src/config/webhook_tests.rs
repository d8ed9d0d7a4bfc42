//! `[[apps.webhooks]]`: what it says, what is refused of it, and what is shown.

use std::{fs, sync::Arc};

use soundpost_protocol::webhook::{
    Carrier, HttpTarget, LaravelQueue, Webhook, event::EventKind, target::EventKinds,
};

use super::{
    Files, Flags, Invocation, Report, Settings,
    tests::{APP, Dir, refusal, settings},
};

const HEADERS: &str = "{\"X-Tenant\":7,\"Authorization\":\"Bearer hush\"}";

/// The webhooks of the one app of a file, with these variables.
fn webhooks(environment: &[(&str, &str)], text: &str) -> Vec<Arc<Webhook>> {
    settings(environment, &[("soundpost.toml", &format!("{APP}{text}"))]).apps.remove(0).webhooks
}

fn refused(text: &str) -> String {
    refusal(&[], &[("soundpost.toml", &format!("{APP}{text}"))]).replace(" (soundpost.toml)", "")
}

fn http(webhook: &Webhook) -> &HttpTarget {
    let Carrier::Http(http) = &webhook.carrier else { panic!("{webhook:?}") };
    http
}

fn queue(webhook: &Webhook) -> &LaravelQueue {
    let Carrier::LaravelQueue(queue) = &webhook.carrier else { panic!("{webhook:?}") };
    queue
}

fn check(environment: &[(&str, &str)], dir: &Dir) -> Report {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Report::load(&Flags::default(), environment, &dir.0).unwrap().1
}

#[test]
fn a_file_says_where_what_and_how() {
    let text = "[[apps.webhooks]]\nurl = \"https://a.test/hook?token=hush\"\nevents = [\"member_added\", \"cache_miss\"]\n\
                headers = { X-Tenant = 7, \"Authorization\" = \"Bearer hush\" }\nfilter = { suffix = \"-x\" }\n\
                batch_milliseconds = 50\nrefuse_private_addresses = true\n\
                [[apps.webhooks]]\n[apps.webhooks.laravel_queue]\njob = 'App\\Jobs\\Hook@handle'\nprefix = \"\"\n\
                redis = \"redis://:hush@cache/1\"\n";
    let webhooks = webhooks(&[], text);
    let (first, second) = (http(&webhooks[0]), queue(&webhooks[1]));
    assert_eq!(first.url.to_string(), "https://a.test/hook");
    assert_eq!(
        first.headers.iter().collect::<Vec<_>>(),
        [("Authorization", "Bearer hush"), ("X-Tenant", "7")]
    );
    assert!(first.refuses_private && first.ca.is_none());
    let target = &webhooks[0].target;
    assert_eq!(target.events.iter().collect::<Vec<_>>(), [EventKind::MemberAdded, EventKind::CacheMiss]);
    assert_eq!((target.filter.prefix(), target.filter.suffix()), ("", "-x"));
    assert_eq!((target.batching.wait().as_millis(), target.batching.events_max()), (50, 100));
    assert_eq!(
        (second.job.as_str(), &*second.queue, &*second.prefix),
        ("App\\Jobs\\Hook@handle", "default", "")
    );
    assert_eq!(second.redis.as_deref(), Some("redis://:hush@cache/1"));
    assert_eq!(webhooks[1].target.events, EventKinds::default());
    assert_eq!(webhooks[1].target.batching.events_max(), 1);
}

#[test]
fn variables_say_the_same_and_are_laid_over_the_webhook_of_their_number() {
    let file = "[[apps.webhooks]]\nurl = \"https://a.test\"\nevents = [\"cache_miss\"]\nheaders = { A = \"file\" }\n";
    let of = |name| format!("SOUNDPOST_APPS__0__WEBHOOKS__{name}");
    let variables = [
        ("0__HEADERS", HEADERS),
        ("0__EVENTS", "member_added, member_removed"),
        ("10__URL", "http://b.test"),
        ("9__LARAVEL_QUEUE__JOB", "Hook"),
        ("9__LARAVEL_QUEUE__REDIS", "unix:///run/redis.sock"),
        ("9__FILTER__PREFIX", "private-"),
    ]
    .map(|(name, value)| (of(name), value));
    let mut environment: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    environment.push(("SOUNDPOST_APPS__0__ID", "a"));
    let webhooks = webhooks(&environment, file);
    assert_eq!(http(&webhooks[0]).url.host(), "a.test");
    assert_eq!(http(&webhooks[0]).headers.iter().count(), 2);
    assert_eq!(webhooks[0].target.events.iter().count(), 2);
    assert_eq!((queue(&webhooks[1]).job.as_str(), webhooks[1].target.filter.prefix()), ("Hook", "private-"));
    assert_eq!(http(&webhooks[2]).url.host(), "b.test");
}

#[test]
fn jobs_go_to_the_redis_of_the_nodes_where_no_other_is_named() {
    let text = "[[apps.webhooks]]\nlaravel_queue = { job = \"Hook\", prefix = \"p_\" }\n";
    assert_eq!(queue(&webhooks(&[], &format!("{text}[redis]\nenabled = true\n"))[0]).redis, None);
    let expected = "apps.0.webhooks.0.laravel_queue: the app's Redis is not known; write redis = \
                    \"redis://host:6379/0\", the one that its workers take jobs from, or set redis.enabled if it is \
                    the one that the nodes meet at";
    assert_eq!(refused(text), expected);
}

#[test]
fn a_prefix_that_is_guessed_is_warned_of() {
    let text =
        format!("{APP}[[apps.webhooks]]\nlaravel_queue = {{ job = \"Hook\", redis = \"redis://h\" }}\n");
    let settings = settings(&[], &[("soundpost.toml", &text)]);
    let expected = "apps.0.webhooks.0.laravel_queue.prefix is not written: jobs go to laravel_database_queues:default, but";
    assert!(settings.notes.iter().any(|note| note.text.starts_with(expected)), "{:?}", settings.notes);
}

/// Each text is all that is written of a webhook; the lines begin behind its key.
fn each_is_refused(all: &[(&str, &str)]) {
    for (text, expected) in all {
        let line = refused(&format!("[[apps.webhooks]]\n{text}\n"));
        assert_eq!(line, format!("apps.0.webhooks.0{expected}"), "{text}");
        assert!(!line.contains("hush") && !line.contains('\n'));
    }
}

#[test]
fn what_cannot_be_a_webhook_is_refused_by_its_key() {
    each_is_refused(&[
        ("url = \"app.test\"", ".url: must begin with https:// or http://"),
        (
            "url = \"https://me:hush@app.test\"",
            ".url: holds a user name before its '@'; give an Authorization under headers instead",
        ),
        ("url = true", ".url is not text; write it in quotes"),
        (
            "events = [\"cache_miss\"]",
            ".url is missing: a webhook needs a url, or a laravel_queue with a job",
        ),
        (
            "",
            ": expected tables with keys, as [[apps.webhooks]] makes them, or a number in the variable, as SOUNDPOST_APPS__0__WEBHOOKS__0__URL",
        ),
        (
            "url = \"http://a\"\nlaravel_queue = { job = \"J\" }",
            ".url and apps.0.webhooks.0.laravel_queue.job exclude each other; set one",
        ),
        (
            "url = \"http://a\"\nevents = [\"cache_mis\"]",
            ".events: \"cache_mis\" is no event of webhooks; these are channel_occupied, channel_vacated, member_added, member_removed, client_event, cache_miss, subscription_count",
        ),
        (
            "url = \"http://a\"\nevents = []",
            ".events: names no event, so nothing would ever be sent; leave the key out to have them all",
        ),
    ]);
}

#[test]
fn headers_filters_and_batches_are_refused_by_their_keys() {
    each_is_refused(&[
        (
            "url = \"http://a\"\nheaders = { A = \"hush \" }",
            ".headers: the value of A must be visible ASCII with spaces only inside; its character 5 is not",
        ),
        (
            "url = \"http://a\"\nheaders = { A = [\"hush\"] }",
            ".headers: the value of \"A\" is no text; write it in quotes",
        ),
        (
            "url = \"http://a\"\nheaders = { \"X-Pusher-Key\" = \"k\" }",
            ".headers: X-Pusher-Key is set by Soundpost and cannot be another's",
        ),
        (
            "url = \"http://a\"\nheaders = { \"X.Y\" = \"k\", \"x.y\" = \"l\" }",
            ".headers: x.y is given twice",
        ),
        (
            "url = \"http://a\"\nheaders = \"A: hush\"",
            ".headers: is no JSON object of texts, such as {\"Authorization\":\"Bearer ..\"}",
        ),
        (
            "url = \"http://a\"\nfilter = { prefix = \"a b\" }",
            ".filter.prefix: contains ' ', which no channel name does; allowed are A-Z a-z 0-9 and _ - = @ , . ;",
        ),
        ("url = \"http://a\"\nfilter = \"a\"", ".filter: expected a table of keys"),
        (
            "url = \"http://a\"\nfilter = { prefx = \"a\" }",
            ".filter.prefx: unknown key; did you mean apps.webhooks.filter.prefix?",
        ),
        (
            "url = \"http://a\"\nca = \"ca.pem\"",
            ".ca: is of no use with http://; write https:// in url, or leave it out",
        ),
        (
            "url = \"http://a\"\nbatch_events = 201",
            ".batch_events is 201; expected a whole number from 1 to 200",
        ),
    ]);
}

#[test]
fn queues_that_cannot_be_are_refused_by_their_keys() {
    each_is_refused(&[
        (
            "laravel_queue = { queue = \"q\" }",
            ".laravel_queue.job is missing: the class that Laravel's workers run, as \"App\\\\Jobs\\\\PusherWebhook@handle\"",
        ),
        (
            "laravel_queue = { job = \"a b\" }",
            ".laravel_queue.job: \"a b\" is no job; write a class and its method, as in \"App\\\\Jobs\\\\PusherWebhook@handle\"",
        ),
        (
            "laravel_queue = { job = \"J\", queue = \"\" }",
            ".laravel_queue.queue: \"\" is no name of a queue: it has 1 to 200 characters, no spaces and no control characters",
        ),
        (
            "laravel_queue = { job = \"J\", prefix = \"\\n\" }",
            ".laravel_queue.prefix: is no prefix: at most 200 characters, no control characters",
        ),
        (
            "laravel_queue = { job = \"J\", redis = \"hush@h\" }",
            ".laravel_queue.redis is no URL of Redis; expected redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path[?db=database]",
        ),
        (
            "laravel_queue = { job = \"J\", redis = \"redis://h?hush=1\" }",
            ".laravel_queue.redis has options behind a ? that mean nothing here; of those only db is known",
        ),
        (
            "laravel_queue = { job = \"J\", redis = \"redis://h\" }\nheaders = { A = \"hush\" }",
            ".headers: is for requests to a url; laravel_queue makes none, so leave it out",
        ),
        (
            "laravel_queue = { job = \"J\", redis = \"redis://h\" }\nrefuse_private_addresses = true",
            ".refuse_private_addresses: is for requests to a url; laravel_queue makes none, so leave it out",
        ),
    ]);
}

#[test]
fn a_list_of_another_shape_is_refused_with_the_right_one() {
    for (text, key) in [
        ("webhooks = \"https://a.test\"\n", "webhooks"),
        ("webhooks = [\"https://a.test\"]\n", "webhooks"),
        ("[apps.webhooks]\nurl = \"https://a.test\"\n", "webhooks.url"),
    ] {
        let line = refused(text);
        let expected = format!("apps.0.{key}: expected tables with keys, as [[apps.webhooks]] makes them");
        assert!(line.starts_with(&expected), "{line}");
    }
    for (name, expected) in [
        ("WEBHOOKS", "expected tables with keys"),
        ("WEBHOOKS__URL", "expected tables with keys"),
        ("WEBHOOKS__00__URL", "expected tables with keys"),
        ("WEBHOOKS__70000__URL", "expected tables with keys"),
        ("WEBHOOKS__0__HEADERS__A", "expected all headers as one JSON object of texts"),
        ("WEBHOOKS__0__EVNTS", "unknown key; did you mean SOUNDPOST_APPS__0__WEBHOOKS__0__EVENTS?"),
    ] {
        let name = format!("SOUNDPOST_APPS__0__{name}");
        let line = refusal(&[(&name, "hush")], &[]);
        assert!(line.contains(&format!("({name}): {expected}")) && !line.contains("hush"), "{line}");
    }
}

#[test]
fn the_same_webhook_twice_and_more_than_32_are_refused() {
    let hook = |n: usize| format!("[[apps.webhooks]]\nurl = \"https://a.test/{n}\"\n");
    let twice = format!("{}{}{}headers = {{ A = \"b\" }}\n", hook(0), hook(1), hook(0));
    let expected = "apps.0.webhooks.2: goes where apps.0.webhooks.0 goes, with the same events and filter; leave one of them out";
    assert_eq!(refused(&twice), expected);
    let many = |count| (0..count).map(hook).collect::<String>();
    assert_eq!(webhooks(&[], &many(32)).len(), 32);
    assert_eq!(refused(&many(33)), "apps.0.webhooks.0: an app has at most 32, and here are 33");
}

#[test]
fn authorities_must_be_there_and_are_watched() {
    let text = format!("{APP}[[apps.webhooks]]\nurl = \"https://a.test\"\nca = \"ca.pem\"\n");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let dir = Dir::new(&[("soundpost.toml", &text)]);
    let invocation = Invocation { dir: dir.0.clone(), ..Invocation::default() };
    let load = || -> (Files, Result<Settings, String>) {
        let (files, loaded) = invocation.load();
        (files, loaded.map_err(|error| error.to_string().replace(&format!("{}/", dir.0.display()), "")))
    };
    let path = dir.0.join("ca.pem");
    let (files, loaded) = load();
    assert!(files.paths().any(|noted| noted == path));
    assert!(loaded.unwrap_err().starts_with("apps.0.webhooks.0.ca: cannot read ca.pem: "));
    fs::write(&path, "no certificate").unwrap();
    let (before, loaded) = load();
    assert!(loaded.unwrap_err().starts_with("apps.0.webhooks.0.ca: ca.pem "));
    fs::write(&path, certificate.pem()).unwrap();
    assert_ne!(before.now(), before);
    let settings = load().1.unwrap();
    assert_eq!(http(&settings.apps[0].webhooks[0]).ca.as_ref(), Some(&path));
}

#[test]
fn check_shows_where_webhooks_go_and_no_secret() {
    let text = format!(
        "{APP}[[apps.webhooks]]\nurl = \"https://a.test/hook?token=hush\"\nevents = [\"cache_miss\"]\n\
         headers = {{ Authorization = \"hush\", \"X.Y\" = \"hush\" }}\n\
         [[apps.webhooks]]\nlaravel_queue = {{ job = \"Hook\", prefix = \"\", redis = \"redis://:hush@cache\" }}\n"
    );
    let dir = Dir::new(&[("soundpost.toml", &text)]);
    let report = check(&[], &dir);
    let text = report.text();
    let (_, shown) = text.split_once("\n\n[[apps.webhooks]]\n").unwrap();
    let (first, rest) = shown.split_once("\n\n[[apps.webhooks]]\n").unwrap();
    let lines = |text: &str| -> Vec<String> {
        let values =
            text.lines().map(|line| line.split(" # /").next().unwrap().split(" # default").next().unwrap());
        values.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(
        lines(first),
        [
            "url = \"https://a.test/hook?(hidden)\"",
            "events = [\"cache_miss\"]",
            "headers = { Authorization = \"(hidden)\", \"X.Y\" = \"(hidden)\" }",
            "batch_milliseconds = 0",
            "batch_events = 100",
            "# ca = none",
            "refuse_private_addresses = false",
            "filter.prefix = \"\"",
            "filter.suffix = \"\"",
        ]
    );
    assert!(
        lines(rest).contains(&"laravel_queue.redis = \"redis://(hidden)@cache:6379\"".to_owned()),
        "{rest}"
    );
    assert!(!lines(rest).iter().any(|line| line.contains("url =") || line.contains("headers")));
    let json = report.json();
    assert!(json.contains("\"apps.0.webhooks.1.laravel_queue.job\""), "{json}");
    assert!(!text.contains("hush") && !json.contains("hush"));
}

#[test]
fn check_warns_of_what_webhooks_will_hardly_get() {
    let app = [("SOUNDPOST_APPS__0__ID", "a"), ("SOUNDPOST_APPS__0__CLIENT_EVENTS", "none")];
    let hook = "[[apps.webhooks]]\nurl = \"http://app/hook\"\nevents = [\"client_event\", \"subscription_count\", \"cache_miss\"]\n";
    let dir = Dir::new(&[("soundpost.toml", &format!("{APP}{hook}"))]);
    let text = check(&app, &dir).text();
    for expected in [
        "warning: apps.0.webhooks.0 goes to app by plain http: signed, but readable on the way; https:// encrypts it\n",
        "warning: apps.0.webhooks.0.events has \"client_event\", but apps.0.client_events is \"none\"",
        "warning: apps.0.webhooks.0.events has \"subscription_count\", but apps.0.subscription_count is false",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    // All are wanted where none is chosen, and this machine is not far.
    for url in ["http://127.0.0.1:9000", "http://[::1]/", "http://localhost/", "https://app.test/"] {
        let hook = format!("{APP}[[apps.webhooks]]\nurl = \"{url}\"\n");
        let dir = Dir::new(&[("soundpost.toml", &hook)]);
        let text = check(&app, &dir).text();
        assert!(!text.contains("warning: apps.0.webhooks"), "{text}");
    }
}
