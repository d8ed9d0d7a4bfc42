//! The reader of `config/reverb.php`: whatever stands in a file, it is read to a tree of bounded depth, and evaluated, or
//! refused in one line that shows nothing of its texts.

use soundpost_server::config::php::{DEPTH_MAX, Item, Key, Kind, Lookup, Plain, Value, evaluate, parse};

use crate::Outcome;

/// Levels of the tree for one level of the file, at most: a cast, `?:` and `??` in a row.
const LEVELS: usize = 24;

/// The input is a file's text.
pub fn php(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let parsed = parse(&text);
    let lines = text.split('\n').count();
    match &parsed {
        Ok(value) => check(value, lines, 0),
        Err(error) => {
            let said = error.to_string();
            assert!(error.line <= lines && !said.contains(['\n', '\r']), "{said:?} of {lines} lines");
            assert!(!said.contains("hush"), "{said}");
        }
    }
    Outcome::of(&parsed)
}

fn check(value: &Value, lines: usize, depth: usize) {
    assert!(depth <= DEPTH_MAX * LEVELS, "{depth} levels");
    assert!((1..=lines).contains(&value.line), "line {} of {lines}", value.line);
    let env = |name: &str| (name.len() < 8).then(|| Plain::Text(name.to_owned()));
    if let Err(unread) = evaluate(value, &env) {
        assert!((1..=lines).contains(&unread.line), "{unread} of {lines}");
        assert!(!unread.what.contains(['\n', '\r']), "{unread:?}");
    }
    match &value.kind {
        Kind::Array(items) => items.iter().for_each(|item| check_item(value, item, lines, depth)),
        Kind::Env { default: Some(inner), .. } | Kind::Cast(_, inner) => check(inner, lines, depth + 1),
        Kind::Call(_, parts) | Kind::Joined(parts) => {
            parts.iter().for_each(|part| check(part, lines, depth + 1));
        }
        Kind::Coalesced(first, second) | Kind::Chosen(first, second) => {
            check(first, lines, depth + 1);
            check(second, lines, depth + 1);
        }
        Kind::Null
        | Kind::Boolean(_)
        | Kind::Whole(_)
        | Kind::Fraction(_)
        | Kind::Text(_)
        | Kind::Env { default: None, .. }
        | Kind::Unreadable(_) => {}
    }
}

/// A key that was written is found, unless one that is not certain stands behind it.
fn check_item(array: &Value, item: &Item, lines: usize, depth: usize) {
    if let Key::Text(key) = &item.key {
        assert_ne!(array.get(key), Lookup::Absent, "{key:?}");
    }
    check(&item.value, lines, depth + 1);
}
