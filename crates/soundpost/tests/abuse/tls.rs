//! A port with TLS: handshakes that break off, thousands of them, and no descriptor left for another.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

use crate::{
    client::reset,
    http,
    random::Random,
    server::{Server, Setup, until},
};

/// The first byte of a handshake's answer, and that of an alert.
const HANDSHAKE: u8 = 22;
/// What a client that cannot be taken in is told: the alert `internal_error`.
const NOT_NOW: [u8; 7] = [21, 3, 1, 0, 2, 2, 80];

/// A certificate for `localhost` in files of its own, which go with the value.
struct Certificate {
    files: [PathBuf; 2],
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("abuse-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let files = ["crt", "key"]
            .map(|end| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{end}")));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&files[0], made.cert.pem()).unwrap();
        fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
        Self { files, der: made.cert.der().clone() }
    }

    /// A server that speaks TLS with it.
    fn serve(&self, server: &str, files_max: Option<u32>) -> Server {
        let [certificate, key] = &self.files;
        let server = format!("{server}\n[server.tls]\ncertificate = {certificate:?}\nkey = {key:?}");
        Server::start(&Setup { server: &server, files_max, ..Setup::default() })
    }

    fn client(&self) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        for file in &self.files {
            drop(fs::remove_file(file));
        }
    }
}

/// What waits to be sent.
fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// A connection on which a handshake has begun. Who is turned away may be closed before.
fn begin(address: SocketAddr, hello: &[u8]) -> TcpStream {
    let mut stream = http::connect(address);
    drop(stream.write_all(hello));
    stream
}

/// The first byte of the answer, if there is one.
fn first_byte(mut stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    matches!(stream.read(&mut byte), Ok(1)).then_some(byte[0])
}

/// One handshake that ends somewhere on its way.
fn break_off(address: SocketAddr, mut client: ClientConnection, random: &mut Random) {
    let hello = said(&mut client);
    let way = random.below(4);
    // As often within the hello as behind it: at once, when the answer comes, or within the client's last word.
    let sent = if way < 2 { random.below(hello.len()) } else { hello.len() };
    let mut stream = begin(address, &hello[..sent]);
    if way == 3 {
        while client.is_handshaking() && !client.wants_write() {
            let has_more = client.read_tls(&mut stream).is_ok_and(|count| count > 0);
            if !has_more || client.process_new_packets().is_err() {
                break;
            }
        }
        let last = said(&mut client);
        drop(stream.write_all(&last[..random.below(last.len() + 1)]));
    } else if sent == hello.len() && random.below(2) == 0 {
        first_byte(&stream);
    }
    reset(&stream);
}

#[test]
fn two_thousand_handshakes_that_break_off_leave_nothing_behind() {
    let certificate = Certificate::new();
    let mut server = certificate.serve("connections_per_address_max = 24", None);
    let address = server.address;
    let hello = said(&mut certificate.client());
    let churn = |count: u64| {
        thread::scope(|scope| {
            for seed in 0..4 {
                let certificate = &certificate;
                scope.spawn(move || {
                    let mut random = Random(seed * 7919 + count);
                    (0..count).for_each(|_| break_off(address, certificate.client(), &mut random));
                });
            }
        });
    };
    let descriptors_at_rest = server.descriptors();
    // What the allocator keeps for handshakes it has after the first of them.
    churn(100);
    until("the first to be gone", || server.descriptors() <= descriptors_at_rest + 1);
    let (descriptors, resident) = (server.descriptors(), server.resident());
    churn(400);
    until("their descriptors to be free", || server.descriptors() <= descriptors);
    let grown = server.resident().saturating_sub(resident);
    println!("{descriptors} descriptors, {} kB and {} kB more", resident >> 10, grown >> 10);
    assert!(grown < 4 << 20, "{grown} bytes more than before");
    // The places of the address are free, all of them and no more.
    let mut inside = Vec::new();
    until("their places to be free", || {
        inside.clear();
        inside.extend((0..24).map(|_| begin(address, &hello)));
        inside.iter().all(|stream| first_byte(stream) == Some(HANDSHAKE))
    });
    let mut alert = Vec::new();
    drop(begin(address, b"").read_to_end(&mut alert));
    assert_eq!(alert, NOT_NOW);
    assert!(server.is_alive());
}

#[test]
fn out_of_descriptors_newcomers_hear_an_alert_and_who_is_there_is_served() {
    let certificate = Certificate::new();
    let server = certificate.serve("", Some(64));
    let hello = said(&mut certificate.client());
    let mut neighbour = StreamOwned::new(certificate.client(), http::connect(server.address));
    let mut ask = || {
        neighbour.write_all(b"GET /up HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        neighbour.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = [0; 4096];
        while !String::from_utf8_lossy(&rest).contains('}') {
            let _read = neighbour.read(&mut rest).unwrap();
        }
    };
    ask();
    let mut inside = Vec::new();
    loop {
        // Who is turned away hears an alert, or a reset where the hello came in unread. Nobody waits: those inside are given
        // up after ten seconds.
        let stream = begin(server.address, &hello);
        if first_byte(&stream) != Some(HANDSHAKE) {
            break;
        }
        inside.push(stream);
        assert!(inside.len() < 64, "more connections than descriptors");
    }
    assert!(inside.len() >= 16, "only {} connections with 64 descriptors", inside.len());
    ask();
    let mut told = 0;
    for mut stream in (0..10).map(|_| begin(server.address, b"")).collect::<Vec<_>>() {
        let mut alert = Vec::new();
        drop(stream.read_to_end(&mut alert));
        assert!(alert.is_empty() || alert == NOT_NOW, "{alert:?}");
        told += usize::from(!alert.is_empty());
    }
    println!("{} inside, {told} of 10 heard the alert", inside.len());
    assert!(told > 0);
    ask();
    inside.clear();
    until("room for newcomers", || first_byte(&begin(server.address, &hello)) == Some(HANDSHAKE));
    ask();
}
