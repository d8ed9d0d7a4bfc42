//! Giving an open connection its app's new settings, as after a reload of the configuration.

use std::{sync::Arc, time::Instant};

use super::Connection;
use crate::app::App;

impl Connection {
    /// From now on `app` holds, which is the same app with other settings. What the client has done stays done: its
    /// channels, its sign-in, what it has used up of a rate.
    ///
    /// The time to show an authorization moves as the setting moved. A connection that had no such deadline gets none,
    /// since it was opened without and may have shown one before. [`Self::deadline`] may come sooner than before.
    pub fn adopt(&mut self, app: Arc<App>) {
        self.authorize_by = self.moved_deadline(&app);
        if let Some(rates) = &mut self.rates {
            rates.client_events = rates.client_events.filter(|_| app.client_events_per_second.is_some());
            rates.messages = rates.messages.filter(|_| app.message_rate.is_some());
        }
        self.app = app;
    }

    fn moved_deadline(&self, app: &App) -> Option<Instant> {
        let (by, before, after) = (self.authorize_by?, self.app.authorized_timeout?, app.authorized_timeout?);
        // Opened so early that the clock cannot tell: then its time is long over.
        Some(by.checked_sub(before).map_or(by, |opened_at| opened_at + after))
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::{
        app::{AppId, AppKey, AppSecret, ClientEvents, MessageRate},
        connection::{Effect, Input},
        socket_id::SocketId,
    };

    const SUBSCRIBE: &str = r#"{"event":"pusher:subscribe","data":{"channel":"NAME"}}"#;
    const WHISPER: &str = r#"{"event":"client-a","channel":"a","data":"1"}"#;

    fn app(change: impl FnOnce(&mut App)) -> Arc<App> {
        let (id, key) = (AppId::parse("app").unwrap(), AppKey::parse("key").unwrap());
        let mut app = App::new(id, key, AppSecret::new("soundpost-secret"));
        app.client_events_on_public = true;
        change(&mut app);
        Arc::new(app)
    }

    struct Client {
        connection: Connection,
        start: Instant,
    }

    impl Client {
        fn new(change: impl FnOnce(&mut App)) -> Self {
            let start = Instant::now();
            let socket_id = SocketId { left: 1, right: 2 };
            Self { connection: Connection::open(app(change), socket_id, start).0, start }
        }

        fn adopt(&mut self, change: impl FnOnce(&mut App)) {
            self.connection.adopt(app(change));
        }

        /// What becomes of an input, one word for each effect.
        fn step(&mut self, milliseconds: u64, input: Input<'_>) -> String {
            let mut effects = Vec::new();
            self.connection.step(self.start + Duration::from_millis(milliseconds), input, &mut effects);
            let word = |effect: &Effect| match effect {
                Effect::Join { .. } => "join".to_owned(),
                Effect::Relay { .. } => "relay".to_owned(),
                Effect::Count(refused) => refused.word().to_owned(),
                Effect::Close(reason) => reason.word().to_owned(),
                Effect::Send(_) => "send".to_owned(),
                Effect::Rejoin { .. } | Effect::Leave { .. } | Effect::SignIn(_) => format!("{effect:?}"),
            };
            effects.iter().map(word).collect::<Vec<_>>().join(" ")
        }

        fn subscribe(&mut self, channel: &str) -> String {
            self.step(0, Input::Text(&SUBSCRIBE.replace("NAME", channel)))
        }

        fn whisper(&mut self, milliseconds: u64) -> String {
            self.step(milliseconds, Input::Text(WHISPER))
        }
    }

    #[test]
    fn limits_hold_from_then_on_and_take_nothing_back() {
        let max = |max| move |app: &mut App| app.limits.channels_per_connection_max = NonZeroU32::new(max);
        let mut client = Client::new(max(2));
        assert_eq!(
            ["a", "b", "c"].map(|name| client.subscribe(name)),
            ["join", "join", "subscription send send"]
        );
        client.adopt(max(1));
        assert_eq!(client.connection.subscriptions(), 2);
        assert_eq!(client.subscribe("c"), "subscription send send");
        client.adopt(max(0));
        assert_eq!(client.subscribe("c"), "join");
    }

    #[test]
    fn who_may_send_client_events_changes() {
        let mode = |mode| move |app: &mut App| app.client_events = mode;
        let mut client = Client::new(mode(ClientEvents::None));
        client.subscribe("a");
        assert_eq!(client.whisper(0), "client_event send");
        client.adopt(mode(ClientEvents::Members));
        assert_eq!(client.whisper(0), "relay");
        client.adopt(|app| app.client_events_on_public = false);
        assert_eq!(client.whisper(0), "client_event send");
    }

    #[test]
    fn a_rate_goes_on_from_what_is_used_up() {
        let rate = |rate| move |app: &mut App| app.client_events_per_second = NonZeroU32::new(rate);
        for (before, used, after, milliseconds, left) in [
            (3, 3, 10, 0, 0),   // raised: nothing is given for the past,
            (3, 3, 10, 500, 5), // but more comes from now on
            (10, 2, 3, 0, 3),   // lowered: the burst is the new one
            (10, 10, 3, 0, 0),
            (3, 3, 0, 0, 20), // none any more
            (0, 20, 2, 0, 2), // one again
        ] {
            let mut client = Client::new(rate(before));
            client.subscribe("a");
            assert!((0..used).all(|_| client.whisper(0) == "relay"), "{before}");
            client.adopt(rate(after));
            let relayed = (0..20).take_while(|_| client.whisper(milliseconds) == "relay").count();
            assert_eq!(relayed, left, "{before} to {after} after {milliseconds} ms");
        }
    }

    #[test]
    fn a_window_goes_on_with_its_count() {
        let rate = |max, seconds| {
            move |app: &mut App| {
                let window = Duration::from_secs(seconds);
                app.message_rate = NonZeroU32::new(max).map(|messages_max| MessageRate {
                    messages_max,
                    window,
                    terminate: false,
                });
            }
        };
        for (before, used, after, seconds, left) in [
            ((5, 60), 4, (10, 60), 1, 6),
            ((5, 60), 4, (3, 60), 1, 0),
            ((5, 60), 5, (5, 2), 2, 5), // the window is over by its new length
            ((5, 60), 5, (0, 60), 1, 20),
        ] {
            let mut client = Client::new(rate(before.0, before.1));
            let message = |client: &mut Client, seconds: u64| {
                client.step(
                    seconds * 1000,
                    Input::Text(r#"{"event":"pusher:unsubscribe","data":{"channel":"x"}}"#),
                )
            };
            assert!((0..used).all(|_| message(&mut client, 0).is_empty()));
            client.adopt(rate(after.0, after.1));
            let free = (0..20).take_while(|_| message(&mut client, seconds).is_empty()).count();
            assert_eq!(free, left, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn deadlines_move_with_their_settings() {
        let after = |client: &Client| client.connection.deadline().duration_since(client.start).as_secs();
        let ping = |seconds| move |app: &mut App| app.ping_interval = Duration::from_secs(seconds);
        let mut client = Client::new(ping(60));
        client.adopt(ping(20));
        assert_eq!(after(&client), 20);
        assert_eq!(client.step(20_000, Input::Tick), "send");
        client.adopt(|app| app.pong_timeout = Duration::from_secs(5));
        assert_eq!(after(&client), 25);
        assert_eq!(client.step(25_000, Input::Tick), "pong_timeout");
    }

    #[test]
    fn the_time_to_show_an_authorization_moves_but_never_begins() {
        let within = |seconds| {
            move |app: &mut App| {
                app.authorized_timeout =
                    Some(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs);
            }
        };
        for (before, after, expected) in [(10, 30, 30), (30, 10, 10), (10, 0, 60), (0, 10, 60)] {
            let mut client = Client::new(within(before));
            client.adopt(within(after));
            let deadline = client.connection.deadline().duration_since(client.start).as_secs();
            assert_eq!(deadline, expected, "{before} to {after}");
        }
        let mut client = Client::new(within(30));
        client.adopt(within(10));
        assert_eq!(client.step(11_000, Input::Tick), "not_authorized");
    }
}
