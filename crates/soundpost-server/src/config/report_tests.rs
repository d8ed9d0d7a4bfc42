//! What `soundpost check` says: values, where they come from, and what it warns of.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{
    Flags, Report,
    reverb_file_tests::{NAME, STOCK},
    tests::{APP, Dir, REVERB},
};

fn report(flags: &Flags, environment: &[(&str, &str)], files: &[(&str, &str)]) -> Report {
    let dir = Dir::new(files);
    for (name, _) in files {
        fs::set_permissions(dir.0.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    load(flags, environment, &dir)
}

fn load(flags: &Flags, environment: &[(&str, &str)], dir: &Dir) -> Report {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Report::load(flags, environment, &dir.0).unwrap().1
}

/// The value and origin of the first line of a key, as the text has them; the directory is left out.
fn line(report: &Report, key: &str) -> String {
    let text = report.text();
    let line =
        text.lines().find(|line| line.trim_start_matches("# ").starts_with(&format!("{key} "))).unwrap();
    let (_, shown) = line.split_once('=').unwrap();
    let (value, origin) = shown.split_once(" # ").unwrap();
    let in_dir = |word: &str| word.rsplit_once('/').map_or(word.to_owned(), |(_, name)| name.to_owned());
    let origin = origin.split(' ').map(in_dir).collect::<Vec<_>>().join(" ");
    format!("{} # {origin}", value.trim())
}

fn warnings(report: &Report) -> Vec<String> {
    let text = report.text();
    text.lines().filter_map(|line| line.strip_prefix("warning: ")).map(str::to_owned).collect()
}

#[test]
fn a_rate_of_reverbs_says_for_each_of_its_keys_where_that_comes_from() {
    let environment =
        [("REVERB_APP_RATE_LIMITING_ENABLED", "true"), ("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "9")];
    let dotenv = (".env", "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=hush-b1f7c90a3e5d82\n");
    for (files, max, ends) in [
        (vec![dotenv], "60 # Reverb's default", "false # Reverb's default"),
        (
            vec![dotenv, (NAME, STOCK)],
            "60 # reverb.php: apps.apps.0.rate_limiting.max_attempts",
            "false # reverb.php: apps.apps.0.rate_limiting.terminate_on_limit",
        ),
    ] {
        let report = report(&Flags::default(), &environment, &files);
        assert_eq!(line(&report, "messages_per_minute"), "0 # default");
        assert_eq!(line(&report, "messages_per_window"), max);
        let seconds = "9 # REVERB_APP_RATE_LIMIT_DECAY_SECONDS of the process";
        assert_eq!(line(&report, "messages_window_seconds"), seconds);
        assert_eq!(line(&report, "terminate_on_limit"), ends);
    }
}

#[test]
fn every_value_says_where_it_comes_from() {
    let flags = Flags { port: Some(9003), ..Flags::default() };
    let environment = [
        ("REVERB_SERVER_HOST", "127.0.0.1"),
        ("SOUNDPOST_APPS__0__ID", "1"),
        ("SOUNDPOST_APPS__0__ALLOWED_ORIGINS__0", "b.test"),
    ];
    let file = "[server]\nport = 9001\nworkers = 3\npath = \"ws/\"\n[[apps]]\nid = \"1\"\nallowed_origins = [\"a.test\"]\n";
    let dotenv = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=hush-b1f7c90a3e5d82\nREVERB_SERVER_PORT=9002\n\
                  REVERB_HOST=ws.app.test\n";
    let report = report(&flags, &environment, &[("soundpost.toml", file), (".env", dotenv)]);
    for (key, expected) in [
        ("port", "9003 # --port"),
        ("host", "\"127.0.0.1\" # REVERB_SERVER_HOST of the process"),
        ("hostname", "\"ws.app.test\" # REVERB_HOST in .env"),
        ("workers", "3 # soundpost.toml"),
        ("path", "\"/ws\" # soundpost.toml"),
        ("drain_seconds", "25 # default"),
        ("request_bytes_max", "none # default"),
        ("id", "\"1\" # SOUNDPOST_APPS__0__ID of the process"),
        ("secret", "\"(hidden)\" # REVERB_APP_SECRET in .env"),
        ("client_events_per_second", "0 # Reverb's default"),
        ("allowed_origins", "[\"b.test\"] # SOUNDPOST_APPS__0__ALLOWED_ORIGINS__0 of the process"),
        ("log_format", "\"human\" # default"),
    ] {
        assert_eq!(line(&report, key), expected, "{key}");
    }
    assert!(!report.text().contains("hush") && !report.json().contains("hush"));
    assert_eq!(report.warnings(), 0, "{}", report.text());
}

#[test]
fn json_holds_the_same() {
    let report =
        report(&Flags::default(), &[], &[("soundpost.toml", &format!("{APP}client_events = \"all\"\n"))]);
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    let settings = json["settings"].as_array().unwrap();
    let of = |key: &str| settings.iter().find(|entry| entry["key"] == key).unwrap().clone();
    assert_eq!(of("server.port")["value"], 8080);
    assert_eq!(of("server.hostname")["value"], serde_json::Value::Null);
    assert_eq!(of("apps.0.secret")["value"], "(hidden)");
    assert!(of("apps.0.client_events")["origin"].as_str().unwrap().ends_with("soundpost.toml"));
    assert_eq!(settings.len(), report.text().lines().filter(|line| line.contains(" = ")).count());
    assert_eq!(json["notes"].as_array().unwrap().last().unwrap()["level"], "warning");
}

#[test]
fn the_lines_of_a_report_are_toml_that_says_the_same() {
    let text = report(&Flags::default(), REVERB, &[]).text();
    let (toml, _) = text.split_once("\n\nnote: ").unwrap();
    let again = report(&Flags::default(), &[], &[("soundpost.toml", toml)]).text();
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().take_while(|line| !line.contains(": "));
        lines.map(|line| line.split(" # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&text));
}

#[test]
fn it_explains_what_redis_is_told_to_do() {
    let file = format!(
        "{APP}[redis]\nenabled = true\nurl = \"redis://:hush@cache\"\nlocal_first = true\non_outage = \"local\"\n"
    );
    let text = report(&Flags::default(), &[], &[("soundpost.toml", &file)]).text();
    for expected in [
        "note: nodes are joined over Redis: cache:6379, database 0, names begin with soundpost:0:reverb\n",
        "note: events and the password go to Redis (cache:6379) as they are; rediss:// encrypts them\n",
        "note: redis.local_first is true: subscribers on different nodes may see the events of a channel in different",
        "note: redis.on_outage is \"local\": while Redis is away an event reaches the clients of the node that took it",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let development = report(&Flags::default(), &[("SOUNDPOST_REDIS__ENABLED", "true")], &[]);
    let expected = "the development apps of all nodes on this Redis are one";
    assert!(warnings(&development).iter().any(|text| text.starts_with(expected)), "{}", development.text());
}

#[test]
fn the_development_app_is_shown_and_not_scolded_for_its_secret() {
    let report = report(&Flags::default(), &[], &[]);
    assert_eq!(line(&report, "key"), "\"soundpost-key\" # the development app");
    assert_eq!(line(&report, "host"), "[\"127.0.0.1\", \"::1\"] # default");
    assert_eq!(warnings(&report).len(), 1);
}

#[test]
fn it_warns_of_what_somebody_may_regret() {
    let app = |line: &str| format!("{APP}{line}\n");
    for (file, environment, expected) in [
        (app(""), &[][..], ""),
        (app("").replace("a-secret-of-16-or-more", "app-secret"), &[], "apps.0.secret is an example"),
        (app("").replace("a-secret-of-16-or-more", "k"), &[], "apps.0.secret is the same as the key"),
        (app("client_events = \"all\""), &[], "apps.0: client_events is \"all\" and allowed_origins"),
        (app("client_events = \"all\"\nallowed_origins = [\"a.test\"]"), &[], ""),
        (app("timestamp_window_seconds = 0"), &[], "apps.0.timestamp_window_seconds is 0"),
        (app("tls_only = true"), &[], "an app is tls_only"),
        (app(""), &[("SOUNDPOST_ADMIN__HOST", "::")], "admin.host is ::"),
        (
            app(""),
            &[("SOUNDPOST_SERVER__CONNECTIONS_MAX", "4294967295")],
            "server.connections_max is 4294967295",
        ),
        (format!("{}[redis]\nenabled = true\n", app("")), &[], ""),
        (
            format!("{}[redis]\nenabled = true\nurl = \"redis://cache\"\n", app("")),
            &[],
            "Redis (cache:6379) asks for no password",
        ),
        (format!("{}[redis]\nenabled = true\nurl = \"unix:///s\"\n", app("")), &[], ""),
        (
            format!("{}[redis]\nenabled = true\ncluster = \"127.0.0.1,localhost,10.0.0.1\"\n", app("")),
            &[],
            "Redis (the cluster of 127.0.0.1:6379, localhost:6379, 10.0.0.1:6379) asks for no password",
        ),
    ] {
        let report = report(&Flags::default(), environment, &[("soundpost.toml", &file)]);
        let warnings = warnings(&report);
        // Without the file's path: `apps.0.secret (soundpost.toml) is ..`.
        let found = warnings.first().cloned().unwrap_or_default();
        let found = match (found.find(" ("), found.find(".toml) ")) {
            (Some(from), Some(to)) => format!("{}{}", &found[..from], &found[to + ".toml)".len()..]),
            _ => found,
        };
        assert!(
            found.starts_with(expected) && found.is_empty() == expected.is_empty(),
            "{expected}: {warnings:?}"
        );
        assert_eq!(report.warnings(), usize::from(!expected.is_empty()), "{warnings:?}");
    }
}

#[test]
fn files_with_secrets_are_not_for_everybody() {
    let dir = Dir::new(&[("soundpost.toml", APP), (".env", "APP_NAME=x\n")]);
    for (mode, open) in [(0o644, true), (0o640, false), (0o600, false), (0o604, true)] {
        fs::set_permissions(dir.0.join("soundpost.toml"), fs::Permissions::from_mode(mode)).unwrap();
        let warnings = warnings(&load(&Flags::default(), &[], &dir));
        // The `.env` is open to all, too, but there is nothing in it.
        assert_eq!(
            warnings.iter().filter(|warning| warning.contains("everybody")).count(),
            usize::from(open)
        );
    }
}

#[test]
fn it_says_which_env_file_counts() {
    let config = Flags { config: Some("other.toml".into()), ..Flags::default() };
    let both = Flags { env_file: Some("other.env".into()), ..config.clone() };
    let env = "REVERB_SERVER_PORT=1\n";
    let soketi = [("SOKETI_DEBUG", "true")];
    for (flags, environment, files, expected) in [
        (Flags::default(), &[][..], &[("soundpost.toml", APP)][..], "there is no .env in this directory"),
        (Flags::default(), &[], &[("soundpost.toml", APP), (".env", env)], "/.env"),
        (
            config.clone(),
            &soketi,
            &[("other.toml", APP), (".env", env)],
            "not read because of --config without --env-file: .env, SOKETI_*",
        ),
        (config, &[], &[("other.toml", APP)], "/other.toml"),
        (both, &[], &[("other.toml", APP), (".env", env), ("other.env", env)], "/other.env"),
    ] {
        let report = report(&flags, environment, files);
        let text = report.text();
        let last = text.lines().rfind(|line| line.starts_with("note: ")).unwrap();
        assert!(last.ends_with(expected), "{expected}: {text}");
        assert_eq!(report.warnings(), 0, "{text}");
    }
}

#[test]
fn every_pair_of_certificates_is_shown_and_whoever_may_read_its_key_is_named() {
    let file = "[server]\ntls.certificate = \"a.pem\"\ntls.key = \"a.key\"\n\
                [[server.tls.certificates]]\ncertificate = \"b.pem\"\n\
                [[server.tls.certificates]]\ncertificate = \"c.pem\"\nkey = \"c.key\"\npassphrase = \"hush\"\n";
    let file = format!("{file}{APP}tls_only = true\n");
    let files = [("soundpost.toml", &*file), ("a.key", ""), ("b.pem", ""), ("c.key", "")];
    let dir = Dir::new(&files);
    for (name, mode) in [("soundpost.toml", 0o600), ("a.key", 0o600), ("b.pem", 0o644), ("c.key", 0o604)] {
        fs::set_permissions(dir.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let report = load(&Flags::default(), &[], &dir);
    let text = report.text().replace(&format!("{}/", dir.0.display()), "");
    for expected in [
        "\ntls.certificate                    = \"a.pem\"                # soundpost.toml\n",
        "\n[[server.tls.certificates]]\n\
         certificate  = \"b.pem\"                # soundpost.toml\n\
         key          = \"b.pem\"                # default\n\
         # passphrase = none                   # default\n",
        "\n[[server.tls.certificates]]\n\
         certificate = \"c.pem\"                # soundpost.toml\n\
         key         = \"c.key\"                # soundpost.toml\n\
         passphrase  = \"(hidden)\"             # soundpost.toml\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("hush") && !text.contains("tls.certificates.certificate"), "{text}");
    let open = warnings(&report);
    assert!(
        open.len() == 2 && open[0].contains("b.pem holds") && open[1].contains("c.key holds"),
        "{open:?}"
    );
}

#[test]
fn a_certificate_of_herds_is_shown_with_the_name_it_was_found_for() {
    let valet = ".config/valet/Certificates/app.test";
    let (certificate, key) = (format!("{valet}.crt"), format!("{valet}.key"));
    let toml = format!("{APP}tls_only = true\n");
    let dir = Dir::new(&[("soundpost.toml", &toml), (&certificate, ""), (&key, "")]);
    for file in ["soundpost.toml", &key] {
        fs::set_permissions(dir.0.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let home = ("HOME", dir.0.to_str().unwrap());
    let report = load(&Flags::default(), &[home, ("SOUNDPOST_SERVER__HOSTNAME", "app.test")], &dir);
    for (key, end) in [("tls.certificate", "crt"), ("tls.key", "key")] {
        let shown = line(&report, key);
        let expected = format!("/{valet}.{end}\" # made by Herd or Valet for app.test");
        assert!(shown.ends_with(&expected), "{shown}");
    }
    assert_eq!(warnings(&report), Vec::<String>::new());
}

#[test]
fn an_app_for_tls_alone_is_within_reach_by_tls_and_by_whoever_is_believed() {
    for (line, reached) in [
        ("", false),
        ("unix_socket = \"/s\"", true),
        ("trusted_proxies = [\"10.0.0.1\"]", true),
        ("tls.certificate = \"a.pem\"", true),
        ("tls.certificates = [{ certificate = \"a.pem\" }]", true),
    ] {
        let file = format!("[server]\n{line}\n{APP}tls_only = true\n");
        let report = report(&Flags::default(), &[], &[("soundpost.toml", &file)]);
        assert_eq!(warnings(&report).is_empty(), reached, "{line}: {:?}", warnings(&report));
    }
}

#[test]
fn no_value_says_anything_to_a_terminal() {
    let file = format!("server.hostname = \"a\\u001B[2J\\u007F\\u009B\"\n{APP}");
    let report = report(&Flags::default(), &[], &[("soundpost.toml", &file)]);
    assert!(line(&report, "hostname").starts_with("\"a\\u001b[2J\\u007F\\u009B\" # "), "{}", report.text());
}
