//! Postgres' lexical rules: tokens, and a cursor over those of one statement. No recursion, whatever the text nests.

use std::borrow::Cow;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An unquoted word: a keyword, or a name that folds to lower case.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string constant of any form.
    Text,
    /// A number.
    Number,
    /// Any other character.
    Symbol,
}

/// A token as the bytes of the text that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    pub(crate) fn text(self, whole: &str) -> &str {
        whole.get(self.start..self.end).unwrap_or("")
    }

    pub(crate) fn is_symbol(self, whole: &str, symbol: char) -> bool {
        self.kind == Kind::Symbol && self.text(whole).starts_with(symbol)
    }

    pub(crate) fn is_word(self, whole: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(whole).eq_ignore_ascii_case(word)
    }
}

/// Something that begins and never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unterminated {
    pub(crate) start: usize,
    pub(crate) what: &'static str,
}

/// Cuts a text into tokens.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Where the next token is looked for.
    pub(crate) at: usize,
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lexer {
            text,
            at: if text.starts_with('\u{feff}') {
                '\u{feff}'.len_utf8()
            } else {
                0
            },
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Passes over blanks and comments.
    pub(crate) fn skip_blanks(&mut self) -> Result<(), Unterminated> {
        loop {
            match (self.byte(self.at), self.byte(self.at + 1)) {
                (Some(b'-'), Some(b'-')) => self.skip_line(),
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                (Some(byte), _) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                _ => return Ok(()),
            }
        }
    }

    /// Moves behind the end of the line.
    pub(crate) fn skip_line(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or("");
        self.at += rest.find('\n').map_or(rest.len(), |at| at + 1);
    }

    fn skip_comment(&mut self) -> Result<(), Unterminated> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match (self.byte(self.at), self.byte(self.at + 1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    return Err(Unterminated {
                        start,
                        what: "comment",
                    });
                }
            }
        }
    }

    /// The next token; None at the end of the text.
    pub(crate) fn next(&mut self) -> Result<Option<Token>, Unterminated> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(first) = self.byte(start) else {
            return Ok(None);
        };
        let kind = match (first, self.byte(start + 1), self.byte(start + 2)) {
            (b'\'', ..) => self.quoted(start, b'\'', false, "string")?,
            (b'"', ..) => self.quoted(start, b'"', false, "quoted name")?,
            (b'e' | b'E', Some(b'\''), _) => self.quoted(start + 1, b'\'', true, "string")?,
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\''), _) => {
                self.quoted(start + 1, b'\'', false, "string")?
            }
            (b'u' | b'U', Some(b'&'), Some(quote @ (b'\'' | b'"'))) => {
                self.quoted(start + 2, quote, false, "string")?
            }
            (b'$', ..) => self.dollar()?,
            (byte, ..) if begins_word(byte) => self.run(continues_word, Kind::Word),
            (byte, ..) if byte.is_ascii_digit() => {
                self.run(|b| continues_word(b) || b == b'.', Kind::Number)
            }
            _ => {
                self.at += 1;
                Kind::Symbol
            }
        };
        Ok(Some(Token {
            kind,
            start,
            end: self.at,
        }))
    }

    fn run(&mut self, more: impl Fn(u8) -> bool, kind: Kind) -> Kind {
        while self.byte(self.at).is_some_and(&more) {
            self.at += 1;
        }
        kind
    }

    /// From the opening quote at `open` behind the closing one; doubled quotes stand for themselves.
    fn quoted(
        &mut self,
        open: usize,
        quote: u8,
        backslashes: bool,
        what: &'static str,
    ) -> Result<Kind, Unterminated> {
        let start = self.at;
        self.at = open + 1;
        loop {
            match self.byte(self.at) {
                None => return Err(Unterminated { start, what }),
                Some(b'\\') if backslashes => self.at = (self.at + 2).min(self.text.len()),
                Some(byte) if byte == quote && self.byte(self.at + 1) == Some(quote) => {
                    self.at += 2
                }
                Some(byte) => {
                    self.at += 1;
                    if byte == quote {
                        return Ok(if quote == b'"' {
                            Kind::Quoted
                        } else {
                            Kind::Text
                        });
                    }
                }
            }
        }
    }

    /// `$$…$$`, `$tag$…$tag$`, or a lone `$` (a parameter such as `$1`).
    fn dollar(&mut self) -> Result<Kind, Unterminated> {
        let start = self.at;
        let mut end = start + 1;
        if self.byte(end).is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
            return Ok(Kind::Symbol);
        }
        while self
            .byte(end)
            .is_some_and(|b| continues_word(b) && b != b'$')
        {
            end += 1;
        }
        if self.byte(end) != Some(b'$') {
            self.at += 1;
            return Ok(Kind::Symbol);
        }
        let tag = self.text.get(start..=end).unwrap_or("$$");
        match self.text.get(end + 1..).and_then(|body| body.find(tag)) {
            Some(length) => {
                self.at = end + 1 + length + tag.len();
                Ok(Kind::Text)
            }
            None => Err(Unterminated {
                start,
                what: "dollar-quoted string",
            }),
        }
    }
}

/// The name that a token spells: quotes removed, or folded to lower case.
pub(crate) fn name_of(whole: &str, token: Token) -> String {
    let text = token.text(whole);
    match token.kind {
        Kind::Quoted => {
            let inner = text.trim_start_matches(['u', 'U', '&']);
            let inner = inner
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(inner);
            inner.replace("\"\"", "\"")
        }
        _ => text.to_lowercase(),
    }
}

/// The content of a plain or `E''` string token.
pub(crate) fn string_of(whole: &str, token: Token) -> Cow<'_, str> {
    let text = token.text(whole);
    let escapes = text.starts_with(['e', 'E']);
    let inner = text
        .find('\'')
        .and_then(|at| text.get(at + 1..))
        .unwrap_or("");
    let inner = inner.strip_suffix('\'').unwrap_or(inner);
    if escapes && inner.contains('\\') {
        let mut out = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            out.extend(if c == '\\' { chars.next() } else { Some(c) });
        }
        return Cow::Owned(out.replace("''", "'"));
    }
    if inner.contains("''") {
        Cow::Owned(inner.replace("''", "'"))
    } else {
        Cow::Borrowed(inner)
    }
}

/// A position in the tokens of one statement or a part of one.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    tokens: &'a [Token],
    at: usize,
    /// Set once parentheses were read that never close.
    pub(crate) unclosed: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, tokens: &'a [Token]) -> Self {
        Cursor {
            text,
            tokens,
            at: 0,
            unclosed: false,
        }
    }

    pub(crate) fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    pub(crate) fn bump(&mut self) -> Option<Token> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    /// The token before the next one, for messages about what is missing.
    pub(crate) fn last(&self) -> Option<Token> {
        self.tokens
            .get(self.at.saturating_sub(1))
            .or(self.tokens.last())
            .copied()
    }

    pub(crate) fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.at..).unwrap_or(&[])
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// True when the next words are these.
    pub(crate) fn sees(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| {
            self.peek_at(ahead)
                .is_some_and(|t| t.is_word(self.text, word))
        })
    }

    /// Passes over these words when they come next.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let seen = self.sees(words);
        if seen {
            self.at += words.len();
        }
        seen
    }

    pub(crate) fn sees_symbol(&self, symbol: char) -> bool {
        self.peek()
            .is_some_and(|token| token.is_symbol(self.text, symbol))
    }

    pub(crate) fn take_symbol(&mut self, symbol: char) -> bool {
        let seen = self.sees_symbol(symbol);
        self.at += usize::from(seen);
        seen
    }

    /// A name, quoted or not, with the token it came from.
    pub(crate) fn name(&mut self) -> Option<(String, Token)> {
        let token = self
            .peek()
            .filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
        self.at += 1;
        Some((name_of(self.text, token), token))
    }

    /// A name with up to two qualifiers before it; the last part first.
    pub(crate) fn qualified(&mut self) -> Option<(String, Option<String>, Token)> {
        let (mut name, mut token) = self.name()?;
        let mut schema = None;
        while self.sees_symbol('.') {
            let before = self.at;
            self.at += 1;
            let Some((next, next_token)) = self.name() else {
                self.at = before;
                break;
            };
            schema = Some(std::mem::replace(&mut name, next));
            token.end = next_token.end;
        }
        Some((name, schema, token))
    }

    /// The tokens inside the parentheses that open here, moving behind them; None where none open. Unclosed ones run to the end.
    pub(crate) fn parens(&mut self) -> Option<&'a [Token]> {
        if !self.take_symbol('(') {
            return None;
        }
        let start = self.at;
        let mut depth = 1usize;
        while let Some(token) = self.bump() {
            if token.is_symbol(self.text, '(') {
                depth += 1;
            } else if token.is_symbol(self.text, ')') {
                depth -= 1;
                if depth == 0 {
                    return self.tokens.get(start..self.at - 1);
                }
            }
        }
        self.unclosed = true;
        self.tokens.get(start..)
    }
}

/// The parts of a token list between commas outside of any brackets. An empty list has no parts.
pub(crate) fn split_commas<'a>(text: &str, tokens: &'a [Token]) -> Vec<&'a [Token]> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0i64, 0);
    for (at, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Symbol {
            continue;
        }
        match token.text(text) {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "," if depth == 0 => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < tokens.len() || !parts.is_empty() {
        parts.push(&tokens[start..]);
    }
    parts
}
