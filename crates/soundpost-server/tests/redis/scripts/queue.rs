//! The stream of a webhook: what is in it, what is read, taken out and lost.

use std::collections::{BTreeMap, BTreeSet};

use redis_client::{Value, from_redis_value};
use soundpost_server::adapter::redis::Script;

use super::{Entries, HOOK, Scripts, Store};

/// What a read has answered.
#[derive(Debug, Default)]
struct Read {
    depth: u64,
    bytes: u64,
    lost: u64,
    told: u64,
    entries: Entries,
}

fn names<const N: usize>(kinds: [&str; N]) -> [String; N] {
    kinds.map(|kind| format!("{HOOK}{kind}"))
}

impl Scripts {
    fn hold(&mut self, life: &str) -> u64 {
        let [lease, fill, stream] = names(["o", "m", "q"]);
        let arguments: [&[u8]; 3] = [life.as_bytes(), b"60000", b"86400000"];
        self.run(Script::Hold, &[&lease, &fill, &stream], &arguments)
    }

    /// `None`: the lease is another's.
    fn read(&mut self, life: &str, from: &str, most: usize, known: &str) -> Option<Read> {
        let [lease, stream, fill] = names(["o", "q", "m"]);
        let most = most.to_string();
        let arguments = [life, from, &most, "262144", known].map(str::as_bytes);
        let answer: Value = self.run(Script::ReadStream, &[&lease, &stream, &fill], &arguments);
        let Value::Array(parts) = answer else { return None };
        let number = |at: usize| from_redis_value(parts[at].clone()).unwrap();
        let entries = from_redis_value(parts[5].clone()).unwrap();
        Some(Read { depth: number(1), bytes: number(2), lost: number(3), told: number(4), entries })
    }

    fn settle(&mut self, life: &str, why: &str, places: &[(&str, usize)]) -> u64 {
        let [stream, fill, lease] = names(["q", "m", "o"]);
        let bytes: Vec<_> = places.iter().map(|(_, bytes)| bytes.to_string()).collect();
        let mut arguments = vec![life.as_bytes(), why.as_bytes()];
        for ((place, _), bytes) in places.iter().zip(&bytes) {
            arguments.extend([place.as_bytes(), bytes.as_bytes()]);
        }
        self.run(Script::Settle, &[&stream, &fill, &lease], &arguments)
    }

    /// Appends events of these numbers, five bytes each.
    fn add_numbers(&mut self, numbers: std::ops::Range<u64>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(500) {
            let texts: Vec<_> = chunk.iter().map(|number| format!("{number:05}")).collect();
            let events: Vec<[&[u8]; 4]> =
                texts.iter().map(|text| [&b"member_added"[..], b"c", text.as_bytes(), b""]).collect();
            self.add(&events);
        }
    }

    fn add_large(&mut self, id: &str, mebibytes: usize) {
        let json = vec![b'x'; mebibytes << 20];
        self.add(&[[b"client_event", b"c", &json, id.as_bytes()]]);
    }

    /// Fields of the stream's hash.
    fn fill(&mut self) -> BTreeMap<String, String> {
        self.say(&format!("HGETALL {HOOK}m"))
    }

    fn depth(&mut self) -> u64 {
        self.say(&format!("XLEN {HOOK}q"))
    }
}

fn numbers(entries: &Entries) -> Vec<u64> {
    entries.iter().map(|(_, fields)| fields[5].parse().unwrap()).collect()
}

fn filled(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_stream_that_nobody_reads_has_twice_the_bound_and_the_oldest_make_room() {
    let store = Store::start();
    let mut scripts = Scripts::load(&store);
    scripts.add_numbers(0..20_003);
    assert_eq!(scripts.depth(), 20_000);
    assert_eq!(scripts.fill(), filled(&[("bytes", "100000"), ("lost", "3")]));
    scripts.hold("one");
    let read = scripts.read("one", ">", 2, "").unwrap();
    assert_eq!((numbers(&read.entries), read.depth, read.bytes), (vec![3, 4], 20_000, 100_000));
    // What was read stays: it may be under way.
    scripts.add_numbers(20_003..20_005);
    let pending = scripts.read("one", "0-0", 10, "3").unwrap();
    assert_eq!((numbers(&pending.entries), pending.lost), (vec![3, 4], 5));
    assert_eq!(numbers(&scripts.read("one", ">", 1, "").unwrap().entries), [7]);
    for kind in ["q", "m"] {
        let milliseconds: u64 = scripts.say(&format!("PTTL {HOOK}{kind}"));
        assert!((86_300_000..=86_400_000).contains(&milliseconds), "{milliseconds}");
    }
}

#[test]
fn bytes_are_bounded_too_and_what_was_read_stays() {
    let store = Store::start();
    let mut scripts = Scripts::load(&store);
    (0..7).for_each(|number| scripts.add_large(&format!("2f.{number}"), 6));
    let ids = |scripts: &mut Scripts| -> Vec<String> {
        let kept: Entries = scripts.say(&format!("XRANGE {HOOK}q - +"));
        kept.iter().map(|(_, fields)| fields[7].clone()).collect()
    };
    assert_eq!(ids(&mut scripts), ["2f.2", "2f.3", "2f.4", "2f.5", "2f.6"]);
    assert_eq!(scripts.fill(), filled(&[("bytes", "31457280"), ("lost", "2")]));
    scripts.hold("one");
    (0..4).for_each(|_| drop(scripts.read("one", ">", 1, "")));
    scripts.add_large("2f.7", 30);
    assert_eq!(
        ids(&mut scripts),
        ["2f.2", "2f.3", "2f.4", "2f.5", "2f.7"],
        "the only one that nobody has read"
    );
    scripts.say::<()>(&format!("DEL {HOOK}q"));
    scripts.add_large("2f.8", 1);
    assert_eq!(scripts.fill()["bytes"], "1048576", "a stream that was empty had no bytes");
}

#[test]
fn what_the_sender_pushes_out_counts_if_it_is_there_and_the_sender_holds_the_lease() {
    let store = Store::start();
    let mut scripts = Scripts::load(&store);
    scripts.add_numbers(0..6);
    assert_eq!(scripts.hold("one"), 1);
    let read = scripts.read("one", ">", 10, "").unwrap();
    let places: Vec<_> = read.entries.iter().map(|(place, _)| (place.as_str(), 5)).collect();
    assert_eq!((read.depth, read.bytes, read.lost, read.told), (6, 30, 0, 0));
    assert_eq!(scripts.settle("", "", &places[..1]), 1);
    assert_eq!(scripts.settle("one", "lost", &places[..3]), 2, "one was delivered");
    // The answer was lost: said again it counts nothing.
    assert_eq!(scripts.settle("one", "lost", &places[..3]), 0);
    assert_eq!(scripts.settle("two", "lost", &places), 0);
    let told = |scripts: &mut Scripts, known: &str| {
        let read = scripts.read("one", ">", 10, known).unwrap();
        (read.lost, read.told)
    };
    assert_eq!(
        (told(&mut scripts, ""), told(&mut scripts, "")),
        ((2, 0), (2, 0)),
        "until it says that it knows"
    );
    assert_eq!((told(&mut scripts, "2"), told(&mut scripts, "")), ((2, 2), (2, 2)));
    assert_eq!(told(&mut scripts, "9"), (2, 2), "what another Redis had lost");
    assert_eq!(scripts.settle("one", "lost", &places[3..4]), 1);
    let [lease, fill] = names(["o", "m"]);
    scripts.run::<()>(Script::LetGo, &[&lease, &fill], &[b"one", b"3"]);
    assert_eq!(scripts.hold("two"), 2);
    let read = scripts.read("two", "0-0", 10, "").unwrap();
    assert_eq!((numbers(&read.entries), read.depth, read.lost, read.told), (vec![4, 5], 2, 3, 3));
    assert!(scripts.read("one", ">", 10, "").is_none());
}

/// Two senders in turn, each with its memory, over a stream that overflows: what is settled and what is lost is all there was,
/// and none is both.
#[test]
fn in_every_history_each_event_is_settled_or_lost() {
    for seed in 1..=3_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let store = Store::start();
        let mut scripts = Scripts::load(&store);
        let (mut added, mut counted, mut at) = (0, 0, 0);
        let (mut held, mut known) = (BTreeSet::new(), None);
        let mut settled = BTreeSet::new();
        scripts.hold(["one", "two"][at]);
        while added < 45_000 {
            let life = ["one", "two"][at];
            match next(8) {
                0..4 => {
                    let more = next(2_000);
                    scripts.add_numbers(added..added + more);
                    added += more;
                }
                4 => {
                    let text = known.map(|known: u64| known.to_string()).unwrap_or_default();
                    let read = scripts.read(life, ">", 96, &text).unwrap();
                    held.extend(read.entries.into_iter().map(|(place, fields)| (place, fields[5].clone())));
                    counted += read.lost - known.unwrap_or(read.told);
                    known = Some(read.lost);
                }
                5 => {
                    let some: Vec<_> = held.iter().take(50).cloned().collect();
                    let places: Vec<_> = some.iter().map(|(place, _)| (place.as_str(), 5)).collect();
                    let why = if next(2) == 0 { "lost" } else { "" };
                    assert_eq!(scripts.settle(life, why, &places), places.len() as u64);
                    for one in some {
                        held.remove(&one);
                        assert!(why == "lost" || settled.insert(one.1));
                    }
                }
                6 => drop(scripts.settle(["two", "one"][at], "lost", &[("1-1", 5)])),
                _ => {
                    let text = known.map(|known: u64| known.to_string()).unwrap_or_default();
                    let [lease, fill] = names(["o", "m"]);
                    scripts.run::<()>(Script::LetGo, &[&lease, &fill], &[life.as_bytes(), text.as_bytes()]);
                    at = 1 - at;
                    scripts.hold(["one", "two"][at]);
                    let pending = scripts.read(["one", "two"][at], "0-0", 10_000, "").unwrap();
                    let pending: BTreeSet<_> = pending
                        .entries
                        .into_iter()
                        .map(|(place, fields)| (place, fields[5].clone()))
                        .collect();
                    assert_eq!(pending, held, "what another has read and not settled");
                    known = None;
                }
            }
            assert!(scripts.depth() <= 20_000);
        }
        let life = ["one", "two"][at];
        let text = known.map(|known: u64| known.to_string()).unwrap_or_default();
        let last = scripts.read(life, ">", 0, &text).unwrap();
        counted += last.lost - known.unwrap_or(last.told);
        assert_eq!(counted, last.lost, "seed {seed}: each loss is counted once");
        assert!(counted > 0);
        assert_eq!(last.bytes, 5 * last.depth);
        assert_eq!(settled.len() as u64 + last.lost + last.depth, added, "seed {seed}");
    }
}
