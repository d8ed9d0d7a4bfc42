//! Whom `https` receivers are believed by: the authorities of the system, or those of a file.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use soundpost_protocol::{app::App, webhook::Carrier};
use tokio::{sync::OnceCell, task::spawn_blocking};
use tracing::warn;

use crate::{
    tls::{TlsClient, TlsError},
    webhook::carrier::Problem,
};

/// The table of the configuration that names the files.
const TABLE: &str = "apps.webhooks";

type Loaded = HashMap<Option<PathBuf>, TlsClient>;

/// The authorities of one moment, each file read once, when it is first needed.
#[derive(Debug, Default)]
pub struct Trust {
    cells: Mutex<HashMap<Option<PathBuf>, Arc<OnceCell<TlsClient>>>>,
    /// Those of the moment before, for files that cannot be read any more.
    before: Loaded,
}

impl Trust {
    /// The files are to be read again: the settings were. `files`: those that they name now.
    pub fn renewed(&self, files: &HashSet<PathBuf>) -> Self {
        let cells = self.cells.lock();
        let known = cells.iter().filter_map(|(ca, cell)| Some((ca.clone(), cell.get()?.clone())));
        let mut before = self.before.clone();
        before.extend(known);
        before.retain(|ca, _| ca.as_ref().is_none_or(|ca| files.contains(ca)));
        Self { cells: Mutex::default(), before }
    }

    /// The authorities of a file, or the system's. Where the file was readable before, and is not now, those of before.
    ///
    /// Errors: the file cannot be used. It is read again with the next attempt.
    pub(super) async fn of(&self, ca: Option<&Path>) -> Result<TlsClient, Problem> {
        let key = ca.map(Path::to_owned);
        let cell = Arc::clone(self.cells.lock().entry(key.clone()).or_default());
        let load = || async {
            let path = key.clone();
            // A slow disk must not hold up the main thread.
            match spawn_blocking(move || TlsClient::load(TABLE, path.as_deref(), None)).await {
                Ok(Ok(client)) => Ok(client),
                Ok(Err(error)) => self.instead(key.as_ref(), &error),
                Err(_) => Err(Problem::new("the authorities for TLS could not be read")),
            }
        };
        cell.get_or_try_init(load).await.cloned()
    }

    fn instead(&self, ca: Option<&PathBuf>, error: &TlsError) -> Result<TlsClient, Problem> {
        match self.before.get(&ca.cloned()) {
            Some(client) => {
                warn!("webhooks: {error}; those that it held before are trusted until the next reload");
                Ok(client.clone())
            }
            None => Err(Problem::new(error.to_string())),
        }
    }
}

/// Whether the files of all webhooks can be used. They are read again when they are needed; but what is wrong with them
/// at the start is to be seen then. Blocks.
///
/// Errors: of the first that cannot, with the key that names it.
pub fn check(apps: &[App]) -> Result<(), TlsError> {
    let mut system_is_good = false;
    for (at, app) in apps.iter().enumerate() {
        for (number, webhook) in app.webhooks.iter().enumerate() {
            let Carrier::Http(http) = &webhook.carrier else { continue };
            if !http.url.is_https() || http.ca.is_none() && system_is_good {
                continue;
            }
            TlsClient::load(&format!("apps.{at}.webhooks.{number}"), http.ca.as_deref(), None)?;
            system_is_good |= http.ca.is_none();
        }
    }
    Ok(())
}
