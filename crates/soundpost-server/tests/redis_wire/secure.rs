//! TLS, with an authority of our own.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use soundpost_server::config::{RedisAddress, RedisServers, RedisSettings, RedisTls};

use super::{
    block_on, connect,
    redis::{Listen, RedisServer, secured},
    refusal, try_out,
};

/// An authority that has issued a certificate for the server, and one for us; it knows nobody else.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new(name: &str, host: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("soundpost-redis-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (file, name) in [("server", host), ("client", "soundpost")] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            // With the name of its issuer it would be taken for one that has signed itself.
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(folder.join(format!("{file}.crt")), certificate.pem()).unwrap();
            fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn own(&self) -> Option<(PathBuf, PathBuf)> {
        Some((self.path("client.crt"), self.path("client.key")))
    }

    /// A server with its certificate; `yes`: it asks for ours.
    fn serve(&self, asks: &str) -> RedisServer {
        let [ca, certificate, key] =
            ["ca.crt", "server.crt", "server.key"].map(|name| self.path(name).display().to_string());
        let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        RedisServer::start_as(Listen::Tls, &[&files[..], &["--tls-auth-clients", asks]].concat(), |_, _| {})
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn at(address: RedisAddress, ca: Option<PathBuf>, client: Option<(PathBuf, PathBuf)>) -> RedisSettings {
    secured(RedisSettings::new(RedisServers::Standalone(address)), RedisTls { ca, client })
}

#[test]
fn both_sides_show_their_certificates() {
    let (ours, others) = (Authority::new("ours", "127.0.0.1"), Authority::new("others", "127.0.0.1"));
    let server = ours.serve("yes");
    let (address, ca) = (server.address(), Some(ours.path("ca.crt")));
    block_on(async {
        let known = at(address.clone(), ca.clone(), ours.own());
        try_out(&mut connect(&known).await.unwrap()).await;
    });
    for (ca, client, expected) in [
        (ca.clone(), None, "it asks for a certificate of ours; set redis.tls.certificate and redis.tls.key"),
        (
            ca.clone(),
            others.own(),
            "it refuses our certificate; does it trust who issued redis.tls.certificate, and is that valid?",
        ),
        (
            Some(others.path("ca.crt")),
            ours.own(),
            "its certificate is of no authority that is trusted here; see redis.tls.ca",
        ),
    ] {
        let error = refusal(&at(address.clone(), ca, client));
        assert_eq!(error, format!("redis at {address}: TLS: {expected}"));
    }
}

#[test]
fn the_certificate_is_for_the_host_that_was_named() {
    let authority = Authority::new("host", "localhost");
    let server = authority.serve("no");
    let ca = Some(authority.path("ca.crt"));
    let by_name = RedisAddress::Tcp("localhost".to_owned(), server.port);
    block_on(connect(&at(by_name, ca.clone(), None))).unwrap();
    let error = refusal(&at(server.address(), ca, None));
    assert!(error.contains("TLS: its certificate cannot be accepted: "), "{error}");
    // Whom the system trusts, if anybody, this one is not among them.
    let error = refusal(&at(server.address(), None, None));
    assert!(error.contains("redis.tls.ca"), "{error}");
}

#[test]
fn one_side_alone_with_tls_is_told_from_a_wrong_port() {
    let authority = Authority::new("one-side", "127.0.0.1");
    let (secure, plain) = (authority.serve("no"), RedisServer::start(&[]));
    let ca = Some(authority.path("ca.crt"));
    let error = refusal(&at(plain.address(), ca, None));
    assert!(error.contains("TLS: ") && error.ends_with("is that its port for TLS?"), "{error}");
    let error = refusal(&RedisSettings::new(RedisServers::Standalone(secure.address())));
    // An alert, an end or a reset: whatever comes first.
    assert!(error.contains("does it expect TLS (rediss://)") || error.contains("it speaks TLS"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_keys() {
    let authority = Authority::new("files", "127.0.0.1");
    let server = authority.serve("no");
    let missing = authority.path("missing");
    let key = authority.path("client.key");
    for (ca, client, expected) in [
        (missing.clone(), None, "redis.tls.ca: cannot read "),
        (key.clone(), None, "redis.tls.ca: "),
        (authority.path("ca.crt"), Some((missing, key.clone())), "redis.tls.certificate: cannot read "),
        (
            authority.path("ca.crt"),
            Some((authority.path("server.crt"), key)),
            "redis.tls.key: the private key ",
        ),
    ] {
        let error = refusal(&at(server.address(), Some(ca), client));
        assert!(error.starts_with(expected), "{error}");
    }
}
