//! The process's variables, a `.env` below them, and what `SOUNDPOST_*` of both says. Nothing else in the server reads
//! the environment, and even this is given it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use config::Source;

use super::{
    ConfigError, Files, Note, dotenv,
    files::read_text,
    keys,
    layers::{Flat, put},
};

/// `SOUNDPOST_` variables that are not keys of the file: what to log, and, of a build, its commit, which stays behind in
/// images and pipelines.
const NOT_KEYS: &[&str] = &["SOUNDPOST_LOG", "SOUNDPOST_COMMIT"];

/// Variables by name; a variable of the process beats the one of the `.env`.
#[derive(Debug, Default)]
pub(super) struct Environment {
    process: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    path: PathBuf,
}

impl Environment {
    /// The process's variables alone.
    pub(super) fn new(process: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { process: process.into_iter().collect(), ..Self::default() }
    }

    /// Puts a `.env` below the process's variables. Errors: [`ConfigError::Syntax`]; [`ConfigError::Read`] too, unless
    /// there is no such file and `required` is false.
    pub(super) fn read(&mut self, path: &Path, required: bool, files: &mut Files) -> Result<(), ConfigError> {
        files.note(path);
        // A Python environment may lie in a directory of that name.
        if !required && path.is_dir() {
            return Ok(());
        }
        let text = match read_text(path) {
            Err(ConfigError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !required =>
            {
                return Ok(());
            }
            read => read?,
        };
        self.file = dotenv::parse(&text, path, &self.process)?;
        self.path = path.to_owned();
        Ok(())
    }

    /// The variable as it stands, even when it is empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.process.get(name).or_else(|| self.file.get(name)).map(String::as_str)
    }

    /// A variable of the process, whatever a `.env` says.
    pub(super) fn process(&self, name: &str) -> Option<&str> {
        self.process.get(name).map(String::as_str)
    }

    /// The name as errors show it: `REVERB_APP_KEY` or `REVERB_APP_KEY in .env`.
    pub(super) fn origin(&self, name: &str) -> String {
        match self.process.contains_key(name) || !self.file.contains_key(name) {
            true => name.to_owned(),
            false => format!("{name} in {}", self.path.display()),
        }
    }

    /// The `.env` that was read.
    pub(super) fn file(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| *path != Path::new(""))
    }

    /// Whether this is the name of a variable of the process itself.
    pub(super) fn is_of_process(&self, name: &str) -> bool {
        self.process.contains_key(name)
    }

    /// The names that begin so, in order, each once.
    pub(super) fn names(&self, prefix: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .process
            .keys()
            .chain(self.file.keys())
            .map(String::as_str)
            .filter(|n| n.starts_with(prefix))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What `SOUNDPOST_*` says: `SOUNDPOST_APPS__0__KEY` is `apps.0.key`. Values stay text, an empty one says nothing.
    pub(super) fn soundpost(&self, notes: &mut Vec<Note>) -> Result<Flat, ConfigError> {
        let mut variables = config::Map::new();
        let mut injected = Vec::new();
        for name in self.names("SOUNDPOST_") {
            let value = self.value(name).unwrap_or_default();
            if is_injected(name, value) {
                injected.push(name);
            } else if !NOT_KEYS.contains(&name) {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        if !injected.is_empty() {
            let names = injected.join(", ");
            notes.push(Note::info(format!("ignored, as set by Kubernetes or Docker for a service: {names}")));
        }
        let values = config::Environment::with_prefix("SOUNDPOST")
            .prefix_separator("_")
            .separator("__")
            .ignore_empty(true)
            .source(Some(variables))
            .collect()
            .map_err(|error| ConfigError::Layers(error.to_string()))?;
        let mut flat = Flat::new();
        for (key, value) in values {
            let name = format!("SOUNDPOST_{}", key.to_uppercase().replace('.', "__"));
            put(&mut flat, &key, &self.origin(&name), value.kind);
        }
        keys::check(&mut flat)?;
        Ok(flat)
    }
}

/// Kubernetes and Docker describe a service named `soundpost` or `soketi` to every container beside it:
/// `SOUNDPOST_SERVICE_HOST`, `SOKETI_SERVICE_PORT_HTTP`, `SOKETI_PORT=tcp://..`, `SOUNDPOST_PORT_8080_TCP_ADDR`.
pub(super) fn is_injected(name: &str, value: &str) -> bool {
    let Some(rest) = ["SOUNDPOST_", "SOKETI_"].iter().find_map(|prefix| name.strip_prefix(prefix)) else {
        return false;
    };
    let is_url = value.starts_with("tcp://") || value.starts_with("udp://");
    let is_port =
        rest.strip_prefix("PORT_").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT") || is_port || (rest == "PORT" && is_url)
}
