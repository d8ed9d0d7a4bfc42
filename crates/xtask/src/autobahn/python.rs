//! CPython 2.7 with the suite in it: the suite runs on nothing newer.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::checks::Places;

/// Every package and its version, from the root of the repository.
const REQUIREMENTS: &str = "crates/xtask/autobahn-requirements.txt";

/// Why the suite is not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PythonError {
    /// No interpreter.
    #[error(
        "missing: CPython 2.7 with pip and its headers. The Autobahn test suite runs on nothing newer. Neither \
         python2.7 on the PATH nor any 2.7 of pyenv can run pip; `pyenv install 2.7.18` brings one"
    )]
    Missing,
    /// A file cannot be written or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A command failed; it has printed why.
    #[error("cannot {what}: `{command}` failed")]
    Failed {
        /// What it was for.
        what: &'static str,
        /// The program.
        command: String,
    },
}

/// Makes `home/venv` hold exactly what is required, unless it does so already.
pub(super) fn provide(places: &Places, home: &Path) -> Result<(), PythonError> {
    let requirements = places.root.join(REQUIREMENTS);
    let required = fs::read_to_string(&requirements).map_err(of(&requirements))?;
    let venv = home.join("venv");
    // Written last, so what broke off is begun anew.
    let installed = venv.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == required) && works(&venv) {
        println!("all there");
        return Ok(());
    }
    let python = find().ok_or(PythonError::Missing)?;
    println!("installing into {} with {}", venv.display(), python.display());
    let tool = home.join("virtualenv");
    let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"];
    let mut get_tool = Command::new(&python);
    get_tool.args(pip).args(["--upgrade", "--target"]).arg(&tool).arg("--constraint").arg(&requirements);
    run("get virtualenv", get_tool.arg("virtualenv"))?;
    let mut make = Command::new(&python);
    make.env("PYTHONPATH", &tool).args(["-m", "virtualenv", "--quiet", "--clear"]).arg(&venv);
    run("make an environment", &mut make)?;
    let mut install = Command::new(venv.join("bin/python"));
    run("install the suite", install.args(pip).arg("--requirement").arg(&requirements))?;
    fs::write(&installed, required).map_err(of(&installed))
}

fn works(venv: &Path) -> bool {
    succeeds(Command::new(venv.join("bin/wstest")).arg("--autobahnversion"))
}

/// The first CPython 2.7 that runs pip. A pyenv answers to `python2.7` only where that version is switched on.
fn find() -> Option<PathBuf> {
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".pyenv")))
        .and_then(|root| fs::read_dir(root.join("versions")).ok());
    let versions = pyenv.into_iter().flatten().flatten();
    let of_pyenv = versions
        .filter(|version| version.file_name().to_string_lossy().starts_with("2.7"))
        .map(|version| version.path().join("bin/python"));
    [PathBuf::from("python2.7")].into_iter().chain(of_pyenv).find(|python| {
        let runs_pip = "import platform, sys, pip; \
             sys.exit((platform.python_implementation(), sys.version_info[:2]) != ('CPython', (2, 7)))";
        succeeds(Command::new(python).args(["-c", runs_pip]))
    })
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn run(what: &'static str, command: &mut Command) -> Result<(), PythonError> {
    let program = Path::new(command.get_program()).to_owned();
    // pip and virtualenv of that time warn on every run that Python 2.7 has ended.
    let status =
        command.env("PYTHONWARNINGS", "ignore::DeprecationWarning").status().map_err(of(&program))?;
    if status.success() {
        return Ok(());
    }
    let command = command.get_args().fold(program.display().to_string(), |line, argument| {
        format!("{line} {}", argument.to_string_lossy())
    });
    Err(PythonError::Failed { what, command })
}

fn of(path: &Path) -> impl FnOnce(io::Error) -> PythonError {
    let path = path.to_owned();
    move |error| PythonError::Io { path, error }
}
