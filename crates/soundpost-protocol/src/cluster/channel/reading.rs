//! What the cluster says: notices on the topic, shares that were read, answers to changes.

use super::*;
use crate::cluster::shares::Heard;

impl ClusterChannel {
    /// A notice has come on the topic.
    pub fn heard(&mut self, life: NodeId, sequence: u64, notice: Notice, cx: &mut Context<'_>) {
        if life == self.life && self.replaced > 0 && sequence >= self.replaced {
            self.is_marked = true;
            if std::mem::take(&mut self.is_keep_due) {
                cx.effects.push(Effect::Keep);
            }
        }
        if notice == Notice::Gone(self.life) && !matches!(self.state, State::Idle | State::Away) {
            cx.effects.push(Effect::Renew(self.life));
            return;
        }
        match &mut self.state {
            State::Live => self.take(life, sequence, notice, cx),
            State::Reading { is_overrun, .. } => {
                let weight = self.kept_weight + notice.weight();
                if weight > KEPT_MAX {
                    *is_overrun = true;
                } else {
                    self.kept_weight = weight;
                    self.kept.push_back((life, sequence, notice));
                }
            }
            State::Idle | State::Subscribing { .. } | State::Away | State::Returning { .. } => {}
        }
    }

    /// An event that is kept for newcomers has come on the topic.
    pub const fn heard_kept_event(&mut self) {
        self.is_newer_kept |= self.is_marked;
    }

    fn take(&mut self, life: NodeId, sequence: u64, notice: Notice, cx: &mut Context<'_>) {
        match &notice {
            Notice::Change { follows, change } => match self.shares.hear(life, sequence, *follows, change) {
                Heard::Applied(transition) => cx.effects.extend(transition.map(Effect::Tell)),
                Heard::Ignored => {}
                Heard::Gap if self.reads < READS_MAX => {
                    self.reads += 1;
                    self.keep(life, sequence, notice);
                    return self.read(cx);
                }
                Heard::Gap => {
                    // A share that is empty is not among those that are read, nor is its number: what it has missed was
                    // before the reading. Then this begins it anew.
                    if let Heard::Applied(transition) = self.shares.hear(life, sequence, 0, change) {
                        cx.effects.extend(transition.map(Effect::Tell));
                    }
                }
            },
            Notice::Replace { predecessors, count, entries: Some(entries) } => {
                let replaced = self.shares.replace(life, sequence, predecessors, *count, entries);
                // The new share may have been read before, and older notices of its predecessors heard after that.
                let transitions = replaced.unwrap_or_else(|| self.shares.end_all(predecessors));
                cx.effects.extend(transitions.into_iter().map(Effect::Tell));
            }
            Notice::Replace { predecessors, entries: None, .. } => {
                if sequence > self.shares.sequence_of(life) {
                    for predecessor in predecessors {
                        self.shares.end_unseen(*predecessor);
                    }
                    return self.read(cx);
                }
                let transitions = self.shares.end_all(predecessors);
                cx.effects.extend(transitions.into_iter().map(Effect::Tell));
            }
            Notice::Gone(gone) => {
                cx.effects.extend(self.shares.end(*gone).into_iter().map(Effect::Tell));
            }
        }
        if life == self.life {
            self.complete(sequence, cx);
            self.send_count(cx);
        }
        self.tell_count(cx);
    }

    fn keep(&mut self, life: NodeId, sequence: u64, notice: Notice) {
        self.kept_weight += notice.weight();
        self.kept.push_back((life, sequence, notice));
    }

    /// Asks for all shares.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) {
        let ticket = cx.next();
        self.state = State::Reading { ticket, is_overrun: false };
        let known = self.lives().collect();
        cx.effects.push(Effect::Read { ticket, known });
    }

    /// Puts what this node holds, and wants to hold, in the place of its share, and asks for all shares.
    pub(super) fn replace(&mut self, cx: &mut Context<'_>) {
        let sequence = cx.next();
        let mut own = self.shares.clone();
        for want in &mut self.wants {
            match &want.what {
                What::Enter(_, Some(entry), _) => {
                    own.change_alone(self.life, &Change::Join(entry.clone()));
                    want.sequence = sequence;
                }
                What::Change(change) => {
                    own.change_alone(self.life, change);
                    want.sequence = sequence;
                }
                What::Enter(_, None, _) => {}
            }
        }
        let (entries, count) = if self.is_presence {
            let entries = own.entries_of(self.life);
            let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            (entries, count)
        } else {
            let waiting =
                self.wants.iter().filter(|want| matches!(want.what, What::Enter(_, None, Role::Subscriber)));
            let waiting = u32::try_from(waiting.count()).unwrap_or(u32::MAX);
            (Vec::new(), self.entered.saturating_add(waiting))
        };
        self.state = State::Reading { ticket: sequence, is_overrun: false };
        (self.last, self.replaced, self.sent_count) = (sequence, sequence, count);
        (self.is_marked, self.is_newer_kept, self.is_keep_due) = (false, false, false);
        self.count_under_way = None;
        self.is_stored = true;
        let predecessors = self.predecessors.clone();
        let confirmed = self.before.as_mut().map(|before| before.confirm(&entries, count));
        let known = self.lives().collect();
        cx.effects.push(Effect::Replace { sequence, predecessors, entries, count, confirmed, known });
    }

    /// The shares are there, as they stood in one moment.
    pub fn answered(&mut self, ticket: u64, answer: Answer, cx: &mut Context<'_>) {
        let State::Reading { ticket: asked, is_overrun } = self.state else { return };
        if asked != ticket {
            return;
        }
        if is_overrun {
            self.kept.clear();
            self.kept_weight = 0;
            return self.read(cx);
        }
        let is_replacement = ticket == self.replaced;
        let own = answer.shares.iter().find(|share| share.life == self.life);
        let (own_sequence, own_count) = own.map_or((0, 0), |share| (share.sequence, share.count));
        let is_forgotten = own_sequence < self.shares.sequence_of(self.life);
        if is_forgotten && !is_replacement {
            self.remember();
        }
        let before = self.before.take().filter(|_| is_forgotten && !is_replacement);
        self.install(answer, is_replacement, own_count, cx);
        if self.is_cache && is_replacement && !self.is_newer_kept {
            if self.is_marked {
                cx.effects.push(Effect::Keep);
            } else {
                // Who is let in before the topic has come so far would hear it once more.
                self.is_keep_due = true;
            }
        }
        self.state = State::Live;
        if is_forgotten && self.is_stored && !is_replacement {
            self.before = before;
            return self.replace(cx);
        }
        self.complete(own_sequence, cx);
        let kept = std::mem::take(&mut self.kept);
        self.kept_weight = 0;
        for (life, sequence, notice) in kept {
            if self.state == State::Live {
                self.take(life, sequence, notice, cx);
            } else {
                self.keep(life, sequence, notice);
            }
        }
        if self.state == State::Live {
            self.reads = 0;
            self.send_count(cx);
            if self.lacks_mark() && self.has_wanted_share() {
                self.replace(cx);
            }
        }
    }

    /// Takes the shares in and tells the difference.
    fn install(&mut self, answer: Answer, is_replacement: bool, own_count: u32, cx: &mut Context<'_>) {
        let is_settled = self.settles_at.is_none_or(|at| at <= cx.now);
        if is_replacement {
            self.predecessors.clear();
            self.stored_count = self.sent_count;
        }
        for over in answer.over.into_iter().filter(|over| *over != self.life) {
            // What they held need not be waited for.
            self.shares.end_unseen(over);
        }
        let differences = self.shares.install(self.life, answer.shares, is_settled);
        cx.effects.extend(differences.into_iter().map(Effect::Tell));
        debug_assert!(
            self.is_presence || !is_replacement || own_count == self.sent_count,
            "what was sent is what is there"
        );
    }

    /// The share of a dead life should be gone by now. If it is still shown, the notice of that was missed.
    pub fn ended(&mut self, life: NodeId, cx: &mut Context<'_>) {
        if self.state == State::Live && life != self.life && self.shares.count_of(life) > 0 {
            self.read(cx);
        }
    }

    /// A change is in the share.
    pub fn done(&mut self, sequence: u64, cx: &mut Context<'_>) {
        if self.count_under_way.is_some_and(|under_way| under_way <= sequence) {
            self.count_under_way = None;
            self.stored_count = self.sent_count;
            if self.entered == 0 && self.sent_count == 0 && self.wants.is_empty() {
                self.is_stored = false;
            }
            self.send_count(cx);
        }
    }

    /// A change was not made: the share is not what it should follow, or the life is over.
    pub fn refused(&mut self, sequence: u64, is_over: bool, cx: &mut Context<'_>) {
        match self.state {
            State::Live | State::Reading { .. } if is_over => cx.effects.push(Effect::Renew(self.life)),
            // Those before the last replacement are in it.
            State::Live | State::Reading { .. } if sequence > self.replaced => {
                // If it has forgotten the share, who is in it is no news.
                self.remember();
                self.replace(cx);
            }
            State::Live
            | State::Reading { .. }
            | State::Idle
            | State::Subscribing { .. }
            | State::Away
            | State::Returning { .. } => {}
        }
    }
}

impl Before {
    /// What of it still holds. What is not among these is news again when it comes back later: the store is told so, whether
    /// the answer comes or not.
    fn confirm(&mut self, entries: &[Entry], count: u32) -> Confirmed {
        let was_here = !self.own.is_empty();
        let users = entries.iter().map(|entry| match &entry.member.user_id {
            user_id if self.own.contains(user_id) => KnownUser::Here,
            user_id if was_here && self.roster.contains(user_id) => KnownUser::Elsewhere,
            _ => KnownUser::No,
        });
        let users = users.collect();
        let held: HashSet<_> = entries.iter().map(|entry| entry.member.user_id.clone()).collect();
        self.keep(&held);
        let mut gone: Vec<_> = self.gone.difference(&held).cloned().collect();
        gone.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        let Self { is_occupied, was_here, count: count_before, .. } = *self;
        let confirmed = Confirmed { users, is_occupied, was_here, count: count_before, gone };
        self.is_occupied &= count > 0;
        confirmed
    }

    /// Only these are still on this node.
    pub(super) fn keep(&mut self, held: &HashSet<UserId>) {
        let gone = &mut self.gone;
        self.own.retain(|user_id| {
            let is_held = held.contains(user_id);
            if !is_held {
                gone.insert(user_id.clone());
            }
            is_held
        });
    }
}
