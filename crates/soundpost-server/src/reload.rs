//! Reloading: the settings are read again as the start read them, checked as a whole, and only then hold.
//!
//! One task of the main thread does it, so that no two reloads are ever under way at once; what asks meanwhile is asked
//! once more. Workers hear of changed apps by [`Apps::replacements`](crate::apps::Apps::replacements). What is not of
//! the settings but is read with them, such as certificates, belongs into `read` and `Reloader::commit`; its files are
//! noted in [`Files`] where the settings are read, and are then watched.

mod changes;
#[cfg(test)]
mod tests;
mod watch;

use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

use soundpost_protocol::app::{App, AppId, AppSecret};
use tokio::{sync::Notify, task::spawn_blocking, time::MissedTickBehavior};
use tracing::{error, info, warn};

use self::{changes::Changes, watch::Watch};
use crate::{
    config::{ConfigError, DEVELOPMENT_SECRET, Files, Invocation, LogSettings, NoteLevel, Settings},
    metrics::ReloadResult,
    node::{Node, unix_seconds},
    tls::{Certificates, Changed, Fresh, TlsError},
};

/// Lets other log settings hold. Errors: why they cannot; then the ones before still do.
pub type FollowLog = Box<dyn FnMut(&LogSettings) -> Result<(), String> + Send>;

/// What a server needs to read its settings again.
pub struct Reload {
    /// How the server was called.
    pub invocation: Invocation,
    /// The files that the settings it was bound with came from.
    pub files: Files,
    /// Notified by whoever wants a reload now.
    pub asked: Arc<Notify>,
    /// Called with log settings that have changed.
    pub follow_log: FollowLog,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload")
            .field("invocation", &self.invocation)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Why the old settings stay. `Display` is one line and holds no secret.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// The server would not start with them either.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file that was read before is not there any more, which is more likely a slip than a wish for the defaults.
    #[error("{} is gone; put it back, or start anew without it", .0.display())]
    Lost(PathBuf),
    /// All apps are gone: emptied files must not send every client away.
    #[error("no app is configured any more; the development app is served only from the start")]
    NoApp,
    /// An app has a secret that everybody knows, and other machines reach this server.
    #[error(
        "app {0} has the development app's secret, which everybody knows, and this server does not listen on \
         127.0.0.1 alone; choose another secret"
    )]
    PublicSecret(AppId),
    /// The log settings cannot be followed.
    #[error("{0}")]
    Log(String),
    /// Reading the settings panicked.
    #[error("reading the settings failed; this is a fault of Soundpost's")]
    Fault,
}

/// Carries reloads out, one after the other.
pub(crate) struct Reloader {
    node: Arc<Node>,
    /// What holds: for what needs a new start, what held at the start.
    settings: Settings,
    /// The files of the settings that hold.
    files: Files,
    invocation: Arc<Invocation>,
    asked: Arc<Notify>,
    follow_log: FollowLog,
    watch: Watch,
}

impl Reloader {
    /// For a node that was bound with `settings`.
    pub(crate) fn new(node: Arc<Node>, settings: Settings, reload: Reload) -> Self {
        let Reload { invocation, files, asked, follow_log } = reload;
        let watch = Watch::new(files.clone());
        Self { node, settings, files, invocation: Arc::new(invocation), asked, follow_log, watch }
    }

    /// Reloads whenever somebody asks, or a file has changed if files are watched. Never ends.
    pub(crate) async fn run(mut self) {
        let mut looks = tokio::time::interval(watch::INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_wanted = tokio::select! {
                () = self.asked.notified() => true,
                _ = looks.tick(), if self.settings.server.watch_files => self.watch.look(),
            };
            if is_wanted {
                self.reload().await;
            }
        }
    }

    /// Reads the settings, away from the threads that serve, and lets them hold or says why not.
    async fn reload(&mut self) -> ReloadResult {
        let (invocation, has_tls) = (Arc::clone(&self.invocation), self.node.tls.is_some());
        let read = spawn_blocking(move || read(&invocation, has_tls)).await;
        let applied = match read {
            Ok((files, loaded)) => {
                self.watch.follow(files.clone());
                loaded.and_then(|(settings, fresh)| self.apply(settings, fresh, files))
            }
            Err(_) => {
                // Or the same files would be read, in vain, at every look.
                self.watch.give_up();
                Err(Refusal::Fault)
            }
        };
        let result = match applied {
            Ok(changes) => self.report(&changes),
            Err(refusal) => {
                error!("settings not reloaded, the old ones stay: {refusal}");
                ReloadResult::Refused
            }
        };
        self.node.reloads.count(result, unix_seconds());
        result
    }

    fn apply(&mut self, settings: Settings, fresh: Option<Fresh>, files: Files) -> Result<Changes, Refusal> {
        self.prepare(&settings, &files)?;
        let changes = self.commit(settings, fresh);
        self.files = files;
        Ok(changes)
    }

    /// Everything that can fail. Nothing holds yet when it does; the log, which comes last, aside.
    fn prepare(&mut self, settings: &Settings, files: &Files) -> Result<(), Refusal> {
        if let Some(path) = files.lost_since(&self.files) {
            return Err(Refusal::Lost(path.to_owned()));
        }
        if settings.development_app && !self.settings.development_app {
            return Err(Refusal::NoApp);
        }
        // The new settings were checked for the addresses they name, which may not be those we listen on.
        let is_public = self.settings.server.listen.iter().any(|listen| !listen.address.ip().is_loopback());
        if let Some(app) = settings.apps.iter().find(|app| is_public && has_public_secret(app)) {
            return Err(Refusal::PublicSecret(app.id.clone()));
        }
        if settings.log != self.settings.log {
            (self.follow_log)(&settings.log).map_err(Refusal::Log)?;
        }
        Ok(())
    }

    /// Lets the settings hold. Nothing in here can fail.
    fn commit(&mut self, settings: Settings, fresh: Option<Fresh>) -> Changes {
        let mut changes = Changes::of_server(&self.settings, &settings);
        self.node.settle(&settings);
        if let Some((tls, fresh)) = self.node.tls.as_ref().zip(fresh) {
            changes.certificates = tls.certificates.take(fresh) == Changed::Certificates;
            tls.certificates.warnings(SystemTime::now()).iter().for_each(|warning| warn!("{warning}"));
        }
        changes.apps = self.node.apps.replace(settings.apps.clone());
        changes::take_live(&mut self.settings, settings);
        changes
    }

    /// Says what has changed.
    fn report(&self, changes: &Changes) -> ReloadResult {
        if !changes.start.is_empty() {
            let keys = changes.start.join(", ");
            warn!("these keys have changed and keep their old value until a new start: {keys}");
        }
        if changes.is_empty() {
            let besides = if changes.start.is_empty() { "" } else { " else" };
            info!("settings reloaded: nothing{besides} has changed");
            return ReloadResult::Unchanged;
        }
        info!("settings reloaded: {changes}");
        for note in &self.settings.notes {
            match note.level {
                NoteLevel::Info => info!("{}", note.text),
                NoteLevel::Warning => warn!("{}", note.text),
            }
        }
        ReloadResult::Applied
    }
}

/// The settings, the certificates they name if TLS is spoken, and the files that took. Whether it is spoken is settled
/// at the start.
fn read(invocation: &Invocation, has_tls: bool) -> (Files, Result<(Settings, Option<Fresh>), Refusal>) {
    let (files, loaded) = invocation.load();
    let with_certificates = |settings: Settings| {
        let pairs = Some(settings.server.tls.clone()).filter(|pairs| has_tls && !pairs.is_empty());
        let fresh = pairs.map(Certificates::read).transpose()?;
        Ok((settings, fresh))
    };
    (files, loaded.map_err(Refusal::from).and_then(with_certificates))
}

fn has_public_secret(app: &App) -> bool {
    let public = AppSecret::new(DEVELOPMENT_SECRET);
    [Some(&app.secret), app.previous_secret.as_ref()]
        .into_iter()
        .flatten()
        .any(|secret| secret.is_same(&public))
}
