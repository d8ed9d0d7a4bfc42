//! The certificates in use: by the name a client asks for, replaced as a whole while connections go on.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Pair, TlsError, pair::Loaded};

/// Whether reading the files again made a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// They hold what they held.
    Nothing,
    /// New connections get other certificates.
    Certificates,
}

/// One certificate, for whoever wants to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where it was read from.
    pub certificate: PathBuf,
    /// What it is good for; `*.app.test` stands for every name one label longer. None if it names nothing.
    pub names: Vec<String>,
    /// Until when, if that can be read.
    pub not_after: Option<SystemTime>,
}

impl Served {
    /// The last day on which it is good, as `2027-01-31`, in UTC.
    pub fn until(&self) -> Option<String> {
        self.not_after.map(date)
    }
}

/// What is in use at a time.
#[derive(Debug)]
struct Current {
    pairs: Vec<Pair>,
    loaded: Vec<Loaded>,
    /// By name; of two with one name the first.
    by_name: HashMap<String, Arc<CertifiedKey>, RandomState>,
}

impl Current {
    fn load(pairs: Vec<Pair>) -> Result<Self, TlsError> {
        let loaded = pairs.iter().map(Pair::load).collect::<Result<Vec<_>, _>>()?;
        let mut by_name = HashMap::default();
        for pair in &loaded {
            for name in &pair.names {
                by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&pair.certified));
            }
        }
        Ok(Self { pairs, loaded, by_name })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let wild = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.by_name.get(name).or_else(|| self.by_name.get(&wild()?))
    }
}

/// The certificates of a node. The first pair answers where no name was asked for, or one that no pair has.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Current>);

/// Certificates that were read and are not in use yet.
#[derive(Debug)]
pub struct Fresh(Current);

impl Certificates {
    /// Reads all files. Errors: those of the first pair that cannot be used.
    pub fn load(pairs: Vec<Pair>) -> Result<Self, TlsError> {
        Self::read(pairs).map(|Fresh(current)| Self(ArcSwap::from_pointee(current)))
    }

    /// Reads all files, to be [taken](Self::take) later. Errors: those of the first pair that cannot be used.
    pub fn read(pairs: Vec<Pair>) -> Result<Fresh, TlsError> {
        Current::load(pairs).map(Fresh)
    }

    /// Uses these from now on. Open connections are not touched.
    pub fn take(&self, Fresh(new): Fresh) -> Changed {
        let old = self.0.load();
        // A key cannot change without its certificate, for they belong together.
        let chains = |current: &Current| -> Vec<_> {
            current.loaded.iter().map(|loaded| loaded.certified.cert.clone()).collect()
        };
        let is_same = chains(&old) == chains(&new);
        self.0.store(Arc::new(new));
        if is_same { Changed::Nothing } else { Changed::Certificates }
    }

    /// What is in use, the first pair first.
    pub fn served(&self) -> Vec<Served> {
        let current = self.0.load();
        let served = |(pair, loaded): (&Pair, &Loaded)| Served {
            certificate: pair.certificate.clone(),
            names: loaded.names.clone(),
            not_after: loaded.not_after,
        };
        current.pairs.iter().zip(&current.loaded).map(served).collect()
    }

    /// A line for each certificate that clients will not accept any more at `now`.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let expired = |served: Served| {
            let date = date(served.not_after.filter(|until| *until < now)?);
            Some(format!("the certificate in {} expired on {date}", served.certificate.display()))
        };
        self.served().into_iter().filter_map(expired).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.load();
        let named = hello.server_name().and_then(|name| current.find(&name.to_ascii_lowercase()));
        named.or_else(|| current.loaded.first().map(|first| &first.certified)).map(Arc::clone)
    }
}

/// `2027-01-31`, in UTC.
fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match x509_cert::der::DateTime::from_unix_duration(since) {
        Ok(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        // Years above 9999.
        Err(_) => "an unknown day".to_owned(),
    }
}
