//! One certificate with its private key: which files, and what is in them.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    pki_types::{CertificateDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};
use zeroize::Zeroizing;

use super::{TlsError, keys};

/// A file of certificates is some kilobytes long; what is longer than this is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a private key is encrypted with. Its `Debug` prints nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(pub(super) Zeroizing<String>);

impl Passphrase {
    /// The text as it was written.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Where a certificate and its private key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The table of the configuration that names the files: `server.tls`, `server.tls.certificates.0`.
    pub table: String,
    /// PEM: the server's own certificate first, then those between it and the root.
    pub certificate: PathBuf,
    /// PEM: a private key as PKCS#8, PKCS#1 or SEC1. May be the same file.
    pub key: PathBuf,
    /// For a key that is encrypted.
    pub passphrase: Option<Passphrase>,
}

/// A pair as it was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) certified: Arc<CertifiedKey>,
    /// Host names and addresses it is good for, in lower case; `*.app.test` for every name one label longer.
    pub(super) names: Vec<String>,
    /// Until when it is good, where that can be read.
    pub(super) not_after: Option<SystemTime>,
}

impl Pair {
    /// Reads both files. Errors: all but [`TlsError::System`].
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let chain = read_certificates(&self.place("certificate"), &self.certificate)?;
        let key = read(&self.place("key"), &self.key)?;
        let key = keys::parse(&key, self.passphrase.as_ref())
            .map_err(|problem| self.unusable("key", &self.key, problem.text(&self.table, &self.key)))?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| {
            let problem = "holds a private key of a kind that is not supported; RSA of 2048 bits or more, ECDSA on \
                           P-256 or P-384, and Ed25519 are";
            self.unusable("key", &self.key, problem)
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(TlsError::Mismatch {
                    place: self.place("key"),
                    key: self.key.clone(),
                    certificate: self.certificate.clone(),
                });
            }
            Err(error) => {
                let problem = format!("holds a certificate that cannot be read: {error}");
                return Err(self.unusable("certificate", &self.certificate, problem));
            }
        }
        let own = certified.cert.first().and_then(|der| Certificate::from_der(der).ok());
        let not_after = own
            .as_ref()
            .map(|own| UNIX_EPOCH + own.tbs_certificate().validity().not_after.to_unix_duration());
        let names = own.as_ref().map(names).unwrap_or_default();
        Ok(Loaded { certified: Arc::new(certified), names, not_after })
    }

    /// As a client shows it. Errors: all but [`TlsError::System`].
    pub(super) fn certified(&self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::clone(&self.load()?.certified))
    }

    fn unusable(
        &self,
        key: &str,
        path: &Path,
        problem: impl Into<std::borrow::Cow<'static, str>>,
    ) -> TlsError {
        TlsError::Unusable { place: self.place(key), path: path.to_owned(), problem: problem.into() }
    }

    fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.table)
    }
}

/// The certificates of a file, at least one. `place` is the key of the configuration.
///
/// Errors: [`TlsError::Read`] and [`TlsError::Unusable`].
pub(super) fn read_certificates(place: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(place, path)?;
    let refuse = |problem: &'static str| TlsError::Unusable {
        place: place.to_owned(),
        path: path.to_owned(),
        problem: problem.into(),
    };
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| refuse("is not well-formed PEM"))?;
    if chain.is_empty() {
        return Err(refuse("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(chain)
}

fn read(place: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::Read { place: place.to_owned(), path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(failed)?;
    // A directory can be opened, and only says so when it is read.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("larger than 1 MiB")));
    }
    Ok(bytes)
}

/// The names of the certificate's extension for them; what stands in its subject has long ceased to count.
fn names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else {
        return Vec::new();
    };
    let name = |name: &GeneralName| {
        if let GeneralName::DnsName(name) = name {
            Some(name.as_str().to_ascii_lowercase())
        } else if let GeneralName::IpAddress(bytes) = name {
            address(bytes.as_bytes()).map(|address| address.to_string())
        } else {
            None
        }
    };
    names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
