//! The last event of each cache channel of an app, for those who come later.
//!
//! It outlives the channel's subscribers, but not its time, and gives way to newer ones when the app's bytes run out.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use soundpost_protocol::{channel::ChannelName, websocket::Frame};

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
}

fn cost(frame: &Frame) -> usize {
    frame.bytes().len() + ENTRY_BYTES
}

/// What the HTTP API says of a kept event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// `data` as a JSON string literal.
    pub data: String,
    /// How long it is still kept.
    pub ttl: Duration,
}

impl KeptEvent {
    /// Out of the frame that clients get, the last bytes of which are so many of `data`.
    pub fn of(frame: &Frame, data_bytes: usize, ttl: Duration) -> Option<Self> {
        // The payload ends with the data and the brace that closes the frame.
        let payload = frame.payload();
        let end = payload.len().checked_sub(1)?;
        let data = payload.get(end.checked_sub(data_bytes)?..end)?;
        Some(Self { data: std::str::from_utf8(data).ok()?.to_owned(), ttl })
    }
}

#[derive(Debug)]
struct Shelf {
    bytes_max: usize,
    ttl: Duration,
    kept: HashMap<ChannelName, Kept, RandomState>,
    by_age: BTreeMap<u64, ChannelName>,
    ages: u64,
    bytes: usize,
}

/// The kept events of one app. Its lock may be taken while a channel's is held, never the other way round.
#[derive(Debug)]
pub struct Cache(Mutex<Shelf>);

impl Cache {
    /// Empty. `ttl`: how long an event is kept.
    pub fn new(bytes_max: usize, ttl: Duration) -> Self {
        let kept = HashMap::default();
        Self(Mutex::new(Shelf { bytes_max, ttl, kept, by_age: BTreeMap::new(), ages: 0, bytes: 0 }))
    }

    /// From now on other bounds. What is kept already is not kept for longer than it was to be, nor than it would be if
    /// it had come now; the oldest give way to less room.
    pub fn resize(&self, bytes_max: usize, ttl: Duration, now: Instant) {
        let mut shelf = self.0.lock();
        if (shelf.bytes_max, shelf.ttl) == (bytes_max, ttl) {
            return;
        }
        (shelf.bytes_max, shelf.ttl) = (bytes_max, ttl);
        // The oldest still go first: all are moved alike.
        shelf.kept.values_mut().for_each(|kept| kept.until = kept.until.min(now + ttl));
        shelf.make_room(0);
    }

    /// Keeps an event instead of the one before it, forgetting the oldest of the app as far as it needs their room. One
    /// that is larger than all the room there is is not kept, and neither is the one before it, which would be wrong.
    pub fn keep(&self, channel: &ChannelName, frame: &Frame, data_bytes: usize, now: Instant) {
        self.0.lock().keep(channel, frame, data_bytes, Duration::MAX, now);
    }

    /// The same for an event that has been kept elsewhere and has only `left` of its time.
    pub fn keep_for(
        &self,
        channel: &ChannelName,
        frame: &Frame,
        data_bytes: usize,
        left: Duration,
        now: Instant,
    ) {
        self.0.lock().keep(channel, frame, data_bytes, left, now);
    }

    /// Keeps nothing for the channel any more.
    pub fn forget(&self, channel: &ChannelName) {
        self.0.lock().forget(channel);
    }

    /// The event a newcomer gets, if one is kept.
    pub fn frame(&self, channel: &ChannelName, now: Instant) -> Option<Frame> {
        let shelf = self.0.lock();
        shelf.kept.get(channel).filter(|kept| kept.until > now).map(|kept| kept.frame.clone())
    }

    /// The same as the HTTP API tells it.
    pub fn event(&self, channel: &ChannelName, now: Instant) -> Option<KeptEvent> {
        let shelf = self.0.lock();
        let kept = shelf.kept.get(channel).filter(|kept| kept.until > now)?;
        KeptEvent::of(&kept.frame, kept.data_bytes, kept.until.saturating_duration_since(now))
    }

    /// Forgets what has had its time.
    pub fn sweep(&self, now: Instant) {
        self.0.lock().sweep(now);
    }
}

impl Shelf {
    fn keep(
        &mut self,
        channel: &ChannelName,
        frame: &Frame,
        data_bytes: usize,
        left: Duration,
        now: Instant,
    ) {
        self.forget(channel);
        self.sweep(now);
        let cost = cost(frame);
        if cost > self.bytes_max {
            return;
        }
        self.make_room(cost);
        self.ages += 1;
        self.bytes += cost;
        let age = self.ages;
        self.by_age.insert(age, channel.clone());
        let kept = Kept { frame: frame.clone(), data_bytes, until: now + self.ttl.min(left), age };
        self.kept.insert(channel.clone(), kept);
    }

    /// Forgets the oldest until there is room for `cost` more bytes, or nothing is left.
    fn make_room(&mut self, cost: usize) {
        while self.bytes > self.bytes_max.saturating_sub(cost) {
            let Some(oldest) = self.by_age.values().next().cloned() else { return };
            self.forget(&oldest);
        }
    }

    /// Nearly all of an app are kept for the same time, so the oldest goes first. One that had less time left may stay
    /// behind those before it, but is given to nobody.
    fn sweep(&mut self, now: Instant) {
        while let Some(oldest) = self.by_age.values().next().cloned() {
            if self.kept.get(&oldest).is_some_and(|kept| kept.until > now) {
                return;
            }
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, channel: &ChannelName) {
        if let Some(kept) = self.kept.remove(channel) {
            self.by_age.remove(&kept.age);
            self.bytes -= cost(&kept.frame);
            if self.kept.capacity() > 4 * self.kept.len() + 64 {
                self.kept.shrink_to(2 * self.kept.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::{app::Limits, server_frame};

    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, &Limits::default()).unwrap()
    }

    fn keep(cache: &Cache, channel: &str, data: &str, now: Instant) {
        let channel = name(channel);
        cache.keep(&channel, &server_frame::event(&channel, "e", data), data.len(), now);
    }

    #[test]
    fn the_last_event_is_kept_for_its_time() {
        let start = Instant::now();
        let cache = Cache::new(10_000, Duration::from_secs(60));
        keep(&cache, "cache-a", r#""first""#, start);
        keep(&cache, "cache-a", r#""last""#, start);
        let later = start + Duration::from_secs(20);
        let expected = KeptEvent { data: r#""last""#.to_owned(), ttl: Duration::from_secs(40) };
        assert_eq!(cache.event(&name("cache-a"), later), Some(expected));
        assert!(cache.frame(&name("cache-a"), later).is_some());
        assert_eq!(cache.frame(&name("cache-b"), later), None);
        assert_eq!(cache.event(&name("cache-a"), start + Duration::from_secs(60)), None);
        cache.sweep(start + Duration::from_secs(60));
        let shelf = cache.0.lock();
        assert_eq!((shelf.kept.len(), shelf.by_age.len(), shelf.bytes), (0, 0, 0));
    }

    #[test]
    fn what_was_kept_elsewhere_has_only_the_rest_of_its_time() {
        let start = Instant::now();
        let cache = Cache::new(10_000, Duration::from_secs(60));
        let channel = name("cache-a");
        let frame = server_frame::event(&channel, "e", "\"1\"");
        let keep_for = |seconds| cache.keep_for(&channel, &frame, 3, Duration::from_secs(seconds), start);
        let is_kept = |seconds| cache.frame(&channel, start + Duration::from_secs(seconds)).is_some();
        keep_for(5);
        assert_eq!([is_kept(4), is_kept(5)], [true, false]);
        keep_for(500);
        assert_eq!([is_kept(59), is_kept(60)], [true, false], "no longer than the settings say");
        cache.forget(&channel);
        assert!(!is_kept(0));
        assert_eq!(cache.0.lock().bytes, 0);
    }

    #[test]
    fn other_bounds_hold_for_what_is_kept() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let data = format!("\"{}\"", "x".repeat(1000));
        let cache = Cache::new(1 << 20, Duration::from_secs(60));
        ["cache-a", "cache-b", "cache-c"].iter().for_each(|channel| keep(&cache, channel, &data, start));
        let kept =
            |now| ["cache-a", "cache-b", "cache-c"].map(|name_of| cache.frame(&name(name_of), now).is_some());
        cache.resize(2 * (1002 + ENTRY_BYTES + 60), Duration::from_secs(60), second(1));
        assert_eq!(kept(second(1)), [false, true, true], "the oldest give way");
        cache.resize(1 << 20, Duration::from_secs(10), second(20));
        assert_eq!([kept(second(29)), kept(second(30))], [[false, true, true], [false; 3]]);
        keep(&cache, "cache-a", &data, second(21));
        cache.resize(1 << 20, Duration::from_secs(100), second(22));
        assert_eq!(kept(second(30)), [true, false, false]);
        assert_eq!(kept(second(31)), [false; 3], "nothing is kept for longer than it was to be");
        cache.sweep(second(31));
        assert_eq!(cache.0.lock().bytes, 0);
    }

    #[test]
    fn the_oldest_of_the_app_give_way_when_the_bytes_run_out() {
        let now = Instant::now();
        let data = format!("\"{}\"", "x".repeat(1000));
        let cache = Cache::new(3 * (1002 + ENTRY_BYTES + 60), Duration::from_secs(60));
        for channel in ["cache-a", "cache-b", "cache-c", "cache-a", "cache-d"] {
            keep(&cache, channel, &data, now);
        }
        let kept = |channel: &str| cache.frame(&name(channel), now).is_some();
        assert_eq!(["cache-a", "cache-b", "cache-c", "cache-d"].map(kept), [true, false, true, true]);
        keep(&cache, "cache-d", &format!("\"{}\"", "x".repeat(5000)), now);
        assert_eq!(
            ["cache-a", "cache-c", "cache-d"].map(kept),
            [true, true, false],
            "too large for all the room"
        );
    }
}
