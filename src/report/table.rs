//! Small aligned tables for terminals, and the width of text in them.

use comfy_table::{CellAlignment, Table, presets};

/// How many terminal columns a character takes: nearly what terminals do, enough for cutting.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x064b..=0x065f
        | 0x200b..=0x200d
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How many terminal columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The text cut to a number of terminal columns, ending with `…` where something was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used >= most {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// The text broken at blanks into lines of at most so many columns; longer words stay whole.
pub(crate) fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Items joined by commas behind a beginning, in lines of at most so many columns: a line breaks between items, and within one only
/// where it is longer than a line.
pub(crate) fn flow(begin: &str, items: &[String], most: usize) -> Vec<String> {
    let mut lines = vec![begin.to_owned()];
    for (at, item) in items.iter().enumerate() {
        let comma = if at + 1 < items.len() { "," } else { "" };
        let item = format!("{item}{comma}");
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = item,
            Some(line) if width(line) + 1 + width(&item) <= most => {
                line.push(' ');
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    let broken = |line: String| {
        if width(&line) <= most {
            vec![line]
        } else {
            wrap(&line, most)
        }
    };
    lines.into_iter().flat_map(broken).collect()
}

/// The same with no more items than fit so many columns in all, and the number of those that are left off.
pub(crate) fn bounded_flow(
    begin: &str,
    items: &[String],
    most: usize,
    in_all: usize,
) -> Vec<String> {
    let mut used = width(begin);
    let mut fits = |item: &&String| {
        used += width(item) + 2;
        used <= in_all
    };
    let shown = items.iter().take_while(|item| fits(item)).count().max(1);
    if shown >= items.len() {
        return flow(begin, items, most);
    }
    let mut some: Vec<String> = items.iter().take(shown).cloned().collect();
    some.push(format!("… and {} more", items.len() - shown));
    flow(begin, &some, most)
}

/// One column: its heading, its cells (one a row), and how it stands.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) heading: String,
    pub(crate) cells: Vec<String>,
    pub(crate) right: bool,
    /// The narrowest this column may be cut to.
    pub(crate) least: usize,
    /// Whether it is cut only when cutting the others is not enough.
    pub(crate) kept: bool,
}

impl Column {
    pub(crate) fn new(heading: impl Into<String>, cells: Vec<String>) -> Self {
        let heading = heading.into();
        Column {
            least: width(&heading).clamp(1, 12),
            heading,
            cells,
            right: false,
            kept: false,
        }
    }

    pub(crate) fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// Never cut narrower than so many columns.
    pub(crate) fn at_least(mut self, least: usize) -> Self {
        self.least = least;
        self
    }

    /// Cut only when cutting the others is not enough: a key that is cut names nothing.
    pub(crate) fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    /// The width of the widest cell or the heading.
    pub(crate) fn width(&self) -> usize {
        self.cells
            .iter()
            .map(|cell| width(cell))
            .chain([width(&self.heading)])
            .max()
            .unwrap_or(0)
    }

    fn cut_to(&mut self, most: usize) {
        self.heading = cut(&self.heading, most);
        for cell in &mut self.cells {
            *cell = cut(cell, most);
        }
    }
}

/// Blanks between two columns.
const GAP: usize = 2;

/// The width the columns take together.
pub(crate) fn total(columns: &[Column]) -> usize {
    columns.iter().map(Column::width).sum::<usize>() + GAP * columns.len().saturating_sub(1)
}

/// The width the columns take together where all but the kept ones are cut as far as they may be.
pub(crate) fn least_total(columns: &[Column]) -> usize {
    let width = |column: &Column| match column.kept {
        true => column.width(),
        false => column.width().min(column.least),
    };
    columns.iter().map(width).sum::<usize>() + GAP * columns.len().saturating_sub(1)
}

/// Cuts the widest columns until all fit into `most`, none below its least width; those that are kept come last.
pub(crate) fn shrink(columns: &mut [Column], most: usize) {
    for kept in [false, true] {
        shrink_those(columns, most, kept);
    }
}

fn shrink_those(columns: &mut [Column], most: usize, kept: bool) {
    let mut excess = total(columns).saturating_sub(most);
    while excess > 0 {
        let widest = columns
            .iter_mut()
            .filter(|column| column.kept == kept && column.width() > column.least)
            .max_by_key(|column| column.width());
        let Some(column) = widest else { return };
        let before = column.width();
        let step = excess.min((before - column.least).min(4)).max(1);
        column.cut_to(before - step);
        let saved = before - column.width();
        if saved == 0 {
            return;
        }
        excess = excess.saturating_sub(saved);
    }
}

/// The lines of the table: the headings, then one a row, without trailing blanks.
pub(crate) fn lines(columns: &[Column]) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).force_no_tty();
    table.set_header(columns.iter().map(|column| column.heading.clone()));
    let rows = columns
        .iter()
        .map(|column| column.cells.len())
        .max()
        .unwrap_or(0);
    for row in 0..rows {
        table.add_row(
            columns
                .iter()
                .map(|column| column.cells.get(row).cloned().unwrap_or_default()),
        );
    }
    let last = columns.len().saturating_sub(1);
    for (at, column) in columns.iter().enumerate() {
        if let Some(shape) = table.column_mut(at) {
            shape.set_padding((0, if at == last { 0 } else { GAP as u16 }));
            shape.set_cell_alignment(if column.right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            });
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_and_says_so() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("日本語のテキスト", 7), "日本語…");
        assert_eq!(cut("", 0), "");
        assert_eq!(width(&cut("e\u{301}e\u{301}e\u{301}e\u{301}", 3)), 3);
    }

    #[test]
    fn only_the_wide_columns_give_way() {
        let mut columns = [
            Column::new("id", vec!["1".into()]),
            Column::new("note", vec!["x".repeat(100)]),
            Column::new("status", vec!["paid".into()]),
        ];
        shrink(&mut columns, 40);
        assert!(total(&columns) <= 40);
        assert_eq!((columns[0].width(), columns[2].width()), (2, 6));
        assert!(lines(&columns).iter().all(|line| width(line) <= 40));
    }

    #[test]
    fn what_is_kept_gives_way_last() {
        let wide = || {
            let key = Column::new("sku", vec!["k".repeat(30)]).at_least(8).kept();
            let beyond = Column::new("note", vec!["n".repeat(20)]).at_least(8);
            [key, beyond]
        };
        assert_eq!(least_total(&wide()), 40);
        let mut columns = wide();
        shrink(&mut columns, 45);
        assert_eq!((columns[0].width(), columns[1].width()), (30, 13));
        let mut columns = wide();
        shrink(&mut columns, 30);
        assert_eq!((columns[0].width(), columns[1].width()), (20, 8));
    }

    #[test]
    fn words_wrap_and_long_ones_stay_whole() {
        assert_eq!(wrap("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(
            wrap("https://example.com/long a", 10),
            ["https://example.com/long", "a"]
        );
        assert!(wrap("", 10).is_empty());
    }
}
