//! The rules of the house: who may import whom, who may print, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest file, in lines: all of them, comments, tests and blank ones too.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn is_test(path: &Path) -> bool {
    let name = path
        .file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || name == "fixture"
}

/// The files that the rules are for.
fn code_files() -> impl Iterator<Item = PathBuf> {
    rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| !is_test(path))
}

/// The modules in the order in which lib.rs declares them.
fn declared() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs can be read");
    let name = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    text.lines().filter_map(name).collect()
}

/// The modules that a line of code names after `crate::`.
fn imports(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(list).split(',').collect(),
            None => vec![rest],
        };
        for item in list {
            let name: String = item
                .trim()
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            if !name.is_empty() {
                out.push(name);
            }
        }
    }
    out
}

/// Code lines of a file: comments and the tests at its foot are left out.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("the file can be read");
    text.lines()
        .take_while(|line| *line != "mod tests {")
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line.to_owned()))
        .collect()
}

fn module_of(path: &Path) -> String {
    let inside = path
        .strip_prefix(root().join("src"))
        .expect("the file is below src");
    let first = inside.iter().next().expect("the path has a name");
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn a_module_uses_only_modules_declared_above_it() {
    let order = declared();
    let rank = |name: &str| order.iter().position(|have| have == name);
    let mut wrong = Vec::new();
    for path in code_files() {
        let own = module_of(&path);
        let Some(own_rank) = rank(&own) else { continue };
        for (line, text) in code(&path) {
            for used in imports(&text) {
                if rank(&used).is_some_and(|used| used > own_rank) {
                    wrong.push(format!("{}:{line}: {own} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_order_test_sees_imports() {
    assert_eq!(imports("use crate::state::History;"), ["state"]);
    assert_eq!(
        imports("use crate::{judge::Judge, rule};"),
        ["judge", "rule"]
    );
    assert_eq!(
        imports("let x = crate::cli::run(crate::plan::y);"),
        ["cli", "plan"]
    );
    assert!(
        declared().len() > 10,
        "lib.rs declares its modules one a line"
    );
}

#[test]
fn only_the_command_line_prints() {
    let mut wrong = Vec::new();
    for path in code_files().filter(|path| module_of(path) != "cli") {
        for (line, text) in code(&path) {
            if ["println!", "print!(", "eprint", "dbg!"]
                .iter()
                .any(|word| text.contains(word))
            {
                wrong.push(format!("{}:{line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let files: Vec<PathBuf> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|part| rust_files(&root().join(part)))
        .collect();
    assert!(files.len() > 100, "the files are found");
    let lines = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("the file can be read");
        text.lines().count()
    };
    let long: Vec<String> = files
        .iter()
        .map(|path| (lines(path), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(
        long.is_empty(),
        "over {LINES_MAX} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn the_picture_of_the_flow_shows_every_module() {
    // What everything stands on, and what calls everything.
    const AROUND: [&str; 4] = ["escape", "diagnostic", "change", "cli"];
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs can be read");
    let picture = text.split("//! ```").nth(1).expect("lib.rs has a picture");
    let words: Vec<&str> = picture
        .split(|c: char| !c.is_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    let missing: Vec<String> = declared()
        .into_iter()
        .filter(|name| !AROUND.contains(&name.as_str()) && !words.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not in the picture: {missing:?}");
}
