use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    app::{AppId, AppKey, AppSecret, ClientEvents, Limits, MessageRate, Origins},
    presence::NodeId,
    webhook::{
        Carrier, HttpTarget, Webhook,
        event::EventId,
        target::{EventKinds, ExtraHeaders, Filter, Target, TargetUrl},
    },
};

const SOCKET: SocketId = SocketId { left: 1234, right: 5678 };

fn app() -> App {
    let secret = AppSecret::new("soundpost-secret");
    App::new(AppId::parse("app").unwrap(), AppKey::parse("soundpost-key").unwrap(), secret)
}

struct Client {
    connection: Connection,
    start: Instant,
    now: Instant,
}

impl Client {
    fn new(change: impl FnOnce(&mut App)) -> Self {
        let mut app = app();
        change(&mut app);
        let start = Instant::now();
        Self { connection: Connection::open(Arc::new(app), SOCKET, start).0, start, now: start }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    fn step(&mut self, input: Input<'_>) -> Vec<String> {
        let mut effects = Vec::new();
        self.connection.step(self.now, input, &mut effects);
        effects.iter().filter(|effect| !matches!(effect, Effect::Count(_))).map(shown).collect()
    }

    fn send(&mut self, text: &str) -> Vec<String> {
        self.step(Input::Text(text))
    }

    fn subscribe(&mut self, channel: &str, data: Option<&str>) -> Vec<String> {
        let name = ChannelName::parse(channel, &Limits::default()).unwrap();
        let auth = auth::channel_auth(self.connection.app(), SOCKET, &name, data);
        let mut fields = serde_json::json!({ "channel": channel, "auth": auth });
        if let Some(data) = data {
            fields["channel_data"] = data.into();
        }
        self.send(&serde_json::json!({ "event": "pusher:subscribe", "data": fields }).to_string())
    }
}

fn shown(effect: &Effect) -> String {
    let user = |member: &Option<Arc<Member>>| {
        member.as_ref().map_or(String::new(), |member| format!(" as {}", member.user_id))
    };
    match effect {
        Effect::Send(frame) => match frame.bytes()[0] {
            0x81 => String::from_utf8(frame.payload().to_vec()).unwrap(),
            opcode => format!("{opcode:x}:{}", String::from_utf8_lossy(frame.payload())),
        },
        Effect::Join { channel, member } => format!("join {channel}{}", user(member)),
        Effect::Rejoin { channel, member } => format!("rejoin {channel}{}", user(member)),
        Effect::Leave { channel, member } => format!("leave {channel}{}", user(member)),
        Effect::Relay { frame, .. } => format!("relay {}", String::from_utf8_lossy(frame.payload())),
        Effect::SignIn(user) => format!("sign in {} watching {}", user.id, user.watchlist.len()),
        Effect::Count(refused) => format!("count {}", refused.word()),
        Effect::Close(reason) => format!("close {}", reason.wire().0),
    }
}

fn error(code: u16, message: &str, channel: Option<&str>) -> String {
    let channel = channel.map_or(String::new(), |channel| format!(r#","channel":"{channel}""#));
    format!(r#"{{"event":"pusher:error"{channel},"data":{{"code":{code},"message":"{message}"}}}}"#)
}

#[test]
fn the_greeting_names_socket_and_timeout() {
    let (_, greeting) = Connection::open(Arc::new(app()), SOCKET, Instant::now());
    let text = String::from_utf8(greeting.payload().to_vec()).unwrap();
    assert!(text.contains(r#"\"socket_id\":\"1234.5678\",\"activity_timeout\":30"#), "{text}");
}

#[test]
fn the_checks_on_connect_come_in_their_order() {
    let worst = App {
        tls_only: true,
        enabled: false,
        allowed_origins: Origins::new(vec!["app.test".to_owned()]),
        ..app()
    };
    let opening = Opening {
        app: None,
        draining: true,
        is_tls: false,
        protocol: Some("9"),
        origin: Some("http://evil.test"),
    };
    let check = |opening: Opening<'_>| opening.check().map_err(|reason| reason.wire().0);
    assert_eq!(check(opening), Err(4100));
    let opening = Opening { draining: false, ..opening };
    assert_eq!(check(opening), Err(4001));
    let opening = Opening { app: Some(&worst), ..opening };
    assert_eq!(check(opening), Err(4000));
    let opening = Opening { is_tls: true, ..opening };
    assert_eq!(check(opening), Err(4003));
    let better = App { enabled: true, ..worst.clone() };
    let opening = Opening { app: Some(&better), ..opening };
    assert_eq!(check(opening), Err(4007));
    let opening = Opening { protocol: None, ..opening };
    assert_eq!(check(opening), Err(4009));
    let opening = Opening { origin: Some("https://app.test"), ..opening };
    assert_eq!(check(opening), Ok(()));
    for (protocol, expected) in [
        ("4", Ok(())),
        ("7", Ok(())),
        ("3", Err(4007)),
        ("8", Err(4007)),
        ("", Err(4007)),
        ("seven", Err(4007)),
    ] {
        assert_eq!(check(Opening { protocol: Some(protocol), ..opening }), expected, "{protocol}");
    }
}

#[test]
fn public_private_and_presence_channels_are_joined_and_left() {
    let mut client = Client::new(|_| {});
    let public = r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"orders"}}"#;
    assert_eq!(client.send(public), ["join orders"]);
    assert_eq!(client.send(public), ["rejoin orders"]);
    assert_eq!(client.subscribe("private-a", None), ["join private-a"]);
    assert_eq!(client.subscribe("private-b", Some(r#"{"user_id":"1"}"#)), ["join private-b"]);
    assert_eq!(client.subscribe("presence-r", Some(r#"{"user_id":10}"#)), ["join presence-r as 10"]);
    assert_eq!(client.subscribe("presence-r", Some(r#"{"user_id":"10"}"#)), ["rejoin presence-r as 10"]);
    let leave = r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-r"}}"#;
    assert_eq!(client.send(leave), ["leave presence-r as 10"]);
    assert_eq!(client.send(leave), [""; 0], "what is not held is ignored");
    assert_eq!(client.connection.leave_all().count(), 3);
    assert_eq!(client.connection.subscriptions(), 0);
}

#[test]
fn a_subscription_that_may_not_be_is_refused_and_changes_nothing() {
    let mut client = Client::new(|app| app.limits.channels_per_connection_max = NonZeroU32::new(1));
    let refused = |effects: Vec<String>, kind: &str, code: u16| {
        assert_eq!(effects.len(), 2, "{effects:?}");
        assert!(effects[0].contains("pusher:subscription_error") && effects[0].contains(kind), "{effects:?}");
        assert!(effects[1].contains(&format!(r#""code":{code}"#)), "{effects:?}");
    };
    for data in [
        r#"{"channel":"private-a"}"#,
        r#"{"channel":"private-a","auth":""}"#,
        r#"{"channel":"private-a","auth":"soundpost-key:0"}"#,
        r#"{"channel":"presence-a","auth":"soundpost-key:0","channel_data":"{\"user_id\":1}"}"#,
    ] {
        refused(client.send(&format!(r#"{{"event":"pusher:subscribe","data":{data}}}"#)), "AuthError", 4009);
    }
    refused(client.subscribe("presence-a", None), "AuthError", 4009);
    refused(client.subscribe("presence-a", Some("[]")), "AuthError", 4009);
    let bad_name = r#"{"event":"pusher:subscribe","data":{"channel":"a b"}}"#;
    refused(client.send(bad_name), "InvalidChannelName", 4200);
    assert_eq!(client.connection.subscriptions(), 0);
    assert_eq!(client.subscribe("presence-a", Some(r#"{"user_id":"1"}"#)), ["join presence-a as 1"]);
    refused(client.subscribe("presence-a", Some(r#"{"user_id":"2"}"#)), "AuthError", 4009);
    refused(client.subscribe("private-b", None), "LimitReached", 4100);
    assert_eq!(client.connection.subscriptions(), 1);
}

#[test]
fn a_join_the_server_refuses_is_forgotten() {
    let mut client = Client::new(|_| {});
    client.subscribe("private-a", None);
    let name = ChannelName::parse("private-a", &Limits::default()).unwrap();
    let mut effects = Vec::new();
    client.connection.join_failed(&name, &SubscriptionFailure::Busy, &mut effects);
    assert_eq!(effects[0], Effect::Count(Refused::Subscription));
    assert!(shown(&effects[1]).contains("ServerError"));
    assert_eq!(client.subscribe("private-a", None), ["join private-a"]);
}

#[test]
fn client_events_are_rebuilt_from_what_the_server_knows() {
    let mut client = Client::new(|_| {});
    client.subscribe("private-a", None);
    client.subscribe("presence-r", Some(r#"{"user_id":"42"}"#));
    assert_eq!(
        client.send(r#"{"event":"client-x","channel":"private-a","data":{"b": 1},"user_id":"7","more":1}"#),
        [r#"relay {"event":"client-x","channel":"private-a","data":{"b": 1}}"#]
    );
    assert_eq!(
        client.send(r#"{"event":"client-x","channel":"presence-r","data":"text","user_id":"7"}"#),
        [r#"relay {"event":"client-x","channel":"presence-r","data":"text","user_id":"42"}"#]
    );
}

#[test]
fn client_events_are_told_as_sent_to_webhooks_that_want_them() {
    let hook = |prefix| {
        let events = EventKinds::parse(["client_event"]).unwrap();
        let target = Target { events, filter: Filter::new(prefix, "").unwrap(), ..Target::default() };
        let url = TargetUrl::parse("http://app.test/").unwrap();
        let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
        Arc::new(Webhook::new(target, Carrier::Http(http)))
    };
    let mut client = Client::new(|app| {
        app.client_events = ClientEvents::All;
        app.webhooks = vec![hook("presence-"), hook("private-a")];
    });
    client.subscribe("presence-r", Some(r#"{"user_id":42}"#));
    let mut told = |channel: &str, data: &str| {
        let text = format!(r#"{{"event":"client-\u0078","channel":"{channel}"{data},"user_id":"7"}}"#);
        let mut effects = Vec::new();
        client.connection.step(client.now, Input::Text(&text), &mut effects);
        let [Effect::Relay { channel, told, .. }] = &effects[..] else { panic!("{effects:?}") };
        let id = EventId { life: NodeId(1), number: 1 };
        let told = told.as_ref()?.event().encode(id, channel);
        Some(String::from_utf8(told.json.to_vec()).unwrap())
    };
    let expected = |channel: &str, rest: &str| {
        Some(format!(r#"{{"name":"client_event","channel":"{channel}","event":"client-x",{rest}}}"#))
    };
    assert_eq!(
        told("presence-r", r#","data":{"b": 1}"#),
        expected("presence-r", r#""data":"{\"b\": 1}","socket_id":"1234.5678","user_id":"42""#)
    );
    assert_eq!(
        told("presence-other", r#","data":"x""#),
        expected("presence-other", r#""data":"x","socket_id":"1234.5678""#),
        "who is no member has no user id there"
    );
    assert_eq!(told("private-a", ""), expected("private-a", r#""data":"","socket_id":"1234.5678""#));
    assert_eq!(told("private-b", ""), None);
}

#[test]
fn client_events_that_break_a_rule_are_refused() {
    let event = |channel: &str| format!(r#"{{"event":"client-x","channel":"{channel}","data":{{}}}}"#);
    let mut off = Client::new(|app| app.client_events = ClientEvents::None);
    assert_eq!(
        off.send(&event("private-a")),
        [error(4301, "The app does not have client messaging enabled.", Some("private-a"))]
    );
    let mut members = Client::new(|_| {});
    members.subscribe("private-a", None);
    let refused = |effects: Vec<String>, code: u16| {
        assert_eq!(effects.len(), 1, "{effects:?}");
        assert!(effects[0].contains(&format!(r#""code":{code}"#)), "{effects:?}");
    };
    assert_eq!(
        members.send(&event("private-b")),
        [error(4009, "Connection is unauthorized", Some("private-b"))]
    );
    refused(members.send(&event("orders")), 4301);
    refused(members.send(&event("a b")), 4301);
    let long = format!(r#"{{"event":"client-{}","channel":"private-a"}}"#, "x".repeat(194));
    refused(members.send(&long), 4301);
    let deep = "[".repeat(129) + &"]".repeat(129);
    refused(members.send(&format!(r#"{{"event":"client-x","channel":"private-a","data":{deep}}}"#)), 4301);

    let mut all = Client::new(|app| app.client_events = ClientEvents::All);
    assert_eq!(all.send(&event("private-b")).len(), 1);
    assert!(all.send(&event("private-b"))[0].starts_with("relay"));
    let mut public = Client::new(|app| app.client_events_on_public = true);
    public.send(r#"{"event":"pusher:subscribe","data":{"channel":"orders"}}"#);
    assert!(public.send(&event("orders"))[0].starts_with("relay"));
}

#[test]
fn client_events_above_the_rate_are_refused_until_time_passes() {
    let mut client = Client::new(|_| {});
    client.subscribe("private-a", None);
    let event = r#"{"event":"client-x","channel":"private-a","data":1}"#;
    let sent = (0..12).filter(|_| client.send(event)[0].starts_with("relay")).count();
    assert_eq!(sent, 10);
    assert_eq!(client.send(event), [error(4301, "Rate limit exceeded", Some("private-a"))]);
    assert!(client.at(1).send(event)[0].starts_with("relay"));
}

#[test]
fn reverbs_rate_counts_all_messages_but_pings() {
    let rate = |terminate| MessageRate {
        messages_max: NonZeroU32::new(2).unwrap(),
        window: Duration::from_secs(60),
        terminate,
    };
    let (ping, other) = (r#"{"event":"pusher:ping"}"#, r#"{"event":"other"}"#);
    let mut kept = Client::new(|app| app.message_rate = Some(rate(false)));
    for _ in 0..5 {
        assert!(kept.send(ping)[0].contains("pusher:pong"));
    }
    assert_eq!((kept.send(other).len(), kept.send("junk").len()), (0, 1));
    assert_eq!(kept.send(other), [error(4301, "Rate limit exceeded", None)]);
    assert!(kept.send(ping)[0].contains("pusher:pong"));
    assert_eq!(kept.at(60).send(other), [""; 0]);
    let mut ended = Client::new(|app| app.message_rate = Some(rate(true)));
    ended.send(other);
    ended.send(other);
    assert_eq!(ended.send(other), ["close 4100"]);
}

impl Client {
    fn sign_in(&mut self, user_data: &str) -> Vec<String> {
        let auth = auth::user_auth(self.connection.app(), SOCKET, user_data);
        let data = serde_json::json!({ "auth": auth, "user_data": user_data });
        self.send(&serde_json::json!({ "event": "pusher:signin", "data": data }).to_string())
    }
}

#[test]
fn a_user_signs_in_once_or_again_but_not_as_another() {
    let mut client = Client::new(|_| {});
    let effects = client.sign_in(r#"{"id":"42","watchlist":["7"]}"#);
    assert!(effects[0].contains("pusher:signin_success"), "{effects:?}");
    assert_eq!(effects[1..], ["sign in 42 watching 1"]);
    assert_eq!(client.sign_in(r#"{"id":"42"}"#)[1..], ["sign in 42 watching 0"]);
    assert_eq!(
        client.sign_in(r#"{"id":"43"}"#),
        [error(4009, "Connection is signed in as another user", None)]
    );
    let refused = [error(4009, "Connection is unauthorized", None)];
    assert_eq!(client.sign_in("{}"), refused);
    let forged =
        r#"{"event":"pusher:signin","data":{"auth":"soundpost-key:0","user_data":"{\"id\":\"42\"}"}}"#;
    assert_eq!(client.send(forged), refused);
    let ids: Vec<_> = (0..101).map(|n| format!(r#""u{n}""#)).collect();
    let effects = client.sign_in(&format!(r#"{{"id":"42","watchlist":[{}]}}"#, ids.join(",")));
    assert_eq!(effects[1], "sign in 42 watching 100");
    assert!(effects[2].contains("4302"), "{effects:?}");
    let mut unwatched = Client::new(|app| app.watchlists = false);
    assert_eq!(unwatched.sign_in(r#"{"id":"42","watchlist":["7"]}"#)[1..], ["sign in 42 watching 0"]);
}

#[test]
fn a_signed_in_user_has_a_channel_and_needs_no_channel_data() {
    let own = r##"{"event":"pusher:subscribe","data":{"auth":"","channel":"#server-to-user-42"}}"##;
    let mut client = Client::new(|_| {});
    assert!(client.send(own)[0].contains("AuthError"));
    client.sign_in(r#"{"id":"42","user_info":{"name":"Zoe"}}"#);
    assert_eq!(client.send(own), ["join #server-to-user-42"]);
    let other = own.replace("-42", "-43");
    assert!(client.send(&other)[0].contains("AuthError"));
    assert_eq!(client.subscribe("presence-r", None), ["join presence-r as 42"]);
    assert_eq!(client.subscribe("presence-s", Some(r#"{"user_id":"7"}"#)), ["join presence-s as 7"]);
}

#[test]
fn a_connection_that_shows_no_authorization_in_time_is_closed() {
    let new = || Client::new(|app| app.authorized_timeout = Some(Duration::from_secs(10)));
    let mut stranger = new();
    stranger.send(r#"{"event":"pusher:subscribe","data":{"channel":"orders"}}"#);
    assert_eq!(stranger.connection.deadline(), stranger.start + Duration::from_secs(10));
    assert_eq!(stranger.at(9).step(Input::Tick), [""; 0]);
    assert_eq!(stranger.at(10).step(Input::Tick), ["close 4009"]);
    let mut user = new();
    user.sign_in(r#"{"id":"42"}"#);
    assert_eq!(user.at(10).step(Input::Tick), [""; 0]);
    let mut subscriber = new();
    subscriber.subscribe("private-a", None);
    assert_eq!(subscriber.at(10).step(Input::Tick), [""; 0]);
}

#[test]
fn every_refusal_is_counted_once() {
    let mut client = Client::new(|app| app.client_events_per_second = NonZeroU32::new(1));
    client.subscribe("private-a", None);
    let event = r#"{"event":"client-x","channel":"private-a","data":1}"#;
    client.send(event);
    for (text, expected) in [
        ("junk", Refused::Message),
        (r#"{"event":"pusher:subscribe","data":{"channel":"private-b"}}"#, Refused::Subscription),
        (r#"{"event":"pusher:signin","data":{"auth":"","user_data":""}}"#, Refused::SignIn),
        (r#"{"event":"client-x","channel":"private-b","data":1}"#, Refused::ClientEvent),
        (event, Refused::ClientEventRate),
    ] {
        let mut effects = Vec::new();
        client.connection.step(client.now, Input::Text(text), &mut effects);
        let counted: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Count(_))).collect();
        assert_eq!(counted, [&Effect::Count(expected)], "{text}");
    }
}

#[test]
fn silence_brings_a_ping_and_then_the_end() {
    let mut client = Client::new(|_| {});
    assert_eq!(client.at(59).step(Input::Tick), [""; 0]);
    assert_eq!(client.at(60).step(Input::Tick), [r#"{"event":"pusher:ping","data":"{}"}"#]);
    assert_eq!(client.at(89).step(Input::Tick), [""; 0]);
    assert_eq!(client.at(90).step(Input::Tick), ["close 4201"]);
}

#[test]
fn anything_heard_counts_as_life() {
    for input in [Input::Text("junk"), Input::Ping(b"x"), Input::Pong] {
        let mut client = Client::new(|_| {});
        client.at(60).step(Input::Tick);
        client.at(80).step(input);
        assert_eq!(client.at(139).step(Input::Tick), [""; 0], "{input:?}");
        let ping = client.at(140).step(Input::Tick);
        let expected =
            if matches!(input, Input::Text(_)) { r#"{"event":"pusher:ping","data":"{}"}"# } else { "89:" };
        assert_eq!(ping, [expected], "a client that uses control frames is pinged with them");
    }
    let mut client = Client::new(|_| {});
    assert_eq!(client.step(Input::Ping(b"x")), ["8a:x"]);
}

#[test]
fn messages_that_make_no_sense_are_answered_and_survived() {
    let mut client = Client::new(|_| {});
    for text in ["", "{}", r#"{"event":"pusher:nonsense"}"#, r#"{"event":"pusher:subscribe","data":null}"#] {
        assert_eq!(client.send(text), [error(4200, "Invalid message format", None)], "{text}");
    }
    assert_eq!(client.send(r#"{"event":"no-prefix","channel":"a","data":1}"#), [""; 0]);
}

proptest! {
    #[test]
    fn no_text_panics_a_connection(texts in proptest::collection::vec(
        prop_oneof![
            "\\PC{0,100}",
            r#"\{"event":"(pusher:|client-)?[a-z]{0,10}","(data|channel)":[\[\]\{\}"a-z0-9:,\-]{0,40}\}"#,
            r#"\{"event":"pusher:(un)?subscribe","data":\{"channel":"[a-z-]{0,20}"(,"auth":"[a-z:0-9-]{0,20}")?\}\}"#,
            r#"\{"event":"client-[a-z]{0,5}","channel":"(private|presence)-[a-z]","data":[0-9]{1,5}\}"#,
        ], 0..20)) {
        let mut client = Client::new(|_| {});
        for text in &texts {
            client.send(text);
        }
    }
}
