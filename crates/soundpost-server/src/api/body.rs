//! A request's body, up to its limit, within its time, and within what the node reads at once.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use soundpost_protocol::{api::ApiError, app::App};

use crate::node::Node;

/// A body must be complete so long after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The rest of a refused body is read for so long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Escapes inflate `data`, PHP's the most (`\uXXXX` for two bytes), and a batch holds ten events.
const BYTES_FOR_EACH_DATA_BYTE: usize = 12;
/// Names, channels and punctuation beside the data.
const BYTES_BESIDE_DATA: usize = 16 << 10;

/// Reads on and forgets, for a while: who is still sending when the connection closes sees it break off and not why.
pub(super) async fn discard(body: &mut Incoming) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever sends for longer than this has had its chance.
    drop(tokio::time::timeout(DISCARD_TIMEOUT, rest).await);
}

/// Reads the whole body.
///
/// Errors: [`ApiError::BodyTooLarge`], as soon as the head or a chunk says so; [`ApiError::BodyTimeout`];
/// [`ApiError::BodyBroken`]; [`ApiError::OverCapacity`] if too much is being read already.
pub(super) async fn read(node: &Arc<Node>, app: &App, body: &mut Incoming) -> Result<Bytes, ApiError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let reading = tokio::time::timeout(BODY_TIMEOUT, read_all(node, app, body));
    reading.await.map_err(|_| ApiError::BodyTimeout { seconds: BODY_TIMEOUT.as_secs() })?
}

async fn read_all(node: &Arc<Node>, app: &App, body: &mut Incoming) -> Result<Bytes, ApiError> {
    let by_data = BYTES_FOR_EACH_DATA_BYTE * app.limits.event_data_bytes_max + BYTES_BESIDE_DATA;
    let of_node = node.request_bytes_max();
    let bytes_max = of_node.unwrap_or(by_data);
    let setting = if of_node.is_some() { "request_bytes_max" } else { "event_data_bytes_max" };
    let too_large = |bytes: Option<u64>| ApiError::BodyTooLarge { bytes, bytes_max, setting };
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(announced));
    }
    let mut rooms = Vec::new();
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else { continue };
        if whole.len() + joined.len() + chunk.len() > bytes_max {
            return Err(too_large(None));
        }
        rooms.push(node.reserve_body(chunk.len()).ok_or(ApiError::OverCapacity)?);
        if whole.is_empty() && joined.is_empty() {
            // Nearly every body arrives in one piece and is then not copied.
            whole = chunk;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&chunk);
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}
