//! The grammar of a Laravel `.env`: phpdotenv 5, so that a file means here what it means there.
//!
//! Knows no variable by name. What `env()` makes of a value (`null`, `(true)`) is [`env()`].

use std::{collections::BTreeMap, path::Path};

use super::{ConfigError, php::Plain};

/// The variables of `text`, in the form they have before `env()`. `${NAME}` finds the process's own variables first,
/// then those above it in the file, and stays as it is when there is neither. Source: phpdotenv `Parser`, `Resolver`.
///
/// Errors: [`ConfigError::Syntax`] with the line; the text of a value is never repeated.
pub(super) fn parse(
    text: &str,
    path: &Path,
    process: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut found = BTreeMap::new();
    let error = |line, problem| ConfigError::Syntax { path: path.to_owned(), line: Some(line), problem };
    let open = |entry: Entry| {
        let name = assignment(&entry.text).map(|(name, _)| format!("{name}: ")).unwrap_or_default();
        error(entry.line, format!("{name}a quoted value is not closed"))
    };
    for entry in entries(text).map_err(open)? {
        let (name, value) = assignment(&entry.text).map_err(|problem| error(entry.line, problem))?;
        match value {
            Some(value) => {
                let value =
                    transduce(value).map_err(|cause| error(entry.line, format!("{name}: {cause}")))?;
                let value = value.resolve(|inner| process.get(inner).or_else(|| found.get(inner)).cloned());
                found.insert(name.to_owned(), value);
            }
            // A name alone clears the variable.
            None => {
                found.remove(name);
            }
        }
    }
    Ok(found)
}

/// What Laravel's `env()` returns for a variable of this value, which need not stand in a file: `null`, `true`, `false`
/// and `empty` are words, in parentheses too, and a surplus pair of quotes goes. Source: `Illuminate\Support\Env`.
pub(super) fn env(value: &str) -> Plain {
    match value.to_ascii_lowercase().as_str() {
        "true" | "(true)" => Plain::Boolean(true),
        "false" | "(false)" => Plain::Boolean(false),
        "empty" | "(empty)" => Plain::Text(String::new()),
        "null" | "(null)" => Plain::Null,
        _ if value.contains('\n') => Plain::Text(value.to_owned()),
        _ => Plain::Text(unquoted(value).to_owned()),
    }
}

/// `"text"` and `'text'` without their quotes.
fn unquoted(text: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}

/// PHP's `trim`; other spaces are part of a value.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\n', '\r', '\t', '\0', '\u{b}'])
}

/// One assignment, which may span lines.
struct Entry {
    line: usize,
    text: String,
}

/// The assignments with the line each begins on; comments and blank lines are gone. `Err` is one whose quoted value has
/// no end; Laravel drops it and everything behind it without a word. Which lines belong together is decided as phpdotenv does, by counting quotes.
fn entries(text: &str) -> Result<Vec<Entry>, Entry> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut entries = Vec::new();
    let mut open: Option<Entry> = None;
    for (line, text) in (1..).zip(text.split('\n')) {
        let entry = match open.take() {
            Some(mut entry) => {
                entry.text.push('\n');
                entry.text.push_str(text);
                if !closes(text, false) {
                    open = Some(entry);
                    continue;
                }
                entry
            }
            None if text.contains("=\"") && !closes(text, true) => {
                open = Some(Entry { line, text: text.to_owned() });
                continue;
            }
            None => Entry { line, text: text.to_owned() },
        };
        let content = trim(&entry.text);
        if !content.is_empty() && !content.starts_with('#') {
            entries.push(entry);
        }
    }
    match open {
        Some(entry) => Err(entry),
        None => Ok(entries),
    }
}

/// Whether a quoted value ends on this line; on the line that opens it, two quotes are needed.
fn closes(line: &str, opening: bool) -> bool {
    if line == "\"" {
        return true;
    }
    let line = line.replace("\\\\", "");
    let quotes = line.as_bytes().windows(2).filter(|pair| matches!(pair, [before, b'"'] if *before != b'\\'));
    quotes.count() > usize::from(opening)
}

/// The name and, after an `=`, the value still in its quotes.
fn assignment(entry: &str) -> Result<(&str, Option<&str>), String> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (trim(name), Some(trim(value))),
        None => (entry, None),
    };
    if name.is_empty() {
        return Err("a name is missing before =".to_owned());
    }
    let name = match name.strip_prefix("export") {
        // phpdotenv takes `export` as such from two characters of name on.
        Some(rest) if rest.starts_with(is_space) && rest.chars().count() > 2 => {
            rest.trim_start_matches(is_space)
        }
        _ => name,
    };
    let name = if name.len() < 3 { name } else { unquoted(name) };
    // Letters without upper and lower case are none of phpdotenv's.
    let allowed = |c: char| c.is_lowercase() || c.is_uppercase() || c.is_numeric() || c == '_' || c == '.';
    if name.is_empty() || !name.chars().all(allowed) {
        // Without an `=` this may be the tail of a secret that spans lines: not shown.
        return Err(match value {
            Some(_) => format!("{name:?} is not a variable's name"),
            None => "expected NAME=value".to_owned(),
        });
    }
    Ok((name, value))
}

/// Where in a value the reader stands. Source: phpdotenv `EntryParser`.
#[derive(Clone, Copy)]
enum State {
    Initial,
    Unquoted,
    SingleQuoted,
    DoubleQuoted,
    Escape,
    Whitespace,
    Comment,
}

/// A value without its quotes, and where a `$` may open a `${NAME}`.
#[derive(Default)]
struct Value {
    text: String,
    dollars: Vec<usize>,
}

/// phpdotenv's automaton: quotes and comments go, escapes (in double quotes only) are undone.
fn transduce(raw: &str) -> Result<Value, &'static str> {
    let mut value = Value::default();
    let mut state = State::Initial;
    for c in raw.chars() {
        state = step(state, c, &mut value)?;
    }
    match state {
        State::SingleQuoted | State::DoubleQuoted | State::Escape => Err("a quote is not closed"),
        State::Initial | State::Unquoted | State::Whitespace | State::Comment => Ok(value),
    }
}

fn step(state: State, c: char, value: &mut Value) -> Result<State, &'static str> {
    let mut keep = |c: char, state: State| {
        if c == '$' && matches!(state, State::Unquoted | State::DoubleQuoted) {
            value.dollars.push(value.text.len());
        }
        value.text.push(c);
        state
    };
    Ok(match (state, c) {
        (State::Initial, '\'') => State::SingleQuoted,
        (State::Initial, '"') => State::DoubleQuoted,
        (State::Initial | State::Unquoted | State::Whitespace, '#') | (State::Comment, _) => State::Comment,
        (State::Unquoted, c) if is_space(c) => State::Whitespace,
        (State::Initial | State::Unquoted, c) => keep(c, State::Unquoted),
        (State::SingleQuoted, '\'') | (State::DoubleQuoted, '"') => State::Whitespace,
        (State::SingleQuoted, c) => keep(c, State::SingleQuoted),
        (State::DoubleQuoted, '\\') => State::Escape,
        (State::DoubleQuoted, c) => keep(c, State::DoubleQuoted),
        (State::Escape, c) => {
            let c = match c {
                '"' | '\\' | '$' => c,
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                _ => return Err("an escape other than \\\\ \\\" \\$ \\f \\n \\r \\t \\v; use single quotes"),
            };
            // An escaped dollar opens nothing.
            value.text.push(c);
            State::DoubleQuoted
        }
        (State::Whitespace, c) if is_space(c) => State::Whitespace,
        (State::Whitespace, _) => return Err("a value with spaces needs quotes"),
    })
}

impl Value {
    /// The text with every `${NAME}` that `look_up` knows replaced; `$NAME` is not one.
    fn resolve(mut self, look_up: impl Fn(&str) -> Option<String>) -> String {
        // From the last to the first, so that what comes in is not looked at again.
        while let Some(at) = self.dollars.pop() {
            let inner = self.text.get(at..).and_then(|rest| rest.strip_prefix("${"));
            let Some((name, _)) = inner.and_then(|rest| rest.split_once('}')) else { continue };
            let is_name =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
            if let Some(found) = is_name.then(|| look_up(name)).flatten() {
                let end = at + name.len() + "${}".len();
                self.text.replace_range(at..end, &found);
            }
        }
        self.text
    }
}

/// PHP's `ctype_space`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}
