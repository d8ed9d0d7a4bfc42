//! `cargo xtask test`: every check and test there is, in the order in which a failure is cheapest to find.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::{Part, dist, provision, steps::Steps};

const PYTHON_PACKAGES: &str = "Python packages";
const NODE_STEPS: [&str; 3] = ["npm packages of the tests", "npm packages of echo-chat", "end-to-end tests"];
const PYTHON_TESTS: &str = "tests of the Python SDK";
const BUILD: &str = "release build";
const FAULTS: &str = "every fault of a cluster";
const PACKAGES_MISSING: &str = "packages are missing";
/// Their files; those whose name ends in `.test.mjs` the runner finds by itself.
const FAULT_FILES: [&str; 4] = [
    "cluster/faults/redis.mjs",
    "cluster/faults/network.mjs",
    "cluster/faults/nodes.mjs",
    "cluster/faults/webhooks.mjs",
];

/// Where things are.
pub(crate) struct Places {
    pub(crate) root: PathBuf,
    /// The tests in Node and Python.
    e2e: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
}

impl Places {
    /// By the place of this crate and the environment.
    pub(crate) fn find() -> Self {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
        Self { e2e: root.join("crates/soundpost/tests/e2e"), root, target }
    }

    /// A command that starts at the root.
    pub(crate) fn command(&self, program: impl Into<OsString>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program.into());
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// A program of Node.js; ours before the machine's, where we had to install one.
    fn node(&self, program: &str, arguments: &[&str]) -> Command {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(provision::own_node(&self.target)).chain(env::split_paths(&path));
        let mut command = self.command(program, arguments);
        // Folders that came out of a path go into one.
        command.env("PATH", env::join_paths(folders).unwrap_or(path));
        command
    }

    /// The cargo that started this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
    }
}

/// Provisions, runs `only` or everything, and prints the summary. With `faults` every fault of a cluster is tried after the
/// end-to-end tests, of which a short set is part.
pub(crate) fn run(only: Option<Part>, faults: bool) -> ExitCode {
    let places = Places::find();
    let mut steps = Steps::default();
    if steps.perform("provision", || provision::provision(only, &places.target)) {
        if only != Some(Part::E2e) {
            rust(&places, &mut steps);
        }
        if only != Some(Part::Rust) {
            end_to_end(&places, faults, &mut steps);
        } else if faults {
            steps.not_run(&[FAULTS], "they are end-to-end tests");
        }
    }
    steps.finish()
}

fn rust(places: &Places, steps: &mut Steps) {
    steps.run("formatting", &mut places.cargo(&["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--locked", "--all-targets", "--workspace", "--", "-D", "warnings"];
    steps.run("lints", &mut places.cargo(&clippy));
    let doc = ["doc", "--locked", "--no-deps", "--workspace", "--document-private-items"];
    steps.run("documentation", places.cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"));
    // Who mends one failure wants to know of all.
    let test = ["test", "--locked", "--workspace", "--no-fail-fast"];
    steps.run("tests in Rust", &mut places.cargo(&test));
}

fn end_to_end(places: &Places, faults: bool, steps: &mut Steps) {
    if steps.run(BUILD, &mut places.cargo(&["build", "--locked", "--release", "--package", "soundpost"])) {
        // Tests in Node ask the Python SDK, too.
        if let Some(python) = python_packages(places, steps) {
            node(places, faults, steps);
            let mut test = places.command(&python, &["-B"]);
            let test = test.arg(places.e2e.join("sdk_test.py")).env("CARGO_TARGET_DIR", &places.target);
            steps.run(PYTHON_TESTS, test);
        } else {
            not_run(faults, PACKAGES_MISSING, steps);
        }
        dist::all(places, steps);
    } else {
        steps.not_run(&[PYTHON_PACKAGES], BUILD);
        not_run(faults, BUILD, steps);
        steps.not_run(&dist::STEPS, BUILD);
    }
}

/// The tests in Node and Python.
fn not_run(faults: bool, because: &str, steps: &mut Steps) {
    steps.not_run(&NODE_STEPS, because);
    steps.not_run(if faults { &[FAULTS] } else { &[] }, because);
    steps.not_run(&[PYTHON_TESTS], because);
}

fn node(places: &Places, faults: bool, steps: &mut Steps) {
    let [packages, of_the_example, tests] = NODE_STEPS;
    let npm = ["ci", "--no-audit", "--no-fund", "--prefer-offline"];
    let example = places.root.join("examples/echo-chat");
    let installed = [
        steps.run(packages, places.node("npm", &npm).current_dir(&places.e2e)),
        steps.run(of_the_example, places.node("npm", &npm).current_dir(example)),
    ];
    if installed != [true, true] {
        steps.not_run(if faults { &[FAULTS] } else { &[] }, PACKAGES_MISSING);
        return steps.not_run(&[tests], PACKAGES_MISSING);
    }
    // A file that hangs is ended, and fails, after four minutes; on a busy machine some need more than one.
    steps.run(tests, &mut tests_in_node(places, "240000"));
    if faults {
        // Some of these last for ten minutes: most of it they wait, for leases to end.
        let mut all = tests_in_node(places, "1200000");
        steps.run(FAULTS, all.args(FAULT_FILES));
    }
}

/// The runner of the tests in Node: two files at a time, as CI has two cores.
fn tests_in_node(places: &Places, timeout_milliseconds: &str) -> Command {
    let arguments = ["--test", "--test-reporter=spec", "--test-concurrency=2", "--test-timeout"];
    let mut node = places.node("node", &arguments);
    node.arg(timeout_milliseconds).current_dir(&places.e2e).env("CARGO_TARGET_DIR", &places.target);
    node
}

/// Installs them, in an environment of their own; its Python, if all is well.
fn python_packages(places: &Places, steps: &mut Steps) -> Option<PathBuf> {
    let venv = places.target.join("e2e-python");
    let python = venv.join("bin/python");
    // Made anew when it is missing or was left behind by a Python that is gone.
    let works =
        Command::new(&python).args(["-m", "pip", "--version"]).output().is_ok_and(|out| out.status.success());
    let made = works || {
        let mut make = places.command("python3", &["-m", "venv", "--clear"]);
        steps.run("Python environment", make.arg(&venv))
    };
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    let mut pip = places.command(&python, &install);
    let installed = made && steps.run(PYTHON_PACKAGES, pip.arg(places.e2e.join("requirements.txt")));
    installed.then_some(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_faults_is_run() {
        let folder = Places::find().e2e.join("cluster/faults");
        let mut found: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("cluster/faults/{}", entry.unwrap().file_name().display()))
            .collect();
        let mut listed = FAULT_FILES.to_vec();
        found.sort_unstable();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }
}
