//! What is told on a node that is alone: it knows itself who comes and goes.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use soundpost_protocol::webhook::{
    event::{Encoded, Event, EventKind},
    hold::{Arrival, Holds, Subject},
};

use super::{TURN_MAX, Targets};
use crate::{
    apps::{AppIndex, ChannelKey},
    webhook::{Happening, Inbox, What},
};

/// Departures that are held. Beyond it the oldest are told before their time.
const HOLDS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999_999);

/// Turns what happens into events: holds departures, and tells a cache miss once.
#[derive(Debug)]
pub struct Alone {
    holds: Holds<(AppIndex, Subject)>,
    misses: Misses,
    gone: Vec<(AppIndex, Subject)>,
}

impl Alone {
    /// `seed`: random, since clients choose the names that are hashed.
    pub fn new(seed: u64) -> Self {
        Self { holds: Holds::new(HOLDS_MAX, seed), misses: Misses::default(), gone: Vec::new() }
    }

    /// Takes up happenings, as many as a turn of the main thread has room for; when to be called again.
    /// `now`: when they were taken.
    pub(super) fn take(
        &mut self,
        happenings: &mut VecDeque<Happening>,
        now: Instant,
        inbox: &Inbox,
        targets: &mut Targets,
    ) -> Option<Instant> {
        for Happening { app, at, what } in happenings.drain(..happenings.len().min(TURN_MAX)) {
            match what {
                What::Came(subject) => {
                    let subject = (app, subject);
                    if self.holds.came(&subject) == Arrival::News {
                        tell(app, &subject.1.arrival(), &subject.1, at, inbox, targets);
                    }
                }
                What::Left(subject) if targets.care(app, &subject) => self.holds.left((app, subject), at),
                What::Left(_) => {}
                What::Event(event) => self.event(app, &event, at, targets),
                // There are no streams.
                What::Told => {}
            }
        }
        // Only until then it is known who has come back.
        let seen = happenings.front().map_or(now, |next| now.min(next.at));
        let next = self.holds.poll(seen, &mut self.gone);
        self.tell_gone(now, inbox, targets);
        if happenings.is_empty() { next } else { Some(now) }
    }

    /// The targets are others now. Of whom none of them cares about, it is not noted who comes back: a departure that is
    /// held may not be true any more when somebody cares again.
    pub(super) fn followed(&mut self, targets: &Targets) {
        self.holds.retain(|(app, subject)| targets.care(*app, subject));
    }

    /// Tells all departures that are held.
    pub(super) fn flush(&mut self, now: Instant, inbox: &Inbox, targets: &mut Targets) {
        self.holds.flush(&mut self.gone);
        self.tell_gone(now, inbox, targets);
    }

    fn event(&mut self, app: AppIndex, event: &Encoded, at: Instant, targets: &mut Targets) {
        let is_repeat = event.kind == EventKind::CacheMiss
            && self.misses.has_told(ChannelKey { app, name: event.channel.clone() }, at);
        if !is_repeat {
            targets.tell(app, event, at);
        }
    }

    fn tell_gone(&mut self, now: Instant, inbox: &Inbox, targets: &mut Targets) {
        for (told, (app, subject)) in (1..).zip(self.gone.drain(..)) {
            tell(app, &subject.departure(), &subject, now, inbox, targets);
            // At the end they may be a million, and no queue has room for so many.
            if told % TURN_MAX == 0 {
                targets.hand_over();
            }
        }
    }
}

fn tell(
    app: AppIndex,
    event: &Event<'_>,
    subject: &Subject,
    at: Instant,
    inbox: &Inbox,
    targets: &mut Targets,
) {
    // The other of the two may be what is wanted: then this one was only noted for the hold.
    if targets.want(app, event.kind(), subject.channel()) {
        targets.tell(app, &inbox.encode(event, subject.channel()), at);
    }
}

/// Cache channels of which a miss was told a moment ago: many clients find the same channel empty at once, and one
/// request makes the app fill it.
#[derive(Debug, Default)]
struct Misses {
    told: HashMap<ChannelKey, Instant, foldhash::quality::RandomState>,
    /// By when they were told.
    order: VecDeque<(Instant, ChannelKey)>,
}

impl Misses {
    /// How long a miss stands for others.
    const QUIET: Duration = Duration::from_secs(1);
    /// Channels that are remembered. Beyond it the oldest is told again.
    const COUNT_MAX: usize = 10_000;

    /// Whether a miss of this channel was told less than [`Self::QUIET`] before; if not, it counts as told now.
    fn has_told(&mut self, channel: ChannelKey, now: Instant) -> bool {
        while let Some((at, _)) = self.order.front()
            && (now.saturating_duration_since(*at) >= Self::QUIET || self.order.len() >= Self::COUNT_MAX)
        {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.told.remove(&oldest);
            }
        }
        if self.told.contains_key(&channel) {
            return true;
        }
        self.told.insert(channel.clone(), now);
        self.order.push_back((now, channel));
        false
    }
}

#[cfg(test)]
mod tests;
