//! Faults that nothing from outside is known to cause, for tests to cause: in any other build this does nothing.

/// The text that strikes.
#[cfg(test)]
pub(crate) const FAULT: &str = "a fault, please";

/// Panics if `text` asks for it.
#[cfg(test)]
pub(crate) fn strike(text: &[u8]) {
    assert!(!text.windows(FAULT.len()).any(|part| part == FAULT.as_bytes()), "as a test asked for");
}

/// Does nothing.
#[cfg(not(test))]
pub(crate) const fn strike(_text: &[u8]) {}
