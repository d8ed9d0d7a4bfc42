//! Reads what Laravel's configuration files consist of, without running PHP: `return [..]` with arrays, texts, numbers,
//! `env()`, casts, and the few calls that such files use to split a list.
//!
//! [`parse`] gives a tree in which everything else is [`Kind::Unreadable`] and keeps its line; [`evaluate()`] gives what
//! PHP would make of a readable part. Nothing is guessed: a value is what PHP would compute, or it is unreadable.
//! Knows no key of Reverb's and reads no environment.

mod calls;
mod evaluate;
mod lexer;
mod parser;

pub use evaluate::{Evaluated, Plain, Unread, evaluate};

/// Bytes of a file that is read at most; real ones have about 4 kB.
pub const BYTES_MAX: usize = 1 << 20;
/// Levels of nesting that are read at most, of arrays, parentheses and calls together.
pub const DEPTH_MAX: usize = 32;

/// Why a file cannot be read at all. Holds nothing of its texts, which may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PhpError {
    /// From 1.
    pub line: usize,
    /// In words.
    pub problem: String,
}

/// An expression and the line it begins on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// From 1.
    pub line: usize,
    /// What stands there.
    pub kind: Kind,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean(bool),
    /// `8080`, `10_000`, `0x1F`
    Whole(i64),
    /// `0.5`; also a whole number too large for one
    Fraction(f64),
    /// A text in quotes, without interpolation.
    Text(String),
    /// `[..]` or `array(..)`
    Array(Vec<Item>),
    /// `env('NAME')` or `env('NAME', default)`
    Env {
        /// The variable.
        name: String,
        /// What holds where it is not set.
        default: Option<Box<Value>>,
    },
    /// `(int) x` and its like.
    Cast(Cast, Box<Value>),
    /// A call whose meaning is certain, with as many arguments as it takes.
    Call(Function, Vec<Value>),
    /// `a . b . c`
    Joined(Vec<Value>),
    /// `a ?? b`: b if a is null.
    Coalesced(Box<Value>, Box<Value>),
    /// `a ?: b`: b if a is false, null, 0 or empty.
    Chosen(Box<Value>, Box<Value>),
    /// Anything else, in words: `a call of config()`.
    Unreadable(String),
}

/// One entry of an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where in the array it goes.
    pub key: Key,
    /// What goes there.
    pub value: Value,
}

/// A place in an array, as PHP has it: `'1'` is `1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// No key was written: the next number.
    Next,
    /// A number.
    Whole(i64),
    /// A text.
    Text(String),
    /// A key that cannot be known, or `...` with entries of any key.
    Unreadable,
}

/// The type of a cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// `(int)`, `(integer)`
    Whole,
    /// `(bool)`, `(boolean)`
    Boolean,
    /// `(string)`
    Text,
    /// `(float)`, `(double)`
    Fraction,
    /// `(array)`
    Array,
}

/// The calls that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `explode(separator, text)`
    Explode,
    /// `array_map('trim', array)`, without its first argument
    TrimEach,
    /// `array_filter(array)`: drops what is empty
    Filter,
    /// `array_values(array)`
    Values,
    /// `array_unique(array)`
    Unique,
    /// `trim(text)`
    Trim,
    /// `filter_var(text, FILTER_VALIDATE_BOOL)`, without its second argument
    Switch,
}

/// What stands under a key of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<'a> {
    /// This.
    Found(&'a Value),
    /// Nothing.
    Absent,
    /// It cannot be known.
    Unreadable(Unread),
}

/// The value that the file returns. Statements before it may be `declare`, `namespace`, `use` and assignments.
///
/// Errors: it is too long or too deep, or is not of that form, or its brackets and quotes do not match.
pub fn parse(text: &str) -> Result<Value, PhpError> {
    if text.len() > BYTES_MAX {
        return Err(PhpError { line: 1, problem: format!("the file has more than {BYTES_MAX} bytes") });
    }
    parser::document(lexer::lex(text)?)
}

impl Value {
    /// What stands under a text key, of which the last counts, as in PHP. Nothing stands under any key of `null`.
    pub fn get(&self, key: &str) -> Lookup<'_> {
        match &self.kind {
            Kind::Array(items) => Self::last(items, key),
            Kind::Null => Lookup::Absent,
            Kind::Unreadable(what) => Lookup::Unreadable(Unread::new(self.line, what)),
            Kind::Boolean(_)
            | Kind::Whole(_)
            | Kind::Fraction(_)
            | Kind::Text(_)
            | Kind::Env { .. }
            | Kind::Cast(..)
            | Kind::Call(..)
            | Kind::Joined(_)
            | Kind::Coalesced(..)
            | Kind::Chosen(..) => Lookup::Unreadable(Unread::new(self.line, "no array that is written out")),
        }
    }

    fn last<'a>(items: &'a [Item], key: &str) -> Lookup<'a> {
        for item in items.iter().rev() {
            match &item.key {
                Key::Text(text) if text == key => return Lookup::Found(&item.value),
                Key::Unreadable => {
                    return Lookup::Unreadable(Unread::new(
                        item.value.line,
                        "an entry whose key is not certain",
                    ));
                }
                Key::Text(_) | Key::Whole(_) | Key::Next => {}
            }
        }
        Lookup::Absent
    }
}

#[cfg(test)]
mod tests;
