//! What one webhook wants to be told, and in what portions.
//!
//! Source: Pusher docs, "Webhooks"; soketi's `event_types` and `filter` by the beginning and the end of a channel's name.
//! The errors here are what the configuration shows behind the name of the key.

mod headers;
mod url;

use std::{collections::BTreeSet, time::Duration};

pub use headers::{ExtraHeaders, HeaderError};
pub use url::{TargetUrl, UrlError};

use super::event::EventKind;
use crate::channel::{ChannelKind, ChannelName};

/// What one webhook wants to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Which events.
    pub events: EventKinds,
    /// Of which channels.
    pub filter: Filter,
    /// In what portions.
    pub batching: Batching,
}

impl Target {
    /// Whether it wants an event of this kind of this channel. Nobody is told of the channels that carry a user's own
    /// events: they are not counted either.
    pub fn wants(&self, kind: EventKind, channel: &ChannelName) -> bool {
        self.events.contain(kind) && self.filter.lets_through(channel) && !is_untold(channel)
    }
}

fn is_untold(channel: &ChannelName) -> bool {
    channel.kind() == ChannelKind::ServerToUser
}

/// Why the settings of a webhook make none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A word in `events` names none.
    #[error("{found:?} is no event of webhooks; these are {}", words().join(", "))]
    Event {
        /// The word.
        found: String,
    },
    /// `events` is a list of nothing.
    #[error("names no event, so nothing would ever be sent; leave the key out to have them all")]
    NoEvents,
    /// No channel's name has this beginning or end.
    #[error("contains {found:?}, which no channel name does; allowed are A-Z a-z 0-9 and _ - = @ , . ;")]
    Filter {
        /// The first character that does not fit.
        found: char,
    },
    /// Events wait too long for others.
    #[error("{found} is above {}", Batching::WAIT_MAX.as_millis())]
    BatchWait {
        /// Milliseconds found.
        found: u64,
    },
    /// Too many events in one body, or none.
    #[error("{found} is not within 1 to {}", Batching::EVENTS_MAX)]
    BatchEvents {
        /// Events found.
        found: u64,
    },
}

fn words() -> [&'static str; 7] {
    EventKind::ALL.map(EventKind::word)
}

/// A set of kinds that is not empty; by default all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventKinds(BTreeSet<EventKind>);

impl EventKinds {
    /// The kinds of these names; twice is once.
    ///
    /// Errors: [`TargetError::Event`], [`TargetError::NoEvents`].
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, TargetError> {
        let kind =
            |word: &str| EventKind::of(word).ok_or_else(|| TargetError::Event { found: word.to_owned() });
        let kinds: BTreeSet<_> = words.into_iter().map(kind).collect::<Result<_, _>>()?;
        if kinds.is_empty() { Err(TargetError::NoEvents) } else { Ok(Self(kinds)) }
    }

    /// Whether the kind is one of them.
    pub fn contain(&self, kind: EventKind) -> bool {
        self.0.contains(&kind)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = EventKind> {
        self.0.iter().copied()
    }
}

impl Default for EventKinds {
    fn default() -> Self {
        Self(EventKind::ALL.into())
    }
}

/// Of which channels: those whose name begins and ends like this, by default all. The two may share characters of the
/// name: `private-` and `-private` need not both stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    prefix: Box<str>,
    suffix: Box<str>,
}

impl Filter {
    /// Checks what stands under `filter.prefix` or `filter.suffix`: what no name can have is a mistake, not a filter.
    ///
    /// Errors: [`TargetError::Filter`].
    pub fn check(text: &str) -> Result<(), TargetError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c);
        text.chars().find(|c| !fits(*c)).map_or(Ok(()), |found| Err(TargetError::Filter { found }))
    }

    /// Of both parts, each empty for none. Errors: [`TargetError::Filter`].
    pub fn new(prefix: &str, suffix: &str) -> Result<Self, TargetError> {
        Self::check(prefix)?;
        Self::check(suffix)?;
        Ok(Self { prefix: prefix.into(), suffix: suffix.into() })
    }

    /// What names must begin with; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What they must end with; may be empty.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Whether the channel's name fits.
    pub fn lets_through(&self, channel: &ChannelName) -> bool {
        channel.as_str().starts_with(&*self.prefix) && channel.as_str().ends_with(&*self.suffix)
    }
}

/// How many events go in one body, and how long the first waits for the others. By default each goes alone, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    wait: Duration,
    events_max: usize,
}

impl Batching {
    /// How long an event may be kept for others.
    pub const WAIT_MAX: Duration = Duration::from_secs(10);
    /// How many events one body may have. Their ids stand in one header, and nginx and Apache take 8 kB of a line.
    pub const EVENTS_MAX: usize = 200;

    /// Of `batch_milliseconds`, where 0 is no batching, and `batch_events`.
    ///
    /// Errors: [`TargetError::BatchWait`], [`TargetError::BatchEvents`]; the second also where there is no batching.
    pub fn new(batch_milliseconds: u64, batch_events: u64) -> Result<Self, TargetError> {
        let wait = Duration::from_millis(batch_milliseconds);
        if wait > Self::WAIT_MAX {
            return Err(TargetError::BatchWait { found: batch_milliseconds });
        }
        let events_max =
            usize::try_from(batch_events).ok().filter(|max| (1..=Self::EVENTS_MAX).contains(max));
        let events_max = events_max.ok_or(TargetError::BatchEvents { found: batch_events })?;
        Ok(if wait.is_zero() { Self::default() } else { Self { wait, events_max } })
    }

    /// How long an event waits for others at most.
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// How many events one body has at most.
    pub const fn events_max(&self) -> usize {
        self.events_max
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self { wait: Duration::ZERO, events_max: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Limits;
    use EventKind::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, &Limits::default()).unwrap()
    }

    #[test]
    fn a_target_wants_its_events_of_its_channels() {
        let target = |events: &[&str], prefix, suffix| Target {
            events: EventKinds::parse(events.iter().copied()).unwrap(),
            filter: Filter::new(prefix, suffix).unwrap(),
            batching: Batching::default(),
        };
        for (target, kind, name, wanted) in [
            (Target::default(), ChannelOccupied, "orders", true),
            (Target::default(), CacheMiss, "cache-x", true),
            (Target::default(), ChannelOccupied, "#server-to-user-42", false),
            (target(&["member_added"], "", ""), MemberAdded, "presence-x", true),
            (target(&["member_added"], "", ""), MemberRemoved, "presence-x", false),
            (target(&["channel_vacated"], "private-", ""), ChannelVacated, "private-x", true),
            (target(&["channel_vacated"], "private-", ""), ChannelVacated, "x-private-", false),
            (target(&["channel_vacated"], "", "-eu"), ChannelVacated, "orders-eu", true),
            (target(&["channel_vacated"], "", "-eu"), ChannelVacated, "orders-eu1", false),
            (target(&["channel_vacated"], "private-", "-eu"), ChannelVacated, "private-a-eu", true),
            (target(&["channel_vacated"], "private-", "-eu"), ChannelVacated, "private-eu", true),
            (target(&["channel_vacated"], "private-", "-eu"), ChannelVacated, "orders-eu", false),
        ] {
            assert_eq!(target.wants(kind, &channel(name)), wanted, "{target:?} {kind:?} {name}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_with_a_line() {
        let events = |words: &[&str]| EventKinds::parse(words.iter().copied()).map(|_| ());
        let batching = |wait, events| Batching::new(wait, events).map(|_| ());
        for (result, line) in [
            (events(&["channel_occupied", "channel_occupied"]), ""),
            (
                events(&["channel_occupied", "occupied"]),
                "\"occupied\" is no event of webhooks; these are channel_occupied, channel_vacated, member_added, \
                 member_removed, client_event, cache_miss, subscription_count",
            ),
            (
                events(&[]),
                "names no event, so nothing would ever be sent; leave the key out to have them all",
            ),
            (Filter::check("private-"), ""),
            (
                Filter::check("private-*"),
                "contains '*', which no channel name does; allowed are A-Z a-z 0-9 and _ - = @ , . ;",
            ),
            (batching(50, 100), ""),
            (batching(10_000, 200), ""),
            (batching(10_001, 100), "10001 is above 10000"),
            (batching(50, 0), "0 is not within 1 to 200"),
            (batching(0, 201), "201 is not within 1 to 200"),
        ] {
            assert_eq!(result.err().map(|error| error.to_string()).unwrap_or_default(), line);
        }
    }

    #[test]
    fn without_a_wait_there_are_no_batches() {
        assert_eq!(Batching::new(0, 100), Ok(Batching::default()));
        let batching = Batching::new(50, 100).unwrap();
        assert_eq!((batching.wait(), batching.events_max()), (Duration::from_millis(50), 100));
    }
}
