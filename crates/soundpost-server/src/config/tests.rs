//! The sources together: precedence and Laravel's names. The refusals are in `refusal_tests`.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use soundpost_protocol::{
    app::{App, AppSecret, ClientEvents, MessageRate},
    auth::sign,
};

use super::*;

/// A directory of its own, gone at the end.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("soundpost-config-{}-{next}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(super) fn load(
    flags: &Flags,
    environment: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Settings, String> {
    let dir = Dir::new(files);
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let shown = format!("{}/", dir.0.display());
    Settings::load(flags, environment, &dir.0).map_err(|error| error.to_string().replace(&shown, ""))
}

pub(super) fn settings(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Settings {
    load(&Flags::default(), environment, files).unwrap()
}

pub(super) fn refusal(environment: &[(&str, &str)], files: &[(&str, &str)]) -> String {
    load(&Flags::default(), environment, files).unwrap_err()
}

pub(super) const REVERB: &[(&str, &str)] =
    &[("REVERB_APP_ID", "1"), ("REVERB_APP_KEY", "k"), ("REVERB_APP_SECRET", "a-secret-of-16-or-more")];
pub(super) const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"a-secret-of-16-or-more\"\n";

pub(super) fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [base, more].concat()
}

/// Whether the app's secret is this text: both sign alike.
pub(super) fn has_secret(app: &App, text: &str) -> bool {
    sign(&app.secret, &[b"x"]) == sign(&AppSecret::new(text), &[b"x"])
}

#[test]
fn nothing_configured_is_the_development_app_on_this_machine_only() {
    let settings = settings(&[], &[]);
    let listen: Vec<(String, bool)> =
        settings.server.listen.iter().map(|listen| (listen.address.to_string(), listen.required)).collect();
    assert_eq!(listen, [("127.0.0.1:8080".to_owned(), true), ("[::1]:8080".to_owned(), false)]);
    assert!(settings.development_app);
    assert_eq!(settings.apps[0].id.as_str(), DEVELOPMENT_ID);
    assert!(has_secret(&settings.apps[0], DEVELOPMENT_SECRET));
    assert_eq!(settings.notes[0].level, NoteLevel::Warning);
}

#[test]
fn the_development_app_is_refused_where_others_can_reach_it() {
    let expected = "no app is configured, and the development app is served on 127.0.0.1 and ::1 only, not on \
                    0.0.0.0: set SOUNDPOST_APPS__0__ID, SOUNDPOST_APPS__0__KEY and SOUNDPOST_APPS__0__SECRET (or \
                    REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET)";
    assert_eq!(refusal(&[("REVERB_SERVER_HOST", "0.0.0.0")], &[]), expected);
    assert!(refusal(&[("SOUNDPOST_SERVER__HOST", "127.0.0.1,::")], &[]).contains("not on ::"));
    assert!(settings(&[("SOUNDPOST_SERVER__HOST", "[::1]")], &[]).development_app);
    let with_its_secret = APP.replace("a-secret-of-16-or-more", DEVELOPMENT_SECRET);
    let expected = "apps.0.secret (soundpost.toml) is the development app's, which everybody knows; choose another, or \
                    listen on 127.0.0.1";
    assert_eq!(refusal(&[], &[("soundpost.toml", &with_its_secret)]), expected);
    assert!(load(&flags_host("localhost"), &[], &[("soundpost.toml", &with_its_secret)]).is_ok());
}

fn flags_host(host: &str) -> Flags {
    Flags { host: Some(host.to_owned()), ..Flags::default() }
}

#[test]
fn each_source_beats_those_below_it() {
    let file = ("soundpost.toml", "[server]\nport = 1\n");
    let dotenv = (".env", "REVERB_SERVER_PORT=2\n");
    let both = (".env", "REVERB_SERVER_PORT=2\nSOUNDPOST_SERVER__PORT=4\n");
    let (reverb, soundpost) = (("REVERB_SERVER_PORT", "3"), ("SOUNDPOST_SERVER__PORT", "5"));
    assert_eq!(settings(&[], &[]).server.port, 8080);
    assert_eq!(settings(&[], &[file]).server.port, 1);
    assert_eq!(settings(&[], &[file, dotenv]).server.port, 2);
    assert_eq!(settings(&[reverb], &[file, dotenv]).server.port, 3);
    assert_eq!(settings(&[reverb], &[file, both]).server.port, 4);
    assert_eq!(settings(&[reverb, soundpost], &[file, both]).server.port, 5);
    let flags = Flags { port: Some(0), ..Flags::default() };
    assert_eq!(load(&flags, &[reverb, soundpost], &[file, both]).unwrap().server.port, 0);
    // An empty variable says nothing.
    assert_eq!(
        settings(&[("SOUNDPOST_SERVER__PORT", ""), ("REVERB_SERVER_PORT", "")], &[file]).server.port,
        1
    );
}

#[test]
fn an_explicit_file_means_what_it_says() {
    let files = [
        ("x.toml", APP),
        (".env", "REVERB_SERVER_PORT=2\nSOUNDPOST_SERVER__WORKERS=3"),
        ("e", "REVERB_SERVER_PORT=4"),
    ];
    let mut flags = Flags { config: Some("x.toml".into()), ..Flags::default() };
    let process = [("REVERB_HOST", "ws.test"), ("SOUNDPOST_SERVER__DRAIN_SECONDS", "1")];
    let settings = load(&flags, &process, &files).unwrap();
    assert_eq!((settings.server.port, settings.server.hostname), (8080, None));
    assert_eq!(settings.server.drain, Duration::from_secs(1));
    flags.env_file = Some("e".into());
    let settings = load(&flags, &process, &files).unwrap();
    assert_eq!((settings.server.port, settings.server.hostname.as_deref()), (4, Some("ws.test")));
    flags.env_file = Some("absent".into());
    assert!(load(&flags, &process, &files).unwrap_err().starts_with("cannot read absent: "));
}

#[test]
fn a_laravel_env_starts_the_server_as_reverb_would() {
    let env = r#"
APP_NAME="My app"
BROADCAST_CONNECTION=reverb
REVERB_APP_ID=123456
REVERB_APP_KEY=laravel-key
REVERB_APP_SECRET="pa$word-${APP_NAME}-16" # public nowhere
REVERB_HOST="localhost"
REVERB_PORT=443
REVERB_SCHEME=https
REVERB_SERVER_HOST=0.0.0.0
REVERB_SERVER_PORT=6001
REVERB_SERVER_PATH=ws/
REVERB_MAX_REQUEST_SIZE=20000
REVERB_SCALING_ENABLED=(false)
REVERB_APP_PING_INTERVAL=20
REVERB_APP_ACTIVITY_TIMEOUT=25
REVERB_APP_MAX_CONNECTIONS=null
REVERB_APP_MAX_MESSAGE_SIZE=5000
REVERB_PULSE_INGEST_INTERVAL=15
VITE_REVERB_APP_KEY="${REVERB_APP_KEY}"
"#;
    let settings = settings(&[], &[(".env", env)]);
    assert_eq!(settings.server.listen[0].address, "0.0.0.0:6001".parse::<SocketAddr>().unwrap());
    assert_eq!((settings.server.path.as_str(), settings.server.request_bytes_max), ("/ws", Some(20_000)));
    let [app] = settings.apps.as_slice() else { panic!("one app") };
    assert_eq!((app.id.as_str(), app.key.as_str()), ("123456", "laravel-key"));
    assert!(has_secret(app, "pa$word-My app-16"));
    assert_eq!((app.client_events, app.client_events_per_second), (ClientEvents::Members, None));
    assert_eq!((app.message_rate, app.connections_max), (None, None));
    assert_eq!((app.ping_interval.as_secs(), app.activity_timeout.as_secs()), (20, 25));
    assert_eq!((app.pong_timeout.as_secs(), app.limits.message_bytes_max), (20, 5000));
    assert_eq!(settings.notes, [Note::info("the app is named by REVERB_*: Reverb's defaults hold for it")]);
}

#[test]
fn reverbs_rates_and_modes() {
    let rate = |messages: u32, seconds, terminate| {
        let messages_max = messages.try_into().unwrap();
        Some(MessageRate { messages_max, window: Duration::from_secs(seconds), terminate })
    };
    let enabled = ("REVERB_APP_RATE_LIMITING_ENABLED", "true");
    let attempts = ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "7");
    let window = ("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "9");
    let terminate = ("REVERB_APP_RATE_LIMIT_TERMINATE", "(true)");
    for (more, expected) in [
        (vec![enabled], rate(60, 60, false)),
        (vec![enabled, attempts, window, terminate], rate(7, 9, true)),
        (vec![attempts, window, terminate], None),
        (vec![("REVERB_APP_RATE_LIMITING_ENABLED", "false"), attempts], None),
    ] {
        assert_eq!(settings(&with(REVERB, &more), &[]).apps[0].message_rate, expected, "{more:?}");
    }
    // The environment's rate replaces the file's of the same app.
    let file = ("soundpost.toml", &*format!("{APP}messages_per_minute = 5\n").replace("\"a\"", "\"1\""));
    assert_eq!(settings(&with(REVERB, &[enabled]), &[file]).apps[0].message_rate, rate(60, 60, false));
    assert_eq!(settings(REVERB, &[file]).apps[0].message_rate, rate(5, 60, false));
    for (mode, expected) in [
        ("members", ClientEvents::Members),
        ("all", ClientEvents::All),
        ("none", ClientEvents::None),
        ("anything", ClientEvents::None),
        ("", ClientEvents::None),
    ] {
        let environment = with(REVERB, &[("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", mode)]);
        assert_eq!(settings(&environment, &[]).apps[0].client_events, expected, "{mode:?}");
    }
}

#[test]
fn secrets_and_ids_arrive_untouched() {
    for secret in
        ["true", "12345678901234567890", "0012", "1e5", "null", " x ", "a,b", "a__b", "[1]", "(true)"]
    {
        let environment = [
            ("SOUNDPOST_APPS__0__ID", "007"),
            ("SOUNDPOST_APPS__0__KEY", "Key"),
            ("SOUNDPOST_APPS__0__SECRET", secret),
        ];
        let settings = settings(&environment, &[]);
        assert!(has_secret(&settings.apps[0], secret), "{secret}");
        assert_eq!((settings.apps[0].id.as_str(), settings.apps[0].key.as_str()), ("007", "Key"));
    }
    for secret in ["true", "12345678901234567890", "0012"] {
        let environment = with(&REVERB[..2], &[("REVERB_APP_SECRET", secret)]);
        assert!(has_secret(&settings(&environment, &[]).apps[0], secret), "{secret}");
    }
    let file = "[[apps]]\nid = 12\nkey = \"K\"\nsecret = 1234\n";
    let settings = settings(&[], &[("soundpost.toml", file)]);
    assert_eq!(settings.apps[0].id.as_str(), "12");
    assert!(has_secret(&settings.apps[0], "1234"));
    assert!(settings.notes[1].text.ends_with("is shorter than 16 characters"), "{:?}", settings.notes);
    assert!(!format!("{settings:?}").contains("1234"));
}

#[test]
fn apps_of_several_sources_meet_by_id() {
    let file = ("soundpost.toml", &*format!("{APP}connections_max = 5\nallowed_origins = [\"x\"]\n"));
    let other = [
        ("SOUNDPOST_APPS__3__ID", "b"),
        ("SOUNDPOST_APPS__3__KEY", "k2"),
        ("SOUNDPOST_APPS__3__SECRET", "s"),
    ];
    let same = [("SOUNDPOST_APPS__3__ID", "a"), ("SOUNDPOST_APPS__3__KEY", "k2")];
    let ids = |settings: &Settings| settings.apps.iter().map(|app| app.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&settings(&other, &[file])), ["a", "b"]);
    let both = settings(&same, &[file]);
    assert_eq!(ids(&both), ["a"]);
    assert_eq!(both.apps[0].key.as_str(), "k2");
    assert_eq!(both.apps[0].connections_max.unwrap().get(), 5);
    assert!(!both.apps[0].allowed_origins.allow(Some("https://y")));
    // Lists: with commas, or by number.
    for more in [
        vec![("SOUNDPOST_APPS__3__ALLOWED_ORIGINS", "z, y")],
        vec![("SOUNDPOST_APPS__3__ALLOWED_ORIGINS__0", "y"), ("SOUNDPOST_APPS__3__ALLOWED_ORIGINS__1", "z")],
    ] {
        let settings = settings(&with(&same, &more), &[file]);
        assert!(settings.apps[0].allowed_origins.allow(Some("https://y")), "{more:?}");
        assert!(!settings.apps[0].allowed_origins.allow(Some("https://x")), "{more:?}");
    }
    // Reverb's defaults are below the file's values.
    let file = ("soundpost.toml", &*format!("{APP}client_events_per_second = 3\n").replace("\"a\"", "\"1\""));
    assert_eq!(settings(REVERB, &[file]).apps[0].client_events_per_second.unwrap().get(), 3);
    // The id alone is enough where the file has the rest.
    assert_eq!(ids(&settings(&REVERB[..1], &[file])), ["1"]);
}

#[test]
fn addresses_and_paths_are_normalised() {
    for (host, expected) in [
        ("0.0.0.0", vec!["0.0.0.0:1"]),
        ("::", vec!["[::]:1"]),
        ("[::]", vec!["[::]:1"]),
        ("localhost", vec!["127.0.0.1:1", "[::1]:1"]),
        ("127.0.0.1, 10.0.0.1,127.0.0.1", vec!["127.0.0.1:1", "10.0.0.1:1"]),
    ] {
        let flags = Flags { host: Some(host.to_owned()), port: Some(1), ..Flags::default() };
        let listen = load(&flags, REVERB, &[]).unwrap().server.listen;
        assert_eq!(
            listen.iter().map(|listen| listen.address.to_string()).collect::<Vec<_>>(),
            expected,
            "{host}"
        );
    }
    for (path, expected) in [("/", ""), ("app", "/app"), ("/app/", "/app"), ("a/b", "/a/b"), (" /x ", "/x")] {
        let flags = Flags { path: Some(path.to_owned()), ..Flags::default() };
        assert_eq!(load(&flags, &[], &[]).unwrap().server.path, expected, "{path:?}");
    }
}

#[test]
fn the_admin_port_is_explicit_once_it_is_written() {
    assert!(!settings(&[], &[]).server.admin.explicit);
    let admin = settings(&[("SOUNDPOST_ADMIN__PORT", "0")], &[]).server.admin;
    assert!(admin.explicit);
    assert_eq!((admin.host.to_string().as_str(), admin.port), ("127.0.0.1", 0));
}

#[test]
fn an_app_of_pushers_that_is_not_read_is_named() {
    let says = |environment: &[(&str, &str)]| {
        let notes = settings(environment, &[(".env", "PUSHER_APP_KEY=k\n")]).notes;
        notes
            .iter()
            .any(|note| note.text.starts_with("PUSHER_APP_KEY in ") && note.text.contains("REVERB_APP_ID"))
    };
    assert!(says(&[]) && !says(REVERB));
}

#[test]
fn what_the_service_environment_injects_is_no_mistake() {
    let injected = [
        ("SOUNDPOST_SERVICE_HOST", "10.0.0.1"),
        ("SOUNDPOST_SERVICE_PORT_HTTP", "8080"),
        ("SOUNDPOST_PORT", "tcp://10.0.0.1:8080"),
        ("SOUNDPOST_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SOUNDPOST_LOG", "debug"),
        ("SOUNDPOST_COMMIT", "1a2b3c4"),
        ("SOKETI_PORT", "tcp://10.0.0.2:6001"),
        ("SOKETI_SERVICE_HOST", "10.0.0.2"),
    ];
    let settings = settings(&injected, &[]);
    assert_eq!((settings.log.filter.as_deref(), settings.server.port), (Some("debug"), 8080));
    assert_eq!(settings.notes.len(), 2, "{:?}", settings.notes);
}

#[test]
fn the_defaults_of_code_and_of_an_empty_file_are_one() {
    let file = settings(&[], &[("soundpost.toml", APP)]);
    assert_eq!(file.server, ServerSettings::default());
    assert_eq!(Settings::new(file.apps).server.listen[0].address.port(), 0);
}

#[test]
fn a_secret_that_is_being_replaced_is_named_and_noted() {
    let of = |text: &str| {
        settings(
            &[("SOUNDPOST_APPS__0__ID", "a"), ("SOUNDPOST_APPS__0__PREVIOUS_SECRET", text)],
            &[("soundpost.toml", APP)],
        )
    };
    let settings = of("the-secret-before-this");
    let previous = settings.apps[0].previous_secret.as_ref().unwrap();
    assert!(previous.is_same(&AppSecret::new("the-secret-before-this")));
    let place = "apps.0.previous_secret (SOUNDPOST_APPS__0__PREVIOUS_SECRET)";
    let last =
        |settings: &Settings| settings.notes.last().map(|note| (note.level, note.text.clone())).unwrap();
    assert_eq!(last(&settings), (NoteLevel::Info, format!("{place} is still accepted beside the secret")));
    let (level, text) = last(&of("a-secret-of-16-or-more"));
    assert_eq!(
        (level, text),
        (NoteLevel::Warning, format!("{place} is the same as the secret, so nothing is replaced"))
    );
    assert!(
        of("short").notes.iter().any(|note| note.text == format!("{place} is shorter than 16 characters"))
    );
    let public = APP.replace("id =", &format!("previous_secret = {DEVELOPMENT_SECRET:?}\nid ="));
    let refused = refusal(&[], &[("soundpost.toml", &public)]);
    assert!(
        refused.starts_with("apps.0.previous_secret (soundpost.toml) is the development app's"),
        "{refused}"
    );
}

#[test]
fn the_files_that_were_read_or_looked_for_are_known_even_where_loading_fails() {
    let dir = Dir::new(&[("soundpost.toml", "port = 1"), ("other.env", "A=1")]);
    let files_of = |flags| {
        let (files, settings) = Invocation { flags, environment: Vec::new(), dir: dir.0.clone() }.load();
        let name = |path: &Path| path.strip_prefix(&dir.0).unwrap().display().to_string();
        (files.paths().map(name).collect::<Vec<_>>().join(" "), settings.is_ok())
    };
    let flags = Flags::default;
    assert_eq!(files_of(flags()), (".env soundpost.toml".to_owned(), false));
    let config = Some("none.toml".into());
    assert_eq!(files_of(Flags { config: config.clone(), ..flags() }), ("none.toml".to_owned(), false));
    let env_file = Some("other.env".into());
    assert_eq!(files_of(Flags { config, env_file, ..flags() }), ("none.toml other.env".to_owned(), false));
}
