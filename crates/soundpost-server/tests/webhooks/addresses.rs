//! Receivers in private networks, where these are refused.

use std::net::TcpListener;

use crate::hook::Hook;

#[test]
fn private_addresses_are_refused_in_every_form() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
    ] {
        let problem = Hook::to(&format!("http://{host}:{port}/")).refusing_private().open().problem();
        let is_refused =
            problem == "its host has only private addresses, which refuse_private_addresses forbids";
        // Some systems do not know every name and number; but none is dialled.
        assert!(is_refused || problem.starts_with("its name is not known"), "{host}: {problem}");
    }
    assert!(listener.accept().is_err(), "nobody has come");
    let problem = Hook::to("http://127.0.0.1:1/").refusing_private().open().problem();
    assert!(problem.contains("refuse_private_addresses"), "{problem}");
}
