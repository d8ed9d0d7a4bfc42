//! What the connections of this node want: to be let in, to leave, to say something else of their user, to watch.

use super::*;

impl ClusterChannel {
    /// A connection wants to be on the channel; `entry` on presence channels. It is not on it, nor waits to be.
    pub fn join(&mut self, socket_id: SocketId, entry: Option<Entry>, cx: &mut Context<'_>) {
        self.enter(socket_id, entry, Role::Subscriber, cx);
    }

    /// A connection wants to see who is on the channel, without being there.
    pub fn observe(&mut self, socket_id: SocketId, cx: &mut Context<'_>) {
        self.enter(socket_id, None, Role::Observer, cx);
    }

    /// A connection watches no longer.
    pub fn unobserve(&mut self, socket_id: SocketId) {
        if !self.forget_waiting(socket_id, Role::Observer) {
            self.observers = self.observers.saturating_sub(1);
        }
    }

    fn enter(&mut self, socket_id: SocketId, entry: Option<Entry>, role: Role, cx: &mut Context<'_>) {
        if self.wants.len() >= WAITING_MAX {
            cx.effects.push(Effect::Refuse { socket_id, answers: 1 });
            return;
        }
        let entry = entry.filter(|_| self.is_presence && role == Role::Subscriber);
        let is_counted = role == Role::Subscriber && !self.is_presence;
        let what = What::Enter(socket_id, entry.clone(), role);
        let deadline = cx.now + ENTER_TIMEOUT;
        let mut want = Want { sequence: 0, what, answers: 1, deadline, is_void: false };
        match self.state {
            State::Idle => {
                let ticket = cx.next();
                self.state = State::Subscribing { ticket };
                self.wants.push_back(want);
                cx.effects.push(Effect::Subscribe { ticket });
            }
            State::Subscribing { .. } => self.wants.push_back(want),
            State::Away | State::Returning { .. } => {
                self.fulfil_alone(want, cx);
                self.tell_count(cx);
            }
            State::Reading { .. } | State::Live => {
                let sees = role == Role::Observer && self.state == State::Live;
                if role == Role::Subscriber && self.lacks_mark() {
                    self.wants.push_back(want);
                    if self.state == State::Live {
                        self.replace(cx);
                    }
                } else if let Some(entry) = entry {
                    want.sequence = self.send(Change::Join(entry), cx);
                    self.wants.push_back(want);
                } else if sees || self.is_open() || (is_counted && !self.is_cache) {
                    self.let_in(socket_id, 1, role, cx);
                    self.send_count(cx);
                } else {
                    self.wants.push_back(want);
                }
            }
        }
    }

    /// A connection that is on the channel, or waits to be, asks again, with what it says of its user now.
    pub fn again(&mut self, socket_id: SocketId, entry: Option<Entry>, cx: &mut Context<'_>) {
        let entry = entry.filter(|_| self.is_presence);
        let waits = |want: &&mut Want| match &want.what {
            What::Enter(waiting, ..) => *waiting == socket_id && !want.is_void,
            What::Change(_) => false,
        };
        if let Some(waiting) = self.wants.iter_mut().rev().find(waits) {
            let answers = waiting.answers.saturating_add(1);
            waiting.answers = answers;
            let What::Enter(_, Some(before), _) = &mut waiting.what else { return };
            let Some(entry) = entry.filter(|entry| entry.member != before.member) else { return };
            let entry = Entry { joined_at: before.joined_at, ..entry };
            if waiting.sequence == 0 {
                *before = entry;
            } else {
                self.change(Change::Describe(entry), 0, cx);
            }
            return;
        }
        let Some(entry) = entry else { return self.answer(socket_id, 1, cx) };
        let held = self.shares.roster().holder(self.life, socket_id, &entry.member.user_id);
        match held {
            Some(held) if held.member != entry.member => {
                let entry = Entry { joined_at: held.joined_at, ..entry };
                self.change(Change::Describe(entry), 1, cx);
            }
            Some(_) | None => self.answer(socket_id, 1, cx),
        }
    }

    /// Whether this connection stands for the user, and none of this node beside it but such as are leaving, too. What the
    /// other nodes hold does not matter: they do not know of each other who is leaving in the same moment.
    pub fn is_last_here(&self, socket_id: SocketId, user_id: &UserId) -> bool {
        let leaves = |held: SocketId| {
            let is_leave = |want: &Want| matches!(&want.what, What::Change(Change::Leave { socket_id, .. }) if *socket_id == held);
            self.wants.iter().any(is_leave)
        };
        let roster = self.shares.roster();
        roster.holder(self.life, socket_id, user_id).is_some()
            && roster
                .holders_of(self.life, user_id)
                .all(|held| held.socket_id == socket_id || leaves(held.socket_id))
    }

    /// A connection goes, whether it was let in or still waits; `user_id` on presence channels.
    pub fn leave(&mut self, socket_id: SocketId, user_id: Option<&UserId>, cx: &mut Context<'_>) {
        if self.forget_waiting(socket_id, Role::Subscriber) {
            return;
        }
        for want in &mut self.wants {
            if matches!(&want.what, What::Change(Change::Describe(entry)) if entry.socket_id == socket_id) {
                // It has asked again and does not wait for the answer.
                want.answers = 0;
            }
        }
        match user_id.filter(|_| self.is_presence) {
            Some(user_id) => self.change(Change::Leave { socket_id, user_id: user_id.clone() }, 0, cx),
            None => {
                self.entered = self.entered.saturating_sub(1);
                self.send_count(cx);
            }
        }
    }

    /// Takes a connection out of those who wait. False if it must be taken away by a change, too.
    fn forget_waiting(&mut self, socket_id: SocketId, role: Role) -> bool {
        let is_it = |want: &Want| match &want.what {
            What::Enter(waiting, _, as_role) => *waiting == socket_id && *as_role == role && !want.is_void,
            What::Change(_) => false,
        };
        let Some(at) = self.wants.iter().position(is_it) else { return false };
        match self.wants.get_mut(at) {
            Some(want) if want.sequence > 0 => {
                // Its join is on its way, and the leave goes after it: it never enters.
                want.is_void = true;
                false
            }
            Some(_) | None => {
                self.wants.remove(at);
                true
            }
        }
    }

    /// Changes the own share: by way of the topic, or at once if there is none.
    fn change(&mut self, change: Change, answers: u32, cx: &mut Context<'_>) {
        let deadline = cx.now + ENTER_TIMEOUT;
        let what = What::Change(change.clone());
        let mut want = Want { sequence: 0, what, answers, deadline, is_void: false };
        match self.state {
            State::Away | State::Returning { .. } => self.fulfil_alone(want, cx),
            // Nobody has entered who could change.
            State::Idle | State::Subscribing { .. } => {}
            State::Reading { .. } | State::Live => {
                want.sequence = self.send(change, cx);
                self.wants.push_back(want);
            }
        }
    }

    fn send(&mut self, change: Change, cx: &mut Context<'_>) -> u64 {
        // A count says all there is to say, but if the store has none, it is to know that there was one.
        let is_first = matches!(change, Change::Count(_)) && self.stored_count == 0;
        let (sequence, follows) = (cx.next(), if is_first { 0 } else { self.last });
        self.last = sequence;
        self.is_stored = true;
        self.unneeded_since = None;
        cx.effects.push(Effect::Change { sequence, follows, change });
        sequence
    }

    /// Tells the cluster the count, unless it knows or one is on its way.
    pub(super) fn send_count(&mut self, cx: &mut Context<'_>) {
        if !self.is_presence {
            // Those who still wait to enter are in the count that was sent, or will be when they do.
            let is_due = self.is_open() && self.entered != self.sent_count;
            if is_due && self.count_under_way.is_none() {
                self.sent_count = self.entered;
                self.count_under_way = Some(self.send(Change::Count(self.entered), cx));
            }
            self.tell_count(cx);
        }
    }

    /// Says how many there are, if that has changed and somebody may hear it.
    pub(super) fn tell_count(&mut self, cx: &mut Context<'_>) {
        let count = self.count();
        if !self.is_presence && count != self.told_count {
            self.told_count = count;
            cx.effects.push(Effect::Count(count));
        }
    }

    /// Does at once, for this node alone, what is wanted.
    pub(super) fn fulfil_alone(&mut self, want: Want, cx: &mut Context<'_>) {
        match want.what {
            What::Enter(socket_id, entry, role) => {
                if let Some(entry) = entry {
                    // One that is gone comes and goes in the same moment, with its leave behind it.
                    if want.is_void {
                        return;
                    }
                    let transition = self.shares.change_alone(self.life, &Change::Join(entry));
                    cx.effects.extend(transition.map(Effect::Tell));
                }
                self.let_in(socket_id, want.answers, role, cx);
            }
            What::Change(change) => {
                let transition = self.shares.change_alone(self.life, &change);
                cx.effects.extend(transition.map(Effect::Tell));
                if let Change::Describe(entry) = change {
                    self.answer(entry.socket_id, want.answers, cx);
                }
            }
        }
    }

    /// Lets everybody in who waits for nothing but the topic.
    pub(super) fn enter_all(&mut self, cx: &mut Context<'_>) {
        let waiting = std::mem::take(&mut self.wants);
        for want in waiting {
            match want.what {
                What::Enter(socket_id, None, role) => self.let_in(socket_id, want.answers, role, cx),
                What::Enter(..) | What::Change(_) => self.wants.push_back(want),
            }
        }
        self.tell_count(cx);
    }

    /// Does what was waiting for the own changes up to `sequence`, and lets in who waits for no change of its own.
    pub(super) fn complete(&mut self, sequence: u64, cx: &mut Context<'_>) {
        // What came before the mark on the topic is no news to a newcomer; the newest of it is kept for it.
        let is_unmarked = self.is_cache && !self.is_marked;
        let wants = std::mem::take(&mut self.wants);
        for want in wants {
            let is_early = want.sequence > sequence || (want.sequence == 0 && self.is_presence_join(&want));
            let waits = is_early || (is_unmarked && !matches!(want.what, What::Enter(_, _, Role::Observer)));
            match want.what {
                _ if waits => self.wants.push_back(want),
                What::Enter(socket_id, _, role) if !want.is_void => {
                    self.let_in(socket_id, want.answers, role, cx);
                }
                What::Change(Change::Describe(entry)) => self.answer(entry.socket_id, want.answers, cx),
                What::Enter(..) | What::Change(_) => {}
            }
        }
        if !is_unmarked && self.own_count() == 0 && self.wants.is_empty() && sequence >= self.last {
            self.is_stored = false;
        }
    }

    /// Whether who waits for no change of its own can be let in: what a newcomer must know is known.
    fn is_open(&self) -> bool {
        self.state == State::Live && (self.is_marked || !self.is_cache)
    }

    const fn is_presence_join(&self, want: &Want) -> bool {
        matches!(want.what, What::Enter(_, Some(_), _))
    }

    fn let_in(&mut self, socket_id: SocketId, answers: u32, role: Role, cx: &mut Context<'_>) {
        match role {
            Role::Observer => self.observers += 1,
            Role::Subscriber if !self.is_presence => self.entered += 1,
            Role::Subscriber => {}
        }
        self.unneeded_since = None;
        self.answer(socket_id, answers, cx);
    }

    fn answer(&self, socket_id: SocketId, answers: u32, cx: &mut Context<'_>) {
        if answers > 0 {
            let roster = self.shares.roster().clone();
            cx.effects.push(Effect::Enter { socket_id, answers, roster });
        }
    }

    /// Refuses who has waited for too long.
    pub(super) fn refuse_late(&mut self, cx: &mut Context<'_>) {
        let is_late =
            |want: &Want| matches!(want.what, What::Enter(..)) && !want.is_void && want.deadline <= cx.now;
        if !self.wants.iter().any(is_late) {
            return;
        }
        let late: Vec<Want> = self.wants.iter().filter(|want| is_late(want)).cloned().collect();
        for want in late {
            let What::Enter(socket_id, entry, role) = want.what else { continue };
            cx.effects.push(Effect::Refuse { socket_id, answers: want.answers });
            if !self.forget_waiting(socket_id, role)
                && let Some(entry) = entry
            {
                let user_id = entry.member.user_id.clone();
                self.change(Change::Leave { socket_id, user_id }, 0, cx);
            }
        }
    }
}
