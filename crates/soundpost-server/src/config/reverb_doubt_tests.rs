//! `config/reverb.php` where it is not certain: what stops the start, and what settles it.

use super::{
    reverb_file_tests::{STOCK, changed, start},
    tests::{APP, REVERB, with},
};

/// Holds a line of the file to its refusal, whose place is that line, and to what settles it.
fn doubt(from: &str, to: &str, expected: &str, remedy: &str, settle: (&str, &str)) {
    let (file, id) = (changed(from, to), ("SOUNDPOST_APPS__0__ID", "1"));
    let refused = start(&file, REVERB, &[]).unwrap_err();
    let (place, problem) = refused.split_once(": ").unwrap();
    assert_eq!(problem, format!("{expected}; {remedy}"), "{to}");
    let line: usize = place.strip_prefix("config/reverb.php:").unwrap().parse().unwrap();
    let known = file.lines().nth(line - 1).unwrap();
    assert!(known.contains(to) || to.is_empty(), "{place}: {known}");
    let settled = start(&file, &with(REVERB, &[id, settle]), &[]);
    assert!(settled.is_ok(), "{to}: {settled:?}");
}

/// What settles a key of the first app.
fn by_app(key: &str) -> String {
    format!(
        "set {key} in soundpost.toml, in an [[apps]] with id = \"1\", or SOUNDPOST_APPS__0__{} beside \
         SOUNDPOST_APPS__0__ID=1",
        key.to_uppercase()
    )
}

#[test]
fn origins_that_are_not_certain_stop_the_start_until_another_source_says_them() {
    let origins = by_app("allowed_origins");
    for (from, to, expected, remedy, settle) in [
        (
            "'allowed_origins'",
            "'allowed_origins' => config('app.origins'),",
            "apps.apps.0.allowed_origins is a call of config(), which is not read without PHP",
            &origins,
            ("SOUNDPOST_APPS__0__ALLOWED_ORIGINS", "a.test"),
        ),
        (
            "'allowed_origins'",
            "'allowed_origins' => env('APP_ENV') === 'production' ? ['a.test'] : ['*'],",
            "apps.apps.0.allowed_origins is the operator ===, which is not read without PHP",
            &origins,
            ("SOUNDPOST_APPS__0__ALLOWED_ORIGINS__0", "a.test"),
        ),
        (
            "'allowed_origins'",
            "'allowed_origins' => ['a.test', parse_url(env('APP_URL'), PHP_URL_HOST)],",
            "apps.apps.0.allowed_origins is a call of parse_url(), which is not read without PHP",
            &origins,
            ("SOUNDPOST_APPS__0__ALLOWED_ORIGINS", "a.test"),
        ),
        (
            "'allowed_origins'",
            "'allowed_origins' => explode(',', env('ORIGINS')),",
            "apps.apps.0.allowed_origins asks for ORIGINS, which is set nowhere",
            &origins,
            ("ORIGINS", "a.test"),
        ),
        (
            "'allowed_origins'",
            "",
            "apps.apps.0.allowed_origins is missing",
            &origins,
            ("SOUNDPOST_APPS__0__ALLOWED_ORIGINS", "a.test"),
        ),
        (
            "'allowed_origins'",
            "'allowed_origins' => '*',",
            "apps.apps.0.allowed_origins is no list",
            &origins,
            ("SOUNDPOST_APPS__0__ALLOWED_ORIGINS", "a.test"),
        ),
    ] {
        doubt(from, to, expected, remedy, settle);
    }
}

#[test]
fn other_values_that_are_not_certain_stop_the_start_until_another_source_says_them() {
    let minute = by_app("messages_per_minute");
    let port = "set server.port in soundpost.toml, or SOUNDPOST_SERVER__PORT".to_owned();
    for (from, to, expected, remedy, settle) in [
        (
            "'max_connections'",
            "'max_connections' => env('MAX_CONNECTIONS'),",
            "apps.apps.0.max_connections asks for MAX_CONNECTIONS, which is set nowhere",
            &by_app("connections_max"),
            ("MAX_CONNECTIONS", "7"),
        ),
        (
            "'max_connections'",
            "'max_connections' => 0,",
            "apps.apps.0.max_connections is 0, at which Reverb lets nobody in",
            &by_app("connections_max"),
            ("SOUNDPOST_APPS__0__CONNECTIONS_MAX", "0"),
        ),
        (
            "'max_connections'",
            "'max_connections' => -1,",
            "apps.apps.0.max_connections is -1, at which Reverb lets nobody in",
            &by_app("connections_max"),
            ("SOUNDPOST_APPS__0__ENABLED", "false"),
        ),
        (
            "'accept_client_events_from'",
            "'accept_client_events_from' => Who::MEMBERS,",
            "apps.apps.0.accept_client_events_from is the name Who, which is not read without PHP",
            &by_app("client_events"),
            ("SOUNDPOST_APPS__0__CLIENT_EVENTS", "none"),
        ),
        (
            "'max_attempts'",
            "'max_attempts' => 60 * 2,",
            "apps.apps.0.rate_limiting is the operator *, which is not read without PHP",
            &minute,
            ("SOUNDPOST_APPS__0__MESSAGES_PER_WINDOW", "5"),
        ),
        (
            "'secret'",
            "'secret' => decrypt(env('SECRET')),",
            "apps.apps.0.secret is a call of decrypt(), which is not read without PHP",
            &by_app("secret"),
            ("SOUNDPOST_APPS__0__SECRET", "a-secret-of-16-or-more"),
        ),
        (
            "'port'",
            "'port' => $port,",
            "servers.reverb.port is the variable $port, which is not read without PHP",
            &port,
            ("SOUNDPOST_SERVER__PORT", "1"),
        ),
    ] {
        doubt(from, to, expected, remedy, settle);
    }
}

#[test]
fn apps_that_cannot_be_known_stop_the_start_until_ours_are_named() {
    let all = "name the apps in soundpost.toml (a table [[apps]] for each)";
    let apps = "'apps' => [\n            [\n";
    let provider = STOCK.replace("'provider' => 'config'", "'provider' => 'database'");
    for (file, expected) in [
        (provider, format!("32: apps.provider is a provider of its own, which only PHP can ask; {all}")),
        (
            STOCK.replace("'provider' => 'config'", "'provider' => Custom::class"),
            format!("32: apps.provider is the name Custom, which is not read without PHP; {all}"),
        ),
        (
            STOCK.replace(apps, "'apps' => [ ...more(),\n            [\n"),
            format!("33: apps.apps.0 is a call of more(), which is not read without PHP; {all}"),
        ),
        (
            STOCK.replace(apps, "'apps' => $apps, 'unused' => [\n            [\n"),
            format!("33: apps.apps is the variable $apps, which is not read without PHP; {all}"),
        ),
    ] {
        assert_eq!(start(&file, REVERB, &[]).unwrap_err(), format!("config/reverb.php:{expected}"));
        let settings = start(&file, REVERB, &[("soundpost.toml", &APP.replace("\"k\"", "\"k9\""))]).unwrap();
        assert_eq!(settings.apps.iter().filter(|app| app.key.as_str() == "k9").count(), 1);
    }
    let id = changed("'app_id'", "'app_id' => app_id(),");
    let expected = "config/reverb.php:37: apps.apps.0.app_id is a call of app_id(), which is not read without PHP; write \
                    it out, or name all apps in soundpost.toml and start with --env-only";
    assert_eq!(start(&id, REVERB, &[]).unwrap_err(), expected);
    let expected = "config/reverb.php:36: apps.apps.0.secret asks for REVERB_APP_SECRET, which is not set; set secret in \
                    soundpost.toml, in an [[apps]] with id = \"1\", or SOUNDPOST_APPS__0__SECRET beside \
                    SOUNDPOST_APPS__0__ID=1";
    assert_eq!(start(STOCK, &REVERB[..2], &[]).unwrap_err(), expected);
}

#[test]
fn a_file_that_is_not_read_at_all_names_its_line_and_the_flag() {
    let refused = start("<?php\nif (env('A')) { return ['secret' => 'hush']; }", REVERB, &[]).unwrap_err();
    let expected = "config/reverb.php:2: a statement other than return or an assignment, which is not read without PHP; \
                    write the settings into soundpost.toml and start with --env-only";
    assert_eq!(refused, expected);
}
