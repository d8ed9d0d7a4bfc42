//! `soundpost import`

use std::{fs, os::unix::fs::PermissionsExt};

use crate::run::{Dir, soundpost};

const SOKETI: &str = r#"{"port": 6002, "appManager.array.apps": [
    {"id": "a", "key": "k", "secret": "hush-b1f7c90a3e5d8264", "maxConnections": 5}]}"#;

#[test]
fn it_prints_a_file_that_check_takes() {
    let dir = Dir::new(&[("soketi.json", SOKETI)]);
    let printed = soundpost(&dir, &["import", "soketi.json"], "");
    assert_eq!(printed.code, 0);
    assert_eq!(printed.stderr, "soundpost: imported from soketi, apps: 1; the secrets are in the text\n");
    let piped = soundpost(&dir, &["import", "-"], SOKETI);
    assert_eq!(piped.stdout, printed.stdout.replace("soketi.json", "standard input"));
    fs::write(dir.0.join("soundpost.toml"), &printed.stdout).unwrap();
    let checked = soundpost(&dir, &["check"], "");
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains("connections_max                  = 5"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("hush"));
}

#[test]
fn it_writes_for_the_owner_alone_and_overwrites_only_when_told() {
    let dir = Dir::new(&[("soketi.json", SOKETI)]);
    let arguments = ["import", "soketi.json", "--output", "soundpost.toml"];
    let written = soundpost(&dir, &arguments, "");
    assert_eq!((written.code, written.stdout.as_str()), (0, ""));
    assert!(
        written.stderr.starts_with("soundpost: wrote soundpost.toml from soketi, apps: 1; it holds secrets")
    );
    let path = dir.0.join("soundpost.toml");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "mine").unwrap();
    let refused = soundpost(&dir, &arguments, "");
    assert_eq!(refused.code, 1);
    assert_eq!(refused.stderr, "soundpost: soundpost.toml is there already; --force overwrites it\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(soundpost(&dir, &[&arguments[..], &["--force"]].concat(), "").code, 0);
    assert!(fs::read_to_string(&path).unwrap().contains("\nport = 6002 "));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn variables_come_from_the_env_beside_the_file() {
    let toml = "port = 6003\n[[app_manager.array.apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"${APP_SECRET}\"\nenabled = true\n";
    let dir = Dir::new(&[("config/config.toml", toml), (".env", "APP_SECRET=hush-b1f7c90a3e5d8264\n")]);
    let printed = soundpost(&dir, &["import", "config/config.toml"], "");
    assert!(printed.stdout.contains("\nsecret = \"hush-b1f7c90a3e5d8264\""), "{}", printed.stdout);
    fs::write(dir.0.join(".env"), "A=1\nAPP_SECRET=two words\n").unwrap();
    let refused = soundpost(&dir, &["import", "config/config.toml"], "");
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.starts_with("soundpost: .env:2: "), "{}", refused.stderr);
}

#[test]
fn apps_that_are_comments_are_counted() {
    let php = "<?php return ['servers' => [], 'apps' => ['apps' => [['app_id' => '1', 'key' => 'k', 'secret' => 'hush']]]];";
    let dir = Dir::new(&[("reverb.php", php)]);
    let printed = soundpost(&dir, &["import", "reverb.php"], "");
    assert!(
        printed.stdout.contains("\n# This app is not served: fill in allowed_origins"),
        "{}",
        printed.stdout
    );
    let counted = "\nsoundpost: apps that are comments: 1; what each lacks stands above it\n";
    assert!(printed.code == 0 && printed.stderr.ends_with(counted), "{}", printed.stderr);
}

#[test]
fn what_cannot_be_imported_is_one_line() {
    let dir = Dir::new(&[("package.json", "{\"name\": \"x\"}"), ("binary", "\u{0}\u{1}")]);
    fs::write(dir.0.join("latin1"), b"A=1\n# caf\xe9\n").unwrap();
    for (file, expected) in [
        ("missing", "soundpost: cannot read missing: "),
        ("package.json", "soundpost: package.json is none of the configurations that are known"),
        ("binary", "soundpost: binary is none of the configurations that are known"),
        (".", "soundpost: cannot read .: "),
        ("latin1", "soundpost: latin1:2: is not UTF-8 text: save the file in UTF-8"),
        ("/dev/zero", "soundpost: /dev/zero: has more than 1048576 bytes"),
    ] {
        let ended = soundpost(&dir, &["import", file], "");
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (1, "", 1), "{file}");
        assert!(ended.stderr.starts_with(expected), "{}", ended.stderr);
    }
}
