//! `cargo xtask fuzz`: builds the driver of `soundpost-fuzz` and starts it. What it does and what to do with a find
//! stands in that crate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use crate::{checks::Places, steps::Steps};

const PROFILE: &str = "fuzzing";

/// What the driver is told.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Inputs for each target.
    #[arg(long, default_value_t = 1_000_000)]
    inputs: u64,
    /// One target alone.
    #[arg(long)]
    target: Option<String>,
    /// Another number makes other inputs, the same number the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop each target after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Run the input in this file alone.
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
}

/// Builds and runs; a find is named with the command that shows it again.
pub(crate) fn run(arguments: &Fuzz) -> ExitCode {
    let (places, mut steps) = (Places::find(), Steps::default());
    let build = ["build", "--locked", "--profile", PROFILE, "--package", "soundpost-fuzz"];
    if steps.run("build", &mut places.cargo(&build)) {
        let finds = places.target.join("fuzz");
        let driver = places.target.join(PROFILE).join("soundpost-fuzz");
        let mut command = places.command(driver, &[]);
        command.arg("--finds").arg(&finds).args(driver_arguments(arguments));
        if let Some(path) = &arguments.replay {
            // The driver starts at the root, the person may not.
            command.arg("--replay").arg(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        }
        if !steps.run("fuzzing", &mut command) && arguments.replay.is_none() {
            name_finds(&finds);
        }
    }
    steps.finish()
}

fn driver_arguments(arguments: &Fuzz) -> Vec<String> {
    let Fuzz { inputs, target, seed, seconds, replay: _ } = arguments;
    let mut words = vec![format!("--inputs={inputs}"), format!("--seed={seed}")];
    words.extend(target.as_ref().map(|target| format!("--target={target}")));
    words.extend(seconds.map(|seconds| format!("--seconds={seconds}")));
    words
}

/// The driver leaves the input behind that it was running when it ended.
fn name_finds(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "find"))
    {
        let target = path.file_stem().unwrap_or_default().display();
        println!("its input: cargo xtask fuzz --target {target} --replay {}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_what_was_asked_for() {
        let fuzz = Fuzz {
            inputs: 5,
            target: Some("connection".to_owned()),
            seed: 7,
            seconds: Some(9),
            replay: None,
        };
        assert_eq!(driver_arguments(&fuzz), ["--inputs=5", "--seed=7", "--target=connection", "--seconds=9"]);
    }
}
