//! Commands that a report tells to run next: they repeat what the user gave, as words of a POSIX shell.

use std::fmt::Write as _;

use super::source_shown;
use crate::verdict::Given;

/// A command being written: `firstbad check shop --rules r.yaml …`.
pub(super) struct Command {
    text: String,
}

impl Command {
    /// `firstbad <name>` and the sources.
    pub(super) fn on(name: &str, given: &Given) -> Self {
        let mut command = Command {
            text: format!("firstbad {name}"),
        };
        for source in &given.source {
            let source = source_shown(source);
            // What begins with a hyphen would be read as a flag.
            let source = match source.starts_with('-') {
                true => format!("./{source}"),
                false => source,
            };
            let _ = write!(command.text, " {}", shell_word(&source));
        }
        command.given(given, &["--config"])
    }

    /// Another word.
    pub(super) fn word(mut self, word: &str) -> Self {
        let _ = write!(self.text, " {}", shell_word(word));
        self
    }

    /// A flag and its value.
    pub(super) fn flag(mut self, flag: &str, value: &str) -> Self {
        let between = if value.starts_with('-') { '=' } else { ' ' };
        let _ = write!(self.text, " {flag}{between}{}", shell_word(value));
        self
    }

    /// Those of the flags given that `wanted` names, in the order of the names.
    pub(super) fn given(mut self, given: &Given, wanted: &[&str]) -> Self {
        for name in wanted {
            let same = given.flags.iter().filter(|(flag, _)| flag == name);
            for (flag, value) in same {
                self = self.flag(flag, value);
            }
        }
        self
    }

    /// The command on one line.
    pub(super) fn text(self) -> String {
        self.text
    }
}

/// A word for a POSIX shell: as it is, in single quotes, or, where a terminal or the log of a build server would not show it
/// as it is, as `$'…'`, which stands for the same bytes.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c);
    // zsh replaces `=name` by the path of that program.
    if !text.is_empty() && !text.starts_with('=') && text.chars().all(plain) {
        return text.to_owned();
    }
    if super::shown(text) == text {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut out = String::from("$'");
    let mut previous = ' ';
    for c in text.chars() {
        let mut buffer = [0; 4];
        let one: &str = c.encode_utf8(&mut buffer);
        match c {
            '\'' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            _ if super::shown(one) != one || (c == '#' && previous == '#') => {
                for byte in one.bytes() {
                    let _ = write!(out, "\\{byte:03o}");
                }
            }
            _ => out.push(c),
        }
        previous = c;
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let words = [
            "",
            "orders",
            "=ls",
            "it's",
            "a b",
            "$HOME `id` \"x\" \\n!",
            "line\nbreak\ttab",
            "\u{1b}[2J\u{202e}",
            "##vso[task]",
            "größe 😀",
            "'; rm -rf / #",
            "*?[a]~{b,c}",
            "\\'\u{7}\\",
        ];
        for word in words {
            let shown = shell_word(word);
            assert!(!shown.contains(['\n', '\u{1b}', '\u{202e}']), "{shown:?}");
            assert!(!shown.contains("##"), "{shown:?}");
            let script = format!("printf %s {shown}");
            let out = std::process::Command::new("bash")
                .args(["-c", &script])
                .output()
                .expect("bash runs: install it");
            assert_eq!(String::from_utf8_lossy(&out.stdout), word, "{shown}");
        }
    }

    #[test]
    fn what_begins_with_a_hyphen_is_no_flag() {
        let given = Given {
            source: vec!["-x".into(), "b c".into()],
            flags: vec![("--at", "-10m".into()), ("--now", "2026-01-01".into())],
        };
        let command = Command::on("check", &given).given(&given, &["--now", "--rules", "--at"]);
        assert_eq!(
            command.text(),
            "firstbad check ./-x 'b c' --now 2026-01-01 --at=-10m"
        );
    }
}
