//! Why a certificate or key cannot be used: one line each, naming the key of the configuration and the file.

use std::{borrow::Cow, io, path::PathBuf};

/// What is wrong with a pair of files, or with TLS as a whole. `Display` is one line and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not there, or is not for this user.
    #[error("{place}: cannot read {}: {source}", path.display())]
    Read {
        /// The key of the configuration, such as `server.tls.certificate`.
        place: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{place}: {} {problem}", path.display())]
    Unusable {
        /// The key of the configuration.
        place: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do where that is known.
        problem: Cow<'static, str>,
    },
    /// The private key is another certificate's.
    #[error(
        "{place}: the private key in {} does not belong to the first certificate in {}",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The key of the configuration.
        place: String,
        /// The file with the private key.
        key: PathBuf,
        /// The file with the certificate.
        certificate: PathBuf,
    },
    /// Whom to trust is not said, and the system has nobody to be trusted.
    #[error("{place} is not set, and the system has no certificates to trust")]
    NoRoots {
        /// The key of the configuration that would say it.
        place: String,
    },
    /// No random numbers, or nothing to encrypt with.
    #[error("TLS cannot be set up: {0}")]
    System(#[from] rustls::Error),
}
