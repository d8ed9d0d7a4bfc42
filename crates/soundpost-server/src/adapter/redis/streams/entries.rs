//! What was read of a stream.

use std::time::Duration;

use bytes::Bytes;
use soundpost_protocol::{
    app::Limits,
    channel::ChannelName,
    presence::NodeId,
    webhook::event::{Encoded, EventId, EventKind},
};

use crate::{
    adapter::redis::{
        answers::{items, number, text},
        wire::resp::Reply,
    },
    webhook::target::Place,
};

/// A millisecond of Redis' clock has fewer entries than this.
const SEQUENCE_BITS: u32 = 20;

/// Some entries, and how the stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// In the order of their places.
    pub list: Vec<Entry>,
    /// How many the stream has, those that were read and are not settled too.
    pub depth: usize,
    /// Bytes of the JSON of these.
    pub bytes: usize,
    /// How many were lost ever because it was full.
    pub lost: u64,
    /// How many of these a node has heard of that held the lease.
    pub told: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// Bytes of its JSON.
    pub bytes: usize,
    /// How long ago it was added, by the clock of Redis.
    pub age: Duration,
    /// What it tells; `None`: this version cannot read it.
    pub event: Option<Encoded>,
}

impl Entries {
    /// From the reply to a read; `None`: it says that the lease is lost, or is an error. `teller`: who tells the events that
    /// no node has named.
    pub(super) fn of(reply: &Reply, teller: NodeId) -> Option<Self> {
        let [now, depth, bytes, lost, told, entries] = items(reply) else { return None };
        let now = number(now)?;
        let entry = |entry| Entry::of(entry, now, teller);
        Some(Self {
            list: items(entries).iter().filter_map(entry).collect(),
            depth: usize::try_from(number(depth)?).ok()?,
            bytes: usize::try_from(number(bytes)?).ok()?,
            lost: number(lost)?,
            told: number(told)?,
        })
    }
}

impl Entry {
    fn of(reply: &Reply, now: u64, teller: NodeId) -> Option<Self> {
        let [place, fields] = items(reply) else { return None };
        let place = Place::parse(str::from_utf8(text(place)).ok()?)?;
        let field = |name: &[u8]| {
            let mut pairs = items(fields).chunks_exact(2);
            pairs.find_map(|pair| pair.first().filter(|key| text(key) == name).and(pair.get(1))).map(text)
        };
        let json = field(b"j");
        let event = || {
            let word = |name| str::from_utf8(field(name)?).ok();
            // A name that a node has let in is a name.
            let limits = Limits { channel_name_chars_max: usize::MAX, ..Limits::default() };
            Some(Encoded {
                id: word(b"i").map_or(Some(id_of(place, teller)), EventId::parse)?,
                kind: EventKind::of(word(b"k")?)?,
                channel: ChannelName::parse(word(b"c")?, &limits).ok()?,
                // It may stay for long, and must not hold what else was read with it.
                json: Bytes::copy_from_slice(json?),
            })
        };
        Some(Self {
            place,
            bytes: json.map_or(0, <[u8]>::len),
            age: Duration::from_millis(now.saturating_sub(place.milliseconds)),
            event: event(),
        })
    }
}

/// The id of an event that only its entry names.
fn id_of(place: Place, teller: NodeId) -> EventId {
    let number = place.milliseconds.wrapping_shl(SEQUENCE_BITS) | place.sequence;
    EventId { life: teller, number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn entry(place: &str, fields: &[&str]) -> Reply {
        Reply::Array(vec![bulk(place), Reply::Array(fields.iter().map(|text| bulk(text)).collect())])
    }

    fn read(entries: Vec<Reply>) -> Entries {
        let numbers = [1_700_000_000_500, 7, 70, 3, 2].map(Reply::Integer);
        let reply = Reply::Array(numbers.into_iter().chain([Reply::Array(entries)]).collect());
        Entries::of(&reply, NodeId(0xab)).unwrap()
    }

    #[test]
    fn an_entry_says_what_happened_where_and_how_long_ago() {
        let json = r#"{"name":"cache_miss","channel":"cache-x"}"#;
        let fields = ["k", "cache_miss", "c", "cache-x", "j", json];
        let named = [&["i", "2f.1a"], &fields[..]].concat();
        let Entries { list, depth, bytes, lost, told } =
            read(vec![entry("1700000000000-2", &fields), entry("1700000000600-0", &named)]);
        assert_eq!((depth, bytes, lost, told), (7, 70, 3, 2));
        let events: Vec<_> = list.iter().map(|entry| entry.event.clone().unwrap()).collect();
        assert_eq!(events[0].json, json);
        assert_eq!((events[0].kind, events[0].channel.as_str()), (EventKind::CacheMiss, "cache-x"));
        assert_eq!(events[0].id.to_string(), format!("ab.{:x}", (1_700_000_000_000_u64 << 20) + 2));
        assert_eq!(events[1].id.to_string(), "2f.1a");
        assert_eq!((list[0].bytes, list[0].age), (json.len(), Duration::from_millis(500)));
        // A clock that was set back makes nothing older.
        assert_eq!(list[1].age, Duration::ZERO);
        assert_eq!(list[1].place.to_string(), "1700000000600-0");
    }

    #[test]
    fn what_cannot_be_read_still_has_its_place() {
        for fields in [
            &["k", "no_such_kind", "c", "c", "j", "{}"][..],
            &["k", "cache_miss", "c", "a/b", "j", "{}"],
            &["k", "cache_miss", "j", "{}"],
            &["i", "zz", "k", "cache_miss", "c", "c", "j", "{}"],
        ] {
            let Entries { list, .. } = read(vec![entry("5-1", fields)]);
            assert_eq!((list[0].place, list[0].bytes), (Place { milliseconds: 5, sequence: 1 }, 2));
            assert_eq!(list[0].event, None, "{fields:?}");
        }
        assert_eq!(Entries::of(&Reply::Integer(0), NodeId(1)), None);
        assert_eq!(Entries::of(&Reply::Error(Bytes::from_static(b"ERR")), NodeId(1)), None);
        assert_eq!(read(vec![Reply::Nil, entry("x", &[])]).list, []);
    }
}
