//! Puts the commit into `soundpost --version`.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=SOUNDPOST_COMMIT");
    // A container build has no repository and says the commit itself.
    let commit = env::var("SOUNDPOST_COMMIT").ok().filter(|commit| !commit.is_empty());
    // Nor has an unpacked archive, and the repository that it may lie in is another.
    let is_ours = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix == "crates/soundpost/");
    let asked = || git(&["rev-parse", "--short", "HEAD"]).filter(|_| is_ours);
    let commit = commit.or_else(asked).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=SOUNDPOST_COMMIT={commit}");
    // HEAD changes on a checkout, its log on every commit too. A file that is not there would rerun this every time.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
