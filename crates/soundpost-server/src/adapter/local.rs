//! The adapter of a node that is alone: what it publishes it hears at once.

use std::fmt;

use super::{Broadcast, Refused};
use crate::apps::UserKey;

/// What an adapter calls with the events it hears.
type Hear = Box<dyn Fn(&[Broadcast]) -> Result<(), Refused> + Send + Sync>;

/// What it calls with a user whose connections end, and whether those on presence channels as this user do, too.
type Terminate = Box<dyn Fn(&UserKey, bool) + Send + Sync>;

/// Hands events straight back.
pub struct Local {
    hear: Hear,
    terminate: Terminate,
}

impl Local {
    /// `hear` delivers on this node, `terminate` ends connections of it.
    pub fn new(
        hear: impl Fn(&[Broadcast]) -> Result<(), Refused> + Send + Sync + 'static,
        terminate: impl Fn(&UserKey, bool) + Send + Sync + 'static,
    ) -> Self {
        Self { hear: Box::new(hear), terminate: Box::new(terminate) }
    }

    pub(super) fn deliver(&self, broadcasts: &[Broadcast]) -> Result<(), Refused> {
        (self.hear)(broadcasts)
    }

    pub(super) fn terminate(&self, user: &UserKey, present: bool) {
        (self.terminate)(user, present);
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}
