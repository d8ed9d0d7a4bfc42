//! What stands in front of the server: whose word is taken, and what it says of the clients behind it.
//!
//! Values and functions alone. Knows no socket and no request: `doorstep` reads the one, `http` the other.

pub mod forwarded;
pub mod header;
pub mod trusted;

pub use trusted::{NetworkError, TrustedProxies};

/// How the node treats what stands in front of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Whose word about their clients is taken.
    pub trusted: TrustedProxies,
    /// Whether those begin each connection with a PROXY header.
    pub protocol: bool,
}
