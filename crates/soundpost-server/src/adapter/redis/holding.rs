//! What Redis holds for webhooks and this node has to see to: departures that are told when they are due, counts that were
//! put off, and on a Redis Cluster the events that are carried to the streams of their webhooks.
//!
//! The node whose script has held something sees to it, and whoever takes a dead life's tags takes over what it held. The
//! index of the life names the tag for as long.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::quality::RandomState;
use soundpost_protocol::{channel::ChannelName, cluster::channel::SETTLING};

use super::{
    answers, commands::Expect, keys, scripts::Script, session::Session, wants::wants, wire::resp::Reply,
};
use crate::adapter::Subject;

/// Tags that are seen to at a time.
const UNDER_WAY_MAX: usize = 64;
/// After an error of Redis it is tried again so much later.
const RETRY: Duration = Duration::from_secs(1);
/// For so long one node has the events that it carries; then another takes them.
const CARRYING_MILLISECONDS: &str = "2000";

/// The tags that are to be seen to. It outlives the connections.
#[derive(Debug, Default)]
pub(super) struct Holding {
    tags: HashMap<Bytes, State, RandomState>,
    due: BTreeSet<(Instant, Bytes)>,
    under_way: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be seen to then.
    Due(Instant),
    /// Redis is asked; and to be asked again then.
    UnderWay(Option<Instant>),
}

impl Holding {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Whether something is held under this tag.
    pub(super) fn has(&self, tag: &Bytes) -> bool {
        self.tags.contains_key(tag)
    }

    /// What is to be seen to.
    pub(super) fn tags(&self) -> impl Iterator<Item = &Bytes> {
        self.tags.keys()
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at).filter(|_| self.under_way < UNDER_WAY_MAX)
    }

    /// Something is held until then, at the latest.
    fn hold(&mut self, tag: &Bytes, at: Instant) {
        match self.tags.get_mut(tag) {
            Some(State::UnderWay(again)) => *again = Some(again.map_or(at, |known| known.min(at))),
            Some(State::Due(known)) if *known <= at => {}
            Some(State::Due(known)) => {
                self.due.remove(&(*known, tag.clone()));
                *known = at;
                self.due.insert((at, tag.clone()));
            }
            None => {
                self.tags.insert(tag.clone(), State::Due(at));
                self.due.insert((at, tag.clone()));
            }
        }
    }

    fn take(&mut self, now: Instant) -> Option<Bytes> {
        self.next().filter(|at| *at <= now)?;
        let (_, tag) = self.due.pop_first()?;
        self.tags.insert(tag.clone(), State::UnderWay(None));
        self.under_way += 1;
        Some(tag)
    }

    /// Redis has answered: something is held until then, or nothing. False if the tag need not be seen to any more.
    fn answered(&mut self, tag: &Bytes, next: Option<Instant>) -> bool {
        let Some(State::UnderWay(again)) = self.tags.get(tag).copied() else { return true };
        self.under_way -= 1;
        self.tags.remove(tag);
        let next = [next, again].into_iter().flatten().min();
        if let Some(at) = next {
            self.hold(tag, at);
        }
        next.is_some()
    }

    /// The connections are new. What members do who come back is told to Redis first; only then it is certain who has
    /// gone.
    pub(super) fn reconnect(&mut self, now: Instant) {
        let tags: Vec<_> = std::mem::take(&mut self.tags).into_iter().collect();
        self.due.clear();
        self.under_way = 0;
        for (tag, state) in tags {
            let at = match state {
                State::Due(at) => at,
                State::UnderWay(_) => now,
            };
            self.hold(&tag, at.max(now + SETTLING));
        }
    }
}

/// Events of one channel on their way to the streams of their webhooks.
#[derive(Debug)]
pub(super) struct Carrying {
    tag: Bytes,
    items: usize,
    /// Streams that have not answered.
    left: usize,
    has_failed: bool,
}

/// An item of the list of what is to be carried: what the names of all that belongs to the webhook begin with, kind, id, JSON.
fn item(text: &[u8]) -> Option<[&[u8]; 4]> {
    let mut lines = text.splitn(4, |byte| *byte == b'\n');
    Some([lines.next()?, lines.next()?, lines.next()?, lines.next()?])
}

/// The tag in a name.
fn tag_in(name: &[u8]) -> Option<&[u8]> {
    let begin = name.iter().position(|byte| *byte == b'{')?;
    let end = name.iter().rposition(|byte| *byte == b'}')?;
    name.get(begin..=end)
}

impl Session<'_> {
    /// What the webhooks of its app want to know of a subject.
    pub(super) fn wants(&self, subject: &Subject) -> Bytes {
        let Subject::Channel(key) = subject else { return Bytes::new() };
        let app = self.shared.apps.by_index(key.app);
        app.map(|running| wants(&self.shared.names, &running.app, &key.name)).unwrap_or_default()
    }

    /// The same of a tag.
    pub(super) fn wants_of_tag(&self, tag: &[u8]) -> Bytes {
        let Some((app, channel)) = keys::channel_of(tag) else { return Bytes::new() };
        let Some(running) = self.shared.apps.by_id(app) else { return Bytes::new() };
        if running.app.webhooks.is_empty() {
            return Bytes::new();
        }
        // A name that one node has let in is a name.
        let mut limits = running.app.limits.clone();
        limits.channel_name_chars_max = usize::MAX;
        let channel = ChannelName::parse(channel, &limits);
        channel.map(|channel| wants(&self.shared.names, &running.app, &channel)).unwrap_or_default()
    }

    /// A script says for how many milliseconds something is held; not a number if nothing is. False then.
    pub(super) fn hold(&mut self, tag: &Bytes, milliseconds: &Reply) -> bool {
        let Some(milliseconds) = answers::number(milliseconds) else { return false };
        self.node.holding.hold(tag, self.now + Duration::from_millis(milliseconds));
        true
    }

    /// Something may be held that this node was not told of. False if webhooks want nothing there.
    pub(super) fn hold_what_may_be(&mut self, tag: &Bytes) -> bool {
        if self.wants_of_tag(tag).is_empty() {
            return false;
        }
        self.node.holding.hold(tag, self.now + SETTLING);
        true
    }

    /// Has told what is due.
    pub(super) fn see_to_held(&mut self) {
        while self.has_room()
            && let Some(tag) = self.node.holding.take(self.now)
        {
            self.finish(&tag, 0);
        }
    }

    fn finish(&mut self, tag: &Bytes, carried: usize) {
        let wants = self.wants_of_tag(tag);
        let names = &self.shared.names;
        let (held, sharers, outgoing) = (names.held(tag), names.sharers(tag), names.outgoing(tag));
        let (base, life, carried) = (names.base(tag), keys::hex(self.node.life), carried.to_string());
        let arguments: [&[u8]; 5] =
            [&base, &wants, life.as_bytes(), carried.as_bytes(), CARRYING_MILLISECONDS.as_bytes()];
        let expect = Expect::Finished(tag.clone());
        self.script(tag, Script::Finish, &[&held, &sharers, &outgoing], &arguments, expect);
    }

    /// The answer to that.
    pub(super) fn finished(&mut self, tag: &Bytes, reply: &Reply) {
        if matches!(reply, Reply::Error(_)) {
            return self.seen_to(tag, Some(self.now + RETRY));
        }
        match answers::items(reply) {
            [_, items] if !answers::items(items).is_empty() => self.carry(tag, answers::items(items)),
            [wait, ..] => {
                let wait = answers::number(wait).map(Duration::from_millis);
                self.seen_to(tag, wait.map(|wait| self.now + wait));
            }
            [] => self.seen_to(tag, None),
        }
    }

    fn seen_to(&mut self, tag: &Bytes, next: Option<Instant>) {
        if !self.node.holding.answered(tag, next) {
            self.let_go(tag);
        }
    }

    /// Puts events into the streams of their webhooks, in their order.
    fn carry(&mut self, tag: &Bytes, items: &[Reply]) {
        let channel = keys::channel_of(tag).map_or("", |(_, channel)| channel).as_bytes();
        let mut streams: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
        for text in items {
            // What is none is left out for good.
            let Some([base, kind, id, json]) = item(answers::text(text)) else { continue };
            streams.entry(base).or_insert_with(|| vec![base]).extend([kind, channel, json, id]);
        }
        let (items, left) = (items.len(), streams.len());
        let carrying = Carrying { tag: tag.clone(), items, left, has_failed: false };
        if left == 0 {
            return self.finish(tag, items);
        }
        let carrying = Rc::new(RefCell::new(carrying));
        for (base, arguments) in streams {
            let stream = [base, b"q"].concat();
            let home = tag_in(base).unwrap_or_default();
            self.script(home, Script::Add, &[&stream], &arguments, Expect::Carried(Rc::clone(&carrying)));
        }
    }

    /// A stream has answered.
    pub(super) fn carried(&mut self, carrying: &Rc<RefCell<Carrying>>, reply: &Reply) {
        let carrying = &mut *carrying.borrow_mut();
        carrying.left -= 1;
        carrying.has_failed |= matches!(reply, Reply::Error(_));
        if carrying.left > 0 {
            return;
        }
        let tag = carrying.tag.clone();
        if carrying.has_failed {
            // All are carried again: those that have come twice have the same id.
            return self.seen_to(&tag, Some(self.now + RETRY));
        }
        self.finish(&tag, carrying.items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Bytes = Bytes::from_static(b"{one/a}");
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tag_is_seen_to_when_the_first_of_it_is_due_and_again_while_there_is_more() {
        let (start, mut holding) = (Instant::now(), Holding::default());
        holding.hold(&TAG, start + 3 * SECOND);
        holding.hold(&TAG, start + 2 * SECOND);
        holding.hold(&TAG, start + 4 * SECOND);
        assert_eq!((holding.next(), holding.take(start)), (Some(start + 2 * SECOND), None));
        assert_eq!(holding.take(start + 2 * SECOND), Some(TAG));
        assert_eq!((holding.next(), holding.has(&TAG)), (None, true), "while Redis is asked");
        // Something more is held meanwhile, which the answer may not know of.
        holding.hold(&TAG, start + 5 * SECOND);
        assert!(holding.answered(&TAG, None));
        assert_eq!(holding.take(start + 5 * SECOND), Some(TAG));
        assert!(holding.answered(&TAG, Some(start + 6 * SECOND)));
        assert_eq!(holding.take(start + 6 * SECOND), Some(TAG));
        assert!(!holding.answered(&TAG, None));
        assert!(holding.is_empty() && holding.due.is_empty() && holding.under_way == 0);
    }

    #[test]
    fn after_an_outage_nothing_is_told_before_owners_have_brought_their_shares() {
        let (start, mut holding) = (Instant::now(), Holding::default());
        let other = Bytes::from_static(b"{one/b}");
        holding.hold(&TAG, start);
        holding.hold(&other, start + 60 * SECOND);
        assert_eq!(holding.take(start), Some(TAG));
        holding.reconnect(start + SECOND);
        assert_eq!(holding.next(), Some(start + SECOND + SETTLING));
        assert_eq!(holding.take(start + 60 * SECOND), Some(TAG));
        assert_eq!(holding.take(start + 60 * SECOND), Some(other), "one that was due later stays so");
    }

    #[test]
    fn so_many_are_seen_to_at_a_time() {
        let (start, mut holding) = (Instant::now(), Holding::default());
        for number in 0..=UNDER_WAY_MAX {
            holding.hold(&number.to_string().into(), start);
        }
        let taken: Vec<_> = std::iter::from_fn(|| holding.take(start)).collect();
        assert_eq!((taken.len(), holding.next()), (UNDER_WAY_MAX, None));
        holding.answered(&taken[0], None);
        assert!(holding.take(start).is_some());
    }

    #[test]
    fn an_item_is_four_lines_and_names_its_webhook() {
        let text = b"N:{one/@webhook/0a}:\nmember_added\n2f.1\n{\"a\":1}";
        let [base, kind, id, json] = item(text).unwrap();
        assert_eq!([kind, id, json], [&b"member_added"[..], b"2f.1", b"{\"a\":1}"]);
        assert_eq!(tag_in(base), Some(&b"{one/@webhook/0a}"[..]));
        assert_eq!((item(b"a\nb\nc"), tag_in(b"a"), tag_in(b"{")), (None, None, None));
    }
}
