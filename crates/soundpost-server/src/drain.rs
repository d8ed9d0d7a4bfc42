//! How a node ends: it says so, tells its clients to go elsewhere one after the other, answers what is asked, and ends.

use std::{
    future::{Future, poll_fn},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use crate::{node::Node, worker::Worker};

/// After the last goodbye clients have so long to close their side, and publishers to get their answer.
const FAREWELL: Duration = Duration::from_millis(2500);

/// How often the end of something is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Sends every connection away within `window`, serving publishers until then.
pub async fn drain(node: &Arc<Node>, workers: &[Worker], window: Duration) {
    node.draining.store(true, Relaxed);
    let connections = node.quota.open();
    info!(connections, seconds = window.as_secs(), "draining; ask once more to stop at once");
    let end = Instant::now() + window;
    for worker in workers {
        if !worker.drain(window).await {
            return;
        }
    }
    sleep_until(end).await;
    let last = Instant::now() + FAREWELL;
    while node.is_busy() && Instant::now() < last {
        sleep(LOOK).await;
    }
    // Who has left and was held cannot come back to this node any more.
    node.delivery.end_holds();
}

/// Comes back when a worker has died, which none should.
pub async fn worker_died(workers: &[Worker]) {
    let mut ends: Vec<_> = workers.iter().map(|worker| Box::pin(worker.died())).collect();
    poll_fn(|cx| {
        let is_over = ends.iter_mut().any(|end| end.as_mut().poll(cx).is_ready());
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
