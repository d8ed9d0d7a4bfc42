//! The HTTP API: requests become triggers and queries, refusals become a status and one line of text.
//!
//! Verification goes from cheap to dear: the route, then key, time and signature from the head alone, then the body up
//! to its limit, then its digest. Nothing is parsed that was not signed.

mod body;
mod cluster;
mod events;
mod queries;
mod timeline;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER, UPGRADE},
    http::request::Parts,
};
use soundpost_protocol::api::{ApiError, Query, verify_head};

use crate::{
    apps::{RunningApp, WorkerId},
    metrics::TriggerResult,
    node::{Node, unix_seconds},
};

/// What `/ready` says of a node that serves without Redis.
pub const DEGRADED: &str = "degraded: redis";

/// What a path of the API asks for. Names in it are still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    /// `POST /apps/{id}/events`
    Events,
    /// `POST /apps/{id}/batch_events`
    BatchEvents,
    /// `GET /apps/{id}/channels`
    Channels,
    /// `GET /apps/{id}/channels/{channel}`
    Channel(&'a str),
    /// `GET /apps/{id}/channels/{channel}/users`
    Users(&'a str),
    /// `GET /apps/{id}/connections`
    Connections,
    /// `POST /apps/{id}/users/{user_id}/terminate_connections`
    Terminate(&'a str),
}

impl<'a> Route<'a> {
    fn of(rest: &'a str) -> Option<Self> {
        let mut segments = rest.split('/');
        let route = match (segments.next()?, segments.next(), segments.next()) {
            ("events", None, None) => Self::Events,
            ("batch_events", None, None) => Self::BatchEvents,
            ("channels", None, None) => Self::Channels,
            ("channels", Some(channel), None) => Self::Channel(channel),
            ("channels", Some(channel), Some("users")) => Self::Users(channel),
            ("connections", None, None) => Self::Connections,
            ("users", Some(user_id), Some("terminate_connections")) => Self::Terminate(user_id),
            _ => return None,
        };
        segments.next().is_none().then_some(route)
    }

    const fn is_trigger(self) -> bool {
        matches!(self, Self::Events | Self::BatchEvents)
    }
}

/// Answers any request that is no WebSocket.
pub async fn respond(
    node: &Arc<Node>,
    worker: WorkerId,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let _under_way = node.begin_request();
    let (head, mut body) = request.into_parts();
    let response = answer(node, worker, &head, &mut body).await;
    // With `Expect` nothing is sent before we ask for it, and we do not.
    if !response.status().is_success() && !head.headers.contains_key(EXPECT) {
        body::discard(&mut body).await;
    }
    response
}

async fn answer(
    node: &Arc<Node>,
    worker: WorkerId,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Full<Bytes>> {
    let raw_path = head.uri.path();
    // The API is served under the prefix and without it: the PHP SDK drops a prefix that does not end in a slash.
    let prefix = node.path_prefix.as_str();
    let path = raw_path.strip_prefix(prefix).filter(|path| path.starts_with('/')).unwrap_or(raw_path);
    if let Some((id, rest)) = path.strip_prefix("/apps/").and_then(|path| path.split_once('/')) {
        let Some(app) = node.apps.by_id(id) else { return refuse(&ApiError::unknown_app(id)) };
        let Some(route) = Route::of(rest) else { return refuse(&ApiError::UnknownPath) };
        let app = &*app;
        let answered = serve(node, app, route, head, body).await;
        if matches!(answered, Err(ApiError::RateLimit { .. })) {
            app.counters(worker).refused_requests.add(1);
        }
        if route.is_trigger() {
            count(app, worker, &answered);
        }
        return answered.map_or_else(|error| refuse(&error), json);
    }
    let is_get = matches!(head.method, Method::GET | Method::HEAD);
    match path {
        "/" | "/up" | "/ready" if !is_get => refuse(&ApiError::Method { allow: "GET" }),
        "/" => soketi_health(node),
        "/ready" => health(node),
        "/up" => json(r#"{"health":"OK"}"#.to_owned()),
        _ if path.starts_with(timeline::PREFIX) && is_get => timeline::answer(path),
        _ if path.starts_with("/app/") => upgrade_required(),
        _ => refuse(&ApiError::UnknownPath),
    }
}

fn upgrade_required() -> Response<Full<Bytes>> {
    let mut response = refusal(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket endpoint");
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

async fn serve(
    node: &Arc<Node>,
    app: &RunningApp,
    route: Route<'_>,
    head: &Parts,
    body: &mut Incoming,
) -> Result<String, ApiError> {
    let is_post = route.is_trigger() || matches!(route, Route::Terminate(_));
    let allow = if is_post { "POST" } else { "GET" };
    if head.method.as_str() != allow {
        return Err(ApiError::Method { allow });
    }
    let query = Query::parse(head.uri.query().unwrap_or_default())?;
    let path = head.uri.path();
    let digest = verify_head(&app.app, allow, path, &node.path_prefix, &query, unix_seconds())?;
    // After the signature, so that nobody else can use up what the app may send.
    if let Some(per_second) = app.over_rate() {
        return Err(ApiError::RateLimit { per_second });
    }
    let body = body::read(node, &app.app, body).await?;
    digest.check(&body)?;
    match route {
        Route::Events => events::events(node, app, &body).await,
        Route::BatchEvents => events::batch_events(node, app, &body).await,
        Route::Channels => queries::channels(node, app, &query).await,
        Route::Channel(name) => queries::channel(node, app, name, &query).await,
        Route::Users(name) => queries::users(node, app, name).await,
        Route::Terminate(user_id) => queries::terminate(node, app, user_id).await,
        Route::Connections => Ok(queries::connections(app)),
    }
}

fn count(app: &RunningApp, worker: WorkerId, answered: &Result<String, ApiError>) {
    let result = match answered {
        Ok(_) => TriggerResult::Accepted,
        Err(error) if error.status() >= 500 => TriggerResult::Unavailable,
        Err(_) => TriggerResult::Refused,
    };
    app.counters(worker).triggers(result).add(1);
}

/// What balancers ask: 503 while the node starts or is about to stop. Without Redis it serves its clients as ever and says
/// so: if every node of a cluster failed its check at once, a balancer would send everybody away.
pub fn health(node: &Node) -> Response<Full<Bytes>> {
    let (status, text) = readiness(node);
    refusal(status, text)
}

fn readiness(node: &Node) -> (StatusCode, &'static str) {
    if node.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if node.adapter.is_starting() {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    } else if !node.adapter.is_away() {
        (StatusCode::OK, "ready")
    } else if node.ready_requires_redis() {
        (StatusCode::SERVICE_UNAVAILABLE, DEGRADED)
    } else {
        (StatusCode::OK, DEGRADED)
    }
}

/// The same in soketi's word for every 200.
fn soketi_health(node: &Node) -> Response<Full<Bytes>> {
    let (status, text) = readiness(node);
    refusal(status, if status.is_success() { "OK" } else { text })
}

fn json(body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refuse(error: &ApiError) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = refusal(status, &error.to_string());
    let headers = response.headers_mut();
    if let ApiError::Method { allow } = error {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let ApiError::RateLimit { per_second } = error {
        headers.insert("x-ratelimit-limit", HeaderValue::from(*per_second));
        headers.insert("x-ratelimit-remaining", HeaderValue::from_static("0"));
    }
    response
}

/// A status and one line of text, which Laravel shows to the developer as it is.
pub fn refusal(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_are_routes() {
        for (rest, expected) in [
            ("events", Some(Route::Events)),
            ("batch_events", Some(Route::BatchEvents)),
            ("channels", Some(Route::Channels)),
            ("channels/a%2Eb", Some(Route::Channel("a%2Eb"))),
            ("channels/presence-a/users", Some(Route::Users("presence-a"))),
            ("connections", Some(Route::Connections)),
            ("users/42/terminate_connections", Some(Route::Terminate("42"))),
            ("users/42", None),
            ("", None),
            ("events/", None),
            ("channels/a/stats", None),
            ("channels/a/users/b", None),
            ("channels/a/events", None),
        ] {
            assert_eq!(Route::of(rest), expected, "{rest}");
        }
    }
}
