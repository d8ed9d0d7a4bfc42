//! A connection that has been greeted, and that signs its own subscriptions with the app's secret.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use soundpost_protocol::{app::App, auth::channel_auth, channel::ChannelName, socket_id::SocketId};

use crate::{ClientError, Connection, Event, Options};

/// A greeted connection; all of [`Connection`] is there too.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    app: Arc<App>,
    socket_id: SocketId,
    activity_timeout: Duration,
}

impl Client {
    /// Connects to `ws://HOST:PORT`, with the server's path prefix if it has one, and reads the greeting.
    ///
    /// Errors: [`ClientError::Refused`] with the protocol's code if the server says no first, and those of the socket.
    pub async fn connect(url: &str, app: Arc<App>, options: Options) -> Result<Self, ClientError> {
        let version = env!("CARGO_PKG_VERSION");
        let url = format!(
            "{}/app/{}?protocol=7&client=soundpost&version={version}&flash=false",
            url.trim_end_matches('/'),
            app.key
        );
        let mut connection = Connection::open(&url, options).await?;
        let greeting = connection.next_event().await?;
        if let Some(refusal) = greeting.refusal() {
            return Err(refusal);
        }
        let data = greeting.decoded();
        let socket_id = data.get("socket_id").and_then(Value::as_str).and_then(SocketId::parse);
        let timeout = data.get("activity_timeout").and_then(Value::as_u64).map(Duration::from_secs);
        match (greeting.name.as_str(), socket_id, timeout) {
            ("pusher:connection_established", Some(socket_id), Some(activity_timeout)) => {
                Ok(Self { connection, app, socket_id, activity_timeout })
            }
            _ => Err(ClientError::Unexpected { expected: "a greeting", text: greeting.text }),
        }
    }

    /// The name the server gave this connection.
    pub const fn socket_id(&self) -> SocketId {
        self.socket_id
    }

    /// What the greeting advertised.
    pub const fn activity_timeout(&self) -> Duration {
        self.activity_timeout
    }

    /// Subscribes to a channel of any kind but presence, signed if its kind asks for it, and waits for the answer.
    ///
    /// Gives back the `subscription_succeeded` event. Events of other channels that come before it are dropped.
    /// Errors: [`ClientError::Refused`] with the status of the `subscription_error`.
    pub async fn subscribe(&mut self, channel: &ChannelName) -> Result<Event, ClientError> {
        self.subscribe_with(channel, None).await
    }

    /// Subscribes to a presence channel as the member in `channel_data`: `{"user_id":"42","user_info":...}`.
    ///
    /// Like [`subscribe`](Self::subscribe); the roster is in the event it gives back.
    pub async fn subscribe_presence(
        &mut self,
        channel: &ChannelName,
        channel_data: &Value,
    ) -> Result<Event, ClientError> {
        self.subscribe_with(channel, Some(channel_data.to_string())).await
    }

    async fn subscribe_with(
        &mut self,
        channel: &ChannelName,
        data: Option<String>,
    ) -> Result<Event, ClientError> {
        let auth = match channel.kind().needs_auth() {
            true => channel_auth(&self.app, self.socket_id, channel, data.as_deref()),
            false => String::new(),
        };
        let mut body = json!({ "auth": auth, "channel": channel.as_str() });
        if let (Some(fields), Some(data)) = (body.as_object_mut(), data) {
            fields.insert("channel_data".to_owned(), data.into());
        }
        self.connection.send("pusher:subscribe", body).await?;
        loop {
            let event = self.connection.next_event().await?;
            if event.channel.as_deref() != Some(channel.as_str()) {
                continue;
            }
            if event.name == "pusher_internal:subscription_succeeded" {
                return Ok(event);
            }
            if event.name == "pusher:subscription_error" {
                return Err(event.refusal().unwrap_or(ClientError::NotAnEvent { text: event.text }));
            }
        }
    }

    /// Leaves a channel; there is no answer.
    pub async fn unsubscribe(&self, channel: &ChannelName) -> Result<(), ClientError> {
        self.connection.send("pusher:unsubscribe", json!({ "channel": channel.as_str() })).await
    }

    /// Sends a client event; `name` with its `client-`. There is no answer.
    pub async fn whisper(&self, channel: &ChannelName, name: &str, data: Value) -> Result<(), ClientError> {
        let event = json!({ "event": name, "channel": channel.as_str(), "data": data });
        self.connection.send_text(&event.to_string()).await
    }

    /// Says goodbye; gives back the server's close code.
    pub async fn close(self) -> Result<u16, ClientError> {
        self.connection.close().await
    }
}

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
