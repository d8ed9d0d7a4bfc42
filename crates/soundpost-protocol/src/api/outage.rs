//! What a publisher is told by a node that is one of several and cannot reach the Redis that joins them.

/// What is wrong with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It is away: nothing was sent to it.
    Away,
    /// It was sent to it, and it has not answered in time: it may have been done, or be done yet.
    Silent,
}

/// What a publisher had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That one event, or a batch, be delivered.
    Delivery,
    /// What all nodes know together.
    Answer,
    /// That the connections of a user end.
    Ending,
}

impl Outage {
    /// One line: what is wrong, what became of the request, and what to do.
    pub(super) const fn told(self, wanted: Wanted) -> &'static str {
        match (self, wanted) {
            (Self::Away, Wanted::Delivery) => "Redis is away; the event was not delivered, try again",
            (Self::Silent, Wanted::Delivery) => {
                "Redis did not answer in time; the event may have been delivered, try again if twice does no harm"
            }
            (Self::Away, Wanted::Answer) => {
                "Redis is away, and without it nobody knows of all connections; try again"
            }
            (Self::Silent, Wanted::Answer) => {
                "Redis did not answer in time, and without it nobody knows of all connections; try again"
            }
            (Self::Away, Wanted::Ending) => {
                "Redis is away; connections of the user may still be open, try again"
            }
            (Self::Silent, Wanted::Ending) => {
                "Redis did not answer in time; connections of the user may still be open, try again"
            }
        }
    }

    /// Whether the same request, sent again by a program that knows nothing of it, does no harm.
    pub(super) const fn may_be_repeated(self, wanted: Wanted) -> bool {
        match (self, wanted) {
            (Self::Silent, Wanted::Delivery) => false,
            (Self::Away, Wanted::Delivery) | (_, Wanted::Answer | Wanted::Ending) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiError;

    #[test]
    fn an_outage_is_told_in_one_line_and_says_whether_to_come_back() {
        use Outage::{Away, Silent};
        use Wanted::{Answer, Delivery, Ending};
        for (outage, wanted, again, text) in [
            (Away, Delivery, Some(1), "Redis is away; the event was not delivered, try again"),
            (
                Silent,
                Delivery,
                None,
                "Redis did not answer in time; the event may have been delivered, try again if twice does no harm",
            ),
            (
                Away,
                Answer,
                Some(1),
                "Redis is away, and without it nobody knows of all connections; try again",
            ),
            (
                Silent,
                Answer,
                Some(1),
                "Redis did not answer in time, and without it nobody knows of all connections; try again",
            ),
            (Away, Ending, Some(1), "Redis is away; connections of the user may still be open, try again"),
            (
                Silent,
                Ending,
                Some(1),
                "Redis did not answer in time; connections of the user may still be open, try again",
            ),
        ] {
            let error = ApiError::Cluster { outage, wanted };
            assert_eq!((error.to_string().as_str(), error.status()), (text, 503));
            assert_eq!(error.retry_after_seconds(), again, "{text}");
        }
    }
}
