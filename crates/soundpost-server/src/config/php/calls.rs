//! The calls that are read, by name and arguments.

use super::{Function, Kind, Value};

/// `'trim'`, or the function itself.
fn is_trim(value: &Value) -> bool {
    if let Kind::Text(name) = &value.kind {
        name.eq_ignore_ascii_case("trim")
    } else {
        matches!(&value.kind, Kind::Unreadable(what) if what == "trim(...)")
    }
}

/// The names of the calls that are read.
pub(super) const KNOWN: &[&str] =
    &["env", "explode", "array_map", "array_filter", "array_values", "array_unique", "trim", "filter_var"];

/// A call with its arguments; `None` if it is not read, as with other arguments than those of [`Function`].
pub(super) fn read(name: &str, mut arguments: Vec<Value>) -> Option<Kind> {
    let count = arguments.len();
    let text_at = |at: usize| {
        if let Some(Kind::Text(text)) = arguments.get(at).map(|argument| &argument.kind) {
            Some(text.clone())
        } else {
            None
        }
    };
    let function = match (name, count) {
        ("env", 1 | 2) => {
            let name = text_at(0)?;
            let default = (count == 2).then(|| arguments.pop()).flatten().map(Box::new);
            return Some(Kind::Env { name, default });
        }
        ("explode", 2) => Function::Explode,
        ("array_map", 2) if arguments.first().is_some_and(is_trim) => {
            arguments.remove(0);
            Function::TrimEach
        }
        ("array_filter", 1) => Function::Filter,
        ("array_values", 1) => Function::Values,
        ("array_unique", 1) => Function::Unique,
        ("trim", 1) => Function::Trim,
        ("filter_var", 2) if arguments.pop()?.kind == Kind::Whole(258) => Function::Switch,
        _ => return None,
    };
    Some(Kind::Call(function, arguments))
}
