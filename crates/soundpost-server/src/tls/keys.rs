//! Private keys out of PEM, encrypted ones too.

use std::{borrow::Cow, path::Path};

use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument, pkcs5};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::Passphrase;

/// Why a file yields no private key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyProblem {
    /// Nothing in it is a private key in PEM form.
    None,
    /// Encrypted, and nothing to decrypt it with.
    Encrypted,
    /// The passphrase is another one's.
    WrongPassphrase,
    /// Encrypted in a way that only OpenSSL reads.
    Unreadable(&'static str),
    /// Broken PEM, or what is in it.
    Broken,
}

impl KeyProblem {
    /// What to tell the operator; `table` is the one to set the passphrase in.
    pub(super) fn text(self, table: &str, path: &Path) -> Cow<'static, str> {
        match self {
            Self::None => "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)".into(),
            Self::Encrypted => format!("is encrypted: set {table}.passphrase").into(),
            Self::WrongPassphrase => {
                format!("cannot be decrypted: {table}.passphrase is another key's").into()
            }
            Self::Unreadable(how) => {
                let path = path.display();
                format!(
                    "is encrypted {how}, which cannot be read; convert it: \
                     openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out {path}.new"
                )
                .into()
            }
            Self::Broken => "holds a private key that is not well-formed".into(),
        }
    }
}

const ENCRYPTED: (&str, &str) =
    ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----END ENCRYPTED PRIVATE KEY-----");

/// The first private key in `pem`. Errors: [`KeyProblem`].
pub(super) fn parse(
    pem: &[u8],
    passphrase: Option<&Passphrase>,
) -> Result<PrivateKeyDer<'static>, KeyProblem> {
    let text = std::str::from_utf8(pem).map_err(|_| KeyProblem::None)?;
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyProblem::Unreadable("in OpenSSL's old form (Proc-Type: 4,ENCRYPTED)"));
    }
    if let Some(section) = section(text) {
        return decrypt(section, passphrase);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let is_empty = matches!(error, rustls::pki_types::pem::Error::NoItemsFound);
        if is_empty { KeyProblem::None } else { KeyProblem::Broken }
    })
}

/// The encrypted key in `text`, with its first and last line.
fn section(text: &str) -> Option<&str> {
    let (begin, end) = ENCRYPTED;
    let from = text.find(begin)?;
    let rest = text.get(from..)?;
    rest.get(..rest.find(end)? + end.len())
}

fn decrypt(section: &str, passphrase: Option<&Passphrase>) -> Result<PrivateKeyDer<'static>, KeyProblem> {
    let passphrase = passphrase.ok_or(KeyProblem::Encrypted)?;
    let (_, document) = SecretDocument::from_pem(section).map_err(|_| KeyProblem::Broken)?;
    // PBES1, the form before the present one, is not even recognised.
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|_| KeyProblem::Unreadable("with an old cipher"))?;
    let decrypted = encrypted.decrypt(passphrase.0.as_bytes()).map_err(|error| {
        // With the wrong passphrase the padding may fit by chance; then what comes out is not a key.
        let is_unknown = matches!(
            error,
            pkcs8::Error::EncryptedPrivateKey(
                pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs5::Error::AlgorithmParametersInvalid { .. }
            )
        );
        if is_unknown { KeyProblem::Unreadable("with an old cipher") } else { KeyProblem::WrongPassphrase }
    })?;
    Ok(PrivatePkcs8KeyDer::from(decrypted.as_bytes().to_vec()).into())
}
