//! What the files of a pair may hold, and what is said of those that cannot be used.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use pkcs8::{
    PrivateKeyInfoRef,
    der::{Decode, pem::LineEnding},
    pkcs5::pbes2,
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{Certificates, Changed, Pair, Passphrase};

/// A directory that is gone with the value.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("soundpost-pairs-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.0.join(name), text).unwrap();
        self.0.join(name)
    }

    /// A pair of these two texts.
    fn pair(&self, certificate: &str, key: &str, passphrase: Option<&str>) -> Pair {
        Pair {
            table: "server.tls".to_owned(),
            certificate: self.write("c.pem", certificate),
            key: self.write("k.pem", key),
            passphrase: passphrase.map(Passphrase::new),
        }
    }

    /// What is said of a pair, with the directory left out.
    fn refusal(&self, pair: Pair) -> String {
        let error = Certificates::load(vec![pair]).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn issue(names: &[&str]) -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    (CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem(), key)
}

fn pem(label: &'static str, der: &[u8]) -> String {
    pkcs8::der::pem::encode_string(label, LineEnding::LF, der).unwrap()
}

/// PKCS#8 behind a passphrase, as `openssl pkcs8 -topk8` writes it, with fewer rounds.
fn encrypted(key: &KeyPair, passphrase: &str) -> String {
    let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(1000, &[7; 16], [9; 16]).unwrap();
    let der = key.serialize_der();
    let info = PrivateKeyInfoRef::from_der(&der).unwrap();
    let document = info.encrypt_with_params(parameters, passphrase).unwrap();
    pem("ENCRYPTED PRIVATE KEY", document.as_bytes())
}

#[test]
fn keys_are_read_in_every_usual_form() {
    let files = Files::new();
    let (certificate, key) = issue(&["app.test", "*.App.test", "10.0.0.1", "::1"]);
    let der = key.serialize_der();
    let sec1 = pem("EC PRIVATE KEY", PrivateKeyInfoRef::from_der(&der).unwrap().private_key.as_bytes());
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (key, passphrase) in [
        (key.serialize_pem(), None),
        (sec1.clone(), None),
        (format!("{parameters}{sec1}"), None),
        (format!("words before it\n{}", key.serialize_pem()), None),
        (encrypted(&key, "open sesame"), Some("open sesame")),
        (key.serialize_pem(), Some("not needed")),
    ] {
        let certificates = Certificates::load(vec![files.pair(&certificate, &key, passphrase)]).unwrap();
        assert_eq!(certificates.served()[0].names, ["app.test", "*.app.test", "10.0.0.1", "::1"], "{key}");
    }
    // RSA, PKCS#1, both in one file.
    let rsa = files.write("rsa.pem", include_str!("tests/rsa.pem"));
    let pair = Pair { table: "server.tls".to_owned(), certificate: rsa.clone(), key: rsa, passphrase: None };
    let certificates = Certificates::load(vec![pair]).unwrap();
    assert_eq!(certificates.served()[0].names, ["rsa.test"]);
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    let files = Files::new();
    let (certificate, key) = issue(&["app.test"]);
    let (_, other) = issue(&["other.test"]);
    let secret = key.serialize_pem();
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    let none = "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)";
    let encrypted = encrypted(&key, "open sesame");
    for (certificate, key, passphrase, expected) in [
        ("", secret.as_str(), None, format!("server.tls.certificate: c.pem {none}")),
        (secret.as_str(), &secret, None, format!("server.tls.certificate: c.pem {none}")),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &secret,
            None,
            "server.tls.certificate: c.pem holds a certificate that cannot be read".to_owned(),
        ),
        (
            &certificate,
            &certificate,
            None,
            "server.tls.key: k.pem holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)".to_owned(),
        ),
        (
            &certificate,
            &other.serialize_pem(),
            None,
            "server.tls.key: the private key in k.pem does not belong to the first certificate in c.pem".to_owned(),
        ),
        (
            &certificate,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            None,
            "server.tls.key: k.pem holds a private key of a kind that is not supported; RSA of".to_owned(),
        ),
        (&certificate, &encrypted, None, "server.tls.key: k.pem is encrypted: set server.tls.passphrase".to_owned()),
        (
            &certificate,
            &encrypted,
            Some("sesame"),
            "server.tls.key: k.pem cannot be decrypted: server.tls.passphrase is another key's".to_owned(),
        ),
        (
            &certificate,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAQwAgUA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            Some("open sesame"),
            "server.tls.key: k.pem is encrypted with an old cipher, which cannot be read; convert it: ".to_owned(),
        ),
        (
            &certificate,
            legacy,
            Some("open sesame"),
            "server.tls.key: k.pem is encrypted in OpenSSL's old form (Proc-Type: 4,ENCRYPTED), which cannot be \
             read; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in k.pem -out k.pem.new"
                .to_owned(),
        ),
    ] {
        let refusal = files.refusal(files.pair(certificate, key, passphrase));
        assert!(refusal.starts_with(&expected), "{refusal}");
        assert!(!refusal.contains('\n') && !refusal.contains("sesame"), "{refusal}");
    }
    let mut missing = files.pair(&certificate, &secret, None);
    missing.key = files.0.join("nowhere.pem");
    assert!(files.refusal(missing).starts_with("server.tls.key: cannot read nowhere.pem: No such file"));
    let large = files.pair(&"x".repeat(2 << 20), &secret, None);
    assert_eq!(files.refusal(large), "server.tls.certificate: cannot read c.pem: larger than 1 MiB");
    let mut directory = files.pair(&certificate, &secret, None);
    directory.certificate.clone_from(&files.0);
    assert!(files.refusal(directory).starts_with("server.tls.certificate: cannot read "));
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let files = Files::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["app.test".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2027, 1, 31);
    let certificate = params.self_signed(&key).unwrap().pem();
    let pair = files.pair(&certificate, &key.serialize_pem(), None);
    let path = pair.certificate.display().to_string();
    let certificates = Certificates::load(vec![pair]).unwrap();
    assert_eq!(certificates.served()[0].until().as_deref(), Some("2027-01-31"));
    let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_353_600 + 86_400 * days);
    assert_eq!(certificates.warnings(at(0)), Vec::<String>::new());
    assert_eq!(certificates.warnings(at(1)), [format!("the certificate in {path} expired on 2027-01-31")]);
}

#[test]
fn reading_again_notices_what_changed_and_keeps_the_old_where_the_new_is_broken() {
    let files = Files::new();
    let (certificate, key) = issue(&["app.test"]);
    let (renewed, renewed_key) = issue(&["renewed.test"]);
    let pair = files.pair(&certificate, &key.serialize_pem(), None);
    let certificates = Certificates::load(vec![pair.clone()]).unwrap();
    let read_again = || Certificates::read(vec![pair.clone()]).map(|fresh| certificates.take(fresh));
    assert_eq!(read_again().unwrap(), Changed::Nothing);
    files.write("c.pem", "half");
    read_again().unwrap_err();
    assert_eq!(certificates.served()[0].names, ["app.test"]);
    files.pair(&renewed, &renewed_key.serialize_pem(), None);
    assert_eq!(read_again().unwrap(), Changed::Certificates);
    assert_eq!(certificates.served()[0].names, ["renewed.test"]);
}
