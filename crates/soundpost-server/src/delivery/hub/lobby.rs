//! The lobby: where those wait who are to get a large roster while many others are still being sent theirs.
//!
//! When thousands join one presence channel at once, each gets a roster of half a megabyte, and each is told of all who
//! come after. Whoever waits here is not yet on the worker's list of the channel: it costs nothing, hears no notices,
//! and is given the roster of the moment in which its turn comes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use foldhash::quality::RandomState;
use soundpost_protocol::websocket::Frame;

use super::{Hub, Pending, Seat};
use crate::{
    apps::ChannelKey,
    delivery::{ConnectionRef, Item, inbox::Urgency},
};

/// Rosters up to this size are sent at once to however many.
const LIGHT_BYTES: usize = 16 << 10;

/// Larger rosters on their way from one worker at the same time; a single one may be larger.
const ON_THEIR_WAY_BYTES_MAX: usize = 2 << 20;

/// A join that has come up in the inbox.
#[derive(Debug)]
pub(in crate::delivery) struct Newcomer {
    pub(in crate::delivery) name: ConnectionRef,
    pub(in crate::delivery) ticket: u32,
    /// On cache channels the kept event, or that there is none.
    pub(in crate::delivery) cached: Option<Frame>,
}

/// What waits, and for what.
#[derive(Debug, Default)]
pub(in crate::delivery) struct Lobby {
    waiting: VecDeque<Newcomer>,
    /// Large rosters that sockets have not taken yet, by their size.
    on_their_way: HashMap<ConnectionRef, usize, RandomState>,
    bytes: usize,
    /// The size of the roster for which the first who waits had no room.
    wanted: usize,
    /// The next are called in already.
    is_called: bool,
}

impl Lobby {
    const fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= ON_THEIR_WAY_BYTES_MAX
    }

    fn send_off(&mut self, name: ConnectionRef, bytes: usize) {
        self.bytes += bytes;
        if let Some(before) = self.on_their_way.insert(name, bytes) {
            self.bytes -= before;
        }
    }

    fn arrived(&mut self, name: ConnectionRef) {
        if let Some(bytes) = self.on_their_way.remove(&name) {
            self.bytes -= bytes;
        }
    }
}

impl Hub {
    /// Lets a newcomer in, or to the lobby if its roster is large and too many such are on their way.
    pub(in crate::delivery) fn arrive(&mut self, newcomer: Newcomer, at_once: bool) {
        let Some((key, roster_version, frame)) = self.welcome(&newcomer) else { return };
        let bytes = frame.bytes().len();
        // On a cache channel the kept event belongs to the moment of the join: who waited would miss what came after it.
        let may_wait = bytes > LIGHT_BYTES && newcomer.cached.is_none();
        if may_wait && !(self.lobby.waiting.is_empty() && self.lobby.has_room(bytes)) {
            if self.lobby.waiting.is_empty() {
                self.lobby.wanted = bytes;
            }
            if let Some(pending) = self.pending(&newcomer) {
                pending.answers = 1;
            }
            self.lobby.waiting.push_back(newcomer);
        } else {
            self.let_in(&newcomer, &key, roster_version, &frame, at_once);
        }
    }

    /// Lets those in whose turn it is.
    pub(in crate::delivery) fn admit(&mut self, at_once: bool) {
        self.lobby.is_called = false;
        while let Some(newcomer) = self.lobby.waiting.pop_front() {
            let Some((key, roster_version, frame)) = self.welcome(&newcomer) else { continue };
            if !self.lobby.has_room(frame.bytes().len()) {
                self.lobby.wanted = frame.bytes().len();
                self.lobby.waiting.push_front(newcomer);
                return;
            }
            self.let_in(&newcomer, &key, roster_version, &frame, at_once);
        }
        self.lobby.waiting.shrink_to(64);
    }

    /// What to tell a newcomer, if its join is still wanted.
    fn welcome(&self, newcomer: &Newcomer) -> Option<(Arc<ChannelKey>, u64, Frame)> {
        let pending = &self.seats.get(newcomer.name)?.pending;
        let key = Arc::clone(&pending.iter().find(|pending| pending.ticket == newcomer.ticket)?.key);
        let (roster_version, frame) = self.success(&key)?;
        Some((key, roster_version, frame))
    }

    fn pending(&mut self, newcomer: &Newcomer) -> Option<&mut Pending> {
        let mut pending = self.seats.get_mut(newcomer.name)?.pending.iter_mut();
        pending.find(|pending| pending.ticket == newcomer.ticket)
    }

    fn let_in(
        &mut self,
        newcomer: &Newcomer,
        key: &Arc<ChannelKey>,
        roster_version: u64,
        frame: &Frame,
        at_once: bool,
    ) {
        let name = newcomer.name;
        let answers = self.pending(newcomer).map_or(1, |pending| pending.answers.max(1));
        self.enter(name, newcomer.ticket, key, roster_version);
        if frame.bytes().len() > LIGHT_BYTES {
            self.lobby.send_off(name, frame.bytes().len());
        }
        for _ in 0..answers {
            self.give(name, frame, at_once);
        }
        if let Some(cached) = &newcomer.cached {
            self.give(name, cached, at_once);
        }
    }

    /// Notes that a client has been sent all that waited, or has gone, and calls the next in.
    pub(super) fn note_arrival(&mut self, name: ConnectionRef) {
        self.lobby.arrived(name);
        self.call_in();
    }

    /// After a batch: rosters that their sockets took at once are on their way no longer.
    pub(in crate::delivery) fn note_arrivals(&mut self) {
        if self.lobby.on_their_way.is_empty() {
            return;
        }
        let is_blocked = |name: &ConnectionRef| self.seats.get(*name).is_some_and(Seat::is_blocked);
        self.lobby.on_their_way.retain(|name, _| is_blocked(name));
        self.lobby.bytes = self.lobby.on_their_way.values().sum();
        self.call_in();
    }

    /// Puts a call into the worker's own inbox, if somebody waits and there is room.
    fn call_in(&mut self) {
        if self.lobby.waiting.is_empty() || self.lobby.is_called || !self.lobby.has_room(self.lobby.wanted) {
            return;
        }
        self.lobby.is_called = true;
        let inbox = self.delivery.inboxes.of(self.worker);
        if inbox.reserve(None, Urgency::Leave) {
            inbox.put(Item::Admit);
            self.delivery.wakes().add(self.worker);
        }
    }
}
