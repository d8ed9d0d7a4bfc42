//! Where the server is reached and what stands in front of it: addresses, path, proxies.

use std::net::SocketAddr;

use super::{
    ConfigError, Listen, Note, ServerSettings, checks::Table, layers::Layered, settings::LOOPBACK,
    written::ServerFile,
};
use crate::proxy::Proxies;

/// Where to listen. The development app is for this machine: nobody else may reach a server whose secret is public.
pub(super) fn listen(
    layered: &Layered,
    server: Table<'_>,
    port: u16,
    development: bool,
) -> Result<Vec<Listen>, ConfigError> {
    let mut hosts = Vec::new();
    if let Some(written) = &layered.settings.server.host {
        for text in server.texts("host", written)? {
            let addresses = server.addresses("host", &text)?;
            // Of the two addresses of `localhost` only the first is on every machine.
            hosts.extend(addresses.into_iter().enumerate().map(|(index, ip)| (ip, index == 0)));
        }
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
    let mut listen: Vec<Listen> = Vec::new();
    for (ip, required) in hosts {
        let address = SocketAddr::new(ip, port);
        if !listen.iter().any(|other| other.address == address) {
            listen.push(Listen { address, required });
        }
    }
    Ok(listen)
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

/// Who is believed about its clients, and how it names them.
///
/// Errors: an entry that is no network; PROXY headers are wanted and nobody is trusted to send one.
pub(super) fn proxies(
    server: Table<'_>,
    file: &ServerFile,
    notes: &mut Vec<Note>,
) -> Result<Proxies, ConfigError> {
    let mut proxies = Proxies::default();
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
    if proxies.protocol && proxies.trusted.is_empty() {
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
        ] {
            assert_eq!(refusal(&[], &[("soundpost.toml", &file(lines))]), expected, "{lines}");
        }
    }
}
