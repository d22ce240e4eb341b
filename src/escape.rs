//! Making foreign text harmless for the place where it is shown (invariant 12). Row data, file names and rule files are
//! hostile: they may hold terminal escapes, newlines, markup.

/// Text for a terminal on one line: control characters (C0, C1, bidirectional overrides) become visible escapes.
pub fn terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || is_bidi(c) => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out
}

/// The name of a file for a terminal: what is not UTF-8 in it is shown as bytes, `\xff`.
pub fn os(name: &std::ffi::OsStr) -> String {
    let mut out = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        out.push_str(&terminal(chunk.valid()));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Text for a Markdown table cell: markup, pipes and line breaks are neutralised.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        match c {
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out
}

/// Text for the message of a GitHub workflow command (`::error …::message`).
pub fn github(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Text for a property of a GitHub workflow command (`file=…`).
pub fn github_property(text: &str) -> String {
    github(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_move_the_cursor_or_break_a_table() {
        assert_eq!(
            terminal("a\u{1b}[2Jb\nc\u{202e}"),
            "a\\u{1b}[2Jb\\nc\\u{202e}"
        );
        assert_eq!(
            markdown("x|y`<script>@team"),
            "x\\|y\\`&lt;script&gt;&#64;team"
        );
        assert_eq!(github("100%\n::error::"), "100%25%0A::error::");
        assert_eq!(github_property("a:b,c"), "a%3Ab%2Cc");
    }
}
