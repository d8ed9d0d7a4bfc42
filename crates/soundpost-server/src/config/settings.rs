//! The checked settings: the only form of the configuration that leaves this room.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    thread,
    time::Duration,
};

use soundpost_protocol::app::{App, Limits};

use super::{error::one_line, redis::RedisSettings};
use crate::{
    addresses::AddressLimits,
    proxy::Proxies,
    tls::{HANDSHAKE_TIMEOUT, Pair},
};

/// The two addresses a machine has for itself.
pub(super) const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Id of the app that serves when none is configured.
pub const DEVELOPMENT_ID: &str = "soundpost";
/// Key of the development app.
pub const DEVELOPMENT_KEY: &str = "soundpost-key";
/// Secret of the development app: public, which is why the app is served on the loopback addresses only.
pub const DEVELOPMENT_SECRET: &str = "soundpost-secret";

/// Everything the server is told before it starts. Every value is in its range.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub server: ServerSettings,
    /// Never empty, no id and no key twice.
    pub apps: Vec<App>,
    /// `apps` is the development app alone.
    pub development_app: bool,
    /// The Redis that makes this node one of several; `None`: it is alone.
    pub redis: Option<RedisSettings>,
    /// What is logged, and how.
    pub log: LogSettings,
    /// What the person who starts the server should read, in order.
    pub notes: Vec<Note>,
}

/// The node itself: `[server]` and `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where to listen by TCP, empty only if `unix` is there. All on one port: if it is 0, the port the first address got is the others' too.
    pub listen: Vec<Listen>,
    /// The Unix socket to listen on as well.
    pub unix: Option<UnixSocket>,
    /// What stands in front of the server.
    pub proxies: Proxies,
    /// The port of every address in `listen`; 0: any free one.
    pub port: u16,
    /// What stands before every route: empty, or `/prefix` without a slash at its end.
    pub path: String,
    /// The public host name, shown at the start.
    pub hostname: Option<String>,
    /// Threads that serve connections.
    pub workers: NonZeroUsize,
    /// The time over which a stopping server spreads its goodbyes.
    pub drain: Duration,
    /// Connections of this node; `None`: no limit (4100 above it).
    pub connections_max: Option<NonZeroU32>,
    /// What one address may do.
    pub address_limits: AddressLimits,
    /// Bytes waiting for one connection before it is cut.
    pub queue_bytes_max: usize,
    /// The kernel's send buffer of one connection, bytes.
    pub send_buffer_bytes: usize,
    /// An HTTP API request's body, bytes; `None`: as much as the limits of the apps can need.
    pub request_bytes_max: Option<usize>,
    /// Whether the settings are read again when their files change.
    pub watch_files: bool,
    /// Certificates and keys with which every address in `listen` speaks TLS; empty: plain. The first answers clients
    /// that ask for no name, or for one of none.
    pub tls: Vec<Pair>,
    /// How long a TLS handshake may take. No key sets it.
    pub tls_handshake_timeout: Duration,
    /// The second listener.
    pub admin: AdminSettings,
    /// Whether `/ready` fails while Redis is away; false: its body says so, with status 200.
    pub ready_requires_redis: bool,
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; `[::]` takes IPv4 too.
    pub address: SocketAddr,
    /// Whether the server must not start without it. False for `::1` of the development app and of `localhost`: a
    /// machine without IPv6 has no such address.
    pub required: bool,
}

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its file; no longer than an address can be.
    pub path: PathBuf,
    /// The mode of that file, at most `0o777`.
    pub mode: u32,
}

/// The listener for `/metrics`, `/up` and `/ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Its address.
    pub host: IpAddr,
    /// Its port; 0: any free one.
    pub port: u16,
    /// Whether somebody wrote the address or port. If nobody did and the port is taken, any free one will do.
    pub explicit: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// One line for every frame in and out.
    pub debug: bool,
    /// `SOUNDPOST_LOG`: what to log, in the words of tracing's `EnvFilter`.
    pub filter: Option<String>,
    /// Whether terminals may show colours: `NO_COLOR` is unset or empty.
    pub colours: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// How much a [`Note`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteLevel {
    /// Good to know.
    Info,
    /// Probably not what was meant, or not safe.
    Warning,
}

/// A line for the person who starts the server. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: NoteLevel,
    /// One line, lower case, no full stop.
    pub text: String,
}

impl Note {
    pub(super) fn info(text: impl AsRef<str>) -> Self {
        Self { level: NoteLevel::Info, text: one_line(text.as_ref()).into_owned() }
    }

    pub(super) fn warning(text: impl AsRef<str>) -> Self {
        Self { level: NoteLevel::Warning, text: one_line(text.as_ref()).into_owned() }
    }
}

impl Settings {
    /// These apps with every default, on free ports of 127.0.0.1: what a test wants.
    pub fn new(apps: Vec<App>) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let server = ServerSettings {
            listen: vec![Listen { address, required: true }],
            port: 0,
            queue_bytes_max: queue_bytes_default(&apps),
            admin: AdminSettings { port: 0, ..AdminSettings::default() },
            ..ServerSettings::default()
        };
        let log = LogSettings { format: LogFormat::Human, debug: false, filter: None, colours: false };
        Self { server, apps, development_app: false, redis: None, log, notes: Vec::new() }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
        Self {
            listen: vec![Listen { address, required: true }],
            unix: None,
            proxies: Proxies::default(),
            port: address.port(),
            path: String::new(),
            hostname: None,
            workers: cores(),
            drain: Duration::from_secs(25),
            connections_max: None,
            address_limits: AddressLimits::default(),
            queue_bytes_max: queue_bytes_default(&[]),
            send_buffer_bytes: 65_536,
            request_bytes_max: None,
            watch_files: true,
            tls: Vec::new(),
            tls_handshake_timeout: HANDSHAKE_TIMEOUT,
            admin: AdminSettings::default(),
            ready_requires_redis: false,
        }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 9601, explicit: false }
    }
}

/// One worker per core that this process may use.
pub(super) fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A queue holds at least 1 MiB and at least 16 of the largest events.
pub(super) fn queue_bytes_default(apps: &[App]) -> usize {
    let largest = apps.iter().map(|app| app.limits.event_data_bytes_max).max();
    largest.unwrap_or(Limits::default().event_data_bytes_max).saturating_mul(16).max(1_048_576)
}
