//! From what was written to what it means: [`Settings`] out of the layered sources. Of the apps `apps` knows.

use std::num::NonZeroUsize;

use super::{
    AdminSettings, ConfigError, LogFormat, LogSettings, Note, ServerSettings, Settings, apps,
    checks::Table,
    layers::Layered,
    network, redis,
    settings::{cores, queue_bytes_default},
    tls::tls,
    written::ServerFile,
};
use crate::addresses::AddressLimits;

/// Bytes of one message or event, at most: larger ones would starve every other connection.
pub(super) const BYTES_MAX: u32 = 67_108_864;

impl TryFrom<&Layered> for Settings {
    type Error = ConfigError;

    /// Checks every value. The notes are about the apps alone, and what is not a key is left as it is by default.
    fn try_from(layered: &Layered) -> Result<Self, ConfigError> {
        let Layered { settings, origins, values, apps: written, development } = layered;
        let server = Table { name: "server", origins, dotted: true, values };
        let (mut notes, mut of_redis) = (Vec::new(), Vec::new());
        let redis = redis::resolve::redis(layered, &mut of_redis)?;
        let apps = apps::apps(written, redis.is_some(), &mut notes)?;
        let development_app = *development;
        if development_app {
            notes = vec![Note::warning(
                "no app is configured: serving the development app, whose secret is public, on this machine only",
            )];
        }
        let port = server.whole("port", settings.server.port.as_ref(), 8080, 0..=65_535)?;
        let port = u16::try_from(port).unwrap_or(0);
        let unix = network::unix_socket(server, &layered.settings.server)?;
        let listen = network::listen(layered, server, port, development_app, unix.is_some())?;
        notes.append(&mut of_redis);
        let is_public = listen.iter().any(|listen| !listen.address.ip().is_loopback());
        if is_public {
            apps::no_public_secret(written)?;
        }
        let file = &settings.server;
        let path = network::path(server, layered)?;
        server.note("path", path.as_str());
        let hostname = file.hostname.as_ref().map(|text| server.text("hostname", text)).transpose()?;
        let defaults = ServerSettings::default();
        let (queue, drain) = (queue_bytes_default(&apps), file.drain_seconds.as_ref());
        Ok(Self {
            redis,
            server: ServerSettings {
                listen,
                unix,
                proxies: network::proxies(server, file, &mut notes)?,
                port,
                path,
                hostname: hostname.map(Into::into),
                workers: workers(server, file)?,
                drain: server.seconds("drain_seconds", drain, defaults.drain, 0..=3600)?,
                connections_max: server.count("connections_max", file.connections_max.as_ref(), None)?,
                address_limits: address_limits(server, file)?,
                queue_bytes_max: server.size(
                    "queue_bytes_max",
                    file.queue_bytes_max.as_ref(),
                    queue,
                    1024..=1_073_741_824,
                )?,
                send_buffer_bytes: server.size(
                    "send_buffer_bytes",
                    file.send_buffer_bytes.as_ref(),
                    defaults.send_buffer_bytes,
                    4096..=16_777_216,
                )?,
                request_bytes_max: request_bytes_max(server, file)?,
                watch_files: server.boolean("watch_files", file.watch_files.as_ref(), true)?,
                tls: tls(layered)?,
                tls_handshake_timeout: defaults.tls_handshake_timeout,
                admin: admin(layered)?,
                ready_requires_redis: server.boolean(
                    "ready_requires_redis",
                    file.ready_requires_redis.as_ref(),
                    false,
                )?,
            },
            apps,
            development_app,
            log: log(server, file)?,
            notes,
        })
    }
}

fn log(server: Table<'_>, file: &ServerFile) -> Result<LogSettings, ConfigError> {
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    Ok(LogSettings {
        format: server.word("log_format", file.log_format.as_ref(), LogFormat::Human, &formats)?,
        debug: server.boolean("debug", file.debug.as_ref(), false)?,
        filter: None,
        colours: true,
    })
}

/// As many as are written, or one per core.
fn workers(server: Table<'_>, file: &ServerFile) -> Result<NonZeroUsize, ConfigError> {
    let workers = server.size("workers", file.workers.as_ref(), 0, 0..=256)?;
    let workers = NonZeroUsize::new(workers).unwrap_or_else(cores);
    server.note("workers", workers.get());
    Ok(workers)
}

fn admin(layered: &Layered) -> Result<AdminSettings, ConfigError> {
    let table = Table { name: "admin", origins: &layered.origins, dotted: true, values: &layered.values };
    let file = &layered.settings.admin;
    let mut admin =
        AdminSettings { explicit: file.host.is_some() || file.port.is_some(), ..AdminSettings::default() };
    if let Some(host) = &file.host {
        let addresses = table.addresses("host", &table.text("host", host)?)?;
        admin.host = addresses.first().copied().unwrap_or(admin.host);
    }
    table.note("host", admin.host.to_string());
    let port = table.whole("port", file.port.as_ref(), admin.port.into(), 0..=65_535)?;
    admin.port = u16::try_from(port).unwrap_or(0);
    Ok(admin)
}

fn request_bytes_max(server: Table<'_>, file: &ServerFile) -> Result<Option<usize>, ConfigError> {
    let written = file.request_bytes_max.as_ref();
    written.map(|_| server.size("request_bytes_max", written, 0, 1..=BYTES_MAX)).transpose()
}

fn address_limits(server: Table<'_>, file: &ServerFile) -> Result<AddressLimits, ConfigError> {
    let (max, rate) = ("connections_per_address_max", "connections_per_address_per_second");
    Ok(AddressLimits {
        connections_max: server.count(max, file.connections_per_address_max.as_ref(), None)?,
        connections_per_second: server.count(rate, file.connections_per_address_per_second.as_ref(), None)?,
    })
}
