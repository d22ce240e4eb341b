//! README.md and docs/*.md show what the program really prints: their `console` blocks are run and compared.
//!
//! A block that starts with `$ firstbad` is run line by line in a directory that holds `testdata` and `rules` of this repository;
//! what follows a command is its stdout, then its stderr. A line `…` alone stands for any number of lines, and wall times are not
//! compared, nor the heads of stores. `UPDATE_DOCS=1 cargo test --test docs` writes the real output into blocks that differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and docs/*.md, in name order.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .expect("docs/ can be read")
        .map(|entry| entry.expect("docs/ can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

/// A fenced block: its language, the number of its first line, and its lines.
struct Block<'a> {
    language: &'a str,
    first: usize,
    lines: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    language,
                    first: number + 2,
                    lines: Vec::new(),
                })
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block is not closed");
    blocks
}

/// A command of a block and the output that the page shows for it.
struct Step<'a> {
    command: &'a str,
    shown: Vec<&'a str>,
}

fn steps<'a>(block: &Block<'a>) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = Vec::new();
    for line in &block.lines {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command,
                shown: Vec::new(),
            }),
            (None, Some(step)) => step.shown.push(line),
            (None, None) => panic!("a console block begins with a command"),
        }
    }
    steps
}

/// The words of a command line; quotes are understood, and a comment ends it.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '|' | '>' | '<' | '&' | ';' | '$' | '\\') => {
                panic!("`{command}` needs a shell: use a `sh` block for what is not run")
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A directory in which commands may write without leaving anything in the repository: links, and a copy of the store, into which
/// `verify` writes.
fn workplace() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    let copied = ["testdata", "testdata/docs", STORE];
    link(Path::new("rules"), place.path());
    for directory in copied {
        fs::create_dir(place.path().join(directory)).expect("a directory can be made");
        for entry in fs::read_dir(root().join(directory)).expect("a directory") {
            let path = entry.expect("an entry").path();
            let path = path.strip_prefix(root()).expect("a path of the repository");
            if directory == STORE {
                copy(path, place.path());
            } else if !copied.iter().any(|copied| path == Path::new(copied)) {
                link(path, place.path());
            }
        }
    }
    place
}

/// The store that pages show.
const STORE: &str = "testdata/docs/damaged-store";

fn link(path: &Path, place: &Path) {
    std::os::unix::fs::symlink(root().join(path), place.join(path)).expect("a link can be made");
}

fn copy(path: &Path, place: &Path) {
    let from = root().join(path);
    if !from.is_dir() {
        fs::copy(from, place.join(path)).expect("a file can be copied");
        return;
    }
    fs::create_dir(place.join(path)).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("a directory") {
        copy(&path.join(entry.expect("an entry").file_name()), place);
    }
}

/// What a command prints: stdout, then stderr.
fn output(place: &Path, command: &str) -> Vec<String> {
    let words = words(command);
    assert_eq!(
        words[0], "firstbad",
        "`{command}`: only firstbad is run; use a `sh` block for what is not run"
    );
    let mut program = Command::new(env!("CARGO_BIN_EXE_firstbad"));
    program.current_dir(place).args(&words[1..]);
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR"] {
        program.env_remove(name);
    }
    let output = program.output().expect("the program can be started");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("output is UTF-8");
    let mut lines: Vec<String> = text.lines().map(|line| steady(line.trim_end())).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// A line without its wall time, and without what depends on the time of a seal.
fn steady(line: &str) -> String {
    let pattern = |text: &str| Regex::new(text).expect("a pattern");
    let line = pattern(r"in [0-9]+\.[0-9]+ s\b").replace(line, "in … s");
    let line = pattern(r"\b[0-9]+ seconds? ago\b").replace(&line, "just now");
    let line = pattern(r", since 20[-0-9]+ [:.0-9]+Z$").replace(&line, ", since …");
    // Who may read a directory that is made is a setting of the machine.
    let line = line.replace(
        "only its owner may read and write it",
        "others may read its directory",
    );
    let head = pattern(r"\bhead ([0-9a-f]{8})[0-9a-f]{56}( after [0-9]+ seals?)?$");
    match line.starts_with("  ") {
        true => head.replace(&line, "head …$2").into_owned(),
        false => line,
    }
}

/// Whether the shown lines are the real ones, a line `…` standing for any number of them.
fn matches(shown: &[String], real: &[String]) -> bool {
    match shown.split_first() {
        None => real.is_empty(),
        Some((line, rest)) if line == "…" => {
            (0..=real.len()).any(|skipped| matches(rest, &real[skipped..]))
        }
        Some((line, rest)) => real.first() == Some(line) && matches(rest, &real[1..]),
    }
}

/// The first line that is not as shown, for people.
fn difference(shown: &[String], real: &[String]) -> String {
    let at = shown
        .iter()
        .zip(real)
        .take_while(|(shown, real)| shown == real)
        .count();
    let line = |lines: &[String]| {
        lines
            .get(at)
            .cloned()
            .unwrap_or_else(|| "(nothing more)".into())
    };
    format!("  shown:  {}\n  really: {}", line(shown), line(real))
}

/// The page with real output in all blocks, and what differed.
fn checked(page: &Path, text: &str) -> (String, Vec<String>) {
    let place = workplace();
    let mut wrong = Vec::new();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut moved = 0isize;
    for block in blocks(text)
        .iter()
        .filter(|block| block.language == "console")
    {
        if !block
            .lines
            .first()
            .is_some_and(|line| line.starts_with("$ firstbad "))
        {
            continue;
        }
        let mut now: Vec<String> = Vec::new();
        for step in steps(block) {
            let real = output(place.path(), step.command);
            let mut shown: Vec<String> = step
                .shown
                .iter()
                .map(|line| steady(line.trim_end()))
                .collect();
            while shown.last().is_some_and(String::is_empty) {
                shown.pop();
            }
            now.push(format!("$ {}", step.command));
            if matches(&shown, &real) {
                now.extend(shown);
            } else {
                let page = page.strip_prefix(root()).unwrap_or(page).display();
                wrong.push(format!(
                    "{page}:{}: $ {}\n{}",
                    block.first,
                    step.command,
                    difference(&shown, &real)
                ));
                now.extend(real);
            }
        }
        let start = (block.first - 1)
            .checked_add_signed(moved)
            .expect("blocks are in order");
        moved += now.len() as isize - block.lines.len() as isize;
        lines.splice(start..start + block.lines.len(), now);
    }
    (lines.join("\n") + "\n", wrong)
}

#[test]
fn pages_show_what_the_program_prints() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page can be read");
        let (real, found) = checked(&page, &text);
        if update && !found.is_empty() {
            fs::write(&page, real).expect("a page can be written");
        } else {
            wrong.extend(found);
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_DOCS=1 cargo test --test docs writes the real output:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn pages_name_only_commands_that_exist() {
    let command = Regex::new(r"(?:^|[$\s;|(])firstbad ([a-z]+)(?: ([a-z]+))?").expect("a pattern");
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page can be read");
        for block in blocks(&text)
            .iter()
            .filter(|block| ["console", "sh", "yaml", "bash"].contains(&block.language))
        {
            for line in block.lines.iter().filter(|line| !line.contains("name:")) {
                for found in command.captures_iter(line) {
                    let verb = found.get(2).map_or("", |verb| verb.as_str());
                    let known = match &found[1] {
                        "check" | "bisect" | "sql" | "diff" => true,
                        "record" | "snapshot" | "verify" | "status" => true,
                        "watch" | "doctor" | "audit" | "gate" | "repair" => true,
                        "incident" => ["list", "show", "spread", "export", "ack", "mute", "close"]
                            .contains(&verb),
                        "quarantine" => ["plan", "apply", "release"].contains(&verb),
                        "alert" => ["list", "test", "send"].contains(&verb),
                        "rules" => ["lint", "test", "explain", "list"].contains(&verb),
                        _ => false,
                    };
                    assert!(
                        known,
                        "{}:{}: there is no such command: {line}",
                        page.display(),
                        block.first
                    );
                }
            }
        }
        assert!(
            !text.contains("<!-- output -->"),
            "{}: an output is not filled in",
            page.display()
        );
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page can be read");
        for found in link.captures_iter(&text) {
            let (file, anchor) = found[1].split_once('#').unwrap_or((&found[1], ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a directory").join(file)
            };
            assert!(
                target.exists(),
                "{}: {} leads nowhere",
                page.display(),
                &found[1]
            );
            if !anchor.is_empty() {
                let there = fs::read_to_string(&target).expect("a page can be read");
                let anchors: Vec<String> = there
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(slug)
                    .collect();
                assert!(
                    anchors.iter().any(|have| have == anchor),
                    "{}: {} leads nowhere",
                    page.display(),
                    &found[1]
                );
            }
        }
    }
}

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
