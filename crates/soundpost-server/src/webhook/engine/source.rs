//! Where the events of targets come from.

use std::{collections::VecDeque, time::Instant};

use soundpost_protocol::{app::AppId, webhook::WebhookId};

use super::{Alone, Targets};
use crate::{
    apps::AppIndex,
    webhook::{
        Happening, Inbox,
        stream::Streams,
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
    /// From the streams that all nodes share.
    Streams(Streams),
}

impl Source {
    /// Who hears what becomes of the events of a target that is about to begin.
    pub(super) fn heard(&mut self, key: &TargetKey) -> Heard {
        match self {
            // What has come to its end is counted, and nobody keeps it anywhere else.
            Self::Alone(_) => Box::new(|_| {}),
            Self::Streams(streams) => streams.heard(key),
        }
    }

    /// A target has begun.
    pub(super) fn begun(&mut self, key: &TargetKey, target: &TargetHandle) {
        match self {
            Self::Alone(_) => {}
            Self::Streams(streams) => streams.begun(key, target),
        }
    }

    /// A webhook is gone; its target is about to end. How many events nobody else keeps.
    pub(super) fn gone(&mut self, key: &TargetKey, target: &TargetHandle) -> usize {
        match self {
            Self::Alone(_) => target.depth(),
            Self::Streams(streams) => streams.gone(key, target.metrics()),
        }
    }

    /// All targets are as the settings say now.
    pub(super) fn followed(&mut self, targets: &Targets) {
        match self {
            Self::Alone(alone) => alone.followed(targets),
            // Each script is told what is wanted.
            Self::Streams(_) => {}
        }
    }

    /// Takes up happenings, in their order; when to be called again, if nothing happens. What it leaves is for then.
    /// `now`: when they were taken.
    pub(super) fn take(
        &mut self,
        happenings: &mut VecDeque<Happening>,
        now: Instant,
        inbox: &Inbox,
        targets: &mut Targets,
    ) -> Option<Instant> {
        match self {
            Self::Alone(alone) => alone.take(happenings, now, inbox, targets),
            Self::Streams(streams) => {
                streams.take(happenings, targets);
                (!happenings.is_empty()).then_some(now)
            }
        }
    }

    /// The node ends: tells what is held. What is kept elsewhere is sent no further than it is under way, and not after `last`.
    pub(super) fn flush(&mut self, inbox: &Inbox, targets: &mut Targets, last: Instant) {
        match self {
            Self::Alone(alone) => alone.flush(Instant::now(), inbox, targets),
            Self::Streams(streams) => streams.finish(last),
        }
    }

    /// Whether what a target gives up is kept elsewhere, so that it is not lost.
    pub(super) const fn keeps(&self) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Streams(_) => true,
        }
    }

    /// Comes back when all is done that [`Self::flush`] leads to.
    pub(super) async fn flushed(&mut self, last: Instant) {
        match self {
            Self::Alone(_) => {}
            Self::Streams(streams) => streams.finished(last).await,
        }
    }

    /// Comes back when a task of it has panicked, which none should. Cancel safe.
    pub(super) async fn broken(&mut self) {
        match self {
            Self::Alone(_) => std::future::pending().await,
            Self::Streams(streams) => streams.broken().await,
        }
    }
}
