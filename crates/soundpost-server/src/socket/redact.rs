//! What clients send, without what may not reach a log.

/// A quote or, inside a JSON string, what comes before one.
const QUOTE: [char; 2] = ['"', '\\'];

/// Blanks every signature: the value of each `auth` field, also inside a JSON string, and, since names and values may be
/// written with escapes, whatever else has as many hex digits.
pub(super) fn signatures(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("auth") {
        let (before, found) = rest.split_at(at + "auth".len());
        shown.push_str(before);
        rest = found;
        let Some((lead, value)) = value_of_field(found) else { continue };
        shown.push_str(lead);
        rest = value;
        if !value.starts_with(QUOTE) {
            shown.push_str("[redacted]");
            rest = value.find(QUOTE).and_then(|end| value.get(end..)).unwrap_or_default();
        }
    }
    shown.push_str(rest);
    without_long_hex(&shown)
}

/// What stands behind the name of a field, split before its value; `None` if it was no name. One quote at most opens the
/// value: the next is the end of an empty one.
fn value_of_field(behind: &str) -> Option<(&str, &str)> {
    const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
    let colon = behind.trim_start_matches(['\\', '"', ' ', '\t', '\r', '\n']).strip_prefix(':')?;
    let value = colon.trim_start_matches(SPACE);
    let value = value.trim_start_matches('\\').strip_prefix('"').unwrap_or(value);
    // A backslash before anything but a quote is part of the value.
    let unescaped = value.trim_start_matches('\\');
    let value = if unescaped.starts_with('"') { value } else { unescaped };
    behind.split_at_checked(behind.len() - value.len())
}

/// `text` with each run of as many hex digits as a signature has, or more, blanked.
fn without_long_hex(text: &str) -> String {
    const SIGNATURE_DIGITS: usize = 64;
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        let is_long = piece.len() - rest.len() >= SIGNATURE_DIGITS;
        shown.push_str(if is_long { "[redacted]" } else { piece });
        shown.push_str(if is_long { rest } else { "" });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_strings_do_not_reach_the_log() {
        let mac = "5e".repeat(32);
        for (text, expected) in [
            (r#"{"data":{"auth":"k:5ec","channel":"c"}}"#, r#"{"data":{"auth":"[redacted]","channel":"c"}}"#),
            (r#"{"data":{"auth" : "k:5ec"}}"#, r#"{"data":{"auth" : "[redacted]"}}"#),
            (r#"{"data":"{\"auth\":\"k:5ec\",\"x\":1}"}"#, r#"{"data":"{\"auth\":\"[redacted]\",\"x\":1}"}"#),
            (r#"{"data":{"auth":"k:5ec"#, r#"{"data":{"auth":"[redacted]"#),
            (r#"{"data":{"auth":"","channel":"c"}}"#, r#"{"data":{"auth":"","channel":"c"}}"#),
            (r#"{"data":{"auth" : "" ,"channel":"c"}}"#, r#"{"data":{"auth" : "" ,"channel":"c"}}"#),
            (r#"{"data":"{\"auth\":\"\",\"x\":1}"}"#, r#"{"data":"{\"auth\":\"\",\"x\":1}"}"#),
            (r#"{"auth":"","x":{"auth":"k:5ec"}}"#, r#"{"auth":"","x":{"auth":"[redacted]"}}"#),
            (r#"{"auth":"\u006b:5ec"}"#, r#"{"auth":"\[redacted]"}"#),
            (r#"{"event":"author","data":"auth"}"#, r#"{"event":"author","data":"auth"}"#),
            (&format!(r#"{{"\u0061uth":"k:{mac}"}}"#), r#"{"\u0061uth":"k:[redacted]"}"#),
            (&format!(r#"{{"auth":"k\u003a{mac}"}}"#), r#"{"auth":"[redacted]\u[redacted]"}"#),
            (&mac, "[redacted]"),
            (&mac[1..], &mac[1..]),
        ] {
            assert_eq!(signatures(text), expected);
        }
    }
}
