//! The second listener: metrics for Prometheus, and health for those who would rather not ask the public port.

mod metrics;
mod redis;
mod webhooks;

use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tracing::{debug, error};

use crate::{api, node::Node};

/// A request's head must be complete so long after the last one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once; nobody needs more to scrape.
const CONNECTIONS_MAX: usize = 64;

/// Serves the listener until it is dropped.
pub async fn serve(listener: TcpListener, node: Arc<Node>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            error!(%error, "cannot wait for admin connections");
            return;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        let node = Arc::clone(&node);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&node, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                debug!(%error, "admin connection broke off");
            }
        });
    }
}

fn respond(node: &Arc<Node>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return api::refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    match request.uri().path() {
        "/metrics" => metrics::metrics(node),
        "/up" => api::refusal(StatusCode::OK, "OK"),
        "/ready" => api::health(node),
        _ => api::refusal(StatusCode::NOT_FOUND, "there are /metrics, /up and /ready"),
    }
}
