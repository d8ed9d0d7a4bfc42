//! Ports for programs that are told theirs.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// A port that was free a moment ago, and is still free later: it is below those that Linux gives to whoever asks for any
/// (`ip_local_port_range`), which are all that clients and other tests have.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin at different places.
    let mut ports = (0..PORTS).map(|_| {
        let at = NEXT.fetch_add(1, Relaxed).wrapping_add(std::process::id().wrapping_mul(1009));
        u16::try_from(FIRST + at % PORTS).unwrap()
    });
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
