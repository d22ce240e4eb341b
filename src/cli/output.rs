//! Writing to the terminal: results to stdout, everything else to stderr.

use std::io::{IsTerminal, Write};
use std::sync::{LazyLock, OnceLock};

use super::{Stop, exit};
use crate::config::Mask;
use crate::diagnostic::{self, Diagnostic, Level};

/// Prints to stdout. A reader that went away (`| head`) is no error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints to stdout; whether somebody got it.
pub(super) fn try_print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// Prints to stderr, without the values of variables of `firstbad.yaml`.
pub(super) fn note(text: &str) {
    let text = mask().text(text);
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// What is hidden in messages.
static MASK: OnceLock<Mask> = OnceLock::new();

/// Hides the values of variables in all messages from here on.
pub(super) fn hide(mask: Mask) {
    let _ = MASK.set(mask);
}

/// What is hidden in messages: nothing before [`hide`].
pub(super) fn mask() -> &'static Mask {
    static NOTHING: LazyLock<Mask> = LazyLock::new(Mask::default);
    MASK.get().unwrap_or(&NOTHING)
}

/// Whether text to stdout may have colour: only on a terminal, and never with `NO_COLOR`.
pub(super) fn stdout_color() -> bool {
    std::io::stdout().is_terminal() && no_color_unset()
}

fn stderr_color() -> bool {
    std::io::stderr().is_terminal() && no_color_unset()
}

fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal; 100 where there is none.
pub(super) fn width() -> usize {
    let from_variable = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let from_terminal = || {
        console::Term::stdout()
            .size_checked()
            .map(|(_, columns)| usize::from(columns))
    };
    from_variable
        .or_else(from_terminal)
        .unwrap_or(100)
        .clamp(40, 200)
}

/// Shows diagnostics; notes only when asked for.
pub(super) fn diagnostics(found: &[Diagnostic], verbose: u8) {
    let mut shown: Vec<Diagnostic> = found
        .iter()
        .filter(|d| d.level != Level::Note || verbose > 0)
        .cloned()
        .collect();
    for one in &mut shown {
        one.file = mask().path(&one.file);
    }
    diagnostic::tidy(&mut shown);
    note(&diagnostic::render(&shown, stderr_color()));
}

/// Shows everything that is wrong with the user's files, and how much it is.
pub(super) fn wrong_input(found: &[Diagnostic], verbose: u8) -> Stop {
    diagnostics(found, verbose);
    let mut errors: Vec<&Diagnostic> = found.iter().filter(|d| d.level == Level::Error).collect();
    errors.dedup();
    let count = diagnostic::counted(errors.len() as u64, "error");
    note(&format!("{count}; nothing was judged\n"));
    Stop { code: exit::INPUT }
}

/// One message about wrong arguments.
pub(super) fn wrong_argument(message: &str, hint: Option<&str>) -> Stop {
    note(&format!("error: {}\n", crate::escape::terminal(message)));
    if let Some(hint) = hint {
        note(&format!("  help: {}\n", crate::escape::terminal(hint)));
    }
    Stop { code: exit::INPUT }
}

/// One message about a failure of the world, with its causes.
pub(super) fn world(message: &str, error: &dyn std::error::Error) -> Stop {
    note(&format!(
        "error: {}: {}\n",
        crate::escape::terminal(message),
        crate::escape::terminal(&error.to_string())
    ));
    let mut cause = error.source();
    while let Some(error) = cause {
        note(&format!(
            "  caused by: {}\n",
            crate::escape::terminal(&error.to_string())
        ));
        cause = error.source();
    }
    Stop { code: exit::WORLD }
}

/// One message about a program that is not installed.
pub(super) fn missing_tool(message: &str, hint: &str) -> Stop {
    let _ = wrong_argument(message, Some(hint));
    Stop { code: exit::WORLD }
}

/// Writes the engine's log to stderr with `-vv`. It never holds row values: the engine logs plans, not data.
pub(super) fn start_log(verbose: u8) {
    if verbose >= 2 {
        let _ = tracing_subscriber::fmt()
            .with_writer(|| Masked)
            .with_max_level(tracing::Level::INFO)
            .try_init();
    }
}

/// Stderr of the log: an event is written at once.
struct Masked;

impl Write for Masked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        note(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Progress over a known number of steps, on a terminal only.
pub(super) fn progress(steps: usize) -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} rules  {msg}");
    let bar = indicatif::ProgressBar::new(steps as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Progress over steps of a kind, on a terminal only.
pub(super) fn steps(steps: u64, of: &'static str) -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(steps);
    let template = format!("{{bar:30}} {{human_pos}}/{{human_len}} {of} {{msg}}");
    match indicatif::ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// That something takes its time, on a terminal only.
pub(super) fn waiting(what: &'static str) -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}
