//! Scripts of what a client does, held against a model of what it is subscribed to.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret, ClientEvents, Limits, MessageRate},
    auth,
    channel::ChannelName,
    connection::{Connection, Effect, Input, Refused},
    presence::{Member, NodeId},
    server_frame::SubscriptionFailure,
    socket_id::SocketId,
    webhook::{
        Carrier, HttpTarget, Webhook,
        event::{Event, EventId, EventKind},
        target::{ExtraHeaders, Target, TargetUrl},
    },
    websocket::Frame,
};

use crate::Outcome;

const SOCKET: SocketId = SocketId { left: 1234, right: 5678 };

/// The largest step of time, seconds, so that no script leaves what an [`Instant`] can say.
const STEP_SECONDS_MAX: u64 = 100_000;

/// Any time will do, but the machine makes only this one.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The input is lines. The first holds the app's settings as words: `all`, `none`, `public`, `unwatched`, `hooked`,
/// `rate`, `terminate`, `timeout`, `few`. Every other line is a step:
///
/// | Line | Step |
/// |---|---|
/// | `+ CHANNEL DATA` | subscribe, rightly signed, with channel data if there is any |
/// | `@ DATA` | sign in, rightly signed |
/// | `~ SECONDS` | time passes, and a tick |
/// | `! PAYLOAD` | a ping control frame |
/// | `.` | a pong control frame |
/// | `?` | the server refuses the last join |
/// | anything else | a text message |
pub fn connection(data: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(data) else { return Outcome::Refused };
    let mut lines = text.split('\n');
    let Some(mut script) = Script::new(lines.next().unwrap_or_default()) else { return Outcome::Refused };
    for line in lines {
        script.play(line);
        if script.closed {
            break;
        }
    }
    script.finish();
    if script.effective { Outcome::Accepted } else { Outcome::Refused }
}

/// A connection and what is known of it from its effects.
struct Script {
    connection: Connection,
    app: Arc<App>,
    now: Instant,
    /// The channels held, with the user's id on presence channels.
    held: BTreeMap<ChannelName, Option<String>>,
    joined: Option<ChannelName>,
    user: Option<String>,
    closed: bool,
    /// Something other than an answer came out.
    effective: bool,
}

fn app(words: &str) -> Option<App> {
    let (id, key) = (AppId::parse("app").ok()?, AppKey::parse("k").ok()?);
    let mut app = App::new(id, key, AppSecret::new("soundpost-secret"));
    let has = |word| words.split(' ').any(|other| other == word);
    if has("all") {
        app.client_events = ClientEvents::All;
    }
    if has("none") {
        app.client_events = ClientEvents::None;
    }
    app.client_events_on_public = has("public");
    app.watchlists = !has("unwatched");
    if has("hooked") {
        let url = TargetUrl::parse("http://app.test/").ok()?;
        let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
        app.webhooks = vec![Arc::new(Webhook::new(Target::default(), Carrier::Http(http)))];
    }
    if has("rate") || has("terminate") {
        let messages_max = NonZeroU32::new(4)?;
        app.message_rate =
            Some(MessageRate { messages_max, window: Duration::from_secs(10), terminate: has("terminate") });
    }
    app.authorized_timeout = has("timeout").then_some(Duration::from_secs(10));
    app.limits = Limits {
        channel_name_chars_max: 40,
        event_name_chars_max: 30,
        user_id_chars_max: 20,
        user_info_bytes_max: 60,
        channels_per_connection_max: NonZeroU32::new(if has("few") { 2 } else { 5 }),
        ..Limits::default()
    };
    Some(app)
}

impl Script {
    fn new(words: &str) -> Option<Self> {
        let app = Arc::new(app(words)?);
        let (connection, greeting) = Connection::open(Arc::clone(&app), SOCKET, *START);
        drop(check_frame(&greeting));
        Some(Self {
            connection,
            app,
            now: *START,
            held: BTreeMap::new(),
            joined: None,
            user: None,
            closed: false,
            effective: false,
        })
    }

    fn play(&mut self, line: &str) {
        let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
        match step {
            "+" => self.subscribe(rest),
            "@" => {
                let data = json!({ "auth": auth::user_auth(&self.app, SOCKET, rest), "user_data": rest });
                self.send("pusher:signin", &data);
            }
            "~" => {
                let seconds = rest.trim().parse().unwrap_or(1_u64).min(STEP_SECONDS_MAX);
                self.now += Duration::from_secs(seconds);
                self.step(Input::Tick);
            }
            "!" => self.step(Input::Ping(rest.as_bytes().get(..125).unwrap_or(rest.as_bytes()))),
            "." => self.step(Input::Pong),
            "?" => self.fail(),
            _ => self.step(Input::Text(line)),
        }
    }

    fn subscribe(&mut self, rest: &str) {
        let (channel, channel_data) = match rest.split_once(' ') {
            Some((channel, data)) => (channel, Some(data)),
            None => (rest, None),
        };
        let name = ChannelName::parse(channel, &self.app.limits).ok();
        let auth = name.map(|name| auth::channel_auth(&self.app, SOCKET, &name, channel_data));
        let data = json!({ "channel": channel, "auth": auth, "channel_data": channel_data });
        self.send("pusher:subscribe", &data);
    }

    fn send(&mut self, event: &str, data: &Value) {
        self.step(Input::Text(&json!({ "event": event, "data": data }).to_string()));
    }

    fn fail(&mut self) {
        let Some(channel) = self.joined.take() else { return };
        let mut effects = Vec::new();
        self.connection.join_failed(&channel, &SubscriptionFailure::Busy, &mut effects);
        self.held.remove(&channel);
        self.follow(&effects);
    }

    fn step(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.connection.step(self.now, input, &mut effects);
        self.follow(&effects);
    }

    fn follow(&mut self, effects: &[Effect]) {
        assert!(effects.len() <= 3, "{effects:?}");
        for effect in effects {
            assert!(!self.closed, "close is last: {effects:?}");
            self.effective |= !matches!(effect, Effect::Send(_));
            self.apply(effect);
        }
        let max = self.app.limits.channels_per_connection_max.map_or(u32::MAX, NonZeroU32::get);
        assert_eq!(self.connection.subscriptions(), self.held.len());
        let limited = self.held.keys().filter(|channel| channel.user_id().is_none()).count();
        assert!(limited <= max as usize, "{:?}", self.held);
        assert_eq!(self.connection.user().map(|user| user.id.as_str()), self.user.as_deref());
        assert!(self.connection.deadline() <= self.now + Duration::from_secs(600));
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Send(frame) => drop(check_frame(frame)),
            Effect::Join { channel, member } => {
                let user_id = self.check_member(channel, member.as_deref());
                assert_eq!(self.held.insert(channel.clone(), user_id), None, "joined twice: {channel}");
                self.joined = Some(channel.clone());
            }
            Effect::Rejoin { channel, member } => {
                let user_id = self.check_member(channel, member.as_deref());
                assert_eq!(self.held.get(channel), Some(&user_id), "rejoined as another: {channel}");
            }
            Effect::Leave { channel, member } => {
                let user_id = self.check_member(channel, member.as_deref());
                assert_eq!(self.held.remove(channel), Some(user_id), "left what is not held: {channel}");
            }
            Effect::Count(refused) => assert!(Refused::ALL.contains(refused)),
            Effect::Relay { channel, frame, told } => {
                self.check_relay(channel, frame);
                assert_eq!(told.is_some(), self.app.tells(EventKind::ClientEvent, channel), "{channel}");
                if let Some(told) = told {
                    check_told(&told.event(), channel);
                }
            }
            Effect::SignIn(user) => {
                assert!(self.user.as_deref().is_none_or(|id| id == user.id.as_str()), "{user:?}");
                assert!(user.watchlist.len() <= 100 && (self.app.watchlists || user.watchlist.is_empty()));
                self.user = Some(user.id.as_str().to_owned());
            }
            Effect::Close(reason) => {
                assert!((4000..4300).contains(&reason.wire().0), "{reason:?}");
                self.closed = true;
            }
        }
    }

    /// The channel parses, and has a member with an id within the limits if it is a presence channel.
    fn check_member(&self, channel: &ChannelName, member: Option<&Member>) -> Option<String> {
        let limits = &self.app.limits;
        assert_eq!(ChannelName::parse(channel.as_str(), limits).as_ref(), Ok(channel));
        assert_eq!(channel.kind().is_presence(), member.is_some(), "{channel} {member:?}");
        if let Some(user_id) = channel.user_id() {
            assert_eq!(self.user.as_deref(), Some(user_id), "another user's channel");
        }
        let member = member?;
        let id = member.user_id.as_str();
        assert!((1..=limits.user_id_chars_max).contains(&id.chars().count()), "{member:?}");
        let info = member.user_info.as_ref().map_or(0, |info| info.len());
        assert!(info <= limits.user_info_bytes_max, "{member:?}");
        Some(id.to_owned())
    }

    fn check_relay(&self, channel: &ChannelName, frame: &Frame) {
        assert_eq!(ChannelName::parse(channel.as_str(), &self.app.limits).as_ref(), Ok(channel));
        let held = self.held.get(channel);
        assert!(held.is_some() || self.app.client_events == ClientEvents::All, "{channel} is not held");
        assert!(channel.kind().takes_client_events() || self.app.client_events_on_public, "{channel}");
        let text = str::from_utf8(frame.payload()).unwrap_or_default();
        if let Some(event) = check_frame(frame) {
            assert!(
                event.get("event").and_then(Value::as_str).is_some_and(|event| event.starts_with("client-"))
            );
            assert_eq!(event.get("channel").and_then(Value::as_str), Some(channel.as_str()), "{text}");
            let user_id =
                event.get("user_id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
            let is_number = event.get("user_id").is_some_and(Value::is_number);
            // A number is another one once it has been through a parser.
            assert!(is_number || user_id == held.cloned().flatten(), "{text}");
        }
    }

    /// The connection ends with what it held.
    fn finish(&mut self) {
        let left: BTreeMap<_, _> = self
            .connection
            .leave_all()
            .map(|(channel, member)| (channel, member.map(|member| member.user_id.as_str().to_owned())))
            .collect();
        assert_eq!(left, self.held);
        assert_eq!(self.connection.subscriptions(), 0);
    }
}

/// What webhooks are told of a client event can be read, and says whose it is in texts.
fn check_told(event: &Event<'_>, channel: &ChannelName) {
    let encoded = event.encode(EventId { life: NodeId(1), number: 1 }, channel);
    let read = serde_json::from_slice::<Value>(&encoded.json).unwrap_or_default();
    let field = |name| read.get(name).and_then(Value::as_str).unwrap_or_default();
    assert_eq!((field("name"), field("channel")), ("client_event", channel.as_str()), "{read}");
    assert!(
        field("event").starts_with("client-") && read.get("data").is_some_and(Value::is_string),
        "{read}"
    );
    assert_eq!(field("socket_id"), SOCKET.to_string());
    assert!(read.get("user_id").is_none_or(|id| channel.kind().is_presence() && id.is_string()), "{read}");
}

/// Text frames are JSON objects with an event and no field twice. The value, if one can be made of it: what clients
/// wrote is passed on, even numbers that are too large.
fn check_frame(frame: &Frame) -> Option<Value> {
    match frame.bytes().first() {
        Some(0x81) => {
            let text = str::from_utf8(frame.payload());
            assert!(text.is_ok(), "{frame:?}");
            let text = text.unwrap_or_default();
            let fields = serde_json::from_str::<BTreeMap<String, &serde_json::value::RawValue>>(text);
            assert!(fields.is_ok_and(|fields| fields.contains_key("event")), "{text}");
            serde_json::from_str(text).ok()
        }
        Some(0x89 | 0x8a) => {
            assert!(frame.payload().len() <= 125, "{frame:?}");
            None
        }
        first => {
            assert!(first.is_none(), "{frame:?}");
            None
        }
    }
}
