//! Running commands one after the other: each is announced, timed and remembered for the summary.

use std::{
    fmt,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// Why it failed, in a few words.
    Failed(String),
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    /// Runs `command` with its output going where ours goes; true if it exits with zero.
    pub(crate) fn run(&mut self, name: &'static str, command: &mut Command) -> bool {
        self.perform(name, || {
            let status = command
                .status()
                .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
            if status.success() { Ok(()) } else { Err(status.to_string()) }
        })
    }

    /// Does `work` as a step; true if it succeeds.
    pub(crate) fn perform<E: fmt::Display>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<(), E>,
    ) -> bool {
        println!("\n==> {name}");
        let started = Instant::now();
        let result = work();
        let took = started.elapsed();
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        match &outcome {
            Outcome::Passed => println!("<== {name}: passed in {:.1} s", took.as_secs_f64()),
            Outcome::Failed(why) => println!("<== {name}: FAILED in {:.1} s: {why}", took.as_secs_f64()),
        }
        let passed = outcome == Outcome::Passed;
        self.0.push(Step { name, took, outcome });
        passed
    }

    /// Counts steps that could not be tried as failed, so that none is left out in silence.
    pub(crate) fn not_run(&mut self, names: &[&'static str], because: &str) {
        self.0.extend(names.iter().map(|name| Step {
            name,
            took: Duration::ZERO,
            outcome: Outcome::Failed(format!("not run: {because}")),
        }));
    }

    /// Prints the summary; its last line is `N passed, N failed`. Non-zero on any failure, and when nothing ran.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n{self}");
        if self.passed() == self.0.len() && !self.0.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn passed(&self) -> usize {
        self.0.iter().filter(|step| step.outcome == Outcome::Passed).count()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { name, took, outcome } in &self.0 {
            let seconds = took.as_secs_f64();
            match outcome {
                Outcome::Passed => writeln!(f, "  passed  {seconds:7.1} s  {name}")?,
                // An error of several lines was printed in full where it happened.
                Outcome::Failed(why) => {
                    let why = why.lines().next().unwrap_or_default();
                    writeln!(f, "  FAILED  {seconds:7.1} s  {name}: {why}")?;
                }
            }
        }
        let total: Duration = self.0.iter().map(|step| step.took).sum();
        writeln!(f, "          {:7.1} s  in all", total.as_secs_f64())?;
        write!(f, "\n{} passed, {} failed", self.passed(), self.0.len() - self.passed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_every_step_and_what_was_not_run() {
        let mut steps = Steps::default();
        assert!(steps.perform("one", || Ok::<_, String>(())));
        assert!(!steps.perform("two", || Err("broken\nin detail")));
        steps.not_run(&["three"], "two failed");
        let text = steps.to_string();
        assert!(text.contains("two: broken\n"), "{text}");
        assert!(text.contains("three: not run: two failed\n"), "{text}");
        assert!(text.ends_with("\n\n1 passed, 2 failed"), "{text}");
        assert_eq!(steps.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn a_run_of_nothing_fails() {
        assert_eq!(Steps::default().finish(), ExitCode::FAILURE);
        let mut steps = Steps::default();
        steps.perform("one", || Ok::<_, String>(()));
        assert_eq!(steps.finish(), ExitCode::SUCCESS);
    }

    #[test]
    fn a_command_that_cannot_start_or_fails_is_a_failed_step() {
        let mut steps = Steps::default();
        assert!(steps.run("succeeds", &mut Command::new("true")));
        assert!(!steps.run("fails", &mut Command::new("false")));
        assert!(!steps.run("is missing", &mut Command::new("no-such-program-anywhere")));
        assert!(steps.to_string().contains("cannot start no-such-program-anywhere"));
    }
}
