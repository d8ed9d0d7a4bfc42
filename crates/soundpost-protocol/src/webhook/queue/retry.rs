//! What an attempt has come to, and when there is another.
//!
//! Source: Pusher docs, "Webhooks": retried with exponential back-off for 5 minutes unless the answer is a 2xx. We do not
//! try again what the receiver has refused for good: an answer of 4xx or a redirect would be the same in a minute.

use std::time::{Duration, Instant};

/// How long one attempt may take, from the connection to the status of the answer.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the first attempt there may be others.
pub const RETRY_FOR: Duration = Duration::from_secs(300);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What an attempt has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The status of the answer.
    Status(u16),
    /// There was no answer: no connection, no TLS, no status in time. Whether the receiver has taken the events is not known.
    Unanswered,
}

/// What follows from an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has the events.
    Delivered,
    /// To be sent again.
    Retry,
    /// The receiver will never take them.
    Refused,
}

impl Outcome {
    /// 2xx is success. 5xx, 408, 409, 425, 429 and no answer are tried again; every other answer is for good, redirects too.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Status(200..300) => Verdict::Delivered,
            Self::Unanswered | Self::Status(408 | 409 | 425 | 429 | 500..600) => Verdict::Retry,
            Self::Status(_) => Verdict::Refused,
        }
    }
}

/// When to try again what has failed at `now` for the `failures`th time: 1 s later, then 2, 4, up to 60. `None` if
/// [`RETRY_FOR`] is over; the last attempt is at its end, or later if no request was free.
pub(super) fn next_attempt(begun_at: Instant, failures: u32, now: Instant) -> Option<Instant> {
    let end = begun_at + RETRY_FOR;
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    (now < end).then(|| end.min(now + pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_judged_by_their_class_with_exceptions() {
        use Verdict::*;
        for (statuses, verdict) in [
            (&[200, 201, 204, 299][..], Delivered),
            (&[500, 502, 503, 504, 599, 408, 409, 425, 429], Retry),
            (
                &[100, 101, 199, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422, 600, 0],
                Refused,
            ),
        ] {
            for status in statuses {
                assert_eq!(Outcome::Status(*status).verdict(), verdict, "{status}");
            }
        }
        assert_eq!(Outcome::Unanswered.verdict(), Retry);
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_end_after_five() {
        let begun_at = Instant::now();
        let (mut now, mut failures, mut attempts) = (begun_at, 0, vec![0]);
        while let Some(next) = {
            failures += 1;
            next_attempt(begun_at, failures, now)
        } {
            now = next;
            attempts.push(now.duration_since(begun_at).as_secs());
        }
        assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 300]);
    }

    #[test]
    fn an_attempt_that_hangs_is_followed_by_its_whole_pause() {
        let begun_at = Instant::now();
        let failed_at = begun_at + ATTEMPT_TIMEOUT;
        assert_eq!(next_attempt(begun_at, 1, failed_at), Some(failed_at + Duration::from_secs(1)));
        assert_eq!(
            next_attempt(begun_at, 9, begun_at + Duration::from_secs(299)),
            Some(begun_at + RETRY_FOR)
        );
        assert_eq!(next_attempt(begun_at, 9, begun_at + RETRY_FOR), None);
        assert_eq!(next_attempt(begun_at, u32::MAX, begun_at), Some(begun_at + LONGEST_PAUSE));
    }
}
