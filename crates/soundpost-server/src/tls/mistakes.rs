//! Clients that speak TLS to a plain port or plain HTTP to one with TLS: what they are told, and what the log says.

use tokio::net::TcpStream;
use tracing::warn;

use crate::seldom::Seldom;

/// What a TLS client begins with: a handshake record of TLS 1.x. No HTTP request begins with this byte.
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;

/// A record with the alert `protocol_version`, fatal. Source: RFC 8446, 5.1 and 6; the same in TLS 1.2.
const NO_TLS_HERE: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// A client's first flight is some two kilobytes; so much of it is read before it is answered.
const READ_MAX: usize = 16 << 10;

/// When each mistake was last logged.
#[derive(Debug, Default)]
pub struct Mistakes {
    tls_on_plain: Seldom,
    plain_on_tls: Seldom,
}

impl Mistakes {
    /// A client spoke TLS, and this server has none.
    pub fn tls_on_plain(&self) {
        if self.tls_on_plain.is_due() {
            warn!(
                "a client speaks TLS, but this port does not: set server.tls, or have clients use http:// and ws:// \
                 (forceTLS: false)"
            );
        }
    }

    /// A client spoke plain HTTP on a port with TLS.
    pub fn plain_on_tls(&self) {
        if self.plain_on_tls.is_due() {
            warn!(
                "a client speaks plain HTTP, but this port speaks TLS: have clients use https:// and wss:// \
                 (forceTLS: true)"
            );
        }
    }
}

/// Tells a TLS client in its own language that this port has none. Whether it hears it is its own affair.
pub(crate) fn answer_tls(stream: &TcpStream) {
    // What is left unread would make the kernel reset the connection, and the alert with it.
    let mut rest = [0; 2048];
    let mut read = 0;
    while read < READ_MAX {
        match stream.try_read(&mut rest) {
            Ok(count @ 1..) => read += count,
            Ok(0) | Err(_) => break,
        }
    }
    drop(stream.try_write(&NO_TLS_HERE));
}
