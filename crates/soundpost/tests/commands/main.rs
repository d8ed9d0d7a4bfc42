//! The commands that end by themselves, as a person or a script sees them: output, exit code, files.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do: loudly and at once")]

mod check;
mod import;
mod run;
