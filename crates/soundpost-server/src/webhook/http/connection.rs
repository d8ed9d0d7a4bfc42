//! The connections to one receiver: how one is made, and those that wait for the next request.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use soundpost_protocol::webhook::HttpTarget;
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{addresses::is_public, trust::Trust};
use crate::{tls::TlsClient, webhook::carrier::Problem};

/// Until one of a host's addresses has answered; the rest of the attempt is for TLS and the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a name with more addresses only so many are tried.
const ADDRESSES_MAX: usize = 8;
/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers in it: as many as hyper has room for.
const HEADERS_MAX: usize = 100;
/// A connection that has waited so long for a request is not used any more: those who stand in between forget it, and say
/// nothing.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The connections of one webhook.
pub(super) struct Connections {
    host: String,
    port: u16,
    /// With `https`: whom to trust, and the file of `ca`.
    tls: Option<(Arc<Trust>, Option<PathBuf>)>,
    refuses_private: bool,
    /// Those that wait; never more than there were requests at once.
    idle: Mutex<Vec<Connection>>,
    /// What keeps each going. They end with this.
    tasks: Mutex<JoinSet<()>>,
}

/// A connection that no request is under way on.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` while it is used.
    idle_since: Arc<Mutex<Option<Instant>>>,
}

impl Connection {
    /// Sends a request and waits for the head of the answer. Errors: mostly for [`problem`].
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

impl Connections {
    pub(super) fn new(target: &HttpTarget, trust: Arc<Trust>) -> Self {
        let url = &target.url;
        Self {
            host: url.host().to_owned(),
            port: url.port(),
            tls: url.is_https().then(|| (trust, target.ca.clone())),
            refuses_private: target.refuses_private,
            idle: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// The one that was used last, if any is open.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|connection| !connection.sender.is_closed());
        let connection = idle.pop()?;
        *connection.idle_since.lock() = None;
        Some(connection)
    }

    /// It can be used again.
    pub(super) fn give_back(&self, connection: Connection) {
        *connection.idle_since.lock() = Some(Instant::now());
        self.idle.lock().push(connection);
    }

    /// Makes a new one. Errors: in words for the log.
    pub(super) async fn open(&self) -> Result<Connection, Problem> {
        let stream = self.dial().await?;
        let Some((trust, ca)) = &self.tls else { return self.speak(stream).await };
        let client = trust.of(ca.as_deref()).await?;
        // A certificate is for a name without the dot of the root.
        let host = self.host.trim_end_matches('.');
        let secured = client.shake(host, stream).await.map_err(|error| unsecured(&error))?;
        self.speak(secured).await
    }

    /// The first of the host's addresses at which somebody answers, of those that are allowed.
    async fn dial(&self) -> Result<TcpStream, Problem> {
        let found = lookup_host((&*self.host, self.port)).await;
        let mut addresses: Vec<SocketAddr> =
            found.map_err(|error| Problem::new(format!("its name is not known ({error})")))?.collect();
        if self.refuses_private {
            addresses.retain(|address| is_public(address.ip()));
            if addresses.is_empty() {
                return Err(Problem::new(
                    "its host has only private addresses, which refuse_private_addresses forbids",
                ));
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        // So that one that swallows everything leaves time for the others.
        let share = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = Problem::new("its name has no address");
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(|error| broken(&error))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Problem::new(format!("it cannot be reached ({error})")),
                Err(_) => last = Problem::new("it cannot be reached (no answer); is there a firewall?"),
            }
        }
        Err(last)
    }

    /// Begins to speak HTTP, which nobody hears of yet.
    async fn speak<S>(&self, stream: S) -> Result<Connection, Problem>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        TokioIo<S>: Read + Write,
    {
        let mut builder = Builder::new();
        // PHP reads the headers of Pusher by this spelling.
        builder.title_case_headers(true).max_buf_size(HEAD_BYTES_MAX);
        let spoken = builder.handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (sender, connection) = spoken.map_err(|error| problem(&error))?;
        let idle_since = Arc::new(Mutex::new(None));
        let idle = Arc::clone(&idle_since);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::select! {
                // What was wrong with it the request has heard.
                _ = connection => {}
                () = unused(&idle) => {}
            }
        });
        Ok(Connection { sender, idle_since })
    }
}

/// Comes back when the connection has waited for too long.
async fn unused(idle_since: &Mutex<Option<Instant>>) {
    loop {
        let since = *idle_since.lock();
        let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
        if waited >= IDLE_MAX {
            return;
        }
        sleep(IDLE_MAX - waited).await;
    }
}

/// Why there was no answer on a connection.
pub(super) fn problem(error: &hyper::Error) -> Problem {
    if error.is_parse_too_large() {
        return Problem::new(format!(
            "the head of its answer is longer than {HEAD_BYTES_MAX} bytes, or has more than {HEADERS_MAX} headers"
        ));
    }
    if error.is_parse() {
        return Problem::new(
            "what it answers is no HTTP/1.1; is that the port, and should the url begin with https?",
        );
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Problem::new("it closed the connection without an answer");
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return TlsClient::doubt(error).map_or_else(|| broken(error), Problem::new);
        }
        source = cause.source();
    }
    Problem::new(format!("the connection broke ({error})"))
}

fn unsecured(error: &io::Error) -> Problem {
    match TlsClient::doubt(error) {
        Some(text) => Problem::new(format!("TLS: {text}")),
        None => Problem::new(format!(
            "the connection broke while TLS was agreed on ({error}); is that its port for TLS?"
        )),
    }
}

fn broken(error: &io::Error) -> Problem {
    Problem::new(format!("the connection broke ({error})"))
}
