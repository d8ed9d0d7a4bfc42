//! What goes wrong with one target, gathered into a line a minute.

use std::time::{Duration, Instant};

use soundpost_protocol::webhook::queue::{Fate, Outcome};
use tracing::warn;

use super::TargetName;
use crate::webhook::carrier::Problem;

/// A line at most so often.
const INTERVAL: Duration = Duration::from_secs(60);

/// Counts since the last line.
#[derive(Debug)]
pub(super) struct Troubles {
    name: TargetName,
    /// No line before.
    quiet_until: Option<Instant>,
    counts: Counts,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    failed: u64,
    /// Of the last attempt that failed.
    why: String,
    refused: u64,
    expired: u64,
    overflow: u64,
    too_large: u64,
}

impl Troubles {
    pub(super) fn new(name: TargetName) -> Self {
        Self { name, quiet_until: None, counts: Counts::default() }
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, answer: &Result<Outcome, Problem>) {
        self.counts.failed += 1;
        self.counts.why = match answer {
            Ok(Outcome::Status(status @ 300..400)) => {
                format!("it answers {status}, a redirect, which is not followed: give the URL it leads to")
            }
            Ok(Outcome::Status(status)) => format!("it answers {status}"),
            Ok(Outcome::Unanswered) => "it does not answer".to_owned(),
            Err(problem) => problem.to_string(),
        };
    }

    /// An event has come to this end. What is given up at the target's end is for those to say who end it.
    pub(super) const fn settled(&mut self, fate: Fate) {
        match fate {
            Fate::Delivered | Fate::Abandoned => {}
            Fate::Refused(_) => self.counts.refused += 1,
            Fate::Expired => self.counts.expired += 1,
            Fate::Overflow => self.counts.overflow += 1,
            Fate::TooLarge => self.counts.too_large += 1,
        }
    }

    /// So many events found no room.
    pub(super) const fn lost(&mut self, events: u64) {
        self.counts.overflow += events;
    }

    /// Writes the line if there is anything to say and it is time; when to ask again, if there is.
    pub(super) fn say(&mut self, now: Instant) -> Option<Instant> {
        if self.counts == Counts::default() {
            return None;
        }
        if let Some(until) = self.quiet_until.filter(|until| now < *until) {
            return Some(until);
        }
        self.quiet_until = Some(now + INTERVAL);
        self.say_rest();
        None
    }

    /// Writes the line if there is anything to say.
    pub(super) fn say_rest(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        if counts == Counts::default() {
            return;
        }
        let TargetName { app, webhook, host } = &self.name;
        warn!(%app, %webhook, %host, "webhook: {}", counts.text());
    }
}

impl Counts {
    fn text(&self) -> String {
        let Self { failed, why, refused, expired, overflow, too_large } = self;
        let mut parts = Vec::new();
        if *failed > 0 {
            parts.push(format!("{} failed, the last because {why}", count(*failed, "attempt")));
        }
        if *refused > 0 {
            parts.push(format!("{} dropped, refused by the receiver for good", count(*refused, "event")));
        }
        if *expired > 0 {
            parts.push(format!("{} dropped after 5 minutes of failures", count(*expired, "event")));
        }
        if *overflow > 0 {
            parts.push(format!(
                "{} dropped, the oldest first, because too many wait; is the receiver fast enough, and would \
                 batch_milliseconds help?",
                count(*overflow, "event")
            ));
        }
        if *too_large > 0 {
            parts.push(format!("{} dropped, larger than all that may wait", count(*too_large, "event")));
        }
        parts.join("; ")
    }
}

/// `1 event`, `2 events`
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles() -> Troubles {
        Troubles::new(TargetName { app: "a".into(), webhook: "w".into(), host: "h".into() })
    }

    #[test]
    fn a_line_is_written_at_once_and_then_once_a_minute() {
        let (mut troubles, start) = (troubles(), Instant::now());
        assert_eq!(troubles.say(start), None);
        troubles.settled(Fate::Expired);
        assert_eq!(troubles.say(start), None);
        assert_eq!(troubles.counts, Counts::default());
        troubles.settled(Fate::Expired);
        assert_eq!(troubles.say(start + INTERVAL / 2), Some(start + INTERVAL));
        assert_eq!(troubles.counts.expired, 1);
        assert_eq!(troubles.say(start + INTERVAL), None);
        assert_eq!(troubles.counts, Counts::default());
    }

    #[test]
    fn the_line_says_how_many_and_why() {
        let mut troubles = troubles();
        troubles.failed(&Err(Problem::new("x")));
        troubles.failed(&Ok(Outcome::Status(302)));
        for fate in [Fate::Refused(302), Fate::Expired, Fate::Expired, Fate::Delivered, Fate::Abandoned] {
            troubles.settled(fate);
        }
        assert_eq!(
            troubles.counts.text(),
            "2 attempts failed, the last because it answers 302, a redirect, which is not followed: give the URL it \
             leads to; 1 event dropped, refused by the receiver for good; 2 events dropped after 5 minutes of \
             failures"
        );
    }
}
