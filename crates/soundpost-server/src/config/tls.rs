//! Which certificates: those that are written, or those that Herd or Valet has made for the host name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    ConfigError, Files, Note, Settings,
    checks::Table,
    environment::Environment,
    layers::Layered,
    written::{CertificateFile, Scalar, Secret},
};
use crate::tls::{Pair, Passphrase};

/// Every pair that is written, `[server.tls]` first. Errors: a pair without a certificate, what is not text.
pub(super) fn tls(layered: &Layered) -> Result<Vec<Pair>, ConfigError> {
    let file = &layered.settings.server.tls;
    let own = [&file.certificate, &file.key].into_iter().any(Option::is_some) || file.passphrase.is_some();
    let (origins, values) = (&layered.origins, &layered.values);
    let mut pairs = Vec::new();
    if own {
        let written = (&file.certificate, &file.key, &file.passphrase);
        pairs.push(pair(Table { name: "server.tls", origins, dotted: true, values }, written)?);
    }
    // By number, not by digits: 10 comes after 9.
    let further: BTreeMap<u16, &CertificateFile> =
        file.certificates.iter().filter_map(|(index, file)| Some((index.parse().ok()?, file))).collect();
    for (index, file) in further {
        let name = format!("server.tls.certificates.{index}");
        let table = Table { name: &name, origins, dotted: true, values };
        pairs.push(pair(table, (&file.certificate, &file.key, &file.passphrase))?);
    }
    Ok(pairs)
}

fn pair(
    table: Table<'_>,
    (certificate, key, passphrase): (&Option<Scalar>, &Option<Scalar>, &Option<Secret>),
) -> Result<Pair, ConfigError> {
    let Some(certificate) = certificate else {
        let hint = ": TLS needs certificate and key".to_owned();
        return Err(ConfigError::Missing { key: format!("{}.certificate", table.name), hint });
    };
    let certificate = path(table, "certificate", certificate)?;
    // As in PHP's `local_cert`, one file may hold both.
    let key = match key {
        Some(key) => path(table, "key", key)?,
        None => {
            table.note("key", certificate.display().to_string());
            certificate.clone()
        }
    };
    let passphrase = passphrase.as_ref().map(|passphrase| match table.text("passphrase", &passphrase.0) {
        Ok(text) => Ok(Passphrase::new(&text)),
        Err(_) => Err(ConfigError::Secret {
            place: table.at("passphrase"),
            problem: "is not text; write it in quotes",
        }),
    });
    Ok(Pair { table: table.name.to_owned(), key, certificate, passphrase: passphrase.transpose()? })
}

/// The path of a file. Errors: it is no text, or empty.
pub(super) fn path(table: Table<'_>, key: &str, written: &Scalar) -> Result<PathBuf, ConfigError> {
    let text = table.text(key, written)?;
    if text.trim().is_empty() {
        return Err(ConfigError::Value {
            place: table.at(key),
            found: written.to_string(),
            expected: "the path of a PEM file".to_owned(),
        });
    }
    Ok(PathBuf::from(&*text))
}

impl Settings {
    /// Makes paths those of the working directory `dir`; without any, looks for a certificate of the host name where
    /// Herd and Valet put theirs, as Reverb does for `--hostname` and `REVERB_HOST` alike.
    /// What is found is noted in `layered` as if it were written.
    pub(super) fn find_certificates(
        &mut self,
        layered: &mut Layered,
        environment: &Environment,
        dir: &Path,
        files: &mut Files,
    ) {
        for pair in &mut self.server.tls {
            pair.certificate = dir.join(&pair.certificate);
            pair.key = dir.join(&pair.key);
            files.note(&pair.certificate);
            files.note(&pair.key);
        }
        let Some(hostname) = self.server.hostname.as_deref().filter(|_| self.server.tls.is_empty()) else {
            return;
        };
        let homes = ["HOME", "USERPROFILE"].map(|name| environment.process(name).map(Path::new));
        if let Some(pair) = found(hostname, homes) {
            let path = pair.certificate.display();
            self.notes.push(Note::info(format!("TLS is on with the certificate for {hostname}: {path}")));
            for (key, path) in [("certificate", &pair.certificate), ("key", &pair.key)] {
                files.note(path);
                let key = format!("server.tls.{key}");
                layered.values.note(&key, path.display().to_string().into());
                layered.origins.insert(key, format!("made by Herd or Valet for {hostname}"));
            }
            self.server.tls.push(pair);
        }
    }
}

/// Where Herd on macOS, Herd on Windows, and Valet put certificates, from the user's home.
/// Source: Reverb's `Certificate::paths`, in its order.
const DIRECTORIES: [&str; 3] = [
    "Library/Application Support/Herd/config/valet/Certificates",
    ".config/herd/config/valet/Certificates",
    ".config/valet/Certificates",
];

/// The pair of files that is there for the host name, which may also be written as a URL.
fn found(hostname: &str, homes: [Option<&Path>; 2]) -> Option<Pair> {
    let host = hostname.split_once("://").map_or(hostname, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    // It becomes the name of a file, so it had better be a host name.
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || host.starts_with('.') || !host.chars().all(is_name) {
        return None;
    }
    let homes = homes.into_iter().flatten().filter(|home| home.is_absolute());
    let directories = homes.flat_map(|home| DIRECTORIES.map(|directory| home.join(directory)));
    let pair = |directory: PathBuf| Pair {
        table: "server.hostname".to_owned(),
        certificate: directory.join(format!("{host}.crt")),
        key: directory.join(format!("{host}.key")),
        passphrase: None,
    };
    directories.map(pair).find(|pair| pair.certificate.is_file() && pair.key.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn load(environment: &[(&str, &str)], hostname: Option<&str>) -> Result<Settings, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let flags = Flags { hostname: hostname.map(str::to_owned), ..Flags::default() };
        Settings::load(&flags, environment, Path::new("/nonexistent")).map_err(|error| error.to_string())
    }

    #[test]
    fn pairs_come_in_the_order_in_which_they_are_written() {
        let mut variables = vec![
            ("SOUNDPOST_SERVER__TLS__CERTIFICATE".to_owned(), "a.pem".to_owned()),
            ("SOUNDPOST_SERVER__TLS__KEY".to_owned(), "/keys/a.key".to_owned()),
            ("SOUNDPOST_SERVER__TLS__PASSPHRASE".to_owned(), "open sesame".to_owned()),
        ];
        for n in 0..11 {
            let name = format!("SOUNDPOST_SERVER__TLS__CERTIFICATES__{n}__CERTIFICATE");
            variables.push((name, format!("{n}.pem")));
        }
        let settings = Settings::load(&Flags::default(), variables, Path::new("/dir")).unwrap();
        let tls = settings.server.tls;
        assert_eq!(tls[0].certificate, Path::new("/dir/a.pem"));
        assert_eq!(tls[0].key, Path::new("/keys/a.key"));
        assert_eq!(tls[0].passphrase, Some(Passphrase::new("open sesame")));
        let rest: Vec<_> = tls[1..].iter().map(|pair| pair.certificate.display().to_string()).collect();
        assert_eq!(rest, (0..11).map(|n| format!("/dir/{n}.pem")).collect::<Vec<_>>());
        assert_eq!(
            (tls[11].table.as_str(), &tls[11].key),
            ("server.tls.certificates.10", &tls[11].certificate)
        );
        assert!(!format!("{tls:?}").contains("sesame"));
    }

    #[test]
    fn a_pair_without_a_certificate_or_with_a_misspelt_key_is_refused() {
        for (name, value, expected) in [
            ("KEY", "k", "server.tls.certificate is missing: TLS needs certificate and key"),
            ("CERTIFICATES__0__KEY", "k", "server.tls.certificates.0.certificate is missing"),
            ("CERTIFICATE", " ", "is \" \"; expected the path of a PEM file"),
            ("CERTIFICAT", "c", "did you mean SOUNDPOST_SERVER__TLS__CERTIFICATE?"),
            ("CERTIFICATES__0__KYE", "c", "did you mean SOUNDPOST_SERVER__TLS__CERTIFICATES__0__KEY?"),
        ] {
            let error = load(&[(&format!("SOUNDPOST_SERVER__TLS__{name}"), value)], None).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn certificates_of_herd_and_valet_are_found_by_host_name_unless_others_are_written() {
        let home = std::env::temp_dir().join(format!("soundpost-homes-{}", std::process::id()));
        let text = home.to_str().unwrap();
        for directory in DIRECTORIES {
            std::fs::create_dir_all(home.join(directory)).unwrap();
        }
        let valet = home.join(DIRECTORIES[2]);
        for file in ["app.test.crt", "app.test.key", "half.test.crt"] {
            std::fs::write(valet.join(file), "").unwrap();
        }
        let on = |settings: Settings| settings.server.tls.first().map(|pair| pair.certificate.clone());
        let found = Some(valet.join("app.test.crt"));
        let settings = load(&[("HOME", text)], Some("app.test")).unwrap();
        assert!(settings.notes.iter().any(|note| note.text.starts_with("TLS is on with the certificate")));
        assert_eq!(on(settings), found);
        assert_eq!(on(load(&[("HOME", text), ("REVERB_HOST", "app.test")], None).unwrap()), found);
        assert_eq!(on(load(&[("USERPROFILE", text)], Some("https://app.test:8080/x")).unwrap()), found);
        for hostname in ["half.test", "other.test", "../Certificates/app.test", "", ".."] {
            assert_eq!(on(load(&[("HOME", text)], Some(hostname)).unwrap()), None, "{hostname:?}");
        }
        let written = ("SOUNDPOST_SERVER__TLS__CERTIFICATE", "/my.pem");
        let written = load(&[("HOME", text), written], Some("app.test")).unwrap();
        assert_eq!(on(written), Some(PathBuf::from("/my.pem")));
        std::fs::write(home.join(DIRECTORIES[0]).join("app.test.crt"), "").unwrap();
        std::fs::write(home.join(DIRECTORIES[0]).join("app.test.key"), "").unwrap();
        let herd = Some(home.join(DIRECTORIES[0]).join("app.test.crt"));
        assert_eq!(on(load(&[("HOME", text)], Some("app.test")).unwrap()), herd, "Herd comes before Valet");
        std::fs::remove_dir_all(home).unwrap();
    }
}
