//! Small truths about JSON text that no parse into values is needed for.

use serde::Serialize;

/// Whether arrays and objects stand more than `depth_max` deep inside one another. `text` need not be valid JSON.
///
/// Looks at each byte once and keeps no stack, so no input is too deep for it.
pub fn is_deeper_than(text: &str, depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    push(out, text);
}

/// Appends `value` as JSON. Only for values that cannot fail to be written: text, numbers, and structs of them.
#[expect(clippy::expect_used, reason = "writing to memory, and no map with keys that are not text")]
pub(crate) fn push(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writing plain values to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[1,{"b":2}]}"#, 3),
            (r#"["[[[[", "]", "\"[[["]"#, 1),
            ("[[],[],[]]", 2),
        ] {
            assert!(!is_deeper_than(text, depth), "{text}");
            assert!(depth == 0 || is_deeper_than(text, depth - 1), "{text}");
        }
        assert!(is_deeper_than(&"[".repeat(200_000), 128));
    }
}
