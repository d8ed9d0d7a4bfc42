//! `cargo xtask autobahn`: the Autobahn test suite against an echo server on the server's own framing.
//!
//! All cases but compression, which the server does not offer (groups 12 and 13). Group 8 does not exist.

mod python;
mod report;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use self::{
    python::PythonError,
    report::{Report, ReportError},
};
use crate::{checks::Places, steps::Steps};

/// What the suite calls the echo server.
const AGENT: &str = "Soundpost";

/// The suite takes about 20 seconds; a busy machine may need many times that.
const SUITE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

const BUILD: &str = "build of the echo server";
const PACKAGES: &str = "Python 2.7 and its packages";
const SUITE: &str = "Autobahn test suite";

/// Why there is no verdict of the suite, or a bad one.
#[derive(Debug, thiserror::Error)]
enum AutobahnError {
    /// The environment is not to be had.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// A file of ours cannot be written or read, or a program not started.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The echo server ended before it said where it listens.
    #[error("the echo server does not listen: it said {said:?}")]
    NotListening {
        /// Its first line.
        said: String,
    },
    /// The suite itself failed, whatever the cases did.
    #[error("the suite {how}; its output is in {}", log.display())]
    Suite {
        /// How.
        how: String,
        /// Its output.
        log: PathBuf,
    },
    /// The verdict cannot be read or is not good.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Runs the suite, prints what became of its cases, and fails unless every one is as good as it must be.
pub(crate) fn run() -> ExitCode {
    let places = Places::find();
    let home = places.target.join("autobahn");
    let mut steps = Steps::default();
    let build = ["build", "--locked", "--package", "soundpost-server", "--example", "echo"];
    let ready = [
        steps.perform(PACKAGES, || python::provide(&places, &home)),
        steps.run(BUILD, &mut places.cargo(&build)),
    ];
    if ready == [true, true] {
        steps.perform(SUITE, || try_framing(&places.target, &home));
    } else {
        steps.not_run(&[SUITE], "something it needs is missing");
    }
    steps.finish()
}

fn try_framing(target: &Path, home: &Path) -> Result<(), AutobahnError> {
    let reports = home.join("reports");
    if let Err(error) = fs::remove_dir_all(&reports)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(AutobahnError::Io { path: reports, error });
    }
    let echo = Echo::start(&target.join("debug/examples/echo"))?;
    let specification = home.join("fuzzingclient.json");
    let text = json!({
        "outdir": reports,
        "servers": [{ "agent": AGENT, "url": format!("ws://{}", echo.address) }],
        "cases": report::GROUPS.map(|(group, _)| format!("{group}.*")),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    fs::write(&specification, text.to_string()).map_err(of(&specification))?;
    run_suite(home, &specification)?;
    let index = reports.join("index.json");
    let report = Report::parse(&fs::read_to_string(&index).map_err(of(&index))?, AGENT)?;
    println!("{report}\ndetails: {}", reports.join("index.html").display());
    Ok(report.check()?)
}

/// Runs the suite to its end, its output in a file: it says a line for every case.
fn run_suite(home: &Path, specification: &Path) -> Result<(), AutobahnError> {
    let log = home.join("wstest.log");
    let output = File::create(&log).map_err(of(&log))?;
    let errors = output.try_clone().map_err(of(&log))?;
    let program = home.join("venv/bin/wstest");
    let mut suite = Command::new(&program)
        .args(["--mode", "fuzzingclient", "--spec"])
        .arg(specification)
        // It leaves files of its own where it runs.
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(of(&program))?;
    let end = Instant::now() + SUITE_TIMEOUT;
    let how = loop {
        match suite.try_wait().map_err(of(&program))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break format!("failed: {status}"),
            None if Instant::now() >= end => {
                end_process(&mut suite);
                break format!("was not done after {} minutes", SUITE_TIMEOUT.as_secs() / 60);
            }
            None => thread::sleep(Duration::from_millis(100)),
        }
    };
    Err(AutobahnError::Suite { how, log })
}

/// The echo server, for as long as this lives.
struct Echo {
    process: Child,
    address: SocketAddr,
}

impl Echo {
    fn start(program: &Path) -> Result<Self, AutobahnError> {
        let mut process = Command::new(program).stdout(Stdio::piped()).spawn().map_err(of(program))?;
        let mut said = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut said).map_err(of(program))?;
        }
        if let Ok(address) = said.trim().parse() {
            return Ok(Self { process, address });
        }
        end_process(&mut process);
        Err(AutobahnError::NotListening { said })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        end_process(&mut self.process);
    }
}

fn end_process(process: &mut Child) {
    // Errors say that it has ended already.
    drop(process.kill());
    drop(process.wait());
}

fn of(path: &Path) -> impl FnOnce(io::Error) -> AutobahnError {
    let path = path.to_owned();
    move |error| AutobahnError::Io { path, error }
}
