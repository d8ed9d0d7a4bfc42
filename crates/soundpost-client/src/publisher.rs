//! The signed HTTP API: triggers and queries over one connection that is kept alive.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Incoming, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use soundpost_protocol::{
    app::App,
    auth::{hex, sign},
    channel::ChannelName,
    socket_id::SocketId,
};
use tokio::{task::JoinSet, time::timeout};

use crate::{ClientError, Options, target::Target};

/// Publishes for one app. Opens its connection with the first request and again when the server has closed it.
#[derive(Debug)]
pub struct Publisher {
    target: Target,
    app: Arc<App>,
    options: Options,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Drives the connection; dropped with the publisher.
    driving: JoinSet<()>,
}

impl Publisher {
    /// A publisher for the server at `http://HOST:PORT`, with the path prefix if it has one. Nothing is sent yet.
    pub fn new(url: &str, app: Arc<App>, options: Options) -> Result<Self, ClientError> {
        Ok(Self { target: Target::parse(url)?, app, options, sender: None, driving: JoinSet::new() })
    }

    /// Triggers an event on up to 100 channels. `data` goes out as it is, so it should be JSON text.
    ///
    /// `except` leaves one connection out. Gives back the reply, `{}`.
    /// Errors: [`ClientError::Status`] for any status but 200.
    pub async fn trigger(
        &mut self,
        channels: &[ChannelName],
        name: &str,
        data: &str,
        except: Option<SocketId>,
    ) -> Result<Value, ClientError> {
        let channels: Vec<_> = channels.iter().map(ChannelName::as_str).collect();
        let mut body = json!({ "name": name, "channels": channels, "data": data });
        if let (Some(fields), Some(except)) = (body.as_object_mut(), except) {
            fields.insert("socket_id".to_owned(), except.to_string().into());
        }
        self.post("/events", &body).await
    }

    /// Posts any body to a path below `/apps/{id}`.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.request(Method::POST, path, &[], body.to_string()).await
    }

    /// Asks a path below `/apps/{id}`: `get("/channels", &[("info", "user_count")])`. Values go into the URL as given.
    pub async fn get(&mut self, path: &str, query: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.request(Method::GET, path, query, String::new()).await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Value, ClientError> {
        let path = format!("/apps/{}{path}", self.app.id);
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let query = signed_query(&self.app, &method, &path, query, &body, seconds);
        let url = format!("{}{path}?{query}", self.target.path);
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header(header::HOST, self.target.authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Pusher-Library", concat!("soundpost ", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ClientError::Url { url })?;
        let waited = self.options.deadline;
        let answered = timeout(waited, self.exchange(request)).await;
        if !matches!(answered, Ok(Ok(_) | Err(ClientError::Status { .. }))) {
            // What is left of a broken exchange must not be taken for the answer to the next one.
            self.sender = None;
        }
        answered.unwrap_or(Err(ClientError::Deadline { what: "answer", waited }))
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Value, ClientError> {
        let kept = match self.sender.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut sender = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        self.sender = Some(sender);
        let status = response.status().as_u16();
        let text = text_of(response.into_body(), self.options.message_bytes_max).await?;
        match serde_json::from_str(&text) {
            Ok(value) if status == 200 => Ok(value),
            _ => Err(ClientError::Status { status, body: text }),
        }
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = self.target.connect().await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.driving.abort_all();
        // How it ends is told to whoever waits for an answer.
        self.driving.spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// The query of an API request with its signature. Source: Pusher docs, "Generating authentication signatures".
fn signed_query(
    app: &App,
    method: &Method,
    path: &str,
    query: &[(&str, &str)],
    body: &str,
    seconds: u64,
) -> String {
    let mut pairs: Vec<(&str, String)> =
        query.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    pairs.push(("auth_key", app.key.to_string()));
    pairs.push(("auth_timestamp", seconds.to_string()));
    pairs.push(("auth_version", "1.0".to_owned()));
    if !body.is_empty() {
        pairs.push(("body_md5", hex(&Md5::digest(body.as_bytes()))));
    }
    pairs.sort();
    let query = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&");
    let signed = format!("{method}\n{path}\n{query}");
    format!("{query}&auth_signature={}", sign(&app.secret, &[signed.as_bytes()]))
}

/// A body as text, up to `bytes_max`.
pub(crate) async fn text_of(mut body: Incoming, bytes_max: usize) -> Result<String, ClientError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(ClientError::TooBig { bytes_max });
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use soundpost_protocol::app::{AppId, AppKey, AppSecret};

    #[test]
    fn requests_are_signed_as_the_published_example_is() {
        let app = App::new(
            AppId::parse("3").unwrap(),
            AppKey::parse("278d425bdf160c739803").unwrap(),
            AppSecret::new("7ad3773142a6692b25b8"),
        );
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let query = signed_query(&app, &Method::POST, "/apps/3/events", &[], body, 1_353_088_179);
        assert!(query.contains("body_md5=ec365a775a4cd0599faeb73354201b6f"), "{query}");
        let signature = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
        assert!(query.ends_with(&format!("&auth_signature={signature}")), "{query}");
    }

    #[test]
    fn queries_are_signed_in_the_order_of_their_keys() {
        let app = App::new(
            AppId::parse("soundpost-app").unwrap(),
            AppKey::parse("soundpost-key").unwrap(),
            AppSecret::new("soundpost-secret"),
        );
        let asked = [("info", "user_count,subscription_count"), ("filter_by_prefix", "presence-")];
        let query =
            signed_query(&app, &Method::GET, "/apps/soundpost-app/channels", &asked, "", 1_700_000_000);
        assert!(
            query.ends_with("f00ac2ac10f2f7b2855df4641b74f5722cad77e0cd738e12fad7fbc07841ab89"),
            "{query}"
        );
    }
}
