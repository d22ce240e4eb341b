//! What the reports for people share: ink, lines, prose, small tables, and the commands to run next.

use super::table::{self, Column};
use super::{Options, guard_commands, paint, shown_cut};

/// The narrowest terminal that is honoured.
const WIDTH_MIN: usize = 40;
/// Text of a rule file (descriptions, reasons) is cut after so many columns.
const PROSE_WIDTH_MAX: usize = 600;
/// Blanks before the lines of a table.
pub(super) const TABLE_INDENT: usize = 4;

/// How something is coloured, where it is.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Red,
    Yellow,
    Green,
    Faint,
    Bold,
}

/// The page being written.
pub(super) struct Page {
    color: bool,
    /// Columns of the terminal.
    pub(super) width: usize,
    out: String,
}

impl Page {
    /// An empty page.
    pub(super) fn new(options: &Options) -> Self {
        Page {
            color: options.color,
            width: options.width.max(WIDTH_MIN),
            out: String::new(),
        }
    }

    /// How much is written so far, to see whether more was.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Text in a colour, where there are colours.
    pub(super) fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Red => "31",
            Ink::Yellow => "33",
            Ink::Green => "32",
            Ink::Faint => "2",
            Ink::Bold => "1",
        };
        paint(self.color, code, text)
    }

    /// A line as it is.
    pub(super) fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// An empty line.
    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// Foreign text broken at blanks, every line indented.
    pub(super) fn prose(&mut self, text: &str, indent: usize) {
        let text = shown_cut(text, PROSE_WIDTH_MAX);
        let width = self.width.saturating_sub(indent);
        for line in table::wrap(&text, width) {
            let line = table::cut(&line, width);
            self.line(&format!("{:indent$}{line}", ""));
        }
    }

    /// A small table, indented, its headings faint.
    pub(super) fn table(&mut self, columns: &[Column]) {
        for (at, line) in table::lines(columns).into_iter().enumerate() {
            let line = match at {
                0 => self.paint(Ink::Faint, &line),
                _ => line,
            };
            self.line(&format!("{:TABLE_INDENT$}{line}", ""));
        }
    }

    /// Commands to run next. They are never cut: a command that is cut is another one.
    pub(super) fn commands(&mut self, commands: &[String]) {
        self.blank();
        for command in commands {
            let arrow = self.paint(Ink::Faint, "→");
            self.line(&format!("  {arrow} {command}"));
        }
    }

    /// The whole page, harmless for the log of a build server.
    pub(super) fn finish(self) -> String {
        guard_commands(self.out)
    }
}
