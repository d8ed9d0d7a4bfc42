//! The other side of TLS: where we are the client of a server of the operator's, as Redis is, or the receiver of a webhook.
//!
//! Such connections are few and stay, so they have what is common: a stream with buffers.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore, crypto::ring,
    pki_types::ServerName, sign::SingleCertAndKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Pair, TlsError, pair::read_certificates};

/// Whom we trust, and who we are.
#[derive(Clone)]
pub struct TlsClient(TlsConnector);

impl TlsClient {
    /// Reads the files, PEM, that the keys of `table` in the configuration name: certificates to trust, or else those that the system trusts; our certificate and its key.
    /// Blocks.
    ///
    /// Errors: a file cannot be used, or there is nobody to be trusted.
    pub fn load(table: &str, ca: Option<&Path>, own: Option<&(PathBuf, PathBuf)>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&format!("{table}.ca"), ca)?);
        let config = match own.cloned() {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let pair = Pair { table: table.to_owned(), certificate, key, passphrase: None };
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified()?)))
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with a server, whose certificate must be for this host. Without a limit of time.
    ///
    /// Errors: one for [`Self::complaint`], or of the connection.
    pub async fn shake(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::other(Error::General("its host is no name of a certificate".into())))?;
        self.0.connect(name, stream).await
    }

    /// What is wrong, if the error of a connection has to do with TLS. With TLS 1.3 a server refuses our certificate
    /// only after the handshake.
    pub fn complaint(table: &str, error: &io::Error) -> Option<String> {
        Some(text(table, error.get_ref()?.downcast_ref::<Error>()?))
    }

    /// The same where we show no certificate of our own, for receivers of webhooks.
    pub fn doubt(error: &io::Error) -> Option<String> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let asks = matches!(error, Error::AlertReceived(AlertDescription::CertificateRequired));
        let text = if asks {
            "it asks for a certificate of ours, and webhooks have none".to_owned()
        } else {
            disagreement(error)
        };
        Some(of_server("apps.webhooks.ca", error).unwrap_or(text))
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}

/// In words that name what to change.
fn text(table: &str, error: &Error) -> String {
    if let Some(text) = of_server(&format!("{table}.ca"), error) {
        return text;
    }
    match if let Error::AlertReceived(alert) = error { Complaint::of(alert) } else { None } {
        Some(Complaint::Missing) => {
            format!("it asks for a certificate of ours; set {table}.certificate and {table}.key")
        }
        Some(Complaint::Refused) => {
            format!(
                "it refuses our certificate; does it trust who issued {table}.certificate, and is that valid?"
            )
        }
        None => disagreement(error),
    }
}

fn disagreement(error: &Error) -> String {
    format!("it could not be agreed on ({error})")
}

/// What is wrong with the server. `ca`: the key of the configuration that says whom we trust.
fn of_server(ca: &str, error: &Error) -> Option<String> {
    // Of two authorities with one name the key and the signature tell which it was.
    let is_unknown = matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        )
    );
    if is_unknown {
        return Some(format!("its certificate is of no authority that is trusted here; see {ca}"));
    }
    if let Error::InvalidCertificate(found) = error {
        // The verifier's own errors have no other form here than their text.
        if found.to_string().contains("CaUsedAsEndEntity") {
            let made = "its certificate is that of an authority, which openssl req -x509 makes by itself";
            return Some(format!("{made}; make it anew with basicConstraints=CA:FALSE"));
        }
        return Some(format!("its certificate cannot be accepted: {found}"));
    }
    if matches!(error, Error::InvalidMessage(InvalidMessage::InvalidContentType)) {
        return Some("it answers without TLS; is that its port for TLS?".to_owned());
    }
    None
}

/// What a server does not like about our certificate.
enum Complaint {
    Missing,
    Refused,
}

impl Complaint {
    const fn of(alert: &AlertDescription) -> Option<Self> {
        if matches!(alert, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) {
            return Some(Self::Missing);
        }
        let is_refused = matches!(
            alert,
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::DecryptError
        );
        if is_refused { Some(Self::Refused) } else { None }
    }
}

fn roots(place: &str, ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        // One that cannot be read among hundreds is no reason to refuse the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err(TlsError::NoRoots { place: place.to_owned() }) } else { Ok(roots) };
    };
    for certificate in read_certificates(place, ca)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            place: place.to_owned(),
            path: ca.to_owned(),
            problem: Cow::Owned(format!("holds a certificate that cannot be read: {error}")),
        })?;
    }
    Ok(roots)
}
