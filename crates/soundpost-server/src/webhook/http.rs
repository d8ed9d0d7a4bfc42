//! Webhooks as HTTP requests: one signed POST for each body, over connections that are kept.
//!
//! hyper speaks HTTP/1.1 on a connection; which connection that is, and to whom, is decided here: an address is looked
//! up, judged and dialled in one go, so nothing can come between.

mod addresses;
mod connection;
mod trust;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::Incoming,
    header::{HOST, HeaderName, HeaderValue, USER_AGENT},
};
use soundpost_protocol::{
    app::App,
    webhook::{
        HttpTarget,
        queue::Attempt,
        signature::{self, EVENT_IDS},
    },
};
use tokio::time::{Instant, timeout_at};

use self::connection::{Connection, Connections};
pub use self::trust::{Trust, check};
use super::carrier::Problem;

/// Bytes of an answer's body that are read, so that its connection can be used again. Of a longer one the connection ends.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long that may take, when the head of the answer is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends what one webhook is told to its URL, under the settings of one moment.
pub struct HttpCarrier {
    app: Arc<App>,
    /// What the first line of every request names.
    uri: Uri,
    /// All headers but those that depend on the body.
    headers: HeaderMap,
    connections: Connections,
    /// Of an attempt, up to the head of the answer.
    limit: Duration,
}

/// What a receiver has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status, which alone decides.
    pub status: u16,
    /// As much of its body as was asked for.
    pub beginning: Vec<u8>,
}

impl HttpCarrier {
    /// For a webhook of `app`. `limit`: how long an attempt may take, mostly
    /// [`ATTEMPT_TIMEOUT`](soundpost_protocol::webhook::queue::ATTEMPT_TIMEOUT). `trust`: whom `https` may believe.
    ///
    /// Errors: the URL or a header cannot stand in a request, which their parsers should have said.
    pub fn new(
        app: &Arc<App>,
        target: &HttpTarget,
        trust: Arc<Trust>,
        limit: Duration,
    ) -> Result<Self, Problem> {
        let uri = Uri::builder().path_and_query(target.url.path_and_query()).build();
        let uri =
            uri.map_err(|error| Problem::new(format!("its url cannot stand in a request ({error})")))?;
        let headers = fixed_headers(target)?;
        Ok(Self { app: Arc::clone(app), uri, headers, connections: Connections::new(target, trust), limit })
    }

    /// Sends once; of the answer's body the first `keep` bytes are given back, at most [`ANSWER_BYTES_MAX`].
    /// Where it is dropped before, the receiver may have taken the events or not.
    ///
    /// Errors: there was no answer in time, or none that could be read.
    pub async fn post(&self, attempt: &Attempt, keep: usize) -> Result<Answer, Problem> {
        let end = Instant::now() + self.limit;
        let exchange = timeout_at(end, self.exchange(attempt)).await;
        let (response, connection) = exchange.map_err(|_| self.late())??;
        let status = response.status().as_u16();
        let reading = read(response.into_body(), keep);
        let mut beginning = Vec::new();
        // The status has decided; a body that does not end costs the connection alone.
        if let Ok(Some(read)) = timeout_at(Instant::now() + ANSWER_TIMEOUT, reading).await {
            beginning = read.beginning;
            if read.is_whole {
                self.connections.give_back(connection);
            }
        }
        Ok(Answer { status, beginning })
    }

    /// Sends over a connection that is there, or else over a new one.
    async fn exchange(&self, attempt: &Attempt) -> Result<(Response<Incoming>, Connection), Problem> {
        if let Some(mut connection) = self.connections.take() {
            match connection.send(self.request(attempt)?).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) if error.is_parse() => return Err(connection::problem(&error)),
                // It was ended by the receiver while nothing was under way. If the events came through nevertheless,
                // their ids tell.
                Err(_) => {}
            }
        }
        let mut connection = self.connections.open().await?;
        match connection.send(self.request(attempt)?).await {
            Ok(response) => Ok((response, connection)),
            Err(error) => Err(connection::problem(&error)),
        }
    }

    /// Signed now, with the secret of now.
    fn request(&self, attempt: &Attempt) -> Result<Request<Full<Bytes>>, Problem> {
        let mut request = Request::new(Full::new(attempt.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let mut headers = self.headers.clone();
        for (name, text) in signature::headers(&self.app.key, &self.app.secret, &attempt.body) {
            put(&mut headers, name, &text)?;
        }
        put(&mut headers, EVENT_IDS, &attempt.event_ids)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn late(&self) -> Problem {
        let seconds = self.limit.as_secs_f32();
        Problem::new(format!(
            "it has not answered within {seconds} s; is it overloaded, or behind a firewall?"
        ))
    }
}

/// Without the URL and the headers, which may hold tokens.
impl fmt::Debug for HttpCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCarrier").field("app", &self.app.id).finish_non_exhaustive()
    }
}

fn fixed_headers(target: &HttpTarget) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    put(&mut headers, HOST.as_str(), &target.url.host_header())?;
    put(&mut headers, USER_AGENT.as_str(), concat!("Soundpost/", env!("CARGO_PKG_VERSION")))?;
    for (name, text) in target.headers.iter() {
        put(&mut headers, name, text)?;
    }
    Ok(headers)
}

fn put(headers: &mut HeaderMap, name: &str, text: &str) -> Result<(), Problem> {
    let unusable = || Problem::new(format!("the header {name} cannot stand in a request"));
    let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
    headers.insert(key, HeaderValue::from_str(text).map_err(|_| unusable())?);
    Ok(())
}

/// What was read of a body.
struct ReadBody {
    beginning: Vec<u8>,
    /// Its end was there.
    is_whole: bool,
}

/// Reads a body to its end, if it is not too long. `None`: the connection broke in it.
async fn read(mut body: Incoming, keep: usize) -> Option<ReadBody> {
    let (mut beginning, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        bytes += data.len();
        let room = keep.min(ANSWER_BYTES_MAX).saturating_sub(beginning.len());
        beginning.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        if bytes > ANSWER_BYTES_MAX {
            return Some(ReadBody { beginning, is_whole: false });
        }
    }
    Some(ReadBody { beginning, is_whole: true })
}
