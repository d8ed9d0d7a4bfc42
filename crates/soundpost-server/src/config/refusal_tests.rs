//! Every refusal in its one line, which names the key and never a secret.

use super::{
    Flags,
    tests::{APP, REVERB, load, refusal, settings, with},
};

#[test]
fn every_refusal_is_one_line_that_names_the_key() {
    for (text, expected) in [
        ("[server]\nprot = 1", "server.prot (soundpost.toml): unknown key; did you mean server.port?"),
        ("[server]\nzzzzzz = 1", "server.zzzzzz (soundpost.toml): unknown key"),
        ("port = 1", "port (soundpost.toml): unknown key; did you mean server.port?"),
        ("[[apps]]\nkye = 1", "apps.0.kye (soundpost.toml): unknown key; did you mean apps.key?"),
        ("server = 1", "server (soundpost.toml): expected a table of keys"),
        ("[server.port]\n", "server.port (soundpost.toml): expected a value, not a table"),
        (
            "[server]\nport = [1, 2]",
            "server.port (soundpost.toml): expected one value, or an array of texts where a list belongs",
        ),
        (
            "[server]\nport = 70000",
            "server.port (soundpost.toml) is 70000; expected a whole number from 0 to 65535",
        ),
        (
            "[server]\nport = -1",
            "server.port (soundpost.toml) is -1; expected a whole number from 0 to 65535",
        ),
        (
            "[server]\nport = 1.5",
            "server.port (soundpost.toml) is 1.5; expected a whole number from 0 to 65535",
        ),
        (
            "[server]\nhost = \"example.com\"",
            "server.host (soundpost.toml) is \"example.com\"; expected an IP address of this machine, such as 0.0.0.0 or ::",
        ),
        (
            "[server]\nqueue_bytes_max = 0",
            "server.queue_bytes_max (soundpost.toml) is 0; expected a whole number from 1024 to 1073741824",
        ),
        (
            "[server]\npath = \"a b\"",
            "server.path (soundpost.toml) is \"a b\"; expected a path of A-Z a-z 0-9 . _ ~ - between slashes, at most \
             200 characters",
        ),
        ("[server]\ndebug = 7", "server.debug (soundpost.toml) is 7; expected true or false"),
    ] {
        assert_eq!(refusal(&[], &[("soundpost.toml", text)]), expected, "{text}");
    }
}

#[test]
fn refusals_about_apps_name_the_key_and_no_secret() {
    for (text, expected) in [
        ("[server]\nport = 1\nport = 2", "soundpost.toml:3: duplicate key"),
        ("[[apps]]", "apps.0.id is missing: an app needs id, key and secret"),
        ("[[apps]]\nid = \"a\"", "apps.0.key is missing: an app needs id, key and secret"),
        ("[[apps]]\nid = \"a\"\nkey = \"k\"", "apps.0.secret is missing: an app needs id, key and secret"),
        ("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"\"", "apps.0.secret (soundpost.toml) is empty"),
        (
            "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = 0.25",
            "apps.0.secret (soundpost.toml) is not text; write it in quotes",
        ),
        (
            "[[apps]]\nid = \"a/b\"\nkey = \"k\"\nsecret = \"s\"",
            "apps.0.id (soundpost.toml) is \"a/b\", which contains '/'; allowed are A-Z a-z 0-9 and . _ ~ -",
        ),
        ("[server]\ntls = \"x.pem\"", "server.tls (soundpost.toml): expected a table of keys"),
    ] {
        assert_eq!(refusal(&[], &[("soundpost.toml", text)]), expected, "{text}");
    }
}

#[test]
fn refusals_about_variables_name_the_variable() {
    for (environment, dotenv, expected) in [
        (
            vec![("SOUNDPOST_SERVER__PORT", "x")],
            "",
            "server.port (SOUNDPOST_SERVER__PORT) is \"x\"; expected a whole number from 0 to 65535",
        ),
        (
            vec![],
            "REVERB_SERVER_PORT=x",
            "server.port (REVERB_SERVER_PORT in .env) is \"x\"; expected a whole number from 0 to 65535",
        ),
        (
            vec![("SOUNDPOST_PORT", "1")],
            "",
            "port (SOUNDPOST_PORT): unknown key; did you mean SOUNDPOST_SERVER__PORT?",
        ),
        (
            vec![("REVERB_SCALING_ENABLED", "maybe")],
            "",
            "REVERB_SCALING_ENABLED is \"maybe\"; expected true or false",
        ),
        (
            REVERB[1..].to_vec(),
            "",
            "REVERB_APP_ID is missing: an app needs REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET",
        ),
        (
            vec![("SOUNDPOST_APPS__0__ALLOWED_ORIGINS", "a.test")],
            "",
            "apps.0.id is missing: set SOUNDPOST_APPS__0__ID to the id of the app that SOUNDPOST_APPS__0__ALLOWED_ORIGINS is for",
        ),
        (
            with(&REVERB[..2], &[("REVERB_APP_SECRET", "")]),
            "",
            "REVERB_APP_SECRET is missing: an app needs REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET",
        ),
        (
            with(REVERB, &[("REVERB_APP_PING_INTERVAL", "0")]),
            "",
            "REVERB_APP_PING_INTERVAL is \"0\"; expected a whole number from 1 to 3600",
        ),
        (
            vec![("SOUNDPOST_REDIS__ENABLE", "true")],
            "",
            "redis.enable (SOUNDPOST_REDIS__ENABLE): unknown key; did you mean SOUNDPOST_REDIS__ENABLED?",
        ),
        (vec![], "A=1\nREVERB_HOST=a b", ".env:2: REVERB_HOST: a value with spaces needs quotes"),
    ] {
        assert_eq!(refusal(&environment, &[(".env", dotenv)]), expected);
    }
}

#[test]
fn a_name_with_control_characters_is_still_one_line() {
    let file = |text| refusal(&[], &[("soundpost.toml", text)]);
    let expected = "a\\nb (soundpost.toml): unknown key";
    assert_eq!(file("\"a\\nb\" = 1\n[server]\nport = 1"), expected);
    let expected = "server.\\r\\u{7f} (soundpost.toml): unknown key";
    assert_eq!(file("[server]\n\"\\r\\u007F\" = 1"), expected);
    let settings = settings(&[("REVERB_\rAPP\n", "1")], &[]);
    let texts: Vec<_> = settings.notes.iter().map(|note| note.text.as_str()).collect();
    assert!(texts.contains(&"REVERB_\\rAPP\\n is not a variable of Reverb's, ignored"), "{texts:?}");
}

#[test]
fn two_apps_share_neither_id_nor_key() {
    let twice = format!("{APP}{APP}");
    let expected = "apps.0.id and apps.1.id are both \"a\"; every app needs an id of its own";
    assert_eq!(refusal(&[], &[("soundpost.toml", &twice)]), expected);
    let expected =
        "apps.0.key (soundpost.toml) and REVERB_APP_KEY are both \"k\"; every app needs a key of its own";
    assert_eq!(refusal(REVERB, &[("soundpost.toml", APP)]), expected);
}

#[test]
fn a_feature_that_is_switched_off_is_no_mistake() {
    let text = format!(
        "{APP}authorized_timeout_seconds = 0\nsubscription_count = false\nwatchlists = false\nwebhooks = []\n\
         [redis]\nenabled = false\nurl = \"redis://127.0.0.1:6379/0\"\nprefix = \"soundpost\"\n[server]\n"
    );
    assert_eq!(settings(&[], &[("soundpost.toml", &text)]).apps.len(), 1);
}

#[test]
fn a_broken_file_shows_its_line_and_nothing_of_its_text() {
    let text = "[[apps]]\nsecret = \"hush\nkey = 1\n";
    let error = refusal(&[], &[("soundpost.toml", text)]);
    assert!(
        error.starts_with("soundpost.toml:2: ") && !error.contains("hush") && !error.contains('\n'),
        "{error}"
    );
    for (secret, expected) in [
        ("hush", "soundpost.toml:4: string values must be quoted, expected literal string"),
        ("99999999999999999999", "soundpost.toml: number too large to fit in target type"),
        (
            "[\"hush\"]",
            "apps.0.secret (soundpost.toml): expected one value, or an array of texts where a list belongs",
        ),
    ] {
        let text = format!("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = {secret}\n");
        assert_eq!(refusal(&[], &[("soundpost.toml", &text)]), expected);
    }
    let flags = Flags { config: Some("absent.toml".into()), ..Flags::default() };
    assert!(load(&flags, &[], &[]).unwrap_err().starts_with("cannot read absent.toml: "));
}
