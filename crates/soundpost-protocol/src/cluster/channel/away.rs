//! Redis goes and comes back, and the node takes another life.

use super::*;

/// What the cluster knew when Redis went away.
#[derive(Debug)]
pub(super) struct Before {
    /// The users of this node, but those who were leaving.
    pub(super) own: HashSet<UserId>,
    /// Those who were leaving, and who of the others has left since.
    pub(super) gone: HashSet<UserId>,
    /// Who was on the channel.
    pub(super) roster: Roster,
    pub(super) is_occupied: bool,
    pub(super) was_here: bool,
    pub(super) count: u32,
}

impl ClusterChannel {
    /// Redis is away: everybody who waits is let in, and what this node wants counts here at once. To be called on a
    /// new channel, too, if it is away already.
    pub fn lost(&mut self, cx: &mut Context<'_>) {
        if self.state == State::Away {
            return;
        }
        if matches!(self.state, State::Returning { .. }) {
            self.state = State::Away;
            return;
        }
        self.remember();
        self.state = State::Away;
        self.settles_at = None;
        self.unneeded_since = None;
        self.count_under_way = None;
        self.kept.clear();
        self.kept_weight = 0;
        self.reads = 0;
        while let Some(want) = self.wants.pop_front() {
            self.fulfil_alone(want, cx);
        }
        self.tell_count(cx);
    }

    /// Keeps what the cluster knows, before it is mixed with what it does not, or because Redis has forgotten it. If Redis
    /// goes again before it has answered, what was known first still is, but for those who leave.
    pub(super) fn remember(&mut self) {
        let leaving = |want: &Want| match &want.what {
            What::Change(Change::Leave { socket_id, .. }) => Some(*socket_id),
            What::Change(_) | What::Enter(..) => None,
        };
        let leaving: HashSet<_> = self.wants.iter().filter_map(leaving).collect();
        let entries = self.shares.entries_of(self.life);
        let staying = entries.iter().filter(|entry| !leaving.contains(&entry.socket_id));
        let own: HashSet<_> = staying.map(|entry| entry.member.user_id.clone()).collect();
        if let Some(before) = &mut self.before {
            return before.keep(&own);
        }
        let is_occupied =
            if self.is_presence { !own.is_empty() } else { self.stored_count.min(self.sent_count) > 0 };
        let (roster, count) = (self.shares.roster().clone(), self.shares.count());
        let users = entries.iter().map(|entry| &entry.member.user_id);
        let gone: HashSet<_> = users.filter(|user_id| !own.contains(*user_id)).cloned().collect();
        let was_here = if self.is_presence { !entries.is_empty() } else { self.stored_count > 0 };
        self.before = Some(Before { own, gone, roster, is_occupied, was_here, count });
    }

    /// Redis is there again.
    pub fn back(&mut self, cx: &mut Context<'_>) {
        if self.state != State::Away {
            return;
        }
        if !self.is_wanted() && !self.is_stored && self.predecessors.is_empty() {
            self.state = State::Idle;
            return;
        }
        let ticket = cx.next();
        self.state = State::Returning { ticket };
        cx.effects.push(Effect::Subscribe { ticket });
    }

    /// The node has another life, because the last one may be over for the others. Whoever calls says [`Self::back`]
    /// after it, if Redis is there.
    pub fn renew(&mut self, life: NodeId, cx: &mut Context<'_>) {
        let is_heard = !matches!(self.state, State::Idle | State::Away);
        self.lost(cx);
        let before = std::mem::replace(&mut self.life, life);
        self.shares.rename(before, life);
        self.last = 0;
        if self.is_stored {
            if self.predecessors.len() == crate::cluster::message::PREDECESSORS_MAX {
                self.predecessors.remove(0);
            }
            self.predecessors.push(before);
        }
        if is_heard && self.is_idle() {
            self.state = State::Idle;
            cx.effects.push(Effect::Unsubscribe);
        }
    }
}
