//! Where the events of targets come from.

use std::{collections::VecDeque, time::Instant};

use soundpost_protocol::{
    app::AppId,
    webhook::{Webhook, WebhookId},
};

use super::{Alone, Targets};
use crate::{
    apps::AppIndex,
    webhook::{
        Happening, Inbox,
        target::{Heard, TargetHandle},
    },
};

/// Names a target of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetKey {
    /// Whose.
    pub app: AppIndex,
    /// The same app, as all nodes know it.
    pub app_id: AppId,
    /// Which.
    pub webhook: WebhookId,
}

/// Where the events of targets come from.
#[derive(Debug)]
pub enum Source {
    /// From what happens on this node, which is all there is.
    Alone(Alone),
}

impl Source {
    /// Who hears what becomes of the events of a target that is about to begin.
    pub(super) fn heard(&mut self, _key: &TargetKey) -> Heard {
        match self {
            // What has come to its end is counted, and nobody keeps it anywhere else.
            Self::Alone(_) => Box::new(|_| {}),
        }
    }

    /// A target has begun.
    pub(super) fn begun(&mut self, _key: &TargetKey, _webhook: &Webhook, _target: &TargetHandle) {
        match self {
            Self::Alone(_) => {}
        }
    }

    /// A webhook is gone; its target is about to end.
    pub(super) fn gone(&mut self, _key: &TargetKey) {
        match self {
            Self::Alone(_) => {}
        }
    }

    /// Takes up all happenings, in their order; when to be called again, if nothing happens.
    pub(super) fn take(
        &mut self,
        happenings: &mut VecDeque<Happening>,
        now: Instant,
        inbox: &Inbox,
        targets: &mut Targets,
    ) -> Option<Instant> {
        match self {
            Self::Alone(alone) => alone.take(happenings, now, inbox, targets),
        }
    }

    /// The node ends: tells what is held.
    pub(super) fn flush(&mut self, inbox: &Inbox, targets: &mut Targets) {
        match self {
            Self::Alone(alone) => alone.flush(Instant::now(), inbox, targets),
        }
    }

    /// Comes back when [`Self::take`] should be called though nothing was noted. Cancel safe.
    pub(super) async fn filled(&self) {
        match self {
            Self::Alone(_) => std::future::pending().await,
        }
    }
}
