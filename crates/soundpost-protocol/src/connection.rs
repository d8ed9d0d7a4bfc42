//! One client's connection as a state machine: frames and time come in, effects go out.
//!
//! It decides everything the protocol says about a connection and does nothing itself: the worker that owns it
//! carries the effects out, in their order.

mod adopt;
mod client_events;

use std::{num::NonZeroU32, sync::Arc, time::Instant};

pub use client_events::RelayedEvent;

use crate::{
    app::App,
    auth,
    channel::{ChannelKind, ChannelName},
    client_frame::{ClientFrame, SignIn, Subscribe},
    close::{CloseReason, Refusal},
    presence::Member,
    rate::{Bucket, Window},
    server_frame::{self, SubscriptionFailure},
    socket_id::SocketId,
    user::User,
    websocket::Frame,
};

/// What can happen to a connection.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A ping control frame with its payload.
    Ping(&'a [u8]),
    /// A pong control frame.
    Pong,
    /// Time has passed: [`Connection::deadline`] is reached, or nearly.
    Tick,
}

/// What the server must now do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Queue the frame for this client.
    Send(Frame),
    /// Join the channel. If that is impossible, say so with [`Connection::join_failed`].
    Join {
        /// Already in the connection's list of subscriptions.
        channel: ChannelName,
        /// Who joins, on presence channels.
        member: Option<Arc<Member>>,
    },
    /// Answer a repeated subscribe: success again with a fresh roster and nothing else.
    Rejoin {
        /// Held before and after.
        channel: ChannelName,
        /// Who is here, on presence channels; perhaps with other info than before.
        member: Option<Arc<Member>>,
    },
    /// Leave the channel.
    Leave {
        /// No longer in the connection's list of subscriptions.
        channel: ChannelName,
        /// Who leaves, on presence channels.
        member: Option<Arc<Member>>,
    },
    /// Deliver the client event to every other subscriber of the channel. If that is impossible, say so with
    /// [`Connection::relay_failed`].
    Relay {
        /// Where to.
        channel: ChannelName,
        /// The event, encoded.
        frame: Frame,
        /// The same for webhooks, if any of the app's wants to be told of it.
        told: Option<Box<RelayedEvent>>,
    },
    /// The client is signed in, or again with another watchlist: its answer is sent already.
    SignIn(Arc<User>),
    /// Count a refusal; the client has its answer in an effect of its own.
    Count(Refused),
    /// Send the reason and a close frame, then end the connection.
    Close(CloseReason),
}

/// What a client was refused while its connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A message that is none of the protocol's.
    Message,
    /// A message above Reverb's rate.
    MessageRate,
    /// A subscription: its name, its signature or a limit.
    Subscription,
    /// A sign-in.
    SignIn,
    /// A client event that breaks a rule.
    ClientEvent,
    /// A client event above the rate.
    ClientEventRate,
}

impl Refused {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Message,
        Self::MessageRate,
        Self::Subscription,
        Self::SignIn,
        Self::ClientEvent,
        Self::ClientEventRate,
    ];

    /// The word used in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::MessageRate => "message_rate",
            Self::Subscription => "subscription",
            Self::SignIn => "signin",
            Self::ClientEvent => "client_event",
            Self::ClientEventRate => "client_event_rate",
        }
    }
}

/// What the upgrade request says, and what the server knows of the app it names.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The app with the key in the path, if there is one.
    pub app: Option<&'a App>,
    /// The node is about to stop.
    pub draining: bool,
    /// The socket is encrypted.
    pub is_tls: bool,
    /// The `protocol` of the query.
    pub protocol: Option<&'a str>,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
}

impl Opening<'_> {
    /// The checks on connect, in the order the protocol gives them; the quotas of app and node come after these.
    pub fn check(&self) -> Result<(), CloseReason> {
        if self.draining {
            // Not 4200, on which clients come back at once: a lone node would be hammered until it is gone.
            return Err(CloseReason::OverCapacity);
        }
        let app = self.app.ok_or(CloseReason::UnknownApp)?;
        let supported = match self.protocol {
            None => true,
            Some(text) => matches!(text.parse(), Ok(4..=7_u32)),
        };
        if app.tls_only && !self.is_tls {
            Err(CloseReason::TlsOnly)
        } else if !app.enabled {
            Err(CloseReason::AppDisabled)
        } else if !supported {
            Err(CloseReason::UnsupportedProtocol)
        } else if !app.allowed_origins.allow(self.origin) {
            Err(CloseReason::OriginNotAllowed)
        } else {
            Ok(())
        }
    }
}

/// One channel a connection is on.
#[derive(Clone, Debug)]
struct Subscription {
    channel: ChannelName,
    member: Option<Arc<Member>>,
}

/// What a connection may still send; made when it first matters.
#[derive(Debug, Default)]
struct Rates {
    client_events: Option<Bucket>,
    messages: Option<Window>,
}

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    app: Arc<App>,
    socket_id: SocketId,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// The client has shown that it knows control frames, so pings need no JSON.
    uses_control_frames: bool,
    /// Sorted by channel.
    subscriptions: Vec<Subscription>,
    rates: Option<Box<Rates>>,
    user: Option<Arc<User>>,
    /// Until when it has to sign in or join a channel that needs a signature, if it still has to.
    authorize_by: Option<Instant>,
}

impl Connection {
    /// A connection that has passed every check, and its greeting.
    pub fn open(app: Arc<App>, socket_id: SocketId, now: Instant) -> (Self, Frame) {
        let greeting = server_frame::connection_established(socket_id, app.activity_timeout.as_secs().max(1));
        let connection = Self {
            authorize_by: app.authorized_timeout.map(|timeout| now + timeout),
            user: None,
            app,
            socket_id,
            heard_at: now,
            pinged_at: None,
            uses_control_frames: false,
            subscriptions: Vec::new(),
            rates: None,
        };
        (connection, greeting)
    }

    /// Its public name.
    pub const fn socket_id(&self) -> SocketId {
        self.socket_id
    }

    /// The app it belongs to.
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Who is signed in.
    pub const fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }

    /// Channels it is on.
    pub const fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// When it next wants a [`Input::Tick`].
    pub fn deadline(&self) -> Instant {
        let alive = self.alive_until();
        self.authorize_by.map_or(alive, |authorize_by| authorize_by.min(alive))
    }

    /// Whether it was sent a ping and nothing has come since. Whatever comes may bring [`Self::deadline`] nearer.
    pub const fn awaits_pong(&self) -> bool {
        self.pinged_at.is_some()
    }

    fn alive_until(&self) -> Instant {
        match self.pinged_at {
            Some(pinged_at) => pinged_at + self.app.pong_timeout,
            None => self.heard_at + self.app.ping_interval,
        }
    }

    /// Takes every subscription away, for a connection that has ended.
    pub fn leave_all(&mut self) -> impl Iterator<Item = (ChannelName, Option<Arc<Member>>)> {
        std::mem::take(&mut self.subscriptions).into_iter().map(|held| (held.channel, held.member))
    }

    /// Total: whatever a client sends yields effects, never a panic. The caller reuses `effects`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Text(text) => {
                self.heard(now);
                self.receive(now, text, effects);
            }
            Input::Ping(payload) => {
                self.heard(now);
                self.uses_control_frames = true;
                effects.push(Effect::Send(Frame::pong(payload)));
            }
            Input::Pong => {
                self.heard(now);
                self.uses_control_frames = true;
            }
            Input::Tick if self.authorize_by.is_some_and(|authorize_by| authorize_by <= now) => {
                effects.push(Effect::Close(CloseReason::NotAuthorized));
            }
            Input::Tick if now < self.alive_until() => {}
            Input::Tick if self.pinged_at.is_some() => effects.push(Effect::Close(CloseReason::PongTimeout)),
            Input::Tick => {
                self.pinged_at = Some(now);
                let control = self.uses_control_frames;
                effects.push(Effect::Send(if control { Frame::ping() } else { server_frame::ping() }));
            }
        }
    }

    /// A join that [`Effect::Join`] asked for was refused.
    pub fn join_failed(
        &mut self,
        channel: &ChannelName,
        failure: &SubscriptionFailure,
        effects: &mut Vec<Effect>,
    ) {
        if let Ok(at) = self.find(channel) {
            self.subscriptions.remove(at);
        }
        effects.push(Effect::Count(Refused::Subscription));
        fail(channel.as_str(), failure, effects);
    }

    const fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    fn receive(&mut self, now: Instant, text: &str, effects: &mut Vec<Effect>) {
        let frame = ClientFrame::parse(text);
        if !matches!(frame, Ok(ClientFrame::Ping | ClientFrame::Pong)) && !self.may_send(now, effects) {
            return;
        }
        match frame {
            Ok(ClientFrame::Ping) => effects.push(Effect::Send(server_frame::pong())),
            Ok(ClientFrame::Pong | ClientFrame::Other) => {}
            Ok(ClientFrame::Subscribe(subscribe)) => {
                if let Err(failure) = self.subscribe(&subscribe, effects) {
                    effects.push(Effect::Count(Refused::Subscription));
                    fail(&subscribe.channel, &failure, effects);
                }
            }
            Ok(ClientFrame::Unsubscribe { channel }) => self.unsubscribe(&channel, effects),
            Ok(ClientFrame::SignIn(sign_in)) => {
                if let Err(refusal) = self.sign_in(&sign_in, effects) {
                    effects.push(Effect::Count(Refused::SignIn));
                    effects.push(Effect::Send(server_frame::refusal(&refusal, None)));
                }
            }
            Ok(ClientFrame::ClientEvent(event)) => {
                if let Err(refusal) = self.relay(now, &event, effects) {
                    let is_rate = refusal == Refusal::RateLimit;
                    let refused = if is_rate { Refused::ClientEventRate } else { Refused::ClientEvent };
                    effects.push(Effect::Count(refused));
                    effects.push(Effect::Send(server_frame::refusal(&refusal, Some(&event.channel))));
                }
            }
            Err(refusal) => {
                effects.push(Effect::Count(Refused::Message));
                effects.push(Effect::Send(server_frame::refusal(&refusal, None)));
            }
        }
    }

    /// Reverb's rate over all messages; pings and pongs are never counted.
    fn may_send(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let Some(rate) = self.app.message_rate else { return true };
        let window = self.rates.get_or_insert_default().messages.get_or_insert(Window::new(now));
        let free = window.take(rate.messages_max, rate.window, now);
        if !free {
            effects.push(Effect::Count(Refused::MessageRate));
            effects.push(match rate.terminate {
                true => Effect::Close(CloseReason::RateLimit),
                false => Effect::Send(server_frame::refusal(&Refusal::RateLimit, None)),
            });
        }
        free
    }

    fn subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SubscriptionFailure> {
        let limits = &self.app.limits;
        let channel = ChannelName::parse(&subscribe.channel, limits).map_err(SubscriptionFailure::Name)?;
        let kind = channel.kind();
        let member = self.authorize(kind, &channel, subscribe)?;
        match self.find(&channel) {
            Ok(at) => {
                let held = self.subscriptions.get_mut(at).ok_or(SubscriptionFailure::Busy)?;
                let user =
                    |member: &Option<Arc<Member>>| member.as_ref().map(|member| member.user_id.clone());
                if user(&held.member) != user(&member) {
                    return Err(SubscriptionFailure::OtherUser);
                }
                held.member.clone_from(&member);
                effects.push(Effect::Rejoin { channel: held.channel.clone(), member });
            }
            Err(at) => {
                if let Some(max) = limits.channels_per_connection_max.map(NonZeroU32::get)
                    // The user's own channel is part of signing in, which must not fail for what was subscribed before.
                    && kind != ChannelKind::ServerToUser
                    && self.subscriptions.len() >= max as usize
                {
                    return Err(SubscriptionFailure::ChannelsMax(max));
                }
                if kind.needs_auth() {
                    self.authorize_by = None;
                }
                let subscription = Subscription { channel: channel.clone(), member: member.clone() };
                self.subscriptions.insert(at, subscription);
                effects.push(Effect::Join { channel, member });
            }
        }
        Ok(())
    }

    /// Checks what the kind of channel demands; nothing is parsed from `channel_data` before its signature is good.
    fn authorize(
        &self,
        kind: ChannelKind,
        channel: &ChannelName,
        subscribe: &Subscribe<'_>,
    ) -> Result<Option<Arc<Member>>, SubscriptionFailure> {
        if let Some(user_id) = channel.user_id() {
            let is_user = self.user.as_ref().is_some_and(|user| user.id.as_str() == user_id);
            return if is_user { Ok(None) } else { Err(SubscriptionFailure::Unauthorized) };
        }
        if !kind.needs_auth() {
            return Ok(None);
        }
        let data = subscribe.channel_data.as_deref();
        let auth = subscribe.auth.as_deref().unwrap_or_default();
        if !auth::channel_auth_is_valid(&self.app, self.socket_id, channel, data, auth) {
            return Err(SubscriptionFailure::Unauthorized);
        }
        if !kind.is_presence() {
            return Ok(None);
        }
        let member = match (data, &self.user) {
            (Some(data), _) => Member::parse(data, &self.app.limits).map_err(SubscriptionFailure::Member)?,
            (None, Some(user)) => user.member(),
            (None, None) => return Err(SubscriptionFailure::Unauthorized),
        };
        Ok(Some(Arc::new(member)))
    }

    /// Signs the client in, or the same user once more with what is now said of it.
    fn sign_in(&mut self, sign_in: &SignIn<'_>, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let SignIn { auth, user_data } = sign_in;
        if !auth::user_auth_is_valid(&self.app, self.socket_id, user_data, auth) {
            return Err(Refusal::Unauthorized);
        }
        let mut user = User::parse(user_data, &self.app.limits).ok_or(Refusal::Unauthorized)?;
        if self.user.as_ref().is_some_and(|signed_in| signed_in.id != user.id) {
            return Err(Refusal::OtherUser);
        }
        if !self.app.watchlists {
            user.watchlist = Vec::new();
            user.watchlist_was_longer = false;
        }
        let user = Arc::new(user);
        self.user = Some(Arc::clone(&user));
        self.authorize_by = None;
        let was_longer = user.watchlist_was_longer;
        effects.push(Effect::Send(server_frame::signin_success(user_data)));
        effects.push(Effect::SignIn(user));
        if was_longer {
            effects.push(Effect::Send(server_frame::refusal(&Refusal::WatchlistTooLong, None)));
        }
        Ok(())
    }

    fn unsubscribe(&mut self, channel: &str, effects: &mut Vec<Effect>) {
        let found = self.subscriptions.binary_search_by(|held| held.channel.as_str().cmp(channel));
        if let Ok(at) = found {
            let Subscription { channel, member } = self.subscriptions.remove(at);
            effects.push(Effect::Leave { channel, member });
        }
    }

    fn find(&self, channel: &ChannelName) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|held| held.channel.cmp(channel))
    }
}

fn fail(channel: &str, failure: &SubscriptionFailure, effects: &mut Vec<Effect>) {
    effects.extend(failure.frames(channel).map(Effect::Send));
}

#[cfg(test)]
mod tests;
