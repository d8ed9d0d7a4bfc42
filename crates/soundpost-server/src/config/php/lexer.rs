//! PHP's words: comments go, every token keeps its line. What is inside of interpolated texts is not kept.

use super::{DEPTH_MAX, PhpError};

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, with its backslashes: `env`, `\env`, `Foo\Bar`, `return`.
    Word(String),
    /// `$name`, without the dollar.
    Variable(String),
    /// A text without interpolation.
    Text(String),
    /// A text with interpolation, a heredoc, or a text that is not UTF-8.
    Template,
    Whole(i64),
    Fraction(f64),
    /// Punctuation.
    Symbol(&'static str),
}

/// Tokens with their lines.
pub(super) type Tokens = Vec<(usize, Token)>;

/// Longer ones before those they begin with.
const SYMBOLS: &[&str] = &[
    "...", "===", "!==", "<=>", "**=", "??=", "<<=", ">>=", "?->", "=>", "->", "::", "==", "!=", "<=", ">=",
    "&&", "||", "??", ".=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "++", "--", "**", "<<", ">>",
    "#[", "(", ")", "[", "]", "{", "}", ",", ";", ":", "?", ".", "=", "+", "-", "*", "/", "%", "&", "|", "^",
    "!", "~", "<", ">", "@", "$",
];

/// The tokens of a file that begins with `<?php`. Errors: it does not, or a text or comment has no end.
pub(super) fn lex(text: &str) -> Result<Tokens, PhpError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let after = text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("<?php")).and_then(|_| text.get(5..));
    let Some(rest) = after.filter(|rest| rest.is_empty() || rest.starts_with(is_space)) else {
        return Err(PhpError { line: 1, problem: "the file does not begin with <?php".to_owned() });
    };
    let mut lexer = Lexer { rest, line: 1, depth: 0 };
    let mut tokens = Tokens::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    /// Texts within interpolations within texts.
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn error<T>(line: usize, problem: &str) -> Result<T, PhpError> {
        Err(PhpError { line, problem: problem.to_owned() })
    }

    /// Takes `bytes` bytes, which end at a character's end, and counts their lines.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }

    /// Takes what `is` holds for.
    fn take_while(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn next(&mut self) -> Result<Option<(usize, Token)>, PhpError> {
        self.skip_blanks()?;
        let line = self.line;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let second = self.rest.chars().nth(1);
        let token = match first {
            '?' if second == Some('>') => {
                // What follows is printed, not read.
                self.rest = "";
                Token::Symbol(";")
            }
            '\'' => self.single_quoted()?,
            '"' => self.double_quoted()?,
            '`' => {
                self.take(1);
                self.skip_to('`', line)?;
                Token::Template
            }
            '$' if second.is_some_and(is_name_start) => {
                self.take(1);
                Token::Variable(self.take_while(is_name).to_owned())
            }
            '0'..='9' => self.number()?,
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            '<' if self.rest.starts_with("<<<") => self.heredoc()?,
            c if is_name_start(c) || c == '\\' => {
                Token::Word(self.take_while(|c| is_name(c) || c == '\\').to_owned())
            }
            _ => match SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.take(symbol.len());
                    Token::Symbol(symbol)
                }
                None => return Self::error(line, "a character that PHP does not know"),
            },
        };
        Ok(Some((line, token)))
    }

    fn skip_blanks(&mut self) -> Result<(), PhpError> {
        loop {
            self.take_while(is_space);
            let is_hash = self.rest.starts_with('#') && !self.rest.starts_with("#[");
            if is_hash || self.rest.starts_with("//") {
                let line = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
                let end = self.rest.get(..line).and_then(|rest| rest.find("?>")).unwrap_or(line);
                self.take(end);
            } else if self.rest.starts_with("/*") {
                match self.rest.get(2..).and_then(|rest| rest.find("*/")) {
                    Some(end) => self.take(end + 4),
                    None => return Self::error(self.line, "a comment is not closed"),
                };
            } else {
                return Ok(());
            }
        }
    }

    /// Takes up to and with an unescaped `end`.
    fn skip_to(&mut self, end: char, line: usize) -> Result<(), PhpError> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            if c == end && !escaped {
                self.take(at + 1);
                return Ok(());
            }
            escaped = c == '\\' && !escaped;
        }
        Self::error(line, "a text is not closed")
    }

    /// Only `\\` and `\'` are escapes.
    fn single_quoted(&mut self) -> Result<Token, PhpError> {
        let line = self.line;
        self.take(1);
        let whole = self.rest;
        self.skip_to('\'', line)?;
        let raw = whole.get(..whole.len() - self.rest.len() - 1).unwrap_or_default();
        let mut text = String::with_capacity(raw.len());
        let mut chars = raw.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some(next @ ('\\' | '\''))) => {
                    text.push(*next);
                    chars.next();
                }
                (c, _) => text.push(c),
            }
        }
        Ok(Token::Text(text))
    }

    fn double_quoted(&mut self) -> Result<Token, PhpError> {
        let line = self.line;
        self.take(1);
        // PHP's texts are bytes: `"\xC5\xBC"` is one character.
        let mut bytes = Vec::new();
        let mut is_plain = true;
        while let Some(c) = self.rest.chars().next() {
            let second = self.rest.chars().nth(1);
            match (c, second) {
                ('"', _) => {
                    self.take(1);
                    let text = String::from_utf8(bytes).ok().filter(|_| is_plain);
                    return Ok(text.map_or(Token::Template, Token::Text));
                }
                ('\\', Some(escaped)) => is_plain &= self.escape(escaped, &mut bytes),
                ('{', Some('$')) | ('$', Some('{')) => {
                    is_plain = false;
                    self.interpolation(line)?;
                }
                ('$', Some(next)) if is_name_start(next) => {
                    is_plain = false;
                    self.take(1);
                }
                (c, _) => {
                    bytes.extend_from_slice(self.take(c.len_utf8()).as_bytes());
                }
            }
        }
        Self::error(line, "a text is not closed")
    }

    /// Undoes one escape; false if it cannot be.
    fn escape(&mut self, escaped: char, bytes: &mut Vec<u8>) -> bool {
        let simple = match escaped {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'v' => 0x0b,
            'e' => 0x1b,
            'f' => 0x0c,
            '\\' | '$' | '"' => u8::try_from(escaped).unwrap_or_default(),
            '0'..='7' => {
                self.take(1);
                let digits = self.digits(3, |c| ('0'..='7').contains(&c));
                // Only eight bits of three octal digits are kept.
                bytes.extend(u16::from_str_radix(digits, 8).map(|code| code.to_le_bytes()[0]));
                return true;
            }
            'x' if self.rest.chars().nth(2).is_some_and(|c| c.is_ascii_hexdigit()) => {
                self.take(2);
                bytes.extend(u8::from_str_radix(self.digits(2, |c| c.is_ascii_hexdigit()), 16));
                return true;
            }
            'u' if self.rest.starts_with("\\u{") => {
                // A code has six digits at most; zeros before it are hardly meant.
                let code =
                    self.rest.get(3..).map(|rest| rest.split_at_checked(9).map_or(rest, |(code, _)| code));
                let code = code.and_then(|code| code.split_once('}')).map(|(code, _)| code);
                let found = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
                self.take(code.map_or(3, |code| code.len() + 4));
                bytes.extend(found.map(|c| c.to_string()).unwrap_or_default().bytes());
                return found.is_some();
            }
            _ => {
                bytes.extend_from_slice(self.take(1).as_bytes());
                return true;
            }
        };
        self.take(2);
        bytes.push(simple);
        true
    }

    fn digits(&mut self, max: usize, is: impl Fn(char) -> bool) -> &'a str {
        let count = self.rest.chars().take(max).take_while(|c| is(*c)).count();
        self.take(count)
    }

    /// Takes `{$..}` or `${..}` with what is nested in it, so that the end of the text is found.
    fn interpolation(&mut self, line: usize) -> Result<(), PhpError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Self::error(line, "texts are nested too deeply");
        }
        self.take(if self.rest.starts_with('{') { 1 } else { 2 });
        let mut open = 1;
        while open > 0 {
            match self.next()? {
                Some((_, Token::Symbol("{"))) => open += 1,
                Some((_, Token::Symbol("}"))) => open -= 1,
                Some(_) => {}
                None => return Self::error(line, "a text is not closed"),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn number(&mut self) -> Result<Token, PhpError> {
        let line = self.line;
        let mut end = 0;
        let mut previous = ' ';
        for c in self.rest.chars() {
            let is_radix = self.rest.starts_with("0x") || self.rest.starts_with("0X");
            let is_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !is_radix;
            // `1 . 2` joins; `1.` followed by another dot, too.
            let is_point = c == '.' && !is_radix && !self.rest.get(..end).unwrap_or_default().contains('.');
            if !(c.is_ascii_alphanumeric() || c == '_' || is_sign || is_point) {
                break;
            }
            end += 1;
            previous = c;
        }
        let text = self.take(end).replace('_', "");
        let lower = text.to_ascii_lowercase();
        let (digits, radix) = match lower.get(..2) {
            Some("0x") => (lower.get(2..), 16),
            Some("0b") => (lower.get(2..), 2),
            Some("0o") => (lower.get(2..), 8),
            Some(_) if lower.starts_with('0') && lower.bytes().all(|byte| byte.is_ascii_digit()) => {
                (lower.get(1..), 8)
            }
            Some(_) | None => (Some(lower.as_str()), 10),
        };
        let digits = digits.unwrap_or_default();
        match i64::from_str_radix(digits, radix) {
            Ok(whole) => Ok(Token::Whole(whole)),
            Err(_) if radix == 10 && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                match digits.parse() {
                    Ok(fraction) => Ok(Token::Fraction(fraction)),
                    Err(_) => Self::error(line, "a number that PHP does not know"),
                }
            }
            // Larger than any range that is asked for.
            Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => {
                Ok(Token::Fraction(f64::MAX))
            }
            Err(_) => Self::error(line, "a number that PHP does not know"),
        }
    }

    /// `<<<NAME` up to a line that begins with the name, spaces before it allowed.
    fn heredoc(&mut self) -> Result<Token, PhpError> {
        let line = self.line;
        self.take(3);
        self.take_while(|c| c == ' ' || c == '\t');
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        self.take(usize::from(quote.is_some()));
        let name = self.take_while(is_name);
        self.take(usize::from(quote.is_some()));
        if name.is_empty() || !self.rest.starts_with(['\n', '\r']) {
            return Self::error(line, "a heredoc without a name");
        }
        loop {
            let Some(end) = self.rest.find('\n') else { return Self::error(line, "a heredoc is not closed") };
            self.take(end + 1);
            let after = self.rest.trim_start_matches([' ', '\t']).strip_prefix(name);
            if after.is_some_and(|after| !after.starts_with(is_name)) {
                self.take_while(|c| c == ' ' || c == '\t');
                self.take(name.len());
                return Ok(Token::Template);
            }
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// PHP takes every byte above 0x7f as a letter.
fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit()
}
