//! `cargo xtask dist`: what a release of this platform is made of, in `target/dist`: an archive, a Debian package, and
//! their checksums.
//!
//! The same commit, compiler and place give the same bytes: entries are sorted, belong to root, and have the time of the commit.

mod deb;
mod entry;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use sha2::{Digest, Sha256};

use self::entry::Entry;
use crate::{checks::Places, steps::Steps};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const BUILD: &str = "release build";
/// What is done with a release that is built.
pub(crate) const STEPS: [&str; 2] =
    ["archive, .deb and checksums", "the archive and the .deb, unpacked and run"];

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DistError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A program cannot be started or fails.
    #[error("`{command}`: {why}")]
    Program {
        /// The command line.
        command: String,
        /// What it said, or why it was not started.
        why: String,
    },
    /// The compiler's name for this platform has no Debian architecture that we know of.
    #[error("no Debian architecture is known for {target}")]
    Architecture {
        /// `x86_64-unknown-linux-gnu`
        target: String,
    },
    /// What was unpacked is not what was built.
    #[error("{what} says {found:?}, and it should be {expected:?}")]
    Wrong {
        /// Which program.
        what: String,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
}

/// Builds, makes the files and tries them.
pub(crate) fn run() -> ExitCode {
    let places = Places::find();
    let mut steps = Steps::default();
    if steps.run(BUILD, &mut places.cargo(&["build", "--locked", "--release", "--package", "soundpost"])) {
        all(&places, &mut steps);
    } else {
        steps.not_run(&STEPS, BUILD);
    }
    steps.finish()
}

/// Makes the files of a release that is built, and tries them.
pub(crate) fn all(places: &Places, steps: &mut Steps) {
    let [make, try_out] = STEPS;
    let mut release = None;
    let made = steps.perform(make, || {
        release = Some(Release::make(places)?);
        Ok::<_, DistError>(())
    });
    match release.filter(|_| made) {
        Some(release) => {
            steps.perform(try_out, || release.try_out());
        }
        None => steps.not_run(&[try_out], make),
    }
}

/// The files of a release.
#[derive(Debug)]
struct Release {
    folder: PathBuf,
    /// What its archive unpacks to: `soundpost-0.1.0-x86_64-unknown-linux-gnu`.
    name: String,
    archive: PathBuf,
    deb: PathBuf,
    /// What the binary that was built says of itself.
    version: String,
}

impl Release {
    fn make(places: &Places) -> Result<Self, DistError> {
        let folder = places.target.join("dist");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let built = places.target.join("release/soundpost");
        let binary = strip(&built, &folder)?;
        let target = target()?;
        let time = commit_time(&places.root);
        let name = format!("soundpost-{VERSION}-{target}");

        let archive = folder.join(format!("{name}.tar.gz"));
        write(&archive, &entry::tar_gz(&contents(places, &name, &binary)?, time).map_err(at(&archive))?)?;
        let package = deb::Package::new(&target, &binary)?;
        let deb = folder.join(package.file_name());
        write(&deb, &package.build(&places.root, binary, time)?)?;
        checksums(&folder, &[&archive, &deb])?;
        Ok(Self { folder, name, archive, deb, version: says(&built)? })
    }

    /// Unpacks both into empty folders and asks the binaries their version.
    fn try_out(&self) -> Result<(), DistError> {
        let place = self.folder.join("unpacked");
        for (words, file, binary) in [
            (
                &["tar", "--extract", "--gzip", "--file"][..],
                &self.archive,
                format!("{}/soundpost", self.name),
            ),
            (&["dpkg-deb", "--extract"], &self.deb, "usr/bin/soundpost".to_owned()),
        ] {
            if place.exists() {
                fs::remove_dir_all(&place).map_err(at(&place))?;
            }
            fs::create_dir_all(&place).map_err(at(&place))?;
            let [program, arguments @ ..] = words else { continue };
            let mut unpack = Command::new(program);
            unpack.args(arguments).arg(file).current_dir(&place);
            // tar unpacks where it stands; dpkg-deb wants to be told.
            run_to_end(if *program == "dpkg-deb" { unpack.arg(".") } else { &mut unpack })?;
            let what = place.join(&binary).display().to_string();
            let (found, expected) = (says(&place.join(&binary))?, self.version.clone());
            if found != expected {
                return Err(DistError::Wrong { what, found, expected });
            }
            println!("{}: {found}", file.display());
        }
        fs::remove_dir_all(&place).map_err(at(&place))?;
        print!("{}", run_to_end(Command::new("dpkg-deb").arg("--info").arg(&self.deb))?);
        Ok(())
    }
}

/// All that is in the archive.
fn contents(places: &Places, name: &str, binary: &[u8]) -> Result<Vec<Entry>, DistError> {
    let mut entries = vec![Entry::file(format!("{name}/soundpost"), 0o755, binary.to_vec())];
    for file in ["LICENSE", "README.md", "docs", "deploy"] {
        entry::add_tree(&mut entries, &places.root.join(file), &format!("{name}/{file}"))?;
    }
    Ok(entries)
}

/// The binary without what only a debugger needs.
fn strip(built: &Path, folder: &Path) -> Result<Vec<u8>, DistError> {
    let stripped = folder.join("soundpost");
    run_to_end(Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(built))?;
    let binary = fs::read(&stripped).map_err(at(&stripped))?;
    let before = fs::metadata(built).map_err(at(built))?.len();
    println!("stripped: {before} bytes before, {} after", binary.len());
    fs::remove_file(&stripped).map_err(at(&stripped))?;
    Ok(binary)
}

/// The compiler's name for this platform.
fn target() -> Result<String, DistError> {
    let text = run_to_end(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| DistError::Program { command: "rustc -vV".to_owned(), why: text.clone() })
}

/// When the commit was made, seconds since 1970; `SOURCE_DATE_EPOCH` beats it, and without either it is 0.
fn commit_time(root: &Path) -> u64 {
    let said = env::var("SOURCE_DATE_EPOCH").ok();
    let asked = || run_to_end(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root)).ok();
    said.or_else(asked).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn checksums(folder: &Path, files: &[&Path]) -> Result<(), DistError> {
    let mut text = String::new();
    for path in files {
        let bytes = fs::read(path).map_err(at(path))?;
        let name = path.file_name().unwrap_or_default().display();
        text.push_str(&format!("{}  {name}\n", hex(&Sha256::digest(&bytes))));
        println!("{}: {} bytes", path.display(), bytes.len());
    }
    write(&folder.join("SHA256SUMS"), text.as_bytes())
}

/// What `--version` prints.
fn says(binary: &Path) -> Result<String, DistError> {
    run_to_end(Command::new(binary).arg("--version")).map(|text| text.trim().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DistError> {
    fs::write(path, bytes).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> DistError + '_ {
    |error| DistError::Io { path: path.to_owned(), error }
}

/// Runs a program to its end; what it printed.
fn run_to_end(command: &mut Command) -> Result<String, DistError> {
    let output = command.output();
    let failed = |why| DistError::Program { command: format!("{command:?}"), why };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
