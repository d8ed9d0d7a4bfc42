//! Taking away what lives that are over have left: every survivor does so, in random order, so that they help each other
//! rather than do the same.

use std::collections::VecDeque;

use bytes::Bytes;
use soundpost_protocol::presence::NodeId;

use super::{
    answers,
    commands::Expect,
    keys, messages,
    scripts::{Script, TOMBSTONE_MILLISECONDS},
    session::Session,
    wire::resp::Reply,
};

/// Shares that are taken away at a time.
const BATCH: &str = "64";

/// Whose shares are to be taken away.
#[derive(Debug, Default)]
pub(super) struct Reaping {
    /// The first one is worked on.
    lives: VecDeque<NodeId>,
    /// Steps for the first one that are under way.
    steps: usize,
    /// One of them has failed.
    has_failed: bool,
}

impl Reaping {
    /// Whether anything of this life may be left.
    pub(super) fn has(&self, life: NodeId) -> bool {
        self.lives.contains(&life)
    }
}

impl Session<'_> {
    /// Takes away what is left of a life that is over.
    pub(super) fn reap_life(&mut self, life: NodeId) {
        if self.reaping.has(life) {
            return;
        }
        self.reaping.lives.push_back(life);
        if self.reaping.lives.len() == 1 {
            self.draw(life);
        }
    }

    /// Asks for some of its shares.
    fn draw(&mut self, life: NodeId) {
        let index = self.shared.names.index(life);
        let home = keys::index_tag(life);
        let words: [&[u8]; 3] = [b"SRANDMEMBER", &index, BATCH.as_bytes()];
        self.send(home.as_bytes(), &words, Expect::Tags(life));
    }

    /// Takes these shares away.
    pub(super) fn reap(&mut self, life: NodeId, reply: &Reply) {
        if matches!(reply, Reply::Error(_)) {
            return self.go_on();
        }
        let tags = answers::items(reply);
        if tags.is_empty() {
            return self.reaped_all(life);
        }
        let (hex, message) = (keys::hex(life), messages::gone(self.node.life, life));
        for tag in tags {
            let tag = answers::text(tag);
            let wants = self.wants_of_tag(tag);
            let names = &self.shared.names;
            let (share, sharers) = (names.share(tag, life), names.sharers(tag));
            let (tombstone, topic) = (names.tombstone(tag, life), names.topic(tag));
            let (users, base) = (names.users(tag), names.base(tag));
            let keys: [&[u8]; 5] = [&share, &sharers, &tombstone, &topic, &users];
            let arguments = [hex.as_bytes(), &message, TOMBSTONE_MILLISECONDS.as_bytes(), &base, &wants];
            let expect = Expect::Reaped(life, Bytes::copy_from_slice(tag));
            self.script(tag, Script::Reap, &keys, &arguments, expect);
        }
        self.reaping.steps = tags.len();
    }

    /// A share is taken away, or was not there. What is held there for webhooks is for this node to see to from now on.
    pub(super) fn reaped(&mut self, life: NodeId, tag: &Bytes, reply: &Reply) {
        if matches!(reply, Reply::Error(_)) {
            self.reaping.has_failed = true;
            return self.step();
        }
        if let [_, wait] = answers::items(reply)
            && self.hold(tag, wait)
            && self.name_held(tag, Expect::TakenOver(life, tag.clone()))
        {
            return;
        }
        self.forget(life, tag);
    }

    /// The own index names what was taken over.
    pub(super) fn taken_over(&mut self, life: NodeId, tag: &Bytes, reply: &Reply) {
        if matches!(reply, Reply::Error(_)) {
            self.reaping.has_failed = true;
            return self.step();
        }
        self.forget(life, tag);
    }

    /// Only now the other's index may forget it.
    fn forget(&mut self, life: NodeId, tag: &[u8]) {
        let (index, home) = (self.shared.names.index(life), keys::index_tag(life));
        self.send(home.as_bytes(), &[b"SREM", &index, tag], Expect::Nothing);
        self.step();
    }

    /// One of the steps for the first life is done.
    fn step(&mut self) {
        self.reaping.steps = self.reaping.steps.saturating_sub(1);
        if self.reaping.steps > 0 {
            return;
        }
        if std::mem::take(&mut self.reaping.has_failed) {
            // The next beat lists the life again.
            return self.go_on();
        }
        if let Some(life) = self.reaping.lives.front().copied() {
            self.draw(life);
        }
    }

    fn reaped_all(&mut self, life: NodeId) {
        let (lives, hex) = (self.shared.names.lives(), keys::hex(life));
        self.send(keys::NODES, &[b"ZREM", &lives, hex.as_bytes()], Expect::Nothing);
        self.go_on();
    }

    /// To the next life.
    fn go_on(&mut self) {
        self.reaping.lives.pop_front();
        if let Some(next) = self.reaping.lives.front().copied() {
            self.draw(next);
        }
    }
}
