//! The id of an entry in a stream of Redis.

use std::fmt;

/// Where an event stands in the stream that nodes share: the id of its entry, which as text is `MS-SEQUENCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Milliseconds of Redis' clock when it was added.
    pub milliseconds: u64,
    /// Counts the entries of that millisecond.
    pub sequence: u64,
}

impl Place {
    /// Before every entry.
    pub const FIRST: Self = Self { milliseconds: 0, sequence: 0 };

    /// Reads what [`fmt::Display`] writes, as Redis does.
    pub fn parse(text: &str) -> Option<Self> {
        let (milliseconds, sequence) = text.split_once('-')?;
        Some(Self { milliseconds: milliseconds.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_redis_writes_it() {
        let place = Place { milliseconds: 1_700_000_000_000, sequence: 3 };
        assert_eq!(place.to_string(), "1700000000000-3");
        assert_eq!(Place::parse("1700000000000-3"), Some(place));
        for text in ["", "-", "1", "1-", "-1", "1-2-3", "x-1"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
