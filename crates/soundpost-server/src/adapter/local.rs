//! The adapter of a node that is alone: what it publishes it hears at once.

use std::fmt;

use super::{Broadcast, Refused};

/// What an adapter calls with the events it hears.
type Hear = Box<dyn Fn(&[Broadcast]) -> Result<(), Refused> + Send + Sync>;

/// Hands events straight back.
pub struct Local {
    hear: Hear,
}

impl Local {
    /// `hear` delivers on this node.
    pub fn new(hear: impl Fn(&[Broadcast]) -> Result<(), Refused> + Send + Sync + 'static) -> Self {
        Self { hear: Box::new(hear) }
    }

    pub(super) fn deliver(&self, broadcasts: &[Broadcast]) -> Result<(), Refused> {
        (self.hear)(broadcasts)
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}
