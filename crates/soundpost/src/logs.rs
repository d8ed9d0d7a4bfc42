//! Logs to stderr: for people or for machines.

use std::io::{self, IsTerminal};

use soundpost_server::config::{LogFormat, LogSettings};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// The target of one line for every frame in and out.
const FRAMES: &str = "soundpost::frames";

/// Why logging could not start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogError(String);

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SOUNDPOST_LOG: {}", self.0)
    }
}

impl std::error::Error for LogError {}

/// What is logged, while it is.
#[derive(Clone, Debug)]
pub(crate) struct Logs(reload::Handle<EnvFilter, Registry>);

impl Logs {
    /// From now on logs what other settings say; the form of a line stays. Errors: the filter cannot be read; then what
    /// was logged before still is.
    pub(crate) fn follow(&self, settings: &LogSettings) -> Result<(), LogError> {
        self.0.reload(filter(settings)?).map_err(|error| LogError(error.to_string()))
    }
}

/// Starts logging for the whole process. Errors: the filter cannot be read, or logging has started before.
pub(crate) fn start(settings: &LogSettings) -> Result<Logs, LogError> {
    let (filter, handle) = reload::Layer::new(filter(settings)?);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Human => {
            let is_coloured = settings.colours && io::stderr().is_terminal();
            let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(is_coloured);
            registry.with(lines).try_init()
        }
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(lines).try_init()
        }
    };
    started.map_err(|error| LogError(error.to_string()))?;
    Ok(Logs(handle))
}

fn filter(settings: &LogSettings) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(directives(settings)).map_err(|error| LogError(error.to_string()))
}

/// Whether logging could start. Errors: the filter cannot be read.
pub(crate) fn check(settings: &LogSettings) -> Result<(), LogError> {
    filter(settings).map(drop)
}

/// `SOUNDPOST_LOG`, else what matters; with `--debug` every frame beside it.
fn directives(settings: &LogSettings) -> String {
    let base = settings.filter.as_deref().unwrap_or("info");
    if settings.debug { format!("{base},{FRAMES}=debug") } else { base.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_adds_the_frames_to_any_filter() {
        for (filter, debug, expected) in [
            (None, false, "info"),
            (None, true, "info,soundpost::frames=debug"),
            (Some("warn"), true, "warn,soundpost::frames=debug"),
            (Some("soundpost_server=trace"), false, "soundpost_server=trace"),
        ] {
            let filter = filter.map(str::to_owned);
            assert_eq!(
                directives(&LogSettings { format: LogFormat::Human, debug, filter, colours: false }),
                expected
            );
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        let filter = Some("a=b=c".to_owned());
        let settings = LogSettings { format: LogFormat::Json, debug: false, filter, colours: false };
        let error = start(&settings).unwrap_err();
        assert_eq!(check(&settings), Err(LogError(error.0.clone())));
        assert!(error.to_string().starts_with("SOUNDPOST_LOG: "), "{error}");
    }
}
