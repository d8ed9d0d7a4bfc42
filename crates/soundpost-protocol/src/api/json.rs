//! What the bodies need of JSON beside serde: a bound on depth, strings that stay borrowed, lists that stay short.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::app::JSON_DEPTH_MAX;

/// Whether arrays and objects stand more than [`JSON_DEPTH_MAX`] deep inside one another. Exact for valid JSON;
/// what it says of other text is of no consequence, as the parser refuses that.
pub(super) fn is_too_deep(text: &str) -> bool {
    // Most bodies have fewer brackets in all than may be open at once; counting them is far quicker than following.
    brackets(text) > JSON_DEPTH_MAX && depth_exceeds_max(text)
}

/// How many `[` and `{` there are, in strings too. In runs whose count fits a byte, 16 bytes are compared at a time.
fn brackets(text: &str) -> usize {
    // The two differ in one bit.
    let opens = |byte: &u8| u8::from(byte | 0x20 == b'{');
    let runs = text.as_bytes().chunks(usize::from(u8::MAX));
    runs.map(|run| usize::from(run.iter().map(opens).sum::<u8>())).sum()
}

fn depth_exceeds_max(text: &str) -> bool {
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            // What is escaped neither ends the string nor opens anything.
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The text that a JSON string stands for, borrowed if nothing in it is escaped. `None` if `json` is not a string, or
/// has the escape of half a surrogate pair, which stands for no character.
pub(super) fn text(json: &RawValue) -> Option<Cow<'_, str>> {
    let inner = string_inner(json.get())?;
    if inner.contains('\\') {
        serde_json::from_str(json.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// What stands between the quotes of a JSON string; `None` if it is another JSON value.
pub(super) fn string_inner(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// JSON of one of our own types.
#[expect(
    clippy::expect_used,
    reason = "writing numbers, strings and maps with string keys to memory cannot fail"
)]
pub(super) fn write<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value)
        .expect("writing numbers, strings and maps with string keys to memory cannot fail")
}

/// A JSON array of which at most `N` items are kept and the others counted.
pub(super) struct Capped<T, const N: usize> {
    /// The first items, all of them if `count` is at most `N`.
    pub(super) items: Vec<T>,
    /// Items in the array.
    pub(super) count: usize,
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Capped<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
            type Value = Capped<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < N {
                    let Some(item) = array.next_element()? else { break };
                    items.push(item);
                }
                let mut count = items.len();
                while array.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Capped { items, count })
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_of_both_kinds_are_counted_in_texts_of_any_length() {
        for length in [0, 1, 254, 255, 256, 511, 100_000] {
            assert_eq!(brackets(&"[".repeat(length)), length);
            assert_eq!(brackets(&"{".repeat(length)), length);
            assert_eq!(brackets(&"]}(;Zz\u{5b80}\"\\".repeat(length)), 0);
        }
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (text, expected) in [
            (nested(JSON_DEPTH_MAX), false),
            (nested(JSON_DEPTH_MAX + 1), true),
            (format!("[{}]", vec!["[]"; 1000].join(",")), false),
            (format!("\"{}\"", "[".repeat(1000)), false),
            (format!("\"\\\"{}\"", "[".repeat(1000)), false),
            (format!("[\"\\\\\",{}]", nested(JSON_DEPTH_MAX)), true),
            (format!("[\"]\",{}]", nested(JSON_DEPTH_MAX - 1)), false),
            ("{\"a\":".repeat(200_000), true),
        ] {
            assert_eq!(is_too_deep(&text), expected, "{}", &text[..text.len().min(60)]);
        }
    }
}
