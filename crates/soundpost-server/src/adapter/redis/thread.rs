//! The thread that has the connections to Redis. It connects for ever.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Redis, Shared, keys,
    lives::Node,
    session::{Lost, TICK},
    setup,
    wire::topology::moved,
};
use crate::{config::OnOutage, seldom::Seldom};

/// A server is reached within this time, with all that must be said to it first, or tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts, the first and the longest.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The running thread.
#[derive(Debug)]
pub struct RedisThread {
    redis: Redis,
    /// Closed when the thread is over.
    running: watch::Receiver<()>,
}

impl RedisThread {
    /// Starts the thread. Errors: those of the system when it has no thread or runtime to give.
    pub fn start(redis: Redis) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (guard, running) = watch::channel(());
        let shared = redis.clone();
        std::thread::Builder::new().name("redis".to_owned()).spawn(move || {
            runtime.block_on(run(&shared.0));
            drop(guard);
        })?;
        Ok(Self { redis, running })
    }

    /// Comes back once the thread is over: because the node [leaves](Redis::leave), or because it has died.
    pub async fn over(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Leaves the cluster, and comes back once that is done.
    pub async fn leave(&self) {
        self.redis.leave();
        self.over().await;
    }
}

impl Drop for RedisThread {
    fn drop(&mut self) {
        self.redis.leave();
    }
}

async fn run(shared: &Shared) {
    let mut node = Node::new(shared.cluster.life(), Instant::now());
    let mut away = Away { since: Instant::now(), is_first: true, line: Seldom::default() };
    let meanwhile = match shared.settings.on_outage {
        OnOutage::Refuse => "clients stay, events are refused (503)",
        OnOutage::Local => "clients stay, events reach those of this node alone",
    };
    let mut wait = WAIT_MIN;
    loop {
        let begun = while_away(shared, timeout(CONNECT_TIMEOUT, setup::begin(shared, &mut node))).await;
        shared.is_starting.store(false, Relaxed);
        match begun {
            None => return,
            Some(Ok(Ok(mut session))) => {
                let servers = session.addresses();
                away.is_over(&servers, &keys::hex(session.node.life));
                wait = WAIT_MIN;
                let lost = tokio::select! {
                    lost = session.run() => lost,
                    () = moved(&shared.settings, &servers) => Err(Lost::Moved),
                };
                session.end();
                let Err(lost) = lost else { return };
                warn!(why = %lost, meanwhile, "redis is away");
                away = Away { since: Instant::now(), is_first: false, line: Seldom::default() };
            }
            Some(Ok(Err(error))) => away.goes_on(&error.to_string(), meanwhile),
            Some(Err(_)) => away.goes_on("no connection within 5 s", meanwhile),
        }
        let jitter = wait.mul_f64(0.5 + f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX) / 2.0);
        if while_away(shared, sleep(jitter)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// How long Redis has been away.
struct Away {
    since: Instant,
    is_first: bool,
    line: Seldom,
}

impl Away {
    fn goes_on(&self, why: &str, meanwhile: &str) {
        if self.line.is_due() {
            warn!(why, meanwhile, "redis cannot be reached, and is tried again");
        }
    }

    fn is_over(&self, servers: &str, life: &str) {
        let seconds = format!("{:.1}", self.since.elapsed().as_secs_f64());
        match self.is_first {
            true => info!(servers, life, "redis is there"),
            false => info!(servers, life, away_seconds = seconds, "redis is there again"),
        }
    }
}

/// Waits for it, while channels hear that time passes. `None`: the node is to leave.
async fn while_away<T>(shared: &Shared, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    let mut leaving = shared.leaving.subscribe();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            done = &mut what => return Some(done),
            _ = leaving.wait_for(|leaving| *leaving) => return None,
            _ = tick.tick() => shared.hearing.tick(),
        }
    }
}
