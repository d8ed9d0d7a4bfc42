//! Where the server is reached and what stands in front of it: addresses, path, Unix socket, proxies.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix,
    path::PathBuf,
};

use super::{
    ConfigError, Listen, Note, ServerSettings, UnixSocket,
    checks::Table,
    layers::Layered,
    settings::LOOPBACK,
    written::{Scalar, ServerFile},
};
use crate::proxy::Proxies;

/// The host of a server that listens on its Unix socket alone; in a file `[]` says the same.
const NOWHERE: &str = "none";

/// Where to listen by TCP: nowhere only if that is written and there is a Unix socket. The development app is for this machine: nobody else may reach a server whose secret is public.
pub(super) fn listen(
    layered: &Layered,
    server: Table<'_>,
    port: u16,
    development: bool,
    has_unix_socket: bool,
) -> Result<Vec<Listen>, ConfigError> {
    let mut hosts = Vec::new();
    if let Some(written) = &layered.settings.server.host {
        for text in server.texts("host", written)?.iter().filter(|text| text.trim() != NOWHERE) {
            let addresses = server.addresses("host", text)?;
            // Of the two addresses of `localhost` only the first is on every machine.
            hosts.extend(addresses.into_iter().enumerate().map(|(index, ip)| (ip, index == 0)));
        }
    }
    if hosts.is_empty() && layered.settings.server.host.is_some() {
        if has_unix_socket {
            note_hosts(server, &hosts);
            return Ok(Vec::new());
        }
        return Err(ConfigError::Value {
            place: server.at("host"),
            found: "nothing".to_owned(),
            expected: "an IP address; without one the server needs server.unix_socket".to_owned(),
        });
    }
    if hosts.is_empty() && development {
        hosts = LOOPBACK.into_iter().map(|ip| (ip, ip.is_ipv4())).collect();
    }
    if let Some((host, _)) = hosts.iter().find(|(ip, _)| development && !ip.is_loopback()) {
        return Err(ConfigError::NoApp { host: host.to_string() });
    }
    if hosts.is_empty() {
        hosts.extend(ServerSettings::default().listen.iter().map(|listen| (listen.address.ip(), true)));
    }
    note_hosts(server, &hosts);
    let mut listen: Vec<Listen> = Vec::new();
    for (ip, required) in hosts {
        let address = SocketAddr::new(ip, port);
        if !listen.iter().any(|other| other.address == address) {
            listen.push(Listen { address, required });
        }
    }
    Ok(listen)
}

/// One address is shown as text, several as a list.
fn note_hosts(server: Table<'_>, hosts: &[(IpAddr, bool)]) {
    match hosts {
        [(ip, _)] => server.note("host", ip.to_string()),
        hosts => server.note("host", hosts.iter().map(|(ip, _)| ip.to_string()).collect::<Vec<_>>()),
    }
}

/// `app/` and `/app` are `/app`; `/` is no prefix at all.
pub(super) fn path(server: Table<'_>, layered: &Layered) -> Result<String, ConfigError> {
    let Some(written) = &layered.settings.server.path else { return Ok(String::new()) };
    let text = server.text("path", written)?;
    let trimmed = text.trim().trim_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    let is_segment = |segment: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(allowed)
    };
    if trimmed.len() <= 200 && trimmed.split('/').all(is_segment) {
        return Ok(format!("/{trimmed}"));
    }
    Err(ConfigError::Value {
        place: server.at("path"),
        found: format!("{text:?}"),
        expected: "a path of A-Z a-z 0-9 . _ ~ - between slashes, at most 200 characters".to_owned(),
    })
}

/// The file and mode of the Unix socket; `None` if no path is written.
pub(super) fn unix_socket(server: Table<'_>, file: &ServerFile) -> Result<Option<UnixSocket>, ConfigError> {
    let refuse = |key, found, expected: &str| {
        Err(ConfigError::Value { place: server.at(key), found, expected: expected.to_owned() })
    };
    let mode = match &file.unix_socket_mode {
        None => Some(0o660),
        Some(Scalar::Text(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
        }
        // The number 660 is not the mode 660.
        Some(_) => None,
    };
    let Some(mode) = mode else {
        let found = file.unix_socket_mode.as_ref().map(Scalar::to_string).unwrap_or_default();
        return refuse("unix_socket_mode", found, "octal digits in quotes, from \"0000\" to \"0777\"");
    };
    server.note("unix_socket_mode", format!("{mode:04o}"));
    let Some(written) = &file.unix_socket else { return Ok(None) };
    let text = server.text("unix_socket", written)?;
    if text.is_empty() || unix::net::SocketAddr::from_pathname(text.as_ref()).is_err() {
        // The longest that fits behind the family in `sockaddr_un`.
        let max = if cfg!(target_os = "linux") { 107 } else { 103 };
        let expected = format!("a path of 1 to {max} bytes, the longest a socket can have");
        return refuse("unix_socket", format!("{text:?} ({} bytes)", text.len()), &expected);
    }
    Ok(Some(UnixSocket { path: PathBuf::from(text.as_ref()), mode }))
}

/// Who is believed about its clients, and how it names them.
///
/// Errors: an entry that is no network; PROXY headers are wanted and nobody is trusted to send one.
pub(super) fn proxies(
    server: Table<'_>,
    file: &ServerFile,
    notes: &mut Vec<Note>,
) -> Result<Proxies, ConfigError> {
    let mut proxies = Proxies::default();
    server.note("trusted_proxies", Vec::<String>::new());
    if let Some(entries) = &file.trusted_proxies {
        for text in server.texts("trusted_proxies", entries)? {
            proxies.trusted.add(text.trim()).map_err(|error| ConfigError::Value {
                place: server.at("trusted_proxies"),
                found: format!("{text:?}"),
                expected: error.to_string(),
            })?;
        }
    }
    if proxies.trusted.is_anyone() {
        notes.push(Note::warning(format!(
            "{} trusts everybody: whoever reaches this server can say to be any address",
            server.at("trusted_proxies")
        )));
    }
    proxies.protocol = server.boolean("proxy_protocol", file.proxy_protocol.as_ref(), false)?;
    if proxies.protocol && proxies.trusted.is_empty() && file.unix_socket.is_none() {
        return Err(ConfigError::Value {
            place: server.at("proxy_protocol"),
            found: "true".to_owned(),
            expected:
                "the addresses of the proxies in server.trusted_proxies: only they may send PROXY headers"
                    .to_owned(),
        });
    }
    Ok(proxies)
}

#[cfg(test)]
mod tests {
    use crate::config::{
        NoteLevel,
        tests::{APP, refusal, settings},
    };

    fn file(lines: &str) -> String {
        format!("[server]\n{lines}\n{APP}")
    }

    #[test]
    fn proxies_are_trusted_by_address_and_range_and_anybody_with_a_warning() {
        let trusted = |list: &str| {
            let settings = settings(&[], &[("soundpost.toml", &file(&format!("trusted_proxies = {list}")))]);
            let warned = settings
                .notes
                .iter()
                .any(|note| note.level == NoteLevel::Warning && note.text.contains("trusts everybody"));
            (settings.server.proxies.trusted, warned)
        };
        let (some, warned) = trusted(r#"["127.0.0.1", "::1", "10.0.0.0/8"]"#);
        assert!(some.trusts("10.1.2.3".parse().unwrap()) && !warned);
        assert!(!some.trusts("192.0.2.1".parse().unwrap()));
        let (all, warned) = trusted(r#"["*"]"#);
        assert!(all.trusts("192.0.2.1".parse().unwrap()) && warned);
        let (none, warned) = trusted("[]");
        assert!(none.is_empty() && !warned);
        let listed = [("SOUNDPOST_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1")];
        let by_variable = settings(&listed, &[("soundpost.toml", APP)]).server.proxies.trusted;
        assert!(
            by_variable.trusts("::1".parse().unwrap()) && by_variable.trusts("10.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn each_refusal_names_the_entry_and_what_belongs_there() {
        let long = format!("/{}", "x".repeat(107));
        let unix_socket = format!("unix_socket = \"{long}\"");
        let longer = format!(
            "server.unix_socket (soundpost.toml) is {long:?} (108 bytes); expected a path of 1 to 107 bytes, the longest a socket can have"
        );
        let mode = |found: &str| {
            format!(
                "server.unix_socket_mode (soundpost.toml) is {found}; expected octal digits in quotes, from \"0000\" to \"0777\""
            )
        };
        for (lines, expected) in [
            (
                r#"trusted_proxies = ["::1", "10.0.0.0/33"]"#,
                "server.trusted_proxies (soundpost.toml) is \"10.0.0.0/33\"; expected a range whose bits are a number from 0 to 32",
            ),
            (
                r#"trusted_proxies = ["nginx"]"#,
                "server.trusted_proxies (soundpost.toml) is \"nginx\"; expected an IP address, a range such as 10.0.0.0/8, or *",
            ),
            (
                "proxy_protocol = true",
                "server.proxy_protocol (soundpost.toml) is true; expected the addresses of the proxies in \
                 server.trusted_proxies: only they may send PROXY headers",
            ),
            (
                "host = []",
                "server.host (soundpost.toml) is nothing; expected an IP address; without one the server needs \
                 server.unix_socket",
            ),
            (unix_socket.as_str(), longer.as_str()),
            ("unix_socket = \"/s\"\nunix_socket_mode = 660", &mode("660")),
            ("unix_socket_mode = \"0o660\"", &mode("\"0o660\"")),
            ("unix_socket_mode = \"1777\"", &mode("\"1777\"")),
            ("unix_socket_mode = \"0880\"", &mode("\"0880\"")),
            ("unix_socket_mode = \"\"", &mode("\"\"")),
        ] {
            assert_eq!(refusal(&[], &[("soundpost.toml", &file(lines))]), expected, "{lines}");
        }
    }

    #[test]
    fn a_server_may_listen_on_its_unix_socket_alone() {
        for (host, addresses) in [("", 1), ("host = []", 0), ("host = \"none\"", 0), ("host = \"::1\"", 1)] {
            let lines = format!(
                "unix_socket = \"run/a.sock\"\nunix_socket_mode = \"600\"\nproxy_protocol = true\n{host}"
            );
            let server = settings(&[], &[("soundpost.toml", &file(&lines))]).server;
            let unix = server.unix.unwrap();
            assert_eq!((unix.path.to_str(), unix.mode), (Some("run/a.sock"), 0o600));
            assert_eq!(server.listen.len(), addresses, "{host}");
        }
        // The development app may, too: the file's mode says who reaches it.
        let alone = [("SOUNDPOST_SERVER__HOST", "none"), ("SOUNDPOST_SERVER__UNIX_SOCKET", "/run/a.sock")];
        let settings = settings(&alone, &[]);
        assert!(settings.development_app && settings.server.listen.is_empty());
    }
}
