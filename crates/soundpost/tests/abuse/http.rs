//! A publisher: signed requests over plain sockets.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{SystemTime, UNIX_EPOCH},
};

use md5::{Digest, Md5};
use serde_json::Value;
use soundpost_protocol::{app::AppSecret, auth};

use crate::server::PATIENCE;

/// What an application knows of its app.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub(crate) id: &'static str,
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
}

/// The app most tests use.
pub(crate) const SHOP: Keys = Keys { id: "shop", key: "shop-key", secret: "shop-secret-0123456789" };
/// Its neighbour.
pub(crate) const BLOG: Keys = Keys { id: "blog", key: "blog-key", secret: "blog-secret-9876543210" };

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// Reads one; 0 as status where nothing came.
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Keys {
    /// Lowercase hex HMAC-SHA256 under the secret.
    pub(crate) fn sign(&self, text: &str) -> String {
        auth::sign(&AppSecret::new(self.secret), &[text.as_bytes()])
    }

    /// The `auth` of a subscription.
    pub(crate) fn channel_auth(&self, socket_id: &str, channel: &str, data: Option<&str>) -> String {
        let data = data.map_or_else(String::new, |data| format!(":{data}"));
        format!("{}:{}", self.key, self.sign(&format!("{socket_id}:{channel}{data}")))
    }

    /// Path and signed query.
    pub(crate) fn target(&self, method: &str, rest: &str, query: &[(&str, &str)], body: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
        let digest = auth::hex(&Md5::digest(body.as_bytes()));
        let mut all: BTreeMap<&str, &str> = query.iter().copied().collect();
        all.extend([("auth_key", self.key), ("auth_timestamp", &*now), ("auth_version", "1.0")]);
        if !body.is_empty() {
            all.insert("body_md5", &digest);
        }
        let pairs: Vec<String> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (path, query) = (format!("/apps/{}/{rest}", self.id), pairs.join("&"));
        let signature = self.sign(&format!("{method}\n{path}\n{query}"));
        format!("{path}?{query}&auth_signature={signature}")
    }

    pub(crate) fn get(&self, address: SocketAddr, rest: &str, query: &[(&str, &str)]) -> Reply {
        get(address, &self.target("GET", rest, query, ""))
    }

    pub(crate) fn post(&self, address: SocketAddr, rest: &str, body: &str) -> Reply {
        exchange(address, &request("POST", &self.target("POST", rest, &[], body), body))
    }

    /// Publishes; `data` is plain text.
    pub(crate) fn trigger(&self, address: SocketAddr, channel: &str, name: &str, data: &str) -> Reply {
        self.post(address, "events", &event(channel, name, data))
    }
}

/// The body of a trigger.
pub(crate) fn event(channel: &str, name: &str, data: &str) -> String {
    serde_json::json!({ "name": name, "channel": channel, "data": data }).to_string()
}

/// The text of a request that wants one answer.
pub(crate) fn request(method: &str, target: &str, body: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: soundpost.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request without a body.
pub(crate) fn get(address: SocketAddr, target: &str) -> Reply {
    exchange(address, &request("GET", target, ""))
}

/// Sends `request` and reads until the server closes.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> Reply {
    Reply::parse(&exchange_bytes(address, request.as_bytes()))
}

/// The same with bytes of any kind; gives back all that came.
pub(crate) fn exchange_bytes(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that refuses early may have closed before it was sent everything.
    drop(stream.write_all(request));
    read_to_end(&mut stream)
}

/// A socket with a deadline for reading and writing.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// All the server says until it closes or resets. Panics if it does neither in time.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("neither answered in full nor closed: {:?}", String::from_utf8_lossy(&all))
            }
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}
