//! Checks and tools of this repository, as `cargo xtask SUBCOMMAND`: what CI runs, what the README says, and what
//! people run, so that it is the same thing. Knows nothing of the server but where its binary lies.

#![expect(clippy::print_stdout, reason = "a command-line tool reports on its standard output")]

mod autobahn;
mod checks;
mod dist;
mod fuzz;
mod provision;
mod steps;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Checks and tools of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the tests need, then run every check and test.
    Test {
        /// Run one part alone.
        #[arg(long)]
        only: Option<Part>,
        /// Try every fault of a cluster too, not only the short set: some minutes more.
        #[arg(long)]
        faults: bool,
    },
    /// Make the release archive and the `.deb` of this platform, in `target/dist`.
    Dist,
    /// Try the WebSocket framing with the Autobahn test suite, which needs CPython 2.7.
    Autobahn,
    /// Feed the parsers made-up inputs and see whether what they promise holds; no nightly Rust is needed.
    Fuzz(fuzz::Fuzz),
}

/// A part of the checks that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Formatting, lints, documentation, and the tests in Rust.
    Rust,
    /// The release binary under real clients and SDKs, in Node, Chromium and Python.
    E2e,
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Task::Test { only, faults } => checks::run(only, faults),
        Task::Dist => dist::run(),
        Task::Autobahn => autobahn::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
    }
}
