//! Socket ids: the public name of one connection.

use std::fmt;

/// Names one connection in the whole cluster: two decimal numbers joined by `.`, as `^\d+\.\d+$` demands.
/// Source: the check in both the PHP and the Node SDK.
///
/// The two halves are the server's to fill; the protocol gives them no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// The number before the dot.
    pub left: u64,
    /// The number after the dot.
    pub right: u64,
}

impl SocketId {
    /// Reads what a client or publisher sends; `None` unless it is two runs of ASCII digits joined by a dot.
    ///
    /// A well-formed id that no 64 bits hold, or one with a leading zero, names no connection of ours: it comes back
    /// as an id that nobody has, so that excluding it excludes nobody.
    pub fn parse(text: &str) -> Option<Self> {
        let (left, right) = text.split_once('.')?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(left) || !digits(right) {
            return None;
        }
        let number = |part: &str| if part.starts_with('0') { None } else { part.parse().ok() };
        Some(match (number(left), number(right)) {
            (Some(left), Some(right)) => Self { left, right },
            _ => Self { left: 0, right: 0 },
        })
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.left, self.right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_id_is_two_numbers_and_a_dot() {
        for text in ["1.1", "123456789.987654321", "18446744073709551615.1"] {
            assert_eq!(SocketId::parse(text).unwrap().to_string(), text);
        }
        for text in ["", ".", "1.", ".1", "1", "1.1.1", "1.a", "-1.1", "+1.1", " 1.1", "1.1\n", "١.١"] {
            assert_eq!(SocketId::parse(text), None, "{text:?}");
        }
        for foreign in ["01.1", "0.0", "99999999999999999999.1"] {
            assert_eq!(SocketId::parse(foreign), Some(SocketId { left: 0, right: 0 }), "{foreign}");
        }
    }
}
