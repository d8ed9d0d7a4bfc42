//! From tokens to a tree. What is not read is skipped as a whole, up to the comma or bracket that ends it, so that it
//! costs its own key and no other.

use super::{
    Cast, DEPTH_MAX, Item, Key, Kind, PhpError, Value, calls,
    lexer::{Token, Tokens},
};

/// `??` or `?:` in a row that are read at most: the tree is as deep as they are many.
const CHAIN_MAX: usize = 8;

/// The value of the file's `return`.
pub(super) fn document(tokens: Tokens) -> Result<Value, PhpError> {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    loop {
        let line = parser.line();
        match parser.peek() {
            Some(Token::Symbol(";")) => parser.at += 1,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("return") => {
                parser.at += 1;
                let value = parser.value()?;
                return match parser.peek() {
                    Some(Token::Symbol(";")) | None => Ok(value),
                    Some(_) => parser.error("the returned value does not end where it should"),
                };
            }
            Some(Token::Word(word)) if is_harmless(word) => parser.statement()?,
            Some(Token::Variable(_)) if parser.is_symbol_at(1, "=") => parser.statement()?,
            Some(_) => {
                return Err(PhpError {
                    line,
                    problem: "a statement other than return or an assignment".to_owned(),
                });
            }
            None => return Err(PhpError { line, problem: "the file returns nothing".to_owned() }),
        }
    }
}

/// Words that begin statements without an effect on what is returned.
fn is_harmless(word: &str) -> bool {
    ["declare", "namespace", "use"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

struct Parser {
    tokens: Tokens,
    at: usize,
    depth: usize,
}

impl From<PhpError> for Stop {
    fn from(error: PhpError) -> Self {
        Self::Error(error)
    }
}

/// Why an expression was not read to its end.
enum Stop {
    /// Its value is not certain; the file goes on behind it.
    Unknown,
    /// The file cannot be read.
    Error(PhpError),
}

impl Parser {
    fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn peek(&self) -> Option<&Token> {
        self.peek_at(0)
    }

    fn is_symbol_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Token::Symbol(found)) if *found == symbol)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(line, _)| *line)
    }

    fn error<T>(&self, problem: &str) -> Result<T, PhpError> {
        Err(PhpError { line: self.line(), problem: problem.to_owned() })
    }

    /// Takes the symbol if it is next.
    fn takes(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol_at(0, symbol);
        self.at += usize::from(found);
        found
    }

    /// Skips a statement. Errors: it imports functions, of which one may be called `env`, or it has a body.
    fn statement(&mut self) -> Result<(), PhpError> {
        let begin = self.at;
        self.skip(true)?;
        let is_word = |at: usize, known: &str| matches!(self.tokens.get(at), Some((_, Token::Word(word))) if word.eq_ignore_ascii_case(known));
        let is_brace = |at| matches!(self.tokens.get(at), Some((_, Token::Symbol("{"))));
        if is_word(begin, "use") && (begin..self.at).any(|at| is_word(at, "function")) {
            return self.error("an imported function");
        }
        if (is_word(begin, "namespace") || is_word(begin, "declare")) && (begin..self.at).any(is_brace) {
            return self.error("a statement with a body");
        }
        Ok(())
    }

    /// One value, up to the comma, arrow, bracket or semicolon that ends it.
    fn value(&mut self) -> Result<Value, PhpError> {
        let (begin, line) = (self.at, self.line());
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.error("the values are nested too deeply");
        }
        let read = self.chosen();
        self.depth -= 1;
        match read {
            Ok(value) if self.is_end() => return Ok(value),
            Ok(_) | Err(Stop::Unknown) => {}
            Err(Stop::Error(error)) => return Err(error),
        }
        let what = self.what();
        self.at = begin;
        self.skip(false)?;
        if self.at == begin {
            return self.error("a value is missing");
        }
        Ok(Value { line, kind: Kind::Unreadable(what) })
    }

    fn is_end(&self) -> bool {
        matches!(self.peek(), None | Some(Token::Symbol("," | "=>" | "]" | ")" | "}" | ";")))
    }

    /// What it is that is not read, in words; of the file's texts nothing.
    fn what(&self) -> String {
        match self.peek() {
            Some(Token::Variable(name)) => format!("the variable ${name}"),
            Some(Token::Template) => "a text with variables in it".to_owned(),
            Some(Token::Word(word)) => {
                let is_any = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
                if is_any(&["fn", "function", "static"]) {
                    "a closure".to_owned()
                } else if is_any(&["include", "include_once", "require", "require_once"]) {
                    "another file".to_owned()
                } else if self.is_symbol_at(1, "(") {
                    format!("a call of {word}()")
                } else {
                    format!("the name {word}")
                }
            }
            Some(Token::Symbol("?")) => "a condition".to_owned(),
            Some(Token::Symbol(symbol)) => format!("the operator {symbol}"),
            Some(Token::Text(_) | Token::Whole(_) | Token::Fraction(_)) | None => "an expression".to_owned(),
        }
    }

    /// Moves to the end of a value, or of a whole statement, brackets in pairs.
    fn skip(&mut self, statement: bool) -> Result<(), PhpError> {
        let mut closers: Vec<&str> = Vec::new();
        let mut arrow_function = false;
        while let Some(token) = self.peek() {
            if let Token::Symbol(symbol) = token {
                match *symbol {
                    "(" => closers.push(")"),
                    "[" | "#[" => closers.push("]"),
                    "{" => closers.push("}"),
                    ")" | "]" | "}" if closers.is_empty() && !statement => return Ok(()),
                    ")" | "]" | "}" if closers.pop() != Some(symbol) => {
                        return self.error("brackets that do not match");
                    }
                    ";" if closers.is_empty() => return Ok(()),
                    "," if closers.is_empty() && !statement => return Ok(()),
                    "=>" if closers.is_empty() && !statement && !arrow_function => return Ok(()),
                    _ => {}
                }
            } else if let Token::Word(word) = token {
                arrow_function |= closers.is_empty() && word.eq_ignore_ascii_case("fn");
            }
            self.at += 1;
        }
        if closers.is_empty() { Ok(()) } else { self.error("a bracket is not closed") }
    }

    /// `a ?: b`, from the left.
    fn chosen(&mut self) -> Result<Value, Stop> {
        let mut value = self.coalesced()?;
        let mut links = 0;
        while self.is_symbol_at(0, "?") && self.is_symbol_at(1, ":") {
            links += 1;
            if links > CHAIN_MAX {
                return Err(Stop::Unknown);
            }
            self.at += 2;
            let line = value.line;
            let other = self.coalesced()?;
            value = Value { line, kind: Kind::Chosen(value.into(), other.into()) };
        }
        Ok(value)
    }

    /// `a ?? b`, from the right.
    fn coalesced(&mut self) -> Result<Value, Stop> {
        let mut values = vec![self.joined()?];
        while self.takes("??") {
            if values.len() > CHAIN_MAX {
                return Err(Stop::Unknown);
            }
            values.push(self.joined()?);
        }
        let folded = values.into_iter().rev().reduce(|right, left| {
            let line = left.line;
            Value { line, kind: Kind::Coalesced(left.into(), right.into()) }
        });
        folded.ok_or(Stop::Unknown)
    }

    fn joined(&mut self) -> Result<Value, Stop> {
        let first = self.unary()?;
        if !self.is_symbol_at(0, ".") {
            return Ok(first);
        }
        let line = first.line;
        let mut parts = vec![first];
        while self.takes(".") {
            parts.push(self.unary()?);
        }
        Ok(Value { line, kind: Kind::Joined(parts) })
    }

    /// Casts and signs before a value.
    fn unary(&mut self) -> Result<Value, Stop> {
        let line = self.line();
        if let Some(cast) = self.cast() {
            self.at += 3;
            if self.depth >= DEPTH_MAX {
                return Err(Stop::Unknown);
            }
            self.depth += 1;
            let inner = self.unary();
            self.depth -= 1;
            return Ok(Value { line, kind: Kind::Cast(cast, inner?.into()) });
        }
        if !self.takes("-") {
            return self.primary();
        }
        let value = self.primary()?;
        if let Kind::Whole(number) = value.kind {
            Ok(Value { line, kind: Kind::Whole(-number) })
        } else if let Kind::Fraction(number) = value.kind {
            Ok(Value { line, kind: Kind::Fraction(-number) })
        } else {
            Err(Stop::Unknown)
        }
    }

    /// `(int)` and its like, if they are next.
    fn cast(&self) -> Option<Cast> {
        let Some(Token::Word(word)) =
            self.peek_at(1).filter(|_| self.is_symbol_at(0, "(") && self.is_symbol_at(2, ")"))
        else {
            return None;
        };
        match word.to_ascii_lowercase().as_str() {
            "int" | "integer" => Some(Cast::Whole),
            "bool" | "boolean" => Some(Cast::Boolean),
            "string" => Some(Cast::Text),
            "float" | "double" => Some(Cast::Fraction),
            "array" => Some(Cast::Array),
            _ => None,
        }
    }

    fn primary(&mut self) -> Result<Value, Stop> {
        let line = self.line();
        let kind = match self.peek() {
            Some(Token::Text(text)) => Kind::Text(text.clone()),
            Some(Token::Whole(number)) => Kind::Whole(*number),
            Some(Token::Fraction(number)) => Kind::Fraction(*number),
            Some(Token::Symbol("[")) => return self.array("]"),
            Some(Token::Symbol("(")) => {
                self.at += 1;
                let value = self.value()?;
                return if self.takes(")") { Ok(value) } else { Err(Stop::Unknown) };
            }
            Some(Token::Word(word)) => {
                let word = word.trim_start_matches('\\').to_ascii_lowercase();
                if self.is_symbol_at(1, "(") {
                    return self.call(&word);
                }
                match word.as_str() {
                    "null" => Kind::Null,
                    "true" => Kind::Boolean(true),
                    "false" => Kind::Boolean(false),
                    // Constants are upper case; 258 is what PHP has for both.
                    "filter_validate_bool" | "filter_validate_boolean" => Kind::Whole(258),
                    _ => return Err(Stop::Unknown),
                }
            }
            Some(Token::Variable(_) | Token::Template | Token::Symbol(_)) | None => {
                return Err(Stop::Unknown);
            }
        };
        self.at += 1;
        Ok(Value { line, kind })
    }

    /// From the bracket on.
    fn array(&mut self, closer: &'static str) -> Result<Value, Stop> {
        let line = self.line();
        self.at += 1;
        let mut items = Vec::new();
        while !self.takes(closer) {
            let spread = self.takes("...");
            if spread && self.is_symbol_at(0, closer) {
                // `trim(...)`: the function itself.
                return Err(Stop::Unknown);
            }
            let first = self.value()?;
            let (key, value) =
                if self.takes("=>") { (key(&first), self.value()?) } else { (Key::Next, first) };
            items.push(Item { key: if spread { Key::Unreadable } else { key }, value });
            if !self.takes(",") && !self.is_symbol_at(0, closer) {
                return Ok(self.error("an array does not end where it should")?);
            }
        }
        Ok(Value { line, kind: Kind::Array(items) })
    }

    /// A call of `name`, which is lower case.
    fn call(&mut self, name: &str) -> Result<Value, Stop> {
        let (begin, line) = (self.at, self.line());
        self.at += 1;
        if name == "array" {
            return self.array(")");
        }
        if self.is_symbol_at(1, "...") && self.is_symbol_at(2, ")") {
            // The function itself.
            self.at += 3;
            return Ok(Value { line, kind: Kind::Unreadable(format!("{name}(...)")) });
        }
        if !calls::KNOWN.contains(&name) {
            self.at = begin;
            return Err(Stop::Unknown);
        }
        let mut arguments = Vec::new();
        if let Kind::Array(items) = self.array(")")?.kind
            && items.iter().all(|item| item.key == Key::Next)
        {
            arguments.extend(items.into_iter().map(|item| item.value));
        }
        let kind = calls::read(name, arguments).ok_or_else(|| {
            self.at = begin;
            Stop::Unknown
        })?;
        Ok(Value { line, kind })
    }
}

/// The key that a value stands for, as PHP reads it.
fn key(value: &Value) -> Key {
    if let Kind::Text(text) = &value.kind {
        // Only what a number is printed as becomes one: not `01`, not `+1`.
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == *text);
        return number.map_or_else(|| Key::Text(text.clone()), Key::Whole);
    }
    if let Kind::Whole(number) = value.kind { Key::Whole(number) } else { Key::Unreadable }
}
