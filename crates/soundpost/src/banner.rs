//! What the start prints: where the server listens, for which apps, within which limits, and for the development app
//! the lines to paste. Never a secret but the development app's, which is public.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
};

use soundpost_server::{
    config::{DEVELOPMENT_ID, DEVELOPMENT_KEY, DEVELOPMENT_SECRET, Settings},
    tls::Served,
};

/// Width of the column of labels.
const LABEL: usize = 11;
/// Apps shown one by one; more are counted.
const APPS_SHOWN: usize = 20;

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening<'a> {
    /// For clients and publishers.
    pub(crate) addresses: &'a [SocketAddr],
    /// For `/metrics`, `/up` and `/ready`.
    pub(crate) admin: Option<SocketAddr>,
    /// With these it speaks TLS; with none, plain.
    pub(crate) certificates: &'a [Served],
}

/// The lines for a server that listens there; `files` is how many files the process may hold open.
pub(crate) fn banner(settings: &Settings, listening: Listening<'_>, files: Option<u64>) -> String {
    // Writing into a text does not fail.
    render(settings, listening, files).unwrap_or_default()
}

/// The same text with the headline bold and the labels dim.
pub(crate) fn coloured(text: &str) -> String {
    let line = |(index, line): (usize, &str)| match line.split_at_checked(LABEL + 2) {
        _ if index == 0 => format!("\x1b[1m{line}\x1b[0m\n"),
        Some((label, rest)) if label.ends_with("  ") && !label.trim().is_empty() => {
            format!("\x1b[2m{label}\x1b[0m{rest}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().enumerate().map(line).collect()
}

fn render(settings: &Settings, listening: Listening<'_>, files: Option<u64>) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("SOUNDPOST_COMMIT"));
    writeln!(text, "Soundpost {version} ({commit})\n")?;
    addresses(&mut text, settings, listening)?;
    certificates(&mut text, listening.certificates)?;
    apps(&mut text, settings)?;
    row(&mut text, "adapter", &adapter(settings))?;
    limits(&mut text, settings, files)?;
    if settings.development_app {
        development(&mut text, settings, listening)?;
    }
    writeln!(text)?;
    Ok(text)
}

/// `  label      value`
fn row(text: &mut String, label: &str, value: &str) -> fmt::Result {
    writeln!(text, "  {label:<LABEL$}{value}")
}

fn addresses(text: &mut String, settings: &Settings, listening: Listening<'_>) -> fmt::Result {
    let path = &settings.server.path;
    let secure = if listening.certificates.is_empty() { "" } else { "s" };
    let mut label = "websocket";
    for address in listening.addresses {
        row(text, label, &format!("ws{secure}://{address}{path}/app/{{key}}"))?;
        label = "";
    }
    let mut label = "http api";
    for address in listening.addresses {
        row(text, label, &format!("http{secure}://{address}{path}/apps/{{id}}/events"))?;
        label = "";
    }
    if let Some(unix) = &settings.server.unix {
        row(text, "unix", &format!("{}  (mode {:04o})", unix.path.display(), unix.mode))?;
    }
    if let Some(hostname) = &settings.server.hostname {
        row(text, "host name", hostname)?;
    }
    if let Some(admin) = listening.admin {
        row(text, "admin", &format!("http://{admin}/metrics  /up  /ready"))?;
    }
    Ok(())
}

/// The names that clients may use, and until when.
fn certificates(text: &mut String, certificates: &[Served]) -> fmt::Result {
    let mut label = "tls";
    for served in certificates {
        let names = if served.names.is_empty() { "no names".to_owned() } else { served.names.join(", ") };
        let until = served.until().map(|until| format!("  (until {until})")).unwrap_or_default();
        row(text, label, &format!("{names}{until}"))?;
        label = "";
    }
    Ok(())
}

fn apps(text: &mut String, settings: &Settings) -> fmt::Result {
    let width = settings.apps.iter().take(APPS_SHOWN).map(|app| app.id.as_str().len()).max().unwrap_or(0);
    let mut label = "apps";
    for app in settings.apps.iter().take(APPS_SHOWN) {
        let note = match (settings.development_app, app.enabled) {
            (true, _) => "  (development: its secret is public)",
            (false, true) => "",
            (false, false) => "  (disabled)",
        };
        let webhooks = match app.webhooks.len() {
            0 => String::new(),
            1 => "  1 webhook".to_owned(),
            more => format!("  {more} webhooks"),
        };
        row(text, label, &format!("{:<width$}  key {}{webhooks}{note}", app.id.as_str(), app.key))?;
        label = "";
    }
    match settings.apps.len().checked_sub(APPS_SHOWN) {
        Some(more @ 1..) => row(text, "", &format!("and {more} more")),
        Some(0) | None => Ok(()),
    }
}

/// How far an event reaches. Where names at Redis begin is among the notes.
fn adapter(settings: &Settings) -> String {
    match &settings.redis {
        None => "local: one node, in memory".to_owned(),
        Some(redis) => {
            let tls = if redis.tls.is_some() { " with TLS" } else { "" };
            format!("redis: one of several nodes, over {}{tls}", redis.servers)
        }
    }
}

fn limits(text: &mut String, settings: &Settings, files: Option<u64>) -> fmt::Result {
    let server = &settings.server;
    let connections =
        server.connections_max.map_or("no limit".to_owned(), |max| grouped(u64::from(max.get())));
    let files = match files {
        Some(files) => format!(", at most {} by the file limit", grouped(files)),
        None => String::new(),
    };
    row(text, "limits", &format!("connections  {connections}{files}"))?;
    let span = |sizes: &mut dyn Iterator<Item = usize>| {
        let (low, high) = sizes.fold((usize::MAX, 0), |(low, high), size| (low.min(size), high.max(size)));
        let [low, high] = [low, high].map(|size| grouped(u64::try_from(size).unwrap_or(u64::MAX)));
        if low == high { format!("{low} bytes") } else { format!("{low} to {high} bytes, by app") }
    };
    let messages = span(&mut settings.apps.iter().map(|app| app.limits.message_bytes_max));
    let events = span(&mut settings.apps.iter().map(|app| app.limits.event_data_bytes_max));
    row(text, "", &format!("message      {messages}"))?;
    row(text, "", &format!("event data   {events}"))?;
    row(text, "", &format!("workers      {}", server.workers))
}

/// The development app's lines for Laravel's `.env` and for Echo, flush left so that they can be pasted.
fn development(text: &mut String, settings: &Settings, listening: Listening<'_>) -> fmt::Result {
    let port = listening.addresses.first().map_or(settings.server.port, SocketAddr::port);
    let (server_path, ws_path) = match settings.server.path.as_str() {
        "" => (String::new(), String::new()),
        // The PHP SDK puts its path behind the host as it is and drops what follows the last slash of it.
        path => (format!("REVERB_SERVER_PATH={path}/\n"), format!("\n    wsPath: '{path}',")),
    };
    let is_tls = !listening.certificates.is_empty();
    let (scheme, port_key) = if is_tls { ("https", "wssPort") } else { ("http", "wsPort") };
    // A certificate is for a name, so there `localhost` would not do.
    let host = settings.server.hostname.as_deref().filter(|_| is_tls).unwrap_or("localhost");
    write!(
        text,
        r#"
  For Laravel's .env:

BROADCAST_CONNECTION=reverb
REVERB_APP_ID={DEVELOPMENT_ID}
REVERB_APP_KEY={DEVELOPMENT_KEY}
REVERB_APP_SECRET={DEVELOPMENT_SECRET}
REVERB_HOST={host}
REVERB_PORT={port}
REVERB_SCHEME={scheme}
{server_path}VITE_REVERB_APP_KEY="${{REVERB_APP_KEY}}"
VITE_REVERB_HOST="${{REVERB_HOST}}"
VITE_REVERB_PORT="${{REVERB_PORT}}"
VITE_REVERB_SCHEME="${{REVERB_SCHEME}}"

  For Laravel Echo:

window.Echo = new Echo({{
    broadcaster: 'reverb',
    key: '{DEVELOPMENT_KEY}',
    wsHost: '{host}',
    {port_key}: {port},{ws_path}
    forceTLS: {is_tls},
    enabledTransports: ['ws', 'wss'],
}});
"#
    )
}

/// `1638400` as `1,638,400`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use soundpost_protocol::app::{App, AppId, AppKey, AppSecret};
    use soundpost_server::config::{Flags, UnixSocket};

    use super::*;

    fn version() -> String {
        format!("Soundpost {} ({})", env!("CARGO_PKG_VERSION"), env!("SOUNDPOST_COMMIT"))
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn plain(addresses: &[SocketAddr], admin: Option<SocketAddr>) -> Listening<'_> {
        Listening { addresses, admin, certificates: &[] }
    }

    #[test]
    fn the_development_app_comes_with_the_lines_to_paste() {
        let mut settings = Settings::load(&Flags::default(), [], Path::new("/nonexistent")).unwrap();
        settings.server.workers = std::num::NonZeroUsize::MIN;
        let addresses = addresses(&["127.0.0.1:8080", "[::1]:8080"]);
        let admin = "127.0.0.1:9601".parse().ok();
        let expected = r#"
  websocket  ws://127.0.0.1:8080/app/{key}
             ws://[::1]:8080/app/{key}
  http api   http://127.0.0.1:8080/apps/{id}/events
             http://[::1]:8080/apps/{id}/events
  admin      http://127.0.0.1:9601/metrics  /up  /ready
  apps       soundpost  key soundpost-key  (development: its secret is public)
  adapter    local: one node, in memory
  limits     connections  no limit, at most 1,048,576 by the file limit
             message      10,000 bytes
             event data   102,400 bytes
             workers      1

  For Laravel's .env:

BROADCAST_CONNECTION=reverb
REVERB_APP_ID=soundpost
REVERB_APP_KEY=soundpost-key
REVERB_APP_SECRET=soundpost-secret
REVERB_HOST=localhost
REVERB_PORT=8080
REVERB_SCHEME=http
VITE_REVERB_APP_KEY="${REVERB_APP_KEY}"
VITE_REVERB_HOST="${REVERB_HOST}"
VITE_REVERB_PORT="${REVERB_PORT}"
VITE_REVERB_SCHEME="${REVERB_SCHEME}"

  For Laravel Echo:

window.Echo = new Echo({
    broadcaster: 'reverb',
    key: 'soundpost-key',
    wsHost: 'localhost',
    wsPort: 8080,
    forceTLS: false,
    enabledTransports: ['ws', 'wss'],
});

"#;
        let text = banner(&settings, plain(&addresses, admin), Some(1_048_576));
        assert_eq!(text, format!("{}\n{expected}", version()));
        settings.server.path = "/ws".to_owned();
        let text = banner(&settings, plain(&addresses, admin), None);
        assert!(text.contains("\nREVERB_SERVER_PATH=/ws/\nVITE_") && text.contains("\n    wsPath: '/ws',\n"));
    }

    #[test]
    fn with_tls_the_lines_say_so_and_which_names_are_served() {
        let flags = Flags { hostname: Some("app.test".to_owned()), ..Flags::default() };
        let settings = Settings::load(&flags, [], Path::new("/nonexistent")).unwrap();
        let served = |names: &[&str], seconds: Option<u64>| Served {
            certificate: "/pems/app.pem".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            not_after: seconds
                .map(|seconds| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)),
        };
        let certificates = [served(&["app.test", "*.app.test"], Some(1_801_440_000)), served(&[], None)];
        let addresses = addresses(&["127.0.0.1:8443"]);
        let listening = Listening { addresses: &addresses, admin: None, certificates: &certificates };
        let text = banner(&settings, listening, None);
        for expected in [
            "  websocket  wss://127.0.0.1:8443/app/{key}\n  http api   https://127.0.0.1:8443/apps/{id}/events\n",
            "  tls        app.test, *.app.test  (until 2027-02-01)\n             no names\n",
            "\nREVERB_HOST=app.test\nREVERB_PORT=8443\nREVERB_SCHEME=https\n",
            "\n    wsHost: 'app.test',\n    wssPort: 8443,\n    forceTLS: true,\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn other_apps_are_named_without_their_secrets() {
        let app = |id, key| {
            App::new(
                AppId::parse(id).unwrap(),
                AppKey::parse(key).unwrap(),
                AppSecret::new("hush-hush-hush-hush"),
            )
        };
        let (mut shop, mut blog) = (app("shop", "shop-key"), app("b", "blog-key"));
        shop.limits.message_bytes_max = 20_000;
        blog.enabled = false;
        let mut settings = Settings::new(vec![shop, blog]);
        settings.server.connections_max = NonZeroU32::new(5000);
        settings.server.hostname = Some("ws.app.test".to_owned());
        settings.server.path = "/ws".to_owned();
        settings.server.unix = Some(UnixSocket { path: "/run/soundpost.sock".into(), mode: 0o660 });
        settings.server.workers = std::num::NonZeroUsize::MIN;
        let expected = "
  websocket  ws://0.0.0.0:80/ws/app/{key}
  http api   http://0.0.0.0:80/ws/apps/{id}/events
  unix       /run/soundpost.sock  (mode 0660)
  host name  ws.app.test
  apps       shop  key shop-key
             b     key blog-key  (disabled)
  adapter    local: one node, in memory
  limits     connections  5,000
             message      10,000 to 20,000 bytes, by app
             event data   102,400 bytes
             workers      1

";
        let text = banner(&settings, plain(&addresses(&["0.0.0.0:80"]), None), None);
        assert_eq!(text, format!("{}\n{expected}", version()));
        assert!(!text.contains("hush"));
    }

    #[test]
    fn an_app_comes_with_the_number_of_its_webhooks() {
        for (urls, shown) in
            [(&["http://a.test/?hush"][..], "1 webhook"), (&["http://a.test", "http://b.test"], "2 webhooks")]
        {
            let url = |(at, url): (usize, &&str)| {
                (format!("SOUNDPOST_APPS__0__WEBHOOKS__{at}__URL"), (*url).to_owned())
            };
            let app = [("ID", "shop"), ("KEY", "shop-key"), ("SECRET", "shop-secret-shop-secret")];
            let app = app.map(|(name, value)| (format!("SOUNDPOST_APPS__0__{name}"), value.to_owned()));
            let variables = urls.iter().enumerate().map(url).chain(app);
            let settings = Settings::load(&Flags::default(), variables, Path::new("/nonexistent")).unwrap();
            let text = banner(&settings, plain(&addresses(&["127.0.0.1:1"]), None), None);
            assert!(text.contains(&format!("\n  apps       shop  key shop-key  {shown}\n")), "{text}");
            assert!(!text.contains("hush"));
        }
    }

    #[test]
    fn one_of_several_nodes_says_so() {
        let flags = Flags::default();
        let variables =
            [("SOUNDPOST_REDIS__ENABLED", "true"), ("SOUNDPOST_REDIS__URL", "rediss://joe:hush@cache/2")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::load(&flags, variables, Path::new("/nonexistent")).unwrap();
        let text = banner(&settings, plain(&addresses(&["127.0.0.1:1"]), None), None);
        assert!(
            text.contains("\n  adapter    redis: one of several nodes, over cache:6379 with TLS\n"),
            "{text}"
        );
        assert!(!text.contains("hush"));
    }

    #[test]
    fn colours_add_nothing_but_colours() {
        let settings = Settings::load(&Flags::default(), [], Path::new("/nonexistent")).unwrap();
        let text = banner(&settings, plain(&addresses(&["127.0.0.1:1"]), None), None);
        let mut coloured = coloured(&text);
        assert!(coloured.contains("\x1b[2m  apps       \x1b[0msoundpost"));
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, text);
    }
}
