//! Cuts a dump into statements, as psql does: strings and function bodies are one token, `COPY … FROM stdin` takes its data
//! with it, and a backslash at the start of a statement is a command to psql.

use super::lex::{Lexer, Token, Unterminated};

/// A statement's tokens beyond this many are not kept: nothing that declares a table is that long, and memory is bounded.
const TOKENS_MAX: usize = 1_000_000;

/// One thing that the file says.
pub(super) enum Piece {
    /// A statement without its semicolon.
    Statement {
        /// Its tokens; at least one.
        tokens: Vec<Token>,
        /// False where the statement was longer than is kept.
        complete: bool,
    },
    /// `\connect`, `\restrict` …
    Command(Token),
}

/// The pieces of a text, in order.
pub(super) struct Splitter<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Splitter {
            text,
            lexer: Lexer::new(text),
        }
    }

    /// The next piece; None at the end. After an error the rest of the text has no structure that could be trusted.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Unterminated> {
        let mut statement = Statement::default();
        loop {
            let Some(token) = self.lexer.next()? else {
                return Ok(statement.finish());
            };
            if statement.tokens.is_empty() && token.is_symbol(self.text, '\\') {
                self.lexer.skip_line();
                return Ok(Some(Piece::Command(token)));
            }
            if token.is_symbol(self.text, ';') && statement.may_end() {
                if statement.tokens.is_empty() {
                    continue;
                }
                self.skip_copy_data(&statement)?;
                return Ok(statement.finish());
            }
            statement.push(self.text, token);
        }
    }

    /// The lines between `COPY … FROM stdin;` and `\.`.
    fn skip_copy_data(&mut self, statement: &Statement) -> Result<(), Unterminated> {
        let words = |at: usize, word: &str| {
            statement
                .tokens
                .get(at)
                .is_some_and(|t| t.is_word(self.text, word))
        };
        let from_stdin =
            || (1..statement.tokens.len()).any(|at| words(at, "from") && words(at + 1, "stdin"));
        if !words(0, "copy") || !from_stdin() {
            return Ok(());
        }
        let start = statement.tokens.first().map_or(0, |token| token.start);
        self.lexer.skip_line();
        loop {
            let rest = self.text.get(self.lexer.at..).unwrap_or("");
            if rest.is_empty() {
                return Err(Unterminated {
                    start,
                    what: "COPY data (no line `\\.`)",
                });
            }
            let line = rest.lines().next().unwrap_or("");
            self.lexer.skip_line();
            if line == "\\." {
                return Ok(());
            }
        }
    }
}

/// The tokens so far, and whether a semicolon ends the statement here.
#[derive(Default)]
struct Statement {
    tokens: Vec<Token>,
    dropped: bool,
    /// `CREATE RULE … DO (a; b)`
    parens: usize,
    is_rule: bool,
    /// `CREATE FUNCTION … BEGIN ATOMIC …; END`
    begins: usize,
    is_routine: bool,
}

impl Statement {
    fn may_end(&self) -> bool {
        self.begins == 0 && !(self.is_rule && self.parens > 0)
    }

    fn push(&mut self, text: &str, token: Token) {
        let is = |word: &str| token.is_word(text, word);
        if (1..4).contains(&self.tokens.len())
            && self
                .tokens
                .first()
                .is_some_and(|t| t.is_word(text, "create"))
        {
            self.is_routine |= is("function") || is("procedure");
            self.is_rule |= is("rule");
        }
        if self.is_rule && token.is_symbol(text, '(') {
            self.parens += 1;
        } else if self.is_rule && token.is_symbol(text, ')') {
            self.parens = self.parens.saturating_sub(1);
        }
        if self.is_routine {
            if is("begin") || (is("case") && self.begins > 0) {
                self.begins += 1;
            } else if is("end") {
                self.begins = self.begins.saturating_sub(1);
            }
        }
        if self.tokens.len() < TOKENS_MAX {
            self.tokens.push(token);
        } else {
            self.dropped = true;
        }
    }

    fn finish(self) -> Option<Piece> {
        (!self.tokens.is_empty()).then_some(Piece::Statement {
            tokens: self.tokens,
            complete: !self.dropped,
        })
    }
}
