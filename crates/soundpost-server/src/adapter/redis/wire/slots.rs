//! The slots of Redis Cluster: which one a key falls into, and which master has which.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, "Key distribution model" and
//! "Hash tags".

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{error::Problem, resp::Reply};

/// How many there are.
pub const SLOTS: u16 = 16_384;
/// Redis Cluster is made for so many nodes; more masters are not dialled.
pub(super) const MASTERS_MAX: usize = 1000;

/// The host of a master, `None` where it is the one that was asked, and its port.
pub(super) type Owner = (Option<String>, u16);
/// The masters with their slots.
pub(super) type Owners = BTreeMap<Owner, Vec<RangeInclusive<u16>>>;

/// The slot of a key or of a sharded topic: that of what stands between its first `{` and the next `}`, if anything
/// does, else that of the whole.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let begin = key.iter().position(|byte| *byte == b'{')? + 1;
    let rest = key.get(begin..)?;
    let end = rest.iter().position(|byte| *byte == b'}').filter(|end| *end > 0)?;
    rest.get(..end)
}

/// CRC-16/XMODEM: polynomial 0x1021, begun with 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let first = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(first, |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// What `CLUSTER SLOTS` answers: for each range its first slot, its last, its master, its replicas; a server is its
/// host, its port, and more that is of no use here.
///
/// Errors: it is no such answer, there are too many masters, or a slot has none.
pub(super) fn owners(answer: &Reply) -> Result<Owners, Problem> {
    let strange = || Problem::Strange { command: "CLUSTER SLOTS" };
    let mut owners = Owners::new();
    for range in items(answer).ok_or_else(strange)? {
        let (owner, slots) = items(range).and_then(owner).ok_or_else(strange)?;
        owners.entry(owner).or_default().push(slots);
    }
    if owners.len() > MASTERS_MAX {
        return Err(Problem::TooManyMasters { found: owners.len(), most: MASTERS_MAX });
    }
    covered(&owners)?;
    Ok(owners)
}

fn owner(range: &[Reply]) -> Option<(Owner, RangeInclusive<u16>)> {
    let [Reply::Integer(first), Reply::Integer(last), master, ..] = range else { return None };
    let [host, Reply::Integer(port), ..] = items(master)? else { return None };
    let host = match host {
        Reply::Nil => None,
        // A node that does not know its own address says one of these.
        Reply::Bulk(text) | Reply::Simple(text) if text.is_empty() || *text == "?" => None,
        Reply::Bulk(text) | Reply::Simple(text) => Some(std::str::from_utf8(text).ok()?.to_owned()),
        Reply::Integer(_) | Reply::Error(_) | Reply::Array(_) => return None,
    };
    let slot = |number: i64| u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
    Some(((host, u16::try_from(*port).ok()?), slot(*first)?..=slot(*last)?))
}

fn covered(owners: &Owners) -> Result<(), Problem> {
    let mut ranges: Vec<_> = owners.values().flatten().collect();
    ranges.sort_unstable_by_key(|range| *range.start());
    let end = ranges.into_iter().try_fold(0, |next, range| {
        if *range.start() > next { Err(next) } else { Ok(next.max(range.end() + 1)) }
    });
    match end {
        Ok(SLOTS) => Ok(()),
        Ok(slot) | Err(slot) => Err(Problem::Uncovered { slot }),
    }
}

fn items(reply: &Reply) -> Option<&[Reply]> {
    if let Reply::Array(items) = reply { Some(items) } else { None }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn keys_fall_into_the_slots_that_redis_puts_them_in() {
        // The first is in the specification; the others are what CLUSTER KEYSLOT of Redis 7.0.15 says.
        for (key, slot) in [
            ("123456789", 12_739),
            ("", 0),
            ("foo", 12_182),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("user1000", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("{bar", 4015),
            ("foo{bar}{zap}", 5061),
            ("bar", 5061),
            ("foo}bar{", 11_073),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    fn text(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: Reply, port: i64) -> Reply {
        let server = |host| Reply::Array(vec![host, Reply::Integer(port), text("id"), Reply::Array(vec![])]);
        Reply::Array(vec![Reply::Integer(first), Reply::Integer(last), server(host), server(text("replica"))])
    }

    #[test]
    fn masters_are_found_with_all_their_slots() {
        let answer = Reply::Array(vec![
            range(10_923, 16_383, text("10.0.0.2"), 7001),
            range(0, 5460, text("10.0.0.1"), 7000),
            range(5461, 5461, Reply::Nil, 7000),
            range(5462, 5462, text(""), 7000),
            range(5463, 5463, text("?"), 7000),
            range(5464, 10_922, text("10.0.0.1"), 7000),
        ]);
        let host = |host: &str| Some(host.to_owned());
        let expected = Owners::from([
            ((None, 7000), vec![5461..=5461, 5462..=5462, 5463..=5463]),
            ((host("10.0.0.1"), 7000), vec![0..=5460, 5464..=10_922]),
            ((host("10.0.0.2"), 7001), vec![10_923..=16_383]),
        ]);
        assert_eq!(owners(&answer).unwrap(), expected);
    }

    #[test]
    fn a_slot_without_a_master_is_named() {
        let a = || text("a");
        for (ranges, slot) in [
            (vec![], 0),
            (vec![range(1, 16_383, a(), 1)], 0),
            (vec![range(0, 16_382, a(), 1)], 16_383),
            (vec![range(0, 99, a(), 1), range(101, 16_383, a(), 1)], 100),
        ] {
            let problem = owners(&Reply::Array(ranges)).unwrap_err();
            assert!(matches!(problem, Problem::Uncovered { slot: found } if found == slot), "{problem}");
        }
    }

    #[test]
    fn what_is_no_such_answer_is_refused() {
        let a = || text("a");
        for answer in [
            Reply::Nil,
            text("slots"),
            Reply::Array(vec![Reply::Nil]),
            Reply::Array(vec![Reply::Array(vec![Reply::Integer(0), Reply::Integer(16_383)])]),
            Reply::Array(vec![range(0, 16_384, a(), 1)]),
            Reply::Array(vec![range(-1, 16_383, a(), 1)]),
            Reply::Array(vec![range(0, 16_383, a(), 65_536)]),
            Reply::Array(vec![range(0, 16_383, Reply::Integer(1), 1)]),
            Reply::Array(vec![range(0, 16_383, Reply::Bulk(Bytes::from_static(b"\xff")), 1)]),
        ] {
            let problem = owners(&answer).unwrap_err();
            assert_eq!(problem.to_string(), "its reply to CLUSTER SLOTS cannot be understood", "{answer:?}");
        }
        let many = i64::try_from(MASTERS_MAX).unwrap();
        let many = Reply::Array((0..=many).map(|at| range(at, at, a(), at)).collect());
        assert!(matches!(owners(&many), Err(Problem::TooManyMasters { found: 1001, .. })));
    }
}
