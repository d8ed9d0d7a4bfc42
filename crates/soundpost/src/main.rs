//! The command line: reads flags and settings, starts the server, says how it went.

mod arguments;
mod banner;
mod check;
mod health;
mod import;
mod logs;
mod notify;
mod serve;
mod webhook_test;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use clap::Parser;
use soundpost_server::{
    config::{Files, Invocation, LogSettings, NoteLevel, Report, Settings},
    reload::Reload,
    tls::{Certificates, TlsClient},
    webhook,
};
use tokio::sync::Notify;

use arguments::{Arguments, Command};
use banner::Listening;
use notify::Notifier;

/// jemalloc gives memory back soon after many connections leave; see `.cargo/config.toml`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if even this cannot be written.
            drop(writeln!(io::stderr().lock(), "soundpost: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let environment = texts(env::vars_os())?;
    let invocation = Invocation { flags: arguments.flags(), environment, dir: PathBuf::new() };
    match &arguments.command {
        Some(Command::Check(check)) => {
            let Invocation { flags, environment, dir } = invocation;
            let (settings, mut report) = Report::load(&flags, environment, &dir)?;
            logs::check(&settings.log)?;
            webhook::http::check(&settings.apps)?;
            let certificates = Certificates::load(settings.server.tls.clone())?;
            report.warn(certificates.warnings(SystemTime::now()));
            if let Some(tls) = settings.redis.as_ref().and_then(|redis| redis.tls.as_ref()) {
                drop(TlsClient::load("redis.tls", tls.ca.as_deref(), tls.client.as_ref())?);
            }
            let is_good = check::print(&settings, &report, check)?;
            return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Some(Command::Import(flags)) => import::import(flags)?,
        Some(Command::WebhookTest(flags)) => {
            let settings = invocation.load().1?;
            drop(logs::start(&settings.log)?);
            // A job that was pushed under a prefix that nobody wrote was not taken yet.
            for note in settings.notes.iter().filter(|note| note.level == NoteLevel::Warning) {
                tracing::warn!("{}", note.text);
            }
            let all_took_it = webhook_test::tell(&settings, flags)?;
            return Ok(if all_took_it { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Some(Command::Health(_)) => {
            let health::Healthy { address, degraded } = health::ask(invocation.load().1)?;
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "healthy: http://{address}/ready")?;
            if let Some(degraded) = degraded {
                writeln!(stdout, "{degraded}")?;
            }
        }
        Some(Command::Start(_)) | None => {
            let (files, settings) = invocation.load();
            start(settings?, invocation, files)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The variables that are text. Errors: one of ours is not, and without it another source would count unseen.
fn texts(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, String> {
    let is_ours = |name: &str| ["SOUNDPOST_", "REVERB_", "SOKETI_"].iter().any(|ours| name.starts_with(ours));
    let text = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        match value.into_string() {
            Ok(value) => Some(Ok((name, value))),
            Err(_) if is_ours(&name) => Some(Err(format!("{name} is not UTF-8 text: set it anew"))),
            Err(_) => None,
        }
    };
    variables.filter_map(text).collect()
}

fn start(settings: Settings, invocation: Invocation, files: Files) -> Result<(), Box<dyn std::error::Error>> {
    let logs = logs::start(&settings.log)?;
    for note in &settings.notes {
        match note.level {
            NoteLevel::Info => tracing::info!("{}", note.text),
            NoteLevel::Warning => tracing::warn!("{}", note.text),
        }
    }
    let shown = settings.clone();
    let notifier = Notifier::new(env::var_os("NOTIFY_SOCKET"));
    let follow_log = move |settings: &LogSettings| logs.follow(settings).map_err(|error| error.to_string());
    let reload =
        Reload { invocation, files, asked: Arc::new(Notify::new()), follow_log: Box::new(follow_log) };
    serve::serve(settings, reload, &notifier, |server| {
        let listening = Listening {
            addresses: server.addresses(),
            admin: server.admin_address(),
            certificates: &server.certificates(),
        };
        let text = banner::banner(&shown, listening, files_max());
        let text =
            if shown.log.colours && io::stdout().is_terminal() { banner::coloured(&text) } else { text };
        let mut stdout = io::stdout().lock();
        // A closed stdout is no reason not to serve.
        drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
    })
}

/// How many files this process may hold open; every connection is one.
fn files_max() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok().filter(|files| *files != rlimit::INFINITY)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_variable_of_ours_that_is_no_text_is_refused_and_any_other_left_out() {
        let variable = |name: &str, value: &[u8]| (OsString::from(name), OsString::from_vec(value.to_vec()));
        let others = [variable("LS_COLORS", b"\xff"), variable("REVERB_APP_KEY", b"k")];
        assert_eq!(texts(others.into_iter()), Ok(vec![("REVERB_APP_KEY".to_owned(), "k".to_owned())]));
        let refused = texts([variable("REVERB_APP_SECRET", b"hush\xff")].into_iter());
        assert_eq!(refused, Err("REVERB_APP_SECRET is not UTF-8 text: set it anew".to_owned()));
    }
}
