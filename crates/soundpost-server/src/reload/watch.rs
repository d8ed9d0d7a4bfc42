//! Whether the files of the settings have changed, seen by looking at them every now and then.
//!
//! Looking works where being told does not: network mounts, containers whose files are mounted from elsewhere, links
//! that are pointed elsewhere, files that come into being.

use std::time::Duration;

use crate::config::Files;

/// How often to look; a handful of `stat` calls.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Files as they were read, and a change that has not settled yet.
#[derive(Debug)]
pub(super) struct Watch {
    read: Files,
    changing: Option<Files>,
}

impl Watch {
    /// Watches files for changes since they were read.
    pub(super) const fn new(read: Files) -> Self {
        Self { read, changing: None }
    }

    /// These were read now, with good or bad success.
    pub(super) fn follow(&mut self, read: Files) {
        *self = Self::new(read);
    }

    /// They could not be read as they are now, and are to be left alone until they change again.
    pub(super) fn give_up(&mut self) {
        self.follow(self.read.now());
    }

    /// Looks at the files; true if they have changed and were the same at the look before, so that nobody is still
    /// writing. Goes on saying so until they are read.
    pub(super) fn look(&mut self) -> bool {
        let now = self.read.now();
        if now == self.read {
            self.changing = None;
            return false;
        }
        let is_settled = self.changing.as_ref() == Some(&now);
        self.changing = Some(now);
        is_settled
    }
}
