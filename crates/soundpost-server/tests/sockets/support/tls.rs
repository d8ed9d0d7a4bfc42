//! Certificates made for one test, and clients that trust nobody else.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use soundpost_server::tls::Pair;

use super::{DEADLINE, Wire};

/// A directory of its own with a root and what it has issued; gone with the value.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// What a client offers.
pub(crate) struct Offer {
    pub(crate) name: &'static str,
    pub(crate) alpn: &'static [&'static str],
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
}

/// Either version alone.
pub(crate) static TLS_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
pub(crate) static TLS_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

impl Default for Offer {
    fn default() -> Self {
        Self { name: "localhost", alpn: &["http/1.1"], versions: rustls::ALL_VERSIONS }
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("soundpost-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { directory, issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Issues a certificate for these names into `{file}.crt` and `{file}.key`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let (certificate_path, key_path) =
            (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        replace(&key_path, &key.serialize_pem());
        replace(&certificate_path, &certificate.pem());
        Pair {
            table: "server.tls".to_owned(),
            certificate: certificate_path,
            key: key_path,
            passphrase: None,
        }
    }

    /// What a client of this authority knows, to be shared where sessions are to be resumed.
    pub(crate) fn client(&self, offer: &Offer) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(offer.versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offer.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(&self, address: SocketAddr, offer: &Offer) -> Result<Wire, Error> {
        shake(TcpStream::connect(address).unwrap(), self.client(offer), offer.name)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// A reader sees the old content or the new, never half of it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Shakes hands over a socket that is connected.
pub(crate) fn shake(
    mut stream: TcpStream,
    config: Arc<ClientConfig>,
    name: &'static str,
) -> Result<Wire, Error> {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut connection = ClientConnection::new(config, ServerName::try_from(name).unwrap()).unwrap();
    while connection.is_handshaking() {
        while connection.wants_write() {
            connection.write_tls(&mut stream).unwrap();
        }
        if connection.is_handshaking() {
            assert_ne!(connection.read_tls(&mut stream).unwrap(), 0, "the server left without an alert");
            if let Err(error) = connection.process_new_packets() {
                // The server hears why.
                drop(connection.write_tls(&mut stream));
                return Err(error);
            }
        }
    }
    Ok(Wire::Tls(Box::new(StreamOwned::new(connection, stream))))
}
