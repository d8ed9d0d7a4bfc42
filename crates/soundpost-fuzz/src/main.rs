//! The driver on stable Rust: `cargo xtask fuzz` builds it and starts it.
//!
//! Each input is on disk before it is run, so that it is there whatever way the process ends.

#![expect(clippy::print_stdout, reason = "a command-line tool reports on its standard output")]

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use soundpost_fuzz::{Outcome, TARGETS, Target, corpus::Corpus, engine::Engine};

/// As little as a thread of the server has at least: deep recursion is a find.
const STACK_BYTES: usize = 1 << 20;

/// An input that takes longer is a find, too. Most take microseconds, but other programs want the processor as well.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Inputs for each target.
    #[arg(long, default_value_t = 1_000_000)]
    inputs: u64,
    /// One target alone.
    #[arg(long)]
    target: Option<String>,
    /// Decides which inputs are made.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop each target after so long.
    #[arg(long)]
    seconds: Option<u64>,
    /// Run the input in this file instead of making any.
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
    /// Where the input that is being run is kept.
    #[arg(long, default_value = "target/fuzz")]
    finds: PathBuf,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let work = move || run(&arguments);
    match thread::Builder::new().stack_size(STACK_BYTES).spawn(work)?.join() {
        Ok(result) => result,
        Err(_) => Err(io::Error::other("a property does not hold, see above")),
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let chosen = |target: &&Target| arguments.target.as_ref().is_none_or(|name| name == target.name);
    let targets: Vec<_> = TARGETS.iter().filter(chosen).collect();
    if targets.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        return Err(io::Error::other(format!("no such target; there are {}", names.join(", "))));
    }
    for target in targets {
        match &arguments.replay {
            Some(path) => println!("{}: {:?}", target.name, (target.run)(&fs::read(path)?)),
            None => fuzz(target, arguments)?,
        }
    }
    Ok(())
}

fn fuzz(target: &Target, arguments: &Arguments) -> io::Result<()> {
    fs::create_dir_all(&arguments.finds)?;
    let path = arguments.finds.join(format!("{}.find", target.name));
    let mut engine = Engine::new(Corpus::read(target.name)?, arguments.seed, target.name);
    let mut running = Running::new(&path)?;
    let (mut input, mut inputs, mut accepted) = (Vec::new(), 0_u64, 0_u64);
    let (started, mut slowest) = (Instant::now(), Duration::ZERO);
    let end = arguments.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let mut now = started;
    while inputs < arguments.inputs && end.is_none_or(|end| now < end) {
        engine.next(&mut input);
        running.keep(&input)?;
        let before = Instant::now();
        let outcome = (target.run)(&input);
        now = Instant::now();
        slowest = slowest.max(now - before);
        assert!(slowest < INPUT_TIME_MAX, "an input took {slowest:?}");
        inputs += 1;
        accepted += u64::from(outcome == Outcome::Accepted);
        engine.learn(&input, outcome);
    }
    drop(running);
    fs::remove_file(&path)?;
    let took = started.elapsed().as_secs_f64();
    println!(
        "{:18} {inputs:9} inputs, {:2}% accepted, {took:6.1} s, {:7.0} a second, the slowest {:.1} ms",
        target.name,
        accepted * 100 / inputs.max(1),
        inputs as f64 / took,
        slowest.as_secs_f64() * 1000.0,
    );
    Ok(())
}

/// The file that holds the input being run.
struct Running {
    file: File,
    bytes: usize,
}

impl Running {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, bytes: 0 })
    }

    fn keep(&mut self, input: &[u8]) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(input)?;
        if input.len() < self.bytes {
            self.file.set_len(input.len() as u64)?;
        }
        self.bytes = input.len();
        Ok(())
    }
}
