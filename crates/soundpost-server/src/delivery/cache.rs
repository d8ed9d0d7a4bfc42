//! The last event of each cache channel, for those who come later.
//!
//! It outlives the channel's subscribers, but not its time, and gives way to newer ones when the app's bytes run out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use soundpost_protocol::websocket::Frame;

use crate::apps::{CacheBudget, ChannelKey};

/// What an entry costs beside its frame.
const ENTRY_BYTES: usize = 256;

/// A kept event.
#[derive(Debug)]
struct Kept {
    frame: Frame,
    /// Bytes of `data`, the last field of the frame.
    data_bytes: usize,
    until: Instant,
    /// Rises with every event kept, so that the oldest is known.
    age: u64,
    budget: Arc<CacheBudget>,
}

impl Kept {
    fn cost(frame: &Frame) -> usize {
        frame.bytes().len() + ENTRY_BYTES
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.release(Self::cost(&self.frame));
    }
}

/// What the HTTP API says of a kept event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// `data` as a JSON string literal.
    pub data: String,
    /// How long it is still kept.
    pub ttl: Duration,
}

/// The kept events of the channels of one lock.
#[derive(Debug, Default)]
pub(super) struct Caches {
    kept: HashMap<Arc<ChannelKey>, Kept, RandomState>,
    by_age: BTreeMap<u64, Arc<ChannelKey>>,
    ages: u64,
}

impl Caches {
    /// Keeps an event instead of the one before it. Makes room by forgetting the oldest of the same app; if that is not
    /// enough, nothing is kept for the channel.
    pub(super) fn keep(
        &mut self,
        key: &ChannelKey,
        frame: &Frame,
        data_bytes: usize,
        budget: &Arc<CacheBudget>,
        now: Instant,
    ) {
        self.forget(key);
        self.sweep(now);
        while !budget.reserve(Kept::cost(frame)) {
            let oldest = self.by_age.values().find(|oldest| oldest.app == key.app).cloned();
            let Some(oldest) = oldest else { return };
            self.forget(&oldest);
        }
        self.ages += 1;
        let kept = Kept {
            frame: frame.clone(),
            data_bytes,
            until: now + budget.ttl(),
            age: self.ages,
            budget: Arc::clone(budget),
        };
        let key = Arc::new(key.clone());
        self.by_age.insert(self.ages, Arc::clone(&key));
        self.kept.insert(key, kept);
    }

    /// The event a newcomer gets, if one is kept.
    pub(super) fn frame(&self, key: &ChannelKey, now: Instant) -> Option<Frame> {
        self.kept.get(key).filter(|kept| kept.until > now).map(|kept| kept.frame.clone())
    }

    /// The same as the HTTP API tells it.
    pub(super) fn event(&self, key: &ChannelKey, now: Instant) -> Option<KeptEvent> {
        let kept = self.kept.get(key).filter(|kept| kept.until > now)?;
        // The payload ends with the data and the brace that closes the frame.
        let payload = kept.frame.payload();
        let end = payload.len().checked_sub(1)?;
        let data = payload.get(end.checked_sub(kept.data_bytes)?..end)?;
        let data = std::str::from_utf8(data).ok()?.to_owned();
        Some(KeptEvent { data, ttl: kept.until.saturating_duration_since(now) })
    }

    /// Forgets what has had its time, the oldest first.
    pub(super) fn sweep(&mut self, now: Instant) {
        while let Some((_, oldest)) = self.by_age.first_key_value() {
            let oldest = Arc::clone(oldest);
            if self.kept.get(&oldest).is_some_and(|kept| kept.until > now) {
                return;
            }
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &ChannelKey) {
        if let Some(kept) = self.kept.remove(key) {
            self.by_age.remove(&kept.age);
            if self.kept.capacity() > 4 * self.kept.len() + 64 {
                self.kept.shrink_to(2 * self.kept.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::{
        app::{App, AppId, AppKey, AppSecret, Limits},
        channel::ChannelName,
        server_frame,
    };

    use super::*;
    use crate::apps::Apps;

    fn key(name: &str) -> ChannelKey {
        let app = App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        let app = Apps::new(vec![app], 1).all()[0].index;
        ChannelKey { app, name: ChannelName::parse(name, &Limits::default()).unwrap() }
    }

    fn keep(caches: &mut Caches, name: &str, data: &str, budget: &Arc<CacheBudget>, now: Instant) {
        let key = key(name);
        caches.keep(&key, &server_frame::event(&key.name, "e", data), data.len(), budget, now);
    }

    #[test]
    fn the_last_event_is_kept_for_its_time() {
        let start = Instant::now();
        let budget = CacheBudget::new(10_000, Duration::from_secs(60));
        let mut caches = Caches::default();
        keep(&mut caches, "cache-a", r#""first""#, &budget, start);
        keep(&mut caches, "cache-a", r#""last""#, &budget, start);
        let later = start + Duration::from_secs(20);
        let expected = KeptEvent { data: r#""last""#.to_owned(), ttl: Duration::from_secs(40) };
        assert_eq!(caches.event(&key("cache-a"), later), Some(expected));
        assert!(caches.frame(&key("cache-a"), later).is_some());
        assert_eq!(caches.frame(&key("cache-b"), later), None);
        assert_eq!(caches.event(&key("cache-a"), start + Duration::from_secs(60)), None);
        caches.sweep(start + Duration::from_secs(60));
        assert_eq!((caches.kept.len(), caches.by_age.len(), budget.used()), (0, 0, 0));
    }

    #[test]
    fn the_oldest_give_way_when_the_bytes_run_out() {
        let now = Instant::now();
        let data = format!("\"{}\"", "x".repeat(1000));
        let cost = 1002 + ENTRY_BYTES + 60;
        let budget = CacheBudget::new(3 * cost, Duration::from_secs(60));
        let mut caches = Caches::default();
        for name in ["cache-a", "cache-b", "cache-c", "cache-a", "cache-d"] {
            keep(&mut caches, name, &data, &budget, now);
        }
        let kept = |name: &str| caches.frame(&key(name), now).is_some();
        assert_eq!(["cache-a", "cache-b", "cache-c", "cache-d"].map(kept), [true, false, true, true]);
        keep(&mut caches, "cache-e", &format!("\"{}\"", "x".repeat(5000)), &budget, now);
        assert!(caches.frame(&key("cache-e"), now).is_none(), "more than the whole budget");
    }
}
