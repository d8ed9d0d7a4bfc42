//! The configuration: defaults, a TOML file, the environment with Laravel's names, and flags, checked once.
//!
//! `written` is what was written, `settings` what it means; only the second leaves this room. The environment is
//! read here and nowhere else in the server, and it is passed in, so that a test can say what it is.
//! Every key stands in `docs/configuration.md`. Knows nothing of sockets: whether a port is free is seen by binding it.

mod advice;
mod apps;
mod checks;
mod dotenv;
mod effective;
mod environment;
mod error;
mod files;
mod import;
mod keys;
mod layers;
mod network;
pub mod php;
mod redis;
mod report;
mod resolve;
mod reverb;
mod reverb_file;
mod secrets;
mod settings;
mod soketi;
mod tls;
mod webhooks;
mod written;

#[cfg(test)]
mod dotenv_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod rate_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod reverb_doubt_tests;
#[cfg(test)]
mod reverb_file_tests;
#[cfg(test)]
mod soketi_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod webhook_tests;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use error::{ConfigError, Place};
pub use files::{BYTES_MAX, Files, text};
pub use import::{ImportError, Imported, import};
pub use redis::{OnOutage, RedisAddress, RedisPassword, RedisServers, RedisSettings, RedisTls};
pub use report::Report;
pub use settings::{
    AdminSettings, DEVELOPMENT_ID, DEVELOPMENT_KEY, DEVELOPMENT_SECRET, Listen, LogFormat, LogSettings, Note,
    NoteLevel, ServerSettings, Settings, UnixSocket,
};
pub use webhooks::WebhookMistake;

use environment::Environment;
use layers::{Flat, Layered, Sources, Uncertain, put};

/// The file in the working directory that is read where no other is named.
const STANDARD_FILE: &str = "soundpost.toml";

/// What the command line says. It beats every other source.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: this file and nothing of Laravel's, unless `env_file` is given too.
    pub config: Option<PathBuf>,
    /// `--env-file` in place of the `.env` in the working directory.
    pub env_file: Option<PathBuf>,
    /// `--env-only`: `config/reverb.php` is not read.
    pub env_only: bool,
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
    /// `--path`
    pub path: Option<String>,
    /// `--hostname`
    pub hostname: Option<String>,
    /// `--debug`; false says nothing.
    pub debug: bool,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
}

/// How the server was called: all it takes to read the settings again as the start did.
#[derive(Clone, Default)]
pub struct Invocation {
    /// The command line.
    pub flags: Flags,
    /// The process's variables at the start.
    pub environment: Vec<(String, String)>,
    /// The working directory.
    pub dir: PathBuf,
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the variables: some hold secrets.
        f.debug_struct("Invocation")
            .field("flags", &self.flags)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Invocation {
    /// Reads and checks every source, and says which files that took, also where it failed.
    pub fn load(&self) -> (Files, Result<Settings, ConfigError>) {
        let mut files = Files::default();
        let read = Read::all(&self.flags, self.environment.clone(), &self.dir, &mut files);
        (files, read.map(|read| read.settings))
    }
}

impl Settings {
    /// Reads and checks every source: `flags`, then `SOUNDPOST_*`, `REVERB_*`, `SOKETI_*`, the file, what
    /// `config/reverb.php` itself says, and the defaults. `environment` are the process's variables, which beat a
    /// `.env`; `dir` is the working directory, where `soundpost.toml` and `.env` are looked for. With
    /// [`Flags::config`] and without [`Flags::env_file`] nothing of Laravel's and soketi's is read, so that the file
    /// means what it says.
    ///
    /// Errors: [`ConfigError`], the first found.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
        dir: &Path,
    ) -> Result<Self, ConfigError> {
        Read::all(flags, environment, dir, &mut Files::default()).map(|read| read.settings)
    }
}

/// Everything that was read, and what it comes to.
#[derive(Debug)]
struct Read {
    settings: Settings,
    layered: Layered,
    environment: Environment,
    /// The TOML file, if there is one.
    file: Option<PathBuf>,
    /// Whether a `.env` and Laravel's names count.
    reads_laravel: bool,
}

impl Read {
    /// Every source notes the files that it reads or looks for in `files`, which is what is watched.
    fn all(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
        dir: &Path,
        files: &mut Files,
    ) -> Result<Self, ConfigError> {
        let mut notes = Vec::new();
        let mut environment = Environment::new(environment);
        let reads_laravel = flags.config.is_none() || flags.env_file.is_some();
        match &flags.env_file {
            Some(path) => environment.read(&dir.join(path), true, files)?,
            None if reads_laravel => environment.read(&dir.join(".env"), false, files)?,
            None => {}
        }
        let mut sources = Sources { flags: flags.flat(), ..Sources::default() };
        files.note(&dir.join(flags.config.as_deref().unwrap_or(Path::new(STANDARD_FILE))));
        let file = flags.file(dir);
        if let Some(path) = &file {
            sources.file = layers::read_toml(path)?;
            keys::check(&mut sources.file)?;
            notes.push(Note::info(format!("configured by {}", path.display())));
        }
        sources.soundpost = environment.soundpost(&mut notes)?;
        if reads_laravel {
            foreign(flags, &environment, dir, &mut sources, &mut notes, files)?;
        }
        let mut layered = layers::layer(sources)?;
        let mut settings = Settings::try_from(&layered)?;
        redis::resolve::trace_url(&mut layered);
        settings.find_certificates(&mut layered, &environment, dir, files);
        if let Some(tls) = settings.redis.as_mut().and_then(|redis| redis.tls.as_mut()) {
            tls.start_from(dir);
        }
        webhooks::read_authorities(&mut settings.apps, &layered.apps, dir, files)?;
        settings.log.filter =
            environment.value("SOUNDPOST_LOG").filter(|text| !text.is_empty()).map(str::to_owned);
        settings.log.colours = environment.value("NO_COLOR").is_none_or(str::is_empty);
        notes.append(&mut settings.notes);
        let is_pushers = |name| environment.value(name).is_some_and(|value| !value.is_empty());
        if settings.development_app && reads_laravel && is_pushers("PUSHER_APP_KEY") {
            let origin = environment.origin("PUSHER_APP_KEY");
            notes.push(Note::warning(format!(
                "{origin} is not read: name the app by REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET, or import it \
                 (`soundpost import .env`)"
            )));
        }
        settings.notes = notes;
        Ok(Self { settings, layered, environment, file, reads_laravel })
    }
}

/// Reads what other servers are configured by: `SOKETI_*`, and `config/reverb.php` or else `REVERB_*`.
fn foreign(
    flags: &Flags,
    environment: &Environment,
    dir: &Path,
    sources: &mut Sources,
    notes: &mut Vec<Note>,
    files: &mut Files,
) -> Result<(), ConfigError> {
    sources.app_defaults = vec![(soketi::TABLE, soketi::defaults()), (reverb::TABLE, reverb::defaults())];
    let soketi = soketi::read(environment, notes)?;
    sources.soketi = soketi.flat;
    sources.defaults = soketi.defaults;
    let found = if flags.env_only { None } else { reverb_file::find(&flags.folders(dir), files)? };
    match found {
        Some((path, file)) => {
            let said = reverb_file::read(&path, &file, environment, notes)?;
            sources.defaults.extend(said.own);
            sources.reverb = said.variables;
            sources.uncertain = said.uncertain;
            // Where Redis is does not matter to a node that serves alone.
            let enabled = sources.soundpost.get("redis.enabled").map(ToString::to_string);
            if enabled.is_some_and(|enabled| checks::boolean(&enabled) == Some(false)) {
                let is_of_redis = |open: &Uncertain| open.keys.iter().all(|key| key.starts_with("redis."));
                sources.uncertain.retain(|open| !is_of_redis(open));
            }
        }
        None => sources.reverb = reverb::read(environment, notes)?,
    }
    Ok(())
}

impl Flags {
    /// Where a Laravel application may be: beside its `.env`, then here.
    fn folders(&self, dir: &Path) -> Vec<PathBuf> {
        let beside = self.env_file.as_ref().and_then(|path| Some(dir.join(path).parent()?.to_owned()));
        beside.into_iter().chain([dir.to_owned()]).collect()
    }

    /// The file to read: the one given, or `soundpost.toml` if it is there.
    fn file(&self, dir: &Path) -> Option<PathBuf> {
        match &self.config {
            Some(path) => Some(dir.join(path)),
            None => Some(dir.join(STANDARD_FILE)).filter(|path| path.exists()),
        }
    }

    fn flat(&self) -> Flat {
        let mut flat = Flat::new();
        let texts = [("host", &self.host), ("path", &self.path), ("hostname", &self.hostname)];
        for (name, text) in texts {
            if let Some(text) = text {
                put(&mut flat, &format!("server.{name}"), &format!("--{name}"), text.as_str());
            }
        }
        if let Some(port) = self.port {
            put(&mut flat, "server.port", "--port", port);
        }
        if self.debug {
            put(&mut flat, "server.debug", "--debug", true);
        }
        if let Some(format) = self.log_format {
            let word = match format {
                LogFormat::Human => "human",
                LogFormat::Json => "json",
            };
            put(&mut flat, "server.log_format", "--log-format", word);
        }
        flat
    }
}
