//! Flags and commands, the same as those of `reverb:start`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use soundpost_server::config::{Flags, LogFormat};

/// `0.1.0 (1a2b3c4)`
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SOUNDPOST_COMMIT"), ")");

/// WebSocket broadcast server that speaks the Pusher protocol.
#[derive(Debug, Parser)]
#[command(name = "soundpost", version = VERSION, about, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// What to do; `start` when nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    server: ServerFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server (the default)
    Start(ServerFlags),
    /// Check the configuration, print every setting with its source, and exit
    Check(CheckFlags),
    /// Ask the running server's admin listener whether it is ready, and exit
    Health(ServerFlags),
    /// Send one made-up event to each webhook of an app, print what it answers, and exit
    ///
    /// The event is the first that the webhook wants, on a channel that its filter lets through, signed like any other. A
    /// webhook that is a queue of Laravel's gets a job, which a worker of the app runs.
    WebhookTest(WebhookTestFlags),
    /// Turn the configuration of Laravel Reverb, soketi, Sockudo or Pusher into a soundpost.toml
    ///
    /// Reads Laravel's config/reverb.php (with the .env of its project), a .env with REVERB_*, SOKETI_* or PUSHER_APP_*,
    /// soketi's JSON, and Sockudo's TOML or JSON. What has no counterpart becomes a comment.
    Import(ImportFlags),
}

/// The flags of `webhook-test`: those of the server, whom to tell, and for how long.
#[derive(Debug, Args)]
pub(crate) struct WebhookTestFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// The app, by its id
    #[arg(long, value_name = "ID")]
    pub(crate) app: String,
    /// Only this one of its webhooks, counted from 0 as `soundpost check` shows them
    #[arg(long, value_name = "NUMBER")]
    pub(crate) webhook: Option<usize>,
    /// How many seconds each may take; the server waits for 10
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) timeout: u64,
}

/// The flags of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportFlags {
    /// The file to read; `-` reads standard input
    pub(crate) file: PathBuf,
    /// Write this file instead of printing
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the output if it is there
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

/// The flags of `check`: those of the server, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// Exit with 1 if there are warnings
    #[arg(long)]
    pub(crate) strict: bool,
    /// Form of the answer
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Form,
}

/// Form of what `check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people: lines of TOML
    Text,
    /// For machines: one JSON object
    Json,
}

/// The flags of the server. They beat every other source of settings.
#[derive(Debug, Default, Args)]
pub(crate) struct ServerFlags {
    /// Read this TOML file; .env, config/reverb.php, REVERB_* and SOKETI_* are then ignored unless --env-file is given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read this file in place of `.env`
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Do not read config/reverb.php: REVERB_* alone say what Reverb would do
    #[arg(long)]
    env_only: bool,
    /// Address to listen on; `::` takes IPv4 too
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Prefix of every route
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Public host name
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Log one line for every frame
    #[arg(long)]
    debug: bool,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
}

/// Form of log lines, as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

impl Arguments {
    /// The flags of whichever command was given.
    pub(crate) fn flags(&self) -> Flags {
        let given = match &self.command {
            Some(Command::Start(flags) | Command::Health(flags)) => flags,
            Some(Command::Check(check)) => &check.server,
            Some(Command::WebhookTest(test)) => &test.server,
            Some(Command::Import(_)) | None => &self.server,
        };
        Flags {
            config: given.config.clone(),
            env_file: given.env_file.clone(),
            env_only: given.env_only,
            host: given.host.clone(),
            port: given.port,
            path: given.path.clone(),
            hostname: given.hostname.clone(),
            debug: given.debug,
            log_format: given.log_format.map(|format| match format {
                Format::Human => LogFormat::Human,
                Format::Json => LogFormat::Json,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn start_is_the_default_command_with_the_same_flags() {
        Arguments::command().debug_assert();
        let bare = Arguments::parse_from(["soundpost", "--port", "1", "--host=::", "--debug"]).flags();
        let named =
            Arguments::parse_from(["soundpost", "start", "--port", "1", "--host=::", "--debug"]).flags();
        assert_eq!(format!("{bare:?}"), format!("{named:?}"));
        assert_eq!((bare.port, bare.host.as_deref(), bare.debug), (Some(1), Some("::"), true));
        assert!(Arguments::try_parse_from(["soundpost", "--port", "65536"]).is_err());
        assert!(
            !bare.env_only && Arguments::parse_from(["soundpost", "check", "--env-only"]).flags().env_only
        );
    }
}
