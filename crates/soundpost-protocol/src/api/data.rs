//! The payload of an event.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json;

/// `data` of an event as a JSON string literal, quotes included, ready to stand in a frame.
///
/// A JSON string passes through byte for byte, however it escapes. Any other JSON value becomes the string of its
/// own text, as it was written: `{"a": 1.0}` becomes `"{\"a\": 1.0}"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventData<'a>(Cow<'a, str>);

impl<'a> EventData<'a> {
    /// Takes any JSON value; a string is borrowed.
    pub fn of(value: &'a RawValue) -> Self {
        let text = value.get();
        match json::string_inner(text) {
            Some(_) => Self(Cow::Borrowed(text)),
            None => Self(Cow::Owned(json::write(text))),
        }
    }

    /// The literal: a JSON string with its quotes.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// Bytes of UTF-8 of the string that the literal stands for; half a surrogate pair counts 3, as its replacement
    /// character does. Counted without building the string.
    pub fn decoded_bytes(&self) -> usize {
        let mut rest = self.inner();
        let mut bytes = 0;
        while let Some((plain, escape)) = rest.split_once('\\') {
            let (decoded, written) = escape_bytes(escape);
            bytes += plain.len() + decoded;
            rest = escape.get(written..).unwrap_or_default();
        }
        bytes + rest.len()
    }

    /// Whether [`decoded_bytes`](Self::decoded_bytes) is above `bytes_max`, and then what it is. Mostly the length of
    /// the literal settles it: no escape is shorter than what it stands for.
    pub(super) fn decoded_bytes_above(&self, bytes_max: usize) -> Option<usize> {
        if self.inner().len() <= bytes_max {
            return None;
        }
        Some(self.decoded_bytes()).filter(|bytes| *bytes > bytes_max)
    }

    /// The same, owning its text.
    pub fn into_owned(self) -> EventData<'static> {
        EventData(Cow::Owned(self.0.into_owned()))
    }

    fn inner(&self) -> &str {
        json::string_inner(&self.0).unwrap_or_default()
    }
}

/// What follows a `\`: bytes it decodes to, bytes it is written in.
fn escape_bytes(escape: &str) -> (usize, usize) {
    let unit = |text: &str| u32::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    match unit(escape) {
        // One of the short ones, `\n` and kin, all ASCII.
        None => (1, 1),
        Some(0..0x80) => (1, 5),
        Some(0x80..0x800) => (2, 5),
        Some(0xD800..0xDC00) => {
            let low = escape.get(5..).and_then(|next| next.strip_prefix('\\')).and_then(unit);
            if matches!(low, Some(0xDC00..0xE000)) { (4, 11) } else { (3, 5) }
        }
        Some(_) => (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(json: &str) -> EventData<'_> {
        EventData::of(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_string_passes_and_anything_else_becomes_the_string_of_its_text() {
        for (json, literal) in [
            (r#""""#, r#""""#),
            (r#""\u007b\/\n""#, r#""\u007b\/\n""#),
            (r#"{"a": 1.0, "b":"\u00eb"}"#, r#""{\"a\": 1.0, \"b\":\"\\u00eb\"}""#),
            ("[1,\n2]", r#""[1,\n2]""#),
            ("1e400", r#""1e400""#),
            ("12345678901234567890123", r#""12345678901234567890123""#),
            ("null", r#""null""#),
            ("true", r#""true""#),
        ] {
            assert_eq!(data(json).json(), literal);
        }
    }

    #[test]
    fn bytes_are_counted_as_they_decode() {
        for (json, bytes) in [
            (r#""""#, 0),
            (r#""abc""#, 3),
            ("\"Zoë\"", 4),
            (r#""\"\\\/\b\f\n\r\t""#, 8),
            (r#""\\u0041""#, 6),
            (r#""\u0041\u0000""#, 2),
            (r#""\u007f\u0080\u07ff\u0800\uffff""#, 1 + 2 + 2 + 3 + 3),
            (r#""\ud83d\ude00""#, 4),
            (r#""\uD83D\uDE00x""#, 5),
            (r#""\ud83d""#, 3),
            (r#""\ude00\ud83d""#, 6),
            (r#""\ud83d\ud83d\ude00""#, 7),
            (r#""\ud83dude00""#, 8),
            (r#""\ud83d\n""#, 4),
            (r#""\ud83dé""#, 5),
            (r#"{"a":1}"#, 7),
        ] {
            assert_eq!(data(json).decoded_bytes(), bytes, "{json}");
        }
    }

    proptest! {
        #[test]
        fn counting_agrees_with_decoding(text in any::<String>(), escape_all in any::<bool>()) {
            let json = if escape_all {
                let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                format!("\"{units}\"")
            } else {
                json::write(&text)
            };
            let data = data(&json);
            prop_assert_eq!(data.json(), &json);
            prop_assert_eq!(data.decoded_bytes(), text.len());
            for bytes_max in [0, text.len().saturating_sub(1), text.len(), json.len()] {
                let expected = Some(text.len()).filter(|bytes| *bytes > bytes_max);
                prop_assert_eq!(data.decoded_bytes_above(bytes_max), expected);
            }
        }
    }
}
