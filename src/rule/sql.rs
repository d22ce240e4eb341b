//! SQL inside rules: read with limits, located to the character.
//!
//! Every text is measured before it is parsed (length, tokens, nesting), so that no rule can exhaust the stack of the parser or
//! the planner. Here only the form is judged: one expression, or one query that reads. Whether its tables and columns exist
//! is found by `plan`, which uses the same two functions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{Span, Sql};
use crate::diagnostic::Diagnostic;

/// The longest SQL text of a rule, in bytes.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// The most operators (`+`, `and`, `case`, `select`, …) in it.
pub const SQL_OPERATORS_MAX: usize = 500;
/// The deepest nesting of parentheses, brackets and `case`.
pub const SQL_DEPTH_MAX: usize = 50;

/// The most steps of reading it, where each call of a function around a token doubles its steps: the parser reads the arguments of a
/// call twice, once to see whether they have names. Sixteen calls inside each other are within it.
pub const SQL_STEPS_MAX: u64 = 1 << 18;

const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Reads exactly one SQL expression.
///
/// # Errors
/// A located diagnostic when the text is too large, is no expression, or holds more than one.
pub fn parse_expression(sql: &Sql) -> Result<Expr, Diagnostic> {
    let tokens = tokens(sql)?;
    if let Some(first) = tokens
        .iter()
        .find(|token| !matches!(token.token, Token::Whitespace(_)))
        && word(&first.token).is_some_and(|keyword| {
            matches!(keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES)
        })
    {
        let place = place(sql, first.span.start, &first.token);
        return Err(place
            .error("an expression is expected here, not a query")
            .with_hint("put the query into parentheses, or use the check `sql`"));
    }
    let mut parser = Parser::new(&DIALECT)
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    let expression = parser
        .parse_expr()
        .map_err(|error| syntax_error(sql, &error))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let hint = match next.token {
            Token::SemiColon => "a rule judges one expression: leave out the `;` and what follows",
            Token::Comma => "a rule judges one expression; join two with `and`",
            _ => "an operator such as `and` may be missing before it",
        };
        let message = format!("the expression ends before {}", shown(&next.token));
        return Err(place(sql, next.span.start, &next.token)
            .error(message)
            .with_hint(hint));
    }
    only_reads(sql, &expression)?;
    Ok(expression)
}

/// Reads exactly one query; one `;` may end it.
///
/// # Errors
/// A located diagnostic when the text is too large, is no query, does anything but read, or holds more than one statement.
pub fn parse_query(sql: &Sql) -> Result<Box<Query>, Diagnostic> {
    const READ: &str = "rule SQL may only read: write one `select`, `with … select` or `values`";
    let tokens = tokens(sql)?;
    let first = tokens
        .iter()
        .find(|token| !matches!(token.token, Token::Whitespace(_) | Token::LParen));
    if let Some(first) = first {
        let keyword = word(&first.token);
        if !keyword.is_some_and(|keyword| {
            matches!(
                keyword,
                Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::TABLE
            )
        }) {
            let message = format!("a query cannot begin with {}", shown(&first.token));
            return Err(place(sql, first.span.start, &first.token)
                .error(message)
                .with_hint(READ));
        }
    }
    let mut parser = Parser::new(&DIALECT)
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    let query = parser
        .parse_query()
        .map_err(|error| syntax_error(sql, &error))?;
    let _ = parser.consume_token(&Token::SemiColon);
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let message = format!("the query ends before {}", shown(&next.token));
        return Err(place(sql, next.span.start, &next.token)
            .error(message)
            .with_hint("a rule has one query; make two rules of two"));
    }
    only_reads(sql, &*query)?;
    Ok(query)
}

/// A query's text without the `;` that may end it, so that it can stand in parentheses; a comment after the `;` goes with it.
pub fn without_end(text: &str) -> &str {
    let Ok(tokens) = Tokenizer::new(&DIALECT, text).tokenize_with_location() else {
        return text;
    };
    let Some(end) = tokens.iter().find(|token| token.token == Token::SemiColon) else {
        return text;
    };
    let line = usize::try_from(end.span.start.line)
        .unwrap_or(1)
        .saturating_sub(1);
    let column = usize::try_from(end.span.start.column)
        .unwrap_or(1)
        .saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(before..).unwrap_or_default();
    let at = rest
        .char_indices()
        .nth(column)
        .map_or(rest.len(), |(at, _)| at);
    text.get(..before + at).unwrap_or(text)
}

/// The tokens of a text that keeps the limits.
fn tokens(sql: &Sql) -> Result<Vec<TokenWithSpan>, Diagnostic> {
    let text = &sql.value;
    if text.len() > SQL_BYTES_MAX {
        let message = format!(
            "this SQL has {} bytes; the limit is {SQL_BYTES_MAX}",
            text.len()
        );
        return Err(sql
            .span
            .error(message)
            .with_hint("shorten it, or split the rule"));
    }
    if text.trim().is_empty() {
        return Err(sql
            .span
            .error("this SQL is empty")
            .with_hint("write an expression or a query, or remove the key"));
    }
    let tokens = Tokenizer::new(&DIALECT, text)
        .tokenize_with_location()
        .map_err(|error| {
            let place = place_at(sql, error.location, 1);
            place
                .error(lower_first(error.message.trim_end()))
                .with_hint("a text in SQL stands in single quotes: `'paid'`")
        })?;
    measure(sql, &tokens)?;
    if tokens
        .iter()
        .all(|token| matches!(token.token, Token::Whitespace(_)))
    {
        return Err(sql
            .span
            .error("this SQL is only a comment")
            .with_hint("write an expression or a query, or remove the key"));
    }
    Ok(tokens)
}

/// Counts what makes parsers and planners recurse.
fn measure(sql: &Sql, tokens: &[TokenWithSpan]) -> Result<(), Measured> {
    let (mut operators, mut depth, mut prefixes) = (0usize, 0usize, 0usize);
    let mut calls = Calls::default();
    for found in tokens {
        calls.take(&found.token);
        prefixes = match &found.token {
            Token::Whitespace(_) => prefixes,
            Token::Minus | Token::Plus | Token::Tilde => prefixes + 1,
            token if word(token) == Some(Keyword::NOT) => prefixes + 1,
            _ => 0,
        };
        match &found.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Placeholder(_) => {
                let message = format!(
                    "the placeholder {} has no value in a rule",
                    shown(&found.token)
                );
                let place = place(sql, found.span.start, &found.token);
                return Err(Measured::Mistake(
                    place.error(message).with_hint("write the value itself"),
                ));
            }
            token => match word(token) {
                Some(Keyword::CASE) => {
                    depth += 1;
                    operators += 1;
                }
                Some(Keyword::END) => depth = depth.saturating_sub(1),
                _ => operators += usize::from(is_operator(token)),
            },
        }
        if matches!(found.token, Token::LBracket) {
            operators += 1;
        }
        let Some(what) = excess(operators, depth + prefixes, calls.steps) else {
            continue;
        };
        let place = place(sql, found.span.start, &found.token);
        return Err(Measured::Excess(
            place
                .error(what)
                .with_hint("simplify it; a long list of values can be `in (…)`"),
        ));
    }
    Ok(())
}

/// What reading a text costs where calls of functions stand inside each other.
#[derive(Default)]
struct Calls {
    /// For each open parenthesis, whether it holds the arguments of a call.
    open: Vec<bool>,
    /// How many of them do.
    depth: u32,
    /// Whether a parenthesis would begin a call.
    named: bool,
    steps: u64,
}

impl Calls {
    fn take(&mut self, token: &Token) {
        match token {
            Token::Whitespace(_) => return,
            Token::LParen => {
                self.open.push(self.named);
                self.depth += u32::from(self.named);
            }
            Token::RParen => {
                let ended = self.open.pop().unwrap_or(false);
                self.depth -= u32::from(ended);
            }
            _ => {}
        }
        self.named = match token {
            Token::Word(word) => !NO_FUNCTIONS.contains(&word.keyword),
            _ => false,
        };
        let steps = 1u64.checked_shl(self.depth).unwrap_or(u64::MAX);
        self.steps = self.steps.saturating_add(steps);
    }
}

/// Words before a parenthesis that begin no call.
const NO_FUNCTIONS: [Keyword; 24] = [
    Keyword::IN,
    Keyword::AND,
    Keyword::OR,
    Keyword::NOT,
    Keyword::EXISTS,
    Keyword::ON,
    Keyword::USING,
    Keyword::AS,
    Keyword::FROM,
    Keyword::JOIN,
    Keyword::LATERAL,
    Keyword::WHERE,
    Keyword::SELECT,
    Keyword::DISTINCT,
    Keyword::BY,
    Keyword::HAVING,
    Keyword::OVER,
    Keyword::CASE,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::UNION,
    Keyword::VALUES,
    Keyword::CAST,
];

fn excess(operators: usize, depth: usize, steps: u64) -> Option<String> {
    if steps > SQL_STEPS_MAX {
        Some("this SQL has too many function calls inside each other".to_owned())
    } else if depth > SQL_DEPTH_MAX {
        Some(format!(
            "this SQL is nested more than {SQL_DEPTH_MAX} levels deep"
        ))
    } else if operators > SQL_OPERATORS_MAX {
        Some(format!(
            "this SQL has more than {SQL_OPERATORS_MAX} operators"
        ))
    } else {
        None
    }
}

/// Which limit a text exceeds, if any: a rule with such a text cannot be judged, but is no mistake that stops the others.
pub fn over_limit(sql: &Sql) -> Option<String> {
    if sql.value.len() > SQL_BYTES_MAX {
        return Some(format!(
            "this SQL has {} bytes; the limit is {SQL_BYTES_MAX}",
            sql.value.len()
        ));
    }
    let tokens = Tokenizer::new(&DIALECT, &sql.value)
        .tokenize_with_location()
        .ok()?;
    if let Err(measured) = measure(sql, &tokens) {
        return match measured {
            Measured::Excess(diagnostic) => Some(diagnostic.message),
            Measured::Mistake(_) => None,
        };
    }
    let begins_query = tokens
        .iter()
        .find_map(|token| word(&token.token))
        .is_some_and(begins_query);
    let mut parser = Parser::new(&DIALECT)
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    let parsed = if begins_query {
        parser.parse_query().map(drop)
    } else {
        parser.parse_expr().map(drop)
    };
    matches!(parsed, Err(ParserError::RecursionLimitExceeded))
        .then(|| format!("this SQL is nested more than {SQL_DEPTH_MAX} levels deep"))
}

fn begins_query(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::TABLE
    )
}

/// Parses SQL that firstbad wrote around a rule's own, which has been measured already.
///
/// # Errors
/// The parser's error; it means that the rule's own text was not what it seemed.
pub fn parse_generated(sql: &str) -> Result<Box<Query>, ParserError> {
    Parser::new(&DIALECT)
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .try_with_sql(sql)?
        .parse_query()
}

/// The parser's own limit: several of its levels make one of ours.
pub const PARSER_DEPTH_MAX: usize = 8 * SQL_DEPTH_MAX;

/// Why a text was not measured to its end.
enum Measured {
    /// It exceeds a limit.
    Excess(Diagnostic),
    /// It holds what no rule may hold.
    Mistake(Diagnostic),
}

impl From<Measured> for Diagnostic {
    fn from(measured: Measured) -> Self {
        match measured {
            Measured::Excess(diagnostic) | Measured::Mistake(diagnostic) => diagnostic,
        }
    }
}

fn word(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// True for everything but names, literals, white space and the punctuation of lists.
fn is_operator(token: &Token) -> bool {
    use Keyword as K;
    match token {
        Token::Word(_) => word(token).is_some_and(|keyword| {
            matches!(
                keyword,
                K::AND
                    | K::OR
                    | K::NOT
                    | K::IN
                    | K::LIKE
                    | K::ILIKE
                    | K::SIMILAR
                    | K::BETWEEN
                    | K::IS
                    | K::WHEN
                    | K::EXISTS
                    | K::SELECT
                    | K::JOIN
                    | K::UNION
                    | K::EXCEPT
                    | K::INTERSECT
                    | K::COLLATE
                    | K::AT
                    | K::INTERVAL
                    | K::ESCAPE
            )
        }),
        Token::Number(..)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::EOF => false,
        Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::DollarQuotedString(_) => false,
        _ => true,
    }
}

/// Refuses what sqlparser takes for a query though it writes: `insert`, `update`, `delete` and `merge` as bodies, `select … into`, locks.
fn only_reads(sql: &Sql, parsed: &impl Visit) -> Result<(), Diagnostic> {
    struct Reads;
    impl Visitor for Reads {
        type Break = &'static str;
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
            if !query.locks.is_empty() {
                return ControlFlow::Break("for update");
            }
            body_reads(&query.body)
        }
    }
    let ControlFlow::Break(what) = parsed.visit(&mut Reads) else {
        return Ok(());
    };
    let first = what.split(' ').next().unwrap_or(what);
    let offset = sql.value.to_ascii_lowercase().find(first).unwrap_or(0);
    let offset = sql
        .value
        .get(..offset)
        .map_or(0, |before| before.chars().count());
    let message = format!("rule SQL may only read: `{what}` is not allowed");
    Err(sql
        .span
        .within(offset, first.len())
        .error(message)
        .with_hint("write a query that returns the violating rows"))
}

fn body_reads(body: &SetExpr) -> ControlFlow<&'static str> {
    match body {
        SetExpr::Insert(_) => ControlFlow::Break("insert"),
        SetExpr::Update(_) => ControlFlow::Break("update"),
        SetExpr::Delete(_) => ControlFlow::Break("delete"),
        SetExpr::Merge(_) => ControlFlow::Break("merge"),
        SetExpr::Select(select) if select.into.is_some() => ControlFlow::Break("into"),
        SetExpr::SetOperation { left, right, .. } => {
            body_reads(left)?;
            body_reads(right)
        }
        _ => ControlFlow::Continue(()),
    }
}

/// The parser's words, without its own positions, at the place in the rule file.
fn syntax_error(sql: &Sql, error: &ParserError) -> Diagnostic {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            let message = format!("this SQL is nested more than {SQL_DEPTH_MAX} levels deep");
            return sql.span.error(message).with_hint("simplify it");
        }
    };
    let (words, location) = split_location(text);
    let (message, found) = match words
        .strip_prefix("Expected: ")
        .and_then(|rest| rest.rsplit_once(", found: "))
    {
        Some((expected, "EOF")) => (
            format!("the SQL ends too early: expected {}", clear(expected)),
            1,
        ),
        Some((expected, found)) => (
            format!(
                "expected {}, found `{}`",
                clear(expected),
                super::yaml::shortened(found)
            ),
            found.chars().count(),
        ),
        None => (
            format!("not SQL: {}", super::yaml::shortened(&lower_first(words))),
            1,
        ),
    };
    match location {
        Some(location) => place_at(sql, location, found).error(message),
        None => sql
            .span
            .within(sql.value.trim_end().chars().count().saturating_sub(1), 1)
            .error(message),
    }
}

/// The parser's names of things in plain words.
fn clear(expected: &str) -> String {
    match expected {
        "an expression" => "an expression".to_owned(),
        "(" | ")" | "," | "]" | "=" | ";" => format!("`{expected}`"),
        "end of statement" => "the end".to_owned(),
        other if other.starts_with("[NOT] NULL") => {
            "`null`, `not null`, `true`, `false` or `distinct from` after `is`".to_owned()
        }
        other => super::yaml::shortened(other),
    }
}

/// `message at Line: 1, Column: 5` taken apart.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let found = text.rsplit_once(" at Line: ").and_then(|(words, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((
            words,
            Location::new(line.parse().ok()?, column.parse().ok()?),
        ))
    });
    found.map_or((text, None), |(words, location)| (words, Some(location)))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

fn shown(token: &Token) -> String {
    format!("`{}`", super::yaml::shortened(&token.to_string()))
}

fn place(sql: &Sql, location: Location, token: &Token) -> Span {
    place_at(sql, location, token.to_string().chars().count())
}

/// The place in the rule file of a line and column of the SQL text; the whole text where the location is unknown.
pub fn place_at(sql: &Sql, location: Location, length: usize) -> Span {
    let (Ok(line), Ok(column)) = (
        usize::try_from(location.line),
        usize::try_from(location.column),
    ) else {
        return sql.span.clone();
    };
    if line == 0 {
        return sql.span.clone();
    }
    let before: usize = sql
        .value
        .split('\n')
        .take(line - 1)
        .map(|text| text.chars().count() + 1)
        .sum();
    let last = sql.value.trim_end().chars().count().saturating_sub(1);
    sql.span
        .within((before + column.saturating_sub(1)).min(last), length)
}
