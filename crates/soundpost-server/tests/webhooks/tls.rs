//! Receivers with TLS: whom a webhook believes, and whom not.

use std::fs;

use crate::{
    authority::{Authority, self_signed},
    hook::Hook,
    receiver::{Act, OK, Receiver, say},
};

#[test]
fn a_receiver_whose_authority_is_given_is_believed() {
    let authority = Authority::new();
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        for (host, name) in
            [("localhost", "localhost"), ("LOCALHOST", "localhost"), ("127.0.0.1", "127.0.0.1")]
        {
            let receiver = Receiver::secured(authority.serve_with(name, true, versions), |_| say(OK));
            let url = format!("https://{host}:{}/hook", receiver.address.port());
            let sender = Hook::to(&url).ca(authority.file()).open();
            for _ in 0..3 {
                assert_eq!(sender.status(), 200);
            }
            assert_eq!(receiver.connections(), 1, "the connection is used again");
            assert_eq!(receiver.next().header("X-Pusher-Key"), Some("key-one"));
        }
    }
}

#[test]
fn a_receiver_that_cannot_be_believed_is_sent_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (own, itself) = Authority::itself("127.0.0.1");
    const UNKNOWN: &str =
        "TLS: its certificate is of no authority that is trusted here; see apps.webhooks.ca";
    // A system may have nobody at all to be trusted.
    const SYSTEM: &str = "apps.webhooks.ca";
    for (tls, ca, expected) in [
        (authority.serve("127.0.0.1", true), Some(&other), UNKNOWN),
        (authority.serve("127.0.0.1", true), None, SYSTEM),
        (self_signed("127.0.0.1"), Some(&authority), UNKNOWN),
        (self_signed("127.0.0.1"), None, SYSTEM),
        (itself, Some(&own), "make it anew with basicConstraints=CA:FALSE"),
        (authority.serve("app.test", true), Some(&authority), "TLS: its certificate cannot be accepted: "),
        (authority.serve("127.0.0.1", false), Some(&authority), "TLS: its certificate cannot be accepted: "),
    ] {
        let receiver = Receiver::secured(tls, |_| say(OK));
        let mut hook = Hook::to(&receiver.url("https"));
        if let Some(ca) = ca {
            hook = hook.ca(ca.file());
        }
        let problem = hook.open().problem();
        assert!(problem.contains(expected), "{problem}");
        assert!(receiver.try_next().is_none());
    }
}

#[test]
fn one_side_alone_with_tls_is_told_from_a_wrong_port() {
    let authority = Authority::new();
    // It cannot read the hello, and goes.
    let plain = Receiver::start(|_| say(OK));
    let problem = Hook::to(&plain.url("https")).ca(authority.file()).open().problem();
    assert!(problem.ends_with("; is that its port for TLS?"), "{problem}");
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = refusing.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = refusing.accept().unwrap();
        let read = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        read
    });
    let problem = Hook::to(&format!("https://{address}/")).ca(authority.file()).open().problem();
    assert_eq!(problem, "TLS: it answers without TLS; is that its port for TLS?");
    answering.join().unwrap();
    let secured = Receiver::secured(authority.serve("127.0.0.1", true), |_| vec![Act::Close]);
    let problem = Hook::to(&secured.url("http")).open().problem();
    assert!(problem.contains("no HTTP/1.1") || problem.contains("closed the connection"), "{problem}");
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_read_again_with_the_next_attempt() {
    let authority = Authority::new();
    let receiver = Receiver::secured(authority.serve("127.0.0.1", true), |_| say(OK));
    let file = authority.file().with_file_name("later.crt");
    let sender = Hook::to(&receiver.url("https")).ca(file.clone()).open();
    let problem = sender.problem();
    assert!(problem.starts_with("apps.webhooks.ca: cannot read "), "{problem}");
    fs::write(&file, "nothing of a certificate").unwrap();
    let problem = sender.problem();
    assert!(problem.starts_with("apps.webhooks.ca: "), "{problem}");
    fs::copy(authority.file(), &file).unwrap();
    assert_eq!(sender.status(), 200);
}
