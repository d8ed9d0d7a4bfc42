//! What the start prints: where the server listens, for which apps, within which limits, and for the development app
//! the lines to paste. Never a secret but the development app's, which is public.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
};

use soundpost_server::config::{DEVELOPMENT_ID, DEVELOPMENT_KEY, DEVELOPMENT_SECRET, Settings};

/// Width of the column of labels.
const LABEL: usize = 11;
/// Apps shown one by one; more are counted.
const APPS_SHOWN: usize = 20;

/// The lines for a server that listens on `addresses`, and on `admin` for `/metrics`, `/up` and `/ready`; `files` is how
/// many files the process may hold open.
pub(crate) fn banner(
    settings: &Settings,
    addresses: &[SocketAddr],
    admin: Option<SocketAddr>,
    files: Option<u64>,
) -> String {
    // Writing into a text does not fail.
    render(settings, addresses, admin, files).unwrap_or_default()
}

/// What `soundpost check` prints: the same, of settings that no server was started with.
pub(crate) fn checked(settings: &Settings) -> String {
    let addresses: Vec<SocketAddr> = settings.server.listen.iter().map(|listen| listen.address).collect();
    let admin = SocketAddr::new(settings.server.admin.host, settings.server.admin.port);
    let notes: Vec<String> = settings.notes.iter().map(|note| format!("note: {}\n", note.text)).collect();
    format!(
        "{}{}the configuration is good\n",
        banner(settings, &addresses, Some(admin), None),
        notes.concat()
    )
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

fn render(
    settings: &Settings,
    addresses: &[SocketAddr],
    admin: Option<SocketAddr>,
    files: Option<u64>,
) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("SOUNDPOST_COMMIT"));
    writeln!(text, "Soundpost {version} ({commit})\n")?;
    listening(&mut text, settings, addresses, admin)?;
    apps(&mut text, settings)?;
    row(&mut text, "adapter", "local: one node, in memory")?;
    limits(&mut text, settings, files)?;
    if settings.development_app {
        let port = addresses.first().map_or(settings.server.port, SocketAddr::port);
        development(&mut text, port, &settings.server.path)?;
    }
    writeln!(text)?;
    Ok(text)
}

/// `  label      value`
fn row(text: &mut String, label: &str, value: &str) -> fmt::Result {
    writeln!(text, "  {label:<LABEL$}{value}")
}

fn listening(
    text: &mut String,
    settings: &Settings,
    addresses: &[SocketAddr],
    admin: Option<SocketAddr>,
) -> fmt::Result {
    let path = &settings.server.path;
    let mut label = "websocket";
    for address in addresses {
        row(text, label, &format!("ws://{address}{path}/app/{{key}}"))?;
        label = "";
    }
    let mut label = "http api";
    for address in addresses {
        row(text, label, &format!("http://{address}{path}/apps/{{id}}/events"))?;
        label = "";
    }
    if let Some(unix) = &settings.server.unix {
        row(text, "unix", &format!("{}  (mode {:04o})", unix.path.display(), unix.mode))?;
    }
    if let Some(hostname) = &settings.server.hostname {
        row(text, "host name", hostname)?;
    }
    if let Some(admin) = admin {
        row(text, "admin", &format!("http://{admin}/metrics  /up  /ready"))?;
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
        row(text, label, &format!("{:<width$}  key {}{note}", app.id.as_str(), app.key))?;
        label = "";
    }
    match settings.apps.len().checked_sub(APPS_SHOWN) {
        Some(more @ 1..) => row(text, "", &format!("and {more} more")),
        Some(0) | None => Ok(()),
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
fn development(text: &mut String, port: u16, path: &str) -> fmt::Result {
    let (server_path, ws_path) = match path {
        "" => (String::new(), String::new()),
        path => (format!("REVERB_SERVER_PATH={path}\n"), format!("\n    wsPath: '{path}',")),
    };
    write!(
        text,
        r#"
  For Laravel's .env:

BROADCAST_CONNECTION=reverb
REVERB_APP_ID={DEVELOPMENT_ID}
REVERB_APP_KEY={DEVELOPMENT_KEY}
REVERB_APP_SECRET={DEVELOPMENT_SECRET}
REVERB_HOST=localhost
REVERB_PORT={port}
REVERB_SCHEME=http
{server_path}VITE_REVERB_APP_KEY="${{REVERB_APP_KEY}}"
VITE_REVERB_HOST="${{REVERB_HOST}}"
VITE_REVERB_PORT="${{REVERB_PORT}}"
VITE_REVERB_SCHEME="${{REVERB_SCHEME}}"

  For Laravel Echo:

window.Echo = new Echo({{
    broadcaster: 'reverb',
    key: '{DEVELOPMENT_KEY}',
    wsHost: 'localhost',
    wsPort: {port},{ws_path}
    forceTLS: false,
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
        let text = banner(&settings, &addresses, admin, Some(1_048_576));
        assert_eq!(text, format!("{}\n{expected}", version()));
        settings.server.path = "/ws".to_owned();
        let text = banner(&settings, &addresses, admin, None);
        assert!(text.contains("\nREVERB_SERVER_PATH=/ws\nVITE_") && text.contains("\n    wsPath: '/ws',\n"));
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
        let text = banner(&settings, &addresses(&["0.0.0.0:80"]), None, None);
        assert_eq!(text, format!("{}\n{expected}", version()));
        assert!(!text.contains("hush"));
    }

    #[test]
    fn colours_add_nothing_but_colours() {
        let settings = Settings::load(&Flags::default(), [], Path::new("/nonexistent")).unwrap();
        let text = banner(&settings, &addresses(&["127.0.0.1:1"]), None, None);
        let mut coloured = coloured(&text);
        assert!(coloured.contains("\x1b[2m  apps       \x1b[0msoundpost"));
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, text);
    }
}
