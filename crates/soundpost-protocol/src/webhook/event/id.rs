//! Which event it is.

use std::fmt;

use crate::presence::NodeId;

/// Names one event in the whole cluster, for ever: who told it, and its number there. A receiver that sees an id again
/// has had that event.
///
/// As text `2f.1a`: two numbers in lowercase hex, at most [`EventId::BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// The life of the node that told it; of an event that no node has named
    /// [who tells those](crate::webhook::WebhookId::teller).
    pub life: NodeId,
    /// Given by that life, from 1 on; or where the event stands in its webhook's queue.
    pub number: u64,
}

impl EventId {
    /// Bytes of its text.
    pub const BYTES_MAX: usize = 33;

    /// Reads what [`fmt::Display`] writes, as another node may have kept it. `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (life, number) = text.split_once('.')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let id = Self { life: NodeId(hex(life)?), number: hex(number)? };
        Some(id).filter(|id| id.to_string() == text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.life.0, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_two_numbers_in_hex_and_a_dot() {
        let longest = EventId { life: NodeId(u64::MAX), number: u64::MAX };
        assert_eq!(longest.to_string().len(), EventId::BYTES_MAX);
        assert_eq!(EventId::parse("2f.1a"), Some(EventId { life: NodeId(47), number: 26 }));
        for text in ["", ".", "1", "1.", ".1", "1.2.3", "01.1", "+1.1", "1.A", "10000000000000000.1"] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(life: u64, number: u64) {
            let id = EventId { life: NodeId(life), number };
            prop_assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
    }
}
