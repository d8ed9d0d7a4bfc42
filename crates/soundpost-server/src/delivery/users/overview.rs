//! What a connection is told first of those it watches: all in one frame, once the cluster has said of each whether it
//! is online, or has taken too long to.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use soundpost_protocol::{presence::UserId, server_frame, socket_id::SocketId, websocket::Frame};

use super::{Occasion, SHARDS};
use crate::delivery::{Delivery, Wakes, ticker::PutOff};

/// What is not known after this counts as offline, until more is heard.
pub(super) const OVERVIEW_WAIT: Duration = Duration::from_secs(2);

/// One that has not been sent.
#[derive(Debug)]
struct Overview {
    /// Each user in the order of the list; `None`: not known yet.
    watched: Vec<(UserId, Option<bool>)>,
    /// When it is sent in any case.
    due: PutOff,
}

impl Overview {
    fn frame(&self) -> Frame {
        let those = |wanted: bool| -> Vec<UserId> {
            let are = self.watched.iter().filter(|(_, is_online)| is_online.unwrap_or(false) == wanted);
            are.map(|(user_id, _)| user_id.clone()).collect()
        };
        server_frame::watchlist_events(&those(true), &those(false))
    }
}

type Shard = HashMap<SocketId, Overview, RandomState>;

/// All that have not been sent. A lock of it may be taken while a user is locked, and stays locked while something is put
/// into an inbox: what a connection hears of a user after its overview is not older than what the overview says.
#[derive(Debug)]
pub(super) struct Overviews {
    shards: Box<[Mutex<Shard>]>,
}

impl Default for Overviews {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Overviews {
    #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
    fn lock(&self, connection: SocketId) -> MutexGuard<'_, Shard> {
        // The right half is random.
        let shard = usize::try_from(connection.right >> 32).unwrap_or(0) % SHARDS;
        self.shards[shard].lock()
    }

    /// From now on the connection is told nothing of these users before `due`, unless all of them are known.
    pub(super) fn begin(&self, connection: SocketId, watchlist: &[UserId], due: PutOff) {
        let watched = watchlist.iter().map(|user_id| (user_id.clone(), None)).collect();
        self.lock(connection).insert(connection, Overview { watched, due });
    }

    /// The connection is not to be told any more. Gives back what was put off for it.
    pub(super) fn end(&self, connection: SocketId) -> Option<PutOff> {
        remove(&mut self.lock(connection), connection).map(|overview| overview.due)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

fn remove(shard: &mut Shard, connection: SocketId) -> Option<Overview> {
    let overview = shard.remove(&connection);
    if shard.capacity() > 4 * shard.len() + 64 {
        shard.shrink_to(2 * shard.len());
    }
    overview
}

impl Delivery {
    /// Notes in the connection's overview whether the user is online, and sends it if nothing is missing in it any more.
    /// False if there is none, because it was sent: then the connection is to be told by itself.
    pub(super) fn note_overview(
        &self,
        connection: SocketId,
        is_online: bool,
        on: &mut Occasion<'_, '_>,
    ) -> bool {
        let mut shard = self.users.overviews.lock(connection);
        let Some(overview) = shard.get_mut(&connection) else { return false };
        if let Some((_, known)) = overview.watched.iter_mut().find(|(watched, _)| *watched == on.key.id) {
            *known = Some(is_online);
        }
        if overview.watched.iter().all(|(_, known)| known.is_some())
            && let Some(overview) = remove(&mut shard, connection)
        {
            self.ticker.call_off(overview.due);
            self.tell(connection, &overview.frame(), on.wakes);
        }
        true
    }

    /// Sends what is known by now.
    pub(in crate::delivery) fn overview_due(
        &self,
        connection: SocketId,
        now: Instant,
        wakes: &mut Wakes<'_>,
    ) {
        let mut shard = self.users.overviews.lock(connection);
        // The connection may have begun another meanwhile.
        if shard.get(&connection).is_some_and(|overview| overview.due.time <= now)
            && let Some(overview) = remove(&mut shard, connection)
        {
            self.tell(connection, &overview.frame(), wakes);
        }
    }
}
