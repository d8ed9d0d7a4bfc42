//! A publisher: signs what it asks, as the SDKs do.

use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use soundpost_protocol::{
    app::App,
    auth::{hex, sign},
};

use super::{Http, Reply};

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The path with everything that signs the request: `parameters` as they are, beside those every SDK adds. One given
/// in `parameters` stands for the SDK's own.
pub(crate) fn signed_target(
    app: &App,
    method: &str,
    path: &str,
    parameters: &[(&str, &str)],
    body: &[u8],
) -> String {
    let mut query = vec![
        ("auth_key", app.key.to_string()),
        ("auth_timestamp", unix_seconds().to_string()),
        ("auth_version", "1.0".to_owned()),
    ];
    if !body.is_empty() {
        query.push(("body_md5", hex(&Md5::digest(body))));
    }
    query.retain(|(key, _)| parameters.iter().all(|(given, _)| given != key));
    query.extend(parameters.iter().map(|(key, value)| (*key, (*value).to_owned())));
    query.sort();
    let query: Vec<_> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let query = query.join("&");
    let signature = sign(&app.secret, &[format!("{method}\n{path}\n{query}").as_bytes()]);
    format!("{path}?{query}&auth_signature={signature}")
}

pub(crate) struct Api {
    pub(crate) http: Http,
    pub(crate) app: App,
}

impl Api {
    pub(crate) const fn new(http: Http, app: App) -> Self {
        Self { http, app }
    }

    /// `path` is what follows `/apps/{id}`.
    pub(crate) fn get(&mut self, path: &str, parameters: &[(&str, &str)]) -> Reply {
        let path = format!("/apps/{}{path}", self.app.id);
        let target = signed_target(&self.app, "GET", &path, parameters, b"");
        self.http.get(&target)
    }

    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let path = format!("/apps/{}{path}", self.app.id);
        let target = signed_target(&self.app, "POST", &path, &[], body.as_ref());
        self.http.request("POST", &target, body.as_ref())
    }

    /// What a query answers, which must be 200 and JSON.
    #[track_caller]
    pub(crate) fn ask(&mut self, path: &str, parameters: &[(&str, &str)]) -> Value {
        json_of(&self.get(path, parameters))
    }

    /// What a publication answers, which must be 200 and JSON.
    #[track_caller]
    pub(crate) fn publish(&mut self, event: &Value) -> Value {
        json_of(&self.post("/events", event.to_string()))
    }

    /// Publishes one event to one channel and waits until it is accepted.
    #[track_caller]
    pub(crate) fn trigger(&mut self, channel: &str, name: &str, data: &str) {
        assert_eq!(self.publish(&json!({"name": name, "channel": channel, "data": data})), json!({}));
    }
}

#[track_caller]
fn json_of(reply: &Reply) -> Value {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}
