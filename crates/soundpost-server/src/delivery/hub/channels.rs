//! The channels of a hub's connections: joins on their way and come up, repeated ones, leaves.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use soundpost_protocol::{
    app::ClientEvents,
    channel::ChannelName,
    connection::Effect,
    presence::Member,
    server_frame::{self, SubscriptionFailure},
    socket_id::SocketId,
    user::User,
    websocket::Frame,
};

use super::{Hub, Pending, Seat};
use crate::{
    apps::{ChannelKey, RunningApp, UserKey},
    delivery::{
        Company, ConnectionRef, Hears, Joiner, Joining, Leaving, SigningIn, Slab, Wakes,
        subscribers::{Moved, Subscriber},
    },
};

impl Hub {
    /// Puts the connection's join on its way. Errors: see [`join`](crate::delivery::Delivery::join).
    pub fn join(
        &mut self,
        name: ConnectionRef,
        channel: ChannelName,
        member: Option<Arc<Member>>,
    ) -> Result<(), SubscriptionFailure> {
        let Some((app, joiner)) = self.joiner(name) else { return Ok(()) };
        let members_max = app.app.limits.presence_members_max;
        let user = member.as_ref().map(|member| UserKey { app: app.index, id: member.user_id.clone() });
        let joining = member.map(|member| Joining { member, joined_at: unix_milliseconds(), members_max });
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        let key = ChannelKey { app: app.index, name: channel };
        let hears = Hears::of(&app.app, &key.name);
        let company = Company { cache: &app.cache, tells_count: app.app.subscription_count, hears };
        let mut wakes = Wakes::new(&self.delivery.inboxes);
        let key = self.delivery.join(joiner, key, ticket, joining, company, &mut wakes)?;
        drop(wakes);
        if let Some(user) = user {
            self.delivery.note_presence(&user, joiner.socket_id, true);
        }
        if let Some(seat) = self.seats.get_mut(name) {
            seat.pending.push(Pending { ticket, key, answers: 0 });
        }
        Ok(())
    }

    /// Asks for another `subscription_succeeded` on a channel the connection holds.
    pub fn rejoin(
        &mut self,
        name: ConnectionRef,
        channel: ChannelName,
        member: Option<&Arc<Member>>,
    ) -> Result<(), SubscriptionFailure> {
        let Some((app, joiner)) = self.joiner(name) else { return Ok(()) };
        let key = Arc::new(ChannelKey { app: app.index, name: channel });
        self.delivery.rejoin(joiner, &key, member, &mut self.delivery.wakes())
    }

    /// Takes the connection off a channel, here and in the directory.
    pub fn leave(&mut self, name: ConnectionRef, channel: ChannelName, member: Option<&Member>) {
        let Some((app, joiner)) = self.joiner(name) else { return };
        let key = ChannelKey { app: app.index, name: channel };
        let delivery = Arc::clone(&self.delivery);
        self.leave_channel((name, joiner), &app, &key, member, false, &mut delivery.wakes());
    }

    /// Takes the connection off every channel, and its user off the node. `quietly`: nobody is told.
    pub(super) fn leave_all(&mut self, name: ConnectionRef, quietly: bool) {
        let Some((app, joiner)) = self.joiner(name) else { return };
        let Some(connection) = self.seats.get_mut(name).and_then(|seat| seat.connection.as_mut()) else {
            return;
        };
        let held: Vec<_> = connection.leave_all().collect();
        let delivery = Arc::clone(&self.delivery);
        if let Some(user) = self.seats.get_mut(name).and_then(|seat| seat.user.take()) {
            delivery.sign_out(app.index, joiner.socket_id, &user, Instant::now());
        }
        let mut wakes = delivery.wakes();
        for (channel, member) in held {
            let key = ChannelKey { app: app.index, name: channel };
            self.leave_channel((name, joiner), &app, &key, member.as_deref(), quietly, &mut wakes);
        }
    }

    fn leave_channel(
        &mut self,
        (name, joiner): (ConnectionRef, Joiner),
        app: &RunningApp,
        key: &ChannelKey,
        member: Option<&Member>,
        is_quiet: bool,
        wakes: &mut Wakes<'_>,
    ) {
        if let Some(seat) = self.seats.get_mut(name) {
            if let Some(at) = seat.pending.iter().position(|pending| *pending.key == *key) {
                seat.pending.swap_remove(at);
            } else if let Some(channel) = self.subscribers.find(key)
                && let Some(at) = seat.places.iter().position(|place| place.channel == channel)
            {
                let place = seat.places.swap_remove(at);
                if let Some(moved) = self.subscribers.leave(place) {
                    tell(&mut self.seats, moved);
                }
            }
        }
        let user_id = member.map(|member| &member.user_id);
        let hold = app.app.presence_leave_hold;
        let hears = Hears::of(&app.app, &key.name);
        let leaving = Leaving { user_id, is_quiet, hold, tells_count: app.app.subscription_count, hears };
        self.delivery.leave(joiner, key, &leaving, wakes);
        if let Some(user_id) = user_id {
            let user = UserKey { app: app.index, id: user_id.clone() };
            self.delivery.note_presence(&user, joiner.socket_id, false);
        }
    }

    /// The join has come up in the inbox and is still wanted: the connection hears the channel from now on.
    pub(super) fn enter(
        &mut self,
        name: ConnectionRef,
        ticket: u32,
        key: &Arc<ChannelKey>,
        roster_version: u64,
    ) {
        let place = self.subscribers.enter(key, Subscriber { connection: name, roster_version });
        let Some(seat) = self.seats.get_mut(name) else { return };
        seat.pending.retain(|pending| pending.ticket != ticket);
        if seat.pending.is_empty() {
            seat.pending = Vec::new();
        }
        if seat.places.is_empty() {
            seat.places = Vec::with_capacity(1);
        }
        seat.places.push(place);
    }

    /// The repeated join has come up: gives back what to tell the client, if it still holds the channel. Who waits in the
    /// lobby is told when it is let in.
    pub(in crate::delivery) fn enter_again(
        &mut self,
        name: ConnectionRef,
        key: &ChannelKey,
    ) -> Option<Frame> {
        let channel = self.subscribers.find(key);
        let seat = self.seats.get_mut(name)?;
        let Some(place) = seat.places.iter().find(|place| Some(place.channel) == channel).copied() else {
            let waits = |pending: &&mut Pending| pending.answers > 0 && *pending.key == *key;
            let waiting = seat.pending.iter_mut().find(waits)?;
            waiting.answers = waiting.answers.saturating_add(1);
            return None;
        };
        let (roster_version, frame) = self.success(key)?;
        self.subscribers.renew(place, roster_version);
        Some(frame)
    }

    /// A join that has waited was refused: takes it back, if it is still wanted, and tells the client.
    pub(in crate::delivery) fn refuse(
        &mut self,
        connection: SocketId,
        ticket: u32,
        key: &ChannelKey,
        at_once: bool,
    ) {
        let Some(refusal) = self.delivery.take_refusal(key, connection, ticket) else { return };
        if let Some(id) = refusal.user_id {
            self.delivery.note_presence(&UserKey { app: key.app, id }, connection, false);
        }
        let Some(name) = self.find(connection) else { return };
        let Some(seat) = self.seats.get_mut(name) else { return };
        seat.pending.retain(|pending| pending.ticket != ticket);
        let Some(connection) = seat.connection.as_mut() else { return };
        let mut effects = Vec::new();
        connection.join_failed(&key.name, &refusal.failure, &mut effects);
        // Each subscribe has its own answer, as if each had been refused at once.
        for _ in 1..refusal.answers {
            effects.extend(refusal.failure.frames(key.name.as_str()).map(Effect::Send));
        }
        self.answer(name, &effects, at_once);
    }

    /// A client event did not reach the cluster for certain: tells its sender, if it is still there.
    pub(in crate::delivery) fn relay_failed(
        &mut self,
        sender: SocketId,
        channel: &ChannelName,
        at_once: bool,
    ) {
        let Some(name) = self.find(sender) else { return };
        let mut effects = Vec::new();
        if let Some(connection) = self.seats.get(name).and_then(|seat| seat.connection.as_ref()) {
            connection.relay_failed(channel, &mut effects);
        }
        self.answer(name, &effects, at_once);
    }

    /// Carries out what becomes of something that was refused: frames and counts.
    fn answer(&mut self, name: ConnectionRef, effects: &[Effect], at_once: bool) {
        for effect in effects {
            if let Effect::Send(frame) = effect {
                self.give(name, frame, at_once);
            } else if let Effect::Count(refused) = effect
                && let Some(app) = self.seats.get(name).and_then(|seat| seat.app.as_ref())
            {
                app.counters(self.worker).refused_messages(*refused).add(1);
            }
        }
    }

    /// Whether the connection waits for the cluster to let it in, and may send client events only when it is: it has no
    /// subscription yet.
    pub fn is_entering(&self, name: ConnectionRef, channel: &ChannelName) -> bool {
        let is_it = |pending: &Pending| pending.key.name == *channel;
        let is_for_members =
            |seat: &&Seat| seat.app.as_ref().is_some_and(|app| app.app.client_events != ClientEvents::All);
        self.delivery.is_clustered()
            && self.seats.get(name).filter(is_for_members).is_some_and(|seat| seat.pending.iter().any(is_it))
    }

    /// The `subscription_succeeded` of a channel, and the version of the roster in it.
    pub(super) fn success(&self, key: &ChannelKey) -> Option<(u64, Frame)> {
        if key.name.kind().is_presence() {
            self.delivery.directory.roster_frame(key)
        } else {
            Some((0, server_frame::subscription_succeeded(&key.name)))
        }
    }

    /// Notes who the connection is signed in as and tells it, now or soon, about those it watches.
    pub fn sign_in(&mut self, name: ConnectionRef, user: &Arc<User>) {
        let Some((app, joiner)) = self.joiner(name) else { return };
        let Some(seat) = self.seats.get_mut(name) else { return };
        let before = seat.user.replace(Arc::clone(user));
        let delivery = Arc::clone(&self.delivery);
        let mut wakes = delivery.wakes();
        let (socket_id, is_watchable) = (joiner.socket_id, app.app.watchlists);
        let (before, now) = (before.as_deref(), Instant::now());
        let signing = SigningIn { app: app.index, socket_id, user, before, is_watchable, now };
        let told = delivery.sign_in(&signing, &mut wakes);
        if let Some(frame) = told {
            self.log_frame(name, &frame);
            self.send(name, &frame);
        }
    }

    fn joiner(&self, name: ConnectionRef) -> Option<(Arc<RunningApp>, Joiner)> {
        let seat = self.seats.get(name)?;
        let socket_id = seat.connection.as_ref()?.socket_id();
        let app = seat.app.clone()?;
        Some((app, Joiner { worker: self.worker, connection: name, socket_id }))
    }

    /// After a delivery: closes the gaps that leaves have left.
    pub(in crate::delivery) fn close_gaps(&mut self) {
        let seats = &mut self.seats;
        self.subscribers.end_delivery(|moved| tell(seats, moved));
    }
}

fn tell(seats: &mut Slab<Seat>, moved: Moved) {
    let Some(seat) = seats.get_mut(moved.connection) else { return };
    if let Some(place) = seat.places.iter_mut().find(|place| place.channel == moved.to.channel) {
        *place = moved.to;
    }
}

fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
