//! Rule files: finding, reading and judging their form.
//!
//! [`load`] never stops at the first mistake: every mistake of every file is one [`Diagnostic`] with its place and what to write
//! instead. A rule with a mistake is left out; the others are returned, so that `rules lint` can go on with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::entry::{Defaults, Draft, HEADER, entry, severity, tags};
use super::read::{Reader, near};
use super::yaml::{self, FILE_BYTES_MAX, Kind, Node, Source, shortened};
use super::{Rule, Span, alias, id, kinds};
use crate::diagnostic::{Diagnostic, Level, tidy};

/// The deepest nesting of directories that is searched.
const DIRECTORY_DEPTH_MAX: usize = 32;
/// The most entries of `rules` in one file.
const RULES_MAX: usize = 5_000;
/// The most rule files of one run.
const FILES_MAX: usize = 10_000;

const TOP: [&str; 5] = ["table", "rules", "owner", "severity", "tags"];
/// Reads rule files: each path is a file, or a directory that is searched for `*.yaml` and `*.yml` (hidden ones passed over).
///
/// Returns the rules without mistakes in the order of files and entries, and every message, [`Level::Note`]s
/// for foreign names among them. Ids are unique; those left out are derived.
pub fn load(paths: &[PathBuf]) -> (Vec<Rule>, Vec<Diagnostic>) {
    let (mut files, mut diagnostics, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for path in paths {
        let found = match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let before = files.len();
                let mut visited = HashSet::new();
                search(path, 0, &mut visited, &mut files, &mut diagnostics);
                (files.len() == before).then(|| {
                    let message = format!("no rule files in the directory `{}`", path.display());
                    Diagnostic::file(path, message).with_hint("rule files end in `.yaml` or `.yml`")
                })
            }
            Ok(_) => {
                files.push(path.clone());
                None
            }
            Err(error) => Some(unreadable(path, &error)),
        };
        diagnostics.extend(found);
    }
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    if files.len() > FILES_MAX {
        let message = format!("{} rule files; the limit is {FILES_MAX}", files.len());
        diagnostics.push(Diagnostic::file(
            paths.first().cloned().unwrap_or_default(),
            message,
        ));
        files.truncate(FILES_MAX);
    }
    let mut drafts = Vec::new();
    for file in &files {
        match read(file) {
            Ok(text) => drafts.extend(parse_drafts(&text, file, &mut diagnostics)),
            Err(problem) => diagnostics.push(problem),
        }
    }
    let rules = settle(drafts, &mut diagnostics);
    tidy(&mut diagnostics);
    (rules, diagnostics)
}

/// Reads one rule file from its text; `file` is its name in messages.
pub fn parse(text: &str, file: &Path) -> (Vec<Rule>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let drafts = parse_drafts(text, file, &mut diagnostics);
    let rules = settle(drafts, &mut diagnostics);
    tidy(&mut diagnostics);
    (rules, diagnostics)
}

/// Adds the rule files below a directory in name order.
fn search(
    directory: &Path,
    depth: usize,
    visited: &mut HashSet<PathBuf>,
    files: &mut Vec<PathBuf>,
    out: &mut Vec<Diagnostic>,
) {
    if depth > DIRECTORY_DEPTH_MAX
        || !visited.insert(
            directory
                .canonicalize()
                .unwrap_or_else(|_| directory.to_path_buf()),
        )
    {
        return;
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            out.push(unreadable(directory, &error));
            return;
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let is_rule_file = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if hidden {
            continue;
        }
        if path.is_dir() {
            search(&path, depth + 1, visited, files, out);
        } else if is_rule_file && path.exists() && !path.is_file() {
            // Opened, a pipe would never end.
            out.push(Diagnostic::file(
                &path,
                "this is no regular file (a pipe, a device or a socket)",
            ));
        } else if is_rule_file {
            files.push(path);
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    let problem = Diagnostic::file(
        path,
        format!("cannot read `{}`: {}", path.display(), reason(error)),
    );
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            problem.with_hint("name a rule file, or a directory that holds some")
        }
        _ => problem,
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

/// The text of a file within the size limit.
fn read(file: &Path) -> Result<String, Diagnostic> {
    let open = std::fs::File::open(file).map_err(|error| unreadable(file, &error))?;
    let mut bytes = Vec::new();
    open.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(file, &error))?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!(
            "a rule file has at most {} MiB, this one has more",
            FILE_BYTES_MAX >> 20
        );
        return Err(Diagnostic::file(file, message)
            .with_hint("split it; data does not belong in rule files"));
    }
    String::from_utf8(bytes)
        .map_err(|error| not_utf8(file, error.as_bytes(), error.utf8_error().valid_up_to()))
}

fn not_utf8(file: &Path, bytes: &[u8], at: usize) -> Diagnostic {
    let (before, byte) = (
        bytes.get(..at).unwrap_or_default(),
        bytes.get(at).copied().unwrap_or_default(),
    );
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(bytes.get(start..at).unwrap_or_default())
        .chars()
        .count()
        + 1;
    let hint = if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        "it is UTF-16; save it as UTF-8"
    } else {
        "save it as UTF-8"
    };
    Diagnostic::at(
        file,
        line,
        column,
        format!("the file is not UTF-8: byte 0x{byte:02x}"),
    )
    .with_hint(hint)
}

fn parse_drafts(text: &str, file: &Path, diagnostics: &mut Vec<Diagnostic>) -> Vec<Draft> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "a rule file has at most {} MiB, this one has more",
            FILE_BYTES_MAX >> 20
        );
        diagnostics.push(
            Diagnostic::file(file, message)
                .with_hint("split it; data does not belong in rule files"),
        );
        return Vec::new();
    }
    let source = Source::new(text, file);
    let mut reader = Reader::new(&source);
    let mut yaml_problems = Vec::new();
    let root = yaml::parse(&source, &mut yaml_problems);
    let is_yaml = root.is_some() || yaml_problems.is_empty();
    for problem in yaml_problems {
        reader.push(problem);
    }
    let drafts = if is_yaml {
        top(&mut reader, root.as_ref())
    } else {
        Vec::new()
    };
    diagnostics.append(&mut reader.out);
    drafts
}

/// The mapping of the whole file.
fn top(r: &mut Reader<'_>, root: Option<&Node>) -> Vec<Draft> {
    let Some(root) = root.filter(|root| !root.is_null()) else {
        no_rules(r, None);
        return Vec::new();
    };
    let Kind::Mapping(entries) = &root.kind else {
        let hint = match root.kind {
            Kind::Sequence(_) => "put the list below `rules:`",
            _ => "write `table: orders`, and below it `rules:` with a list",
        };
        r.wrong::<()>(
            root,
            format!(
                "a rule file is a mapping with `rules`, found {}",
                root.describe()
            ),
            hint,
        );
        return Vec::new();
    };
    let (mut defaults, mut rules, mut broken) = (Defaults::default(), None, root.broken);
    for (key, value) in entries {
        match key.text().unwrap_or("") {
            "rules" => rules = Some((key, value)),
            name if TOP.contains(&name) => default_field(r, name, value, &mut defaults),
            name => {
                broken = true;
                defaults.table_broken |= near(name, TOP) == Some("table");
                unknown_at_top(r, key, name);
            }
        }
    }
    match rules {
        Some((
            _,
            Node {
                kind: Kind::Sequence(items),
                ..
            },
        )) if !items.is_empty() => {
            if let Some(first_beyond) = items.get(RULES_MAX) {
                let message = format!("more than {RULES_MAX} rules in one file");
                r.wrong::<()>(first_beyond, message, "split the file");
            }
            let items = items.iter().take(RULES_MAX);
            items.flat_map(|item| entry(r, item, &defaults)).collect()
        }
        Some((_, rules)) if !rules.is_null() && !matches!(rules.kind, Kind::Sequence(_)) => {
            r.wrong::<()>(
                rules,
                format!("`rules` needs a list, found {}", rules.describe()),
                "begin every rule with `- `",
            );
            Vec::new()
        }
        None if broken => Vec::new(),
        found => {
            no_rules(r, found.map(|(key, _)| key));
            Vec::new()
        }
    }
}

fn no_rules(r: &mut Reader<'_>, key: Option<&Node>) {
    let place = match key {
        Some(key) => r.source.span(key).error("this file has no rules"),
        None => Diagnostic::file(r.source.file(), "this file has no rules"),
    };
    r.push(
        place
            .with_hint("write `rules:` and a list of rules below it")
            .with_level(Level::Warning),
    );
}

fn default_field(r: &mut Reader<'_>, name: &str, value: &Node, defaults: &mut Defaults) {
    match name {
        "table" => {
            defaults.table = r.table(value);
            defaults.table_broken |= defaults.table.is_none();
        }
        "owner" => defaults.owner = r.text(value).map(|owner| owner.value),
        "severity" => defaults.severity = severity(r, value),
        _ => defaults.tags = tags(r, value).unwrap_or_default(),
    }
}

fn unknown_at_top(r: &mut Reader<'_>, key: &Node, name: &str) {
    let is_rule_key =
        HEADER.contains(&name) || kinds::NAMES.contains(&name) || alias::check(name).is_some();
    let hint = match near(name, TOP) {
        _ if is_rule_key => "it belongs in a rule: write `rules:` and below it a list, each rule beginning with `- `".to_owned(),
        Some(near) => format!("did you mean `{near}`?"),
        None => match alias::advice(name) {
            Some(advice) => advice.to_owned(),
            None => "a file has `table`, `owner`, `severity`, `tags` and `rules`".to_owned(),
        },
    };
    r.wrong::<()>(
        key,
        format!(
            "unknown key `{}` at the top of a rule file",
            shortened(name)
        ),
        hint,
    );
}

/// Gives every rule its id: written ones must be unique, derived ones are made so.
fn settle(drafts: Vec<Draft>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Rule> {
    let mut written: BTreeMap<String, Span> = BTreeMap::new();
    let mut rules = Vec::new();
    for draft in drafts {
        let Some(id) = draft.written_id else {
            rules.extend(draft.rule);
            continue;
        };
        if let Some(first) = written.get(&id.value) {
            let place = if first.file == id.span.file {
                format!("line {}", first.line)
            } else {
                format!("{}:{}", first.file.display(), first.line)
            };
            let problem = id.span.error(format!("the id `{}` is taken", id.value));
            diagnostics.push(
                problem.with_hint(format!("it is first used at {place}; an id names one rule")),
            );
            continue;
        }
        written.insert(id.value.clone(), id.span);
        rules.extend(draft.rule.map(|rule| Rule {
            id: id.value,
            id_derived: false,
            ..rule
        }));
    }
    derive_ids(&mut rules, written.into_keys().collect());
    rules
}

/// Ids for the rules that have none; those that would be alike are numbered from 2 in the order of the rules.
fn derive_ids(rules: &mut [Rule], mut used: HashSet<String>) {
    let mut numbers: HashMap<String, u64> = HashMap::new();
    for rule in rules.iter_mut().filter(|rule| rule.id_derived) {
        let base = id::derive(rule.table.as_ref().map(|table| &table.value), &rule.check);
        let number = numbers.entry(base.clone()).or_insert(0);
        loop {
            *number += 1;
            rule.id = if *number == 1 {
                base.clone()
            } else {
                format!("{base}-{number}")
            };
            if used.insert(rule.id.clone()) {
                break;
            }
        }
    }
}
