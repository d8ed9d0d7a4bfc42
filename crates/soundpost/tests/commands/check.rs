//! `soundpost check`

use crate::run::{Dir, soundpost};

const ENV: &str = "REVERB_APP_ID=42\nREVERB_APP_KEY=the-key\nREVERB_APP_SECRET=hush-b1f7c90a3e5d8264\n";

#[test]
fn good_settings_are_shown_with_their_sources_and_without_secrets() {
    let dir = Dir::new(&[(".env", ENV)]);
    let ended = soundpost(&dir, &["check", "--strict", "--port", "6001"], "");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let has = |text: &str| assert!(ended.stdout.contains(text), "{text}: {}", ended.stdout);
    has("\nport                               = 6001                   # --port\n");
    has("\nsecret                           = \"(hidden)\"             # REVERB_APP_SECRET in .env\n");
    has("\nnote: read .env\nthe configuration is good\n");
    assert!(!ended.stdout.contains("hush"));
}

#[test]
fn warnings_fail_only_when_asked_to() {
    let dir = Dir::new(&[(".env", &ENV.replace("hush-b1f7c90a3e5d8264", "app-secret"))]);
    let warning = "\nwarning: REVERB_APP_SECRET in .env is an example that everybody can read";
    for (arguments, code) in [(&["check"][..], 0), (&["check", "--strict"], 1)] {
        let ended = soundpost(&dir, arguments, "");
        assert!(ended.stdout.contains(warning), "{}", ended.stdout);
        assert!(ended.stdout.ends_with("the configuration is good, with 1 warning\n"), "{}", ended.stdout);
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""));
    }
    let ended = soundpost(&dir, &["check", "--strict", "--format", "json"], "");
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, json["settings"][1]["key"].as_str()), (1, Some("server.port")));
}

#[test]
fn what_stops_the_start_stops_the_check() {
    for (env, expected) in [
        ("REVERB_SERVER_PORT=x\n", "soundpost: server.port (REVERB_SERVER_PORT in .env) is \"x\"; expected"),
        ("SOUNDPOST_LOG=a=b=c\n", "soundpost: SOUNDPOST_LOG: "),
        // That the start would say again and again, while it looks for Redis.
        (
            "SOUNDPOST_REDIS__ENABLED=true\nSOUNDPOST_REDIS__URL=rediss://h\nSOUNDPOST_REDIS__TLS__CA=none.pem\n",
            "soundpost: redis.tls.ca: cannot read none.pem: ",
        ),
    ] {
        let dir = Dir::new(&[(".env", env)]);
        let ended = soundpost(&dir, &["check"], "");
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (1, "", 1), "{env}");
        assert!(ended.stderr.starts_with(expected), "{}", ended.stderr);
    }
}
