//! Cuts a plain dump into statements and rows of data while it streams by, as psql does: one statement or one row is in memory.

use std::io::BufRead;

/// The longest line or statement that is read.
const BYTES_MAX: usize = 256 << 20;

/// One thing that a dump says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement without its semicolon, and the line on which it begins.
    Statement { text: String, line: usize },
    /// A command to psql, such as `\connect shop`.
    Command { text: String, line: usize },
}

/// What is wrong, and on which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

impl Fault {
    pub(super) fn new(line: usize, message: impl Into<String>) -> Self {
        Fault {
            line,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// Where the reading stands within a statement.
enum Inside {
    Nothing,
    String { escapes: bool },
    Name,
    Dollar(Vec<u8>),
    Comment(usize),
}

/// Reads a dump piece by piece.
pub(super) struct Scanner<R> {
    input: R,
    line: Vec<u8>,
    /// Where the rest of the line begins.
    at: usize,
    number: usize,
    /// How many dumps begin, and how many are complete, by the comments that `pg_dump` writes.
    begun: usize,
    complete: usize,
}

/// A statement under construction.
struct Statement {
    text: Vec<u8>,
    line: usize,
    words: usize,
    is_create: bool,
    /// `CREATE RULE … DO (a; b)`
    is_rule: bool,
    parens: usize,
    /// `CREATE FUNCTION … BEGIN ATOMIC …; END`
    is_routine: bool,
    begins: usize,
}

impl Statement {
    fn new() -> Self {
        Statement {
            text: Vec::new(),
            line: 0,
            words: 0,
            is_create: false,
            is_rule: false,
            parens: 0,
            is_routine: false,
            begins: 0,
        }
    }

    fn word(&mut self, word: &[u8]) {
        let is = |text: &str| word.eq_ignore_ascii_case(text.as_bytes());
        self.words += 1;
        match self.words {
            1 => self.is_create = is("create"),
            2..=4 if self.is_create => {
                self.is_routine |= is("function") || is("procedure");
                self.is_rule |= is("rule");
            }
            _ => {}
        }
        if self.is_routine {
            if is("begin") || (is("case") && self.begins > 0) {
                self.begins += 1;
            } else if is("end") {
                self.begins = self.begins.saturating_sub(1);
            }
        }
    }

    fn symbol(&mut self, byte: u8) {
        match byte {
            b'(' => self.parens += 1,
            b')' => self.parens = self.parens.saturating_sub(1),
            _ => {}
        }
    }

    fn may_end(&self) -> bool {
        self.begins == 0 && !(self.is_rule && self.parens > 0)
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<R: BufRead> Scanner<R> {
    pub(super) fn new(input: R) -> Self {
        Scanner {
            input,
            line: Vec::new(),
            at: 0,
            number: 0,
            begun: 0,
            complete: 0,
        }
    }

    /// The line that is being read.
    pub(super) fn line_number(&self) -> usize {
        self.number
    }

    /// Reads the next line; false at the end of the dump.
    fn next_line(&mut self) -> Result<bool, Fault> {
        use std::io::Read;
        self.line.clear();
        self.at = 0;
        let limit = BYTES_MAX as u64 + 1;
        let read = self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Fault::new(self.number + 1, format!("cannot be read: {error}")))?;
        if read > BYTES_MAX {
            return Err(too_long(self.number + 1));
        }
        self.number += usize::from(read > 0);
        if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
            self.at = 3;
        }
        Ok(read > 0)
    }

    /// The next statement or command; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Fault> {
        let mut statement = Statement::new();
        let mut inside = Inside::Nothing;
        loop {
            if self.at >= self.line.len() && !self.next_line()? {
                return match inside {
                    Inside::Nothing | Inside::Comment(_) => self.end(statement),
                    _ => Err(
                        Fault::new(statement.line, "this statement never ends").with_hint(
                            "a string or a quoted name in it is not closed; is the dump whole?",
                        ),
                    ),
                };
            }
            if statement.text.len() > BYTES_MAX {
                return Err(too_long(statement.line));
            }
            if let Some(piece) = self.step(&mut statement, &mut inside)? {
                return Ok(Some(piece));
            }
        }
    }

    /// At the end of the dump: a statement without a semicolon is one all the same; a dump that was cut off is none.
    fn end(&self, statement: Statement) -> Result<Option<Piece>, Fault> {
        if self.complete < self.begun {
            return Err(
                Fault::new(self.number, "the dump ends before it is complete").with_hint(
                    "its last lines say `PostgreSQL database dump complete`; this file was cut off",
                ),
            );
        }
        if statement.text.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        finish(statement).map(Some)
    }

    /// Reads on, at most to the end of the line.
    fn step(
        &mut self,
        statement: &mut Statement,
        inside: &mut Inside,
    ) -> Result<Option<Piece>, Fault> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let taken = match inside {
            Inside::Nothing => return self.outside(statement, inside),
            Inside::String { escapes } => {
                let stop = |b: &u8| *b == b'\'' || (*escapes && *b == b'\\');
                match rest.iter().position(stop) {
                    Some(at) if rest[at] == b'\\' => (at + 2).min(rest.len()),
                    // A doubled quote begins the next string at once, which comes to the same.
                    Some(at) => {
                        let doubled = rest.get(at + 1) == Some(&b'\'');
                        if !doubled {
                            *inside = Inside::Nothing;
                        }
                        at + 1 + usize::from(doubled)
                    }
                    None => rest.len(),
                }
            }
            Inside::Name => match rest.iter().position(|b| *b == b'"') {
                Some(at) => {
                    *inside = Inside::Nothing;
                    at + 1
                }
                None => rest.len(),
            },
            Inside::Dollar(tag) => match find(rest, tag) {
                Some(at) => {
                    let end = at + tag.len();
                    *inside = Inside::Nothing;
                    end
                }
                None => rest.len(),
            },
            Inside::Comment(depth) => {
                let (end, left) = comment(rest, *depth);
                *inside = match left {
                    0 => Inside::Nothing,
                    left => Inside::Comment(left),
                };
                // What a comment says is nothing to anybody, but lines are counted.
                if !statement.text.is_empty() && rest[..end].contains(&b'\n') {
                    statement.text.push(b'\n');
                }
                self.at += end;
                return Ok(None);
            }
        };
        statement.text.extend_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(None)
    }

    /// Reads on where no string or comment is open.
    fn outside(
        &mut self,
        statement: &mut Statement,
        inside: &mut Inside,
    ) -> Result<Option<Piece>, Fault> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let Some(&first) = rest.first() else {
            return Ok(None);
        };
        let is_empty = statement.text.is_empty();
        if is_empty && first.is_ascii_whitespace() {
            self.at += 1;
            return Ok(None);
        }
        if rest.starts_with(b"--") {
            self.note(is_empty);
            self.at = self.line.len();
            statement
                .text
                .extend(if is_empty { None } else { Some(b'\n') });
            return Ok(None);
        }
        if rest.starts_with(b"/*") {
            *inside = Inside::Comment(1);
            statement
                .text
                .extend(if is_empty { None } else { Some(b' ') });
            self.at += 2;
            return Ok(None);
        }
        if is_empty {
            statement.line = self.number;
            if first == b'\\' {
                let text = String::from_utf8_lossy(rest).trim().to_owned();
                self.at = self.line.len();
                return Ok(Some(Piece::Command {
                    text,
                    line: self.number,
                }));
            }
        }
        if first == b';' && statement.may_end() {
            self.at += 1;
            return match is_empty {
                true => Ok(None),
                false => finish(std::mem::replace(statement, Statement::new())).map(Some),
            };
        }
        let taken = token(rest, statement, inside);
        statement.text.extend_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(None)
    }

    /// Keeps count of the comments in which `pg_dump` says that a dump begins and that it is complete.
    fn note(&mut self, is_outside: bool) {
        let text = String::from_utf8_lossy(self.line.get(self.at..).unwrap_or_default());
        let said = text.trim_start_matches('-').trim();
        if is_outside && said.starts_with("PostgreSQL database ") {
            self.begun += usize::from(said.ends_with(" dump"));
            self.complete += usize::from(said.ends_with(" dump complete"));
        }
    }

    /// The next row of data behind `COPY … FROM stdin;`, without its line feed; false behind the last one.
    pub(super) fn copy_row(&mut self, row: &mut Vec<u8>) -> Result<bool, Fault> {
        // The rest of the statement's own line is no data.
        self.at = self.line.len();
        if !self.next_line()? {
            return Err(
                Fault::new(self.number, "COPY data ends without a line `\\.`")
                    .with_hint("this file was cut off"),
            );
        }
        self.at = self.line.len();
        row.clear();
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == b"\\." {
            return Ok(false);
        }
        row.extend_from_slice(line);
        Ok(true)
    }
}

fn too_long(line: usize) -> Fault {
    let message = format!("a line or statement longer than {} MiB", BYTES_MAX >> 20);
    Fault::new(line, message)
}

fn finish(statement: Statement) -> Result<Piece, Fault> {
    let line = statement.line;
    match String::from_utf8(statement.text) {
        Ok(text) => Ok(Piece::Statement { text, line }),
        Err(_) => Err(not_utf8(line)),
    }
}

/// A text that is not UTF-8.
pub(super) fn not_utf8(line: usize) -> Fault {
    Fault::new(line, "this is not valid UTF-8")
        .with_hint("write the dump with `pg_dump --encoding=UTF8`")
}

/// The length of the token that a text begins with; opens what it opens.
fn token(rest: &[u8], statement: &mut Statement, inside: &mut Inside) -> usize {
    let first = rest[0];
    if begins_word(first) {
        let end = rest
            .iter()
            .position(|b| !continues_word(*b))
            .unwrap_or(rest.len());
        statement.word(&rest[..end]);
        if rest[..end].eq_ignore_ascii_case(b"e") && rest.get(end) == Some(&b'\'') {
            *inside = Inside::String { escapes: true };
            return end + 1;
        }
        return end;
    }
    match first {
        b'\'' => *inside = Inside::String { escapes: false },
        b'"' => *inside = Inside::Name,
        b'$' => {
            let tag = rest
                .iter()
                .skip(1)
                .position(|b| !continues_word(*b) || *b == b'$')
                .map(|at| at + 1)
                .filter(|&at| rest[at] == b'$' && !rest[1].is_ascii_digit());
            if let Some(at) = tag {
                *inside = Inside::Dollar(rest[..=at].to_vec());
                return at + 1;
            }
        }
        b'0'..=b'9' => {
            return rest
                .iter()
                .position(|b| !continues_word(*b) && *b != b'.')
                .unwrap_or(rest.len());
        }
        other => statement.symbol(other),
    }
    1
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// Passes over a comment: how far, and how many are still open then.
fn comment(text: &[u8], mut depth: usize) -> (usize, usize) {
    let mut at = 0;
    while at < text.len() && depth > 0 {
        let pair = text.get(at..at + 2).unwrap_or_default();
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    (at, depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a text, and what ends the reading.
    fn pieces(text: &str) -> (Vec<String>, Option<Fault>) {
        let mut scanner = Scanner::new(text.as_bytes());
        let mut out = Vec::new();
        loop {
            match scanner.next() {
                Ok(Some(Piece::Statement { text, line })) => out.push(format!("{line}: {text}")),
                Ok(Some(Piece::Command { text, line })) => out.push(format!("{line}> {text}")),
                Ok(None) => return (out, None),
                Err(fault) => return (out, Some(fault)),
            }
        }
    }

    #[test]
    fn statements_end_at_semicolons_that_end_them() {
        let text = "\u{feff}-- a comment; no statement\nSET a = 'x;\n--y';  /* ; /* ; */ ; */ SELECT \"a;\"\"b\";\n\
                    select E'\\';', 'it''s;', $$;$$, $f$;$$;$f$, $1, 1.5;\n\\connect shop\n;;\n\
                    CREATE FUNCTION f() BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT CASE WHEN a THEN 1 END; END;\n\
                    CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\nend";
        assert_eq!(
            pieces(text),
            (
                vec![
                    "2: SET a = 'x;\n--y'".to_owned(),
                    "3: SELECT \"a;\"\"b\"".to_owned(),
                    "4: select E'\\';', 'it''s;', $$;$$, $f$;$$;$f$, $1, 1.5".to_owned(),
                    "5> \\connect shop".to_owned(),
                    "7: CREATE FUNCTION f() BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT CASE WHEN a THEN 1 END; END"
                        .to_owned(),
                    "8: CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)".to_owned(),
                    "9: end".to_owned(),
                ],
                None
            )
        );
    }

    #[test]
    fn what_was_cut_off_is_said() {
        let begun = "--\n-- PostgreSQL database dump\n--\nSET a = 1;\n";
        let fault = pieces(begun).1.expect("a fault");
        assert_eq!(fault.message, "the dump ends before it is complete");
        let whole = format!("{begun}--\n-- PostgreSQL database dump complete\n--\n");
        assert_eq!(pieces(&whole).1, None);
        let open = pieces("select 1;\nselect 'abc").1.expect("a fault");
        assert_eq!(
            (open.line, open.message.as_str()),
            (2, "this statement never ends")
        );
    }

    #[test]
    fn rows_of_data_are_lines() {
        let mut scanner =
            Scanner::new("COPY t (a) FROM stdin;\n1;\n\\N\n\\.\nSET a = 1;\n".as_bytes());
        assert!(matches!(scanner.next(), Ok(Some(Piece::Statement { .. }))));
        let mut rows = Vec::new();
        let mut row = Vec::new();
        while scanner.copy_row(&mut row).expect("rows") {
            rows.push(String::from_utf8(row.clone()).expect("text"));
        }
        assert_eq!(rows, ["1;", "\\N"]);
        assert!(matches!(
            scanner.next(),
            Ok(Some(Piece::Statement { line: 5, .. }))
        ));
        let mut cut = Scanner::new("COPY t (a) FROM stdin;\n1\n".as_bytes());
        cut.next().expect("a statement");
        assert_eq!(cut.copy_row(&mut row), Ok(true));
        assert!(cut.copy_row(&mut row).is_err());
    }
}
