//! What PHP makes of a readable value, given the environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Cast, Function, Item, Key, Kind, Value};

/// A value of PHP's.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean(bool),
    /// A whole number.
    Whole(i64),
    /// Any other number.
    Fraction(f64),
    /// A text.
    Text(String),
    /// The values of an array in their order, without their keys.
    List(Vec<Plain>),
}

/// A value and what it depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The value.
    pub plain: Plain,
    /// The variables that were set and that it was made of.
    pub variables: Vec<String>,
    /// A variable that is set nowhere and has no default, so that `null` stands in its place.
    pub unset: Option<String>,
}

/// Why a value is not certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// From 1.
    pub line: usize,
    /// What stands there, in words.
    pub what: String,
}

impl Unread {
    pub(super) fn new(line: usize, what: &str) -> Self {
        Self { line, what: what.to_owned() }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in line {}", self.what, self.line)
    }
}

/// What PHP would compute; `env` is what Laravel's `env()` returns for a variable that is set, `null` included.
///
/// Errors: the value depends on something that is not read. A default that is not needed may be anything.
pub fn evaluate(value: &Value, env: &dyn Fn(&str) -> Option<Plain>) -> Result<Evaluated, Unread> {
    let known = |plain| Ok(Evaluated { plain, variables: Vec::new(), unset: None });
    match &value.kind {
        Kind::Null => known(Plain::Null),
        Kind::Boolean(boolean) => known(Plain::Boolean(*boolean)),
        Kind::Whole(number) => known(Plain::Whole(*number)),
        Kind::Fraction(number) => known(Plain::Fraction(*number)),
        Kind::Text(text) => known(Plain::Text(text.clone())),
        Kind::Array(items) => array(items, env),
        Kind::Env { name, default } => match (env(name), default) {
            (Some(plain), _) => Ok(Evaluated { plain, variables: vec![name.clone()], unset: None }),
            (None, Some(default)) => evaluate(default, env),
            (None, None) => {
                Ok(Evaluated { plain: Plain::Null, variables: Vec::new(), unset: Some(name.clone()) })
            }
        },
        Kind::Cast(to, inner) => {
            evaluate(inner, env)?.map(|plain| cast(*to, plain), value, "a cast of this value")
        }
        Kind::Call(function, arguments) => {
            let arguments = arguments.iter().map(|argument| evaluate(argument, env));
            let (plains, whole) = gather(arguments.collect::<Result<_, _>>()?);
            whole.map(|_| call(*function, plains), value, "a call with these arguments")
        }
        Kind::Joined(parts) => {
            let parts = parts.iter().map(|part| evaluate(part, env));
            let (plains, whole) = gather(parts.collect::<Result<_, _>>()?);
            let texts: Option<String> = plains.iter().map(text).collect();
            whole.map(|_| texts.map(Plain::Text), value, "these values joined to a text")
        }
        Kind::Coalesced(first, second) => {
            let first = evaluate(first, env)?;
            if first.plain == Plain::Null { evaluate(second, env) } else { Ok(first) }
        }
        Kind::Chosen(first, second) => {
            let first = evaluate(first, env)?;
            if is_true(&first.plain) { Ok(first) } else { evaluate(second, env) }
        }
        Kind::Unreadable(what) => Err(Unread::new(value.line, what)),
    }
}

impl Evaluated {
    /// The same dependencies with another value.
    fn map(
        self,
        change: impl FnOnce(Plain) -> Option<Plain>,
        at: &Value,
        what: &str,
    ) -> Result<Self, Unread> {
        let Self { plain, variables, unset } = self;
        match change(plain) {
            Some(plain) => Ok(Self { plain, variables, unset }),
            None => Err(Unread::new(at.line, what)),
        }
    }
}

/// Several values, and what they depend on together.
fn gather(parts: Vec<Evaluated>) -> (Vec<Plain>, Evaluated) {
    let mut whole = Evaluated { plain: Plain::Null, variables: Vec::new(), unset: None };
    let mut plains = Vec::new();
    for part in parts {
        plains.push(part.plain);
        whole.variables.extend(part.variables);
        whole.unset = whole.unset.or(part.unset);
    }
    (plains, whole)
}

/// The values in order; a key that comes again changes the value where it stood first.
fn array(items: &[Item], env: &dyn Fn(&str) -> Option<Plain>) -> Result<Evaluated, Unread> {
    let mut places: BTreeMap<Key, usize> = BTreeMap::new();
    let mut values: Vec<Evaluated> = Vec::new();
    let mut next = 0;
    for item in items {
        let key = match &item.key {
            Key::Next => Key::Whole(next),
            Key::Unreadable => return Err(Unread::new(item.value.line, "an entry whose key is not certain")),
            key @ (Key::Whole(_) | Key::Text(_)) => key.clone(),
        };
        if let Key::Whole(number) = key {
            next = next.max(number.saturating_add(1));
        }
        let value = evaluate(&item.value, env)?;
        match places.get(&key).and_then(|at| values.get_mut(*at)) {
            Some(before) => *before = value,
            None => {
                places.insert(key, values.len());
                values.push(value);
            }
        }
    }
    let (plains, whole) = gather(values);
    Ok(Evaluated { plain: Plain::List(plains), ..whole })
}

/// What a value counts as in a condition.
fn is_true(plain: &Plain) -> bool {
    match plain {
        Plain::Null => false,
        Plain::Boolean(boolean) => *boolean,
        Plain::Whole(number) => *number != 0,
        Plain::Fraction(number) => *number != 0.0,
        Plain::Text(text) => !text.is_empty() && text != "0",
        Plain::List(list) => !list.is_empty(),
    }
}

/// As a text; fractions are printed by rules of their own, and arrays are none.
fn text(plain: &Plain) -> Option<String> {
    match plain {
        Plain::Null | Plain::Boolean(false) => Some(String::new()),
        Plain::Boolean(true) => Some("1".to_owned()),
        Plain::Whole(number) => Some(number.to_string()),
        Plain::Text(text) => Some(text.clone()),
        Plain::Fraction(_) | Plain::List(_) => None,
    }
}

fn cast(to: Cast, plain: Plain) -> Option<Plain> {
    match to {
        Cast::Boolean => Some(Plain::Boolean(is_true(&plain))),
        Cast::Text => text(&plain).map(Plain::Text),
        Cast::Whole => match plain {
            Plain::Null => Some(Plain::Whole(0)),
            Plain::Boolean(boolean) => Some(Plain::Whole(boolean.into())),
            Plain::Whole(number) => Some(Plain::Whole(number)),
            // PHP takes the digits that a text begins with; what has others behind them is hardly meant.
            Plain::Text(text) if text.is_empty() => Some(Plain::Whole(0)),
            Plain::Text(text) => text.trim_matches(is_trimmed).parse().ok().map(Plain::Whole),
            Plain::Fraction(_) | Plain::List(_) => None,
        },
        Cast::Fraction => match plain {
            Plain::Fraction(number) => Some(Plain::Fraction(number)),
            // A whole number stays one for whoever asks for whole numbers.
            plain @ Plain::Whole(_) => Some(plain),
            Plain::Null | Plain::Boolean(_) | Plain::Text(_) | Plain::List(_) => None,
        },
        Cast::Array => match plain {
            Plain::Null => Some(Plain::List(Vec::new())),
            list @ Plain::List(_) => Some(list),
            one @ (Plain::Boolean(_) | Plain::Whole(_) | Plain::Fraction(_) | Plain::Text(_)) => {
                Some(Plain::List(vec![one]))
            }
        },
    }
}

/// PHP's `trim`.
fn is_trimmed(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\0' | '\u{b}')
}

fn trimmed(plain: &Plain) -> Option<Plain> {
    text(plain).map(|text| Plain::Text(text.trim_matches(is_trimmed).to_owned()))
}

fn call(function: Function, mut arguments: Vec<Plain>) -> Option<Plain> {
    let last = arguments.pop()?;
    let list = |plain| if let Plain::List(list) = plain { Some(list) } else { None };
    match function {
        Function::Explode => {
            let (separator, text) = (text(&arguments.pop()?)?, text(&last)?);
            // PHP throws on an empty one.
            (!separator.is_empty()).then(|| {
                Plain::List(text.split(&separator).map(|part| Plain::Text(part.to_owned())).collect())
            })
        }
        Function::TrimEach => list(last)?.iter().map(trimmed).collect::<Option<_>>().map(Plain::List),
        Function::Filter => Some(Plain::List(list(last)?.into_iter().filter(is_true).collect())),
        Function::Values => list(last).map(Plain::List),
        Function::Unique => {
            let mut seen = BTreeSet::new();
            let mut unique = Vec::new();
            for plain in list(last)? {
                if seen.insert(text(&plain)?) {
                    unique.push(plain);
                }
            }
            Some(Plain::List(unique))
        }
        Function::Trim => trimmed(&last),
        Function::Switch => {
            let text = text(&last)?.trim_matches(is_trimmed).to_ascii_lowercase();
            Some(Plain::Boolean(["1", "true", "on", "yes"].contains(&text.as_str())))
        }
    }
}
