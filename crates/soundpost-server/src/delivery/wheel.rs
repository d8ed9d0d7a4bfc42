//! Deadlines of a worker's connections: one bucket a second instead of one timer a connection.
//!
//! An entry is checked when its second comes. What is not due then is filed again, so a deadline that moves away (every
//! message a client sends moves one) costs nothing.

use super::ConnectionRef;

/// Buckets; a deadline further away is filed as far as possible and again from there.
const SECONDS: u32 = 64;

/// Seconds since the worker began.
pub(super) type Second = u32;

/// Connections by the second in which to look at them.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<ConnectionRef>>,
    /// The next second to look at.
    next: Second,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { buckets: (0..SECONDS).map(|_| Vec::new()).collect(), next: 0 }
    }
}

impl Wheel {
    /// Files a connection for `second` or the nearest there is, and says which that was.
    pub(super) fn file(&mut self, connection: ConnectionRef, second: Second) -> Second {
        let second = second.clamp(self.next, self.next + SECONDS - 1);
        if let Some(bucket) = self.buckets.get_mut((second % SECONDS) as usize) {
            bucket.push(connection);
        }
        second
    }

    /// The oldest second up to `now` that was not looked at, with what was filed for it.
    pub(super) fn turn(&mut self, now: Second) -> Option<(Second, Vec<ConnectionRef>)> {
        if self.next > now {
            return None;
        }
        let second = self.next;
        self.next += 1;
        let bucket = self.buckets.get_mut((second % SECONDS) as usize)?;
        Some((second, std::mem::take(bucket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filed_comes_up_once_and_in_time() {
        let mut wheel = Wheel::default();
        let names: Vec<_> = (0..4).map(|n| ConnectionRef::new(n, 1)).collect();
        assert_eq!(wheel.file(names[0], 0), 0);
        assert_eq!(wheel.file(names[1], 3), 3);
        assert_eq!(wheel.file(names[2], 1000), 63);
        assert_eq!(wheel.turn(0), Some((0, vec![names[0]])));
        assert_eq!(wheel.turn(0), None);
        assert_eq!(wheel.file(names[3], 0), 1, "what is past comes up next");
        let seen: Vec<_> = std::iter::from_fn(|| wheel.turn(63)).filter(|(_, due)| !due.is_empty()).collect();
        assert_eq!(seen, [(1, vec![names[3]]), (3, vec![names[1]]), (63, vec![names[2]])]);
    }
}
