//! Text that came from outside (names in files, paths, values), made fit for where it is shown.
//!
//! Nothing in it may move a terminal's cursor, begin a line, become markup, or be computed by a
//! spreadsheet.

use std::borrow::Cow;

/// Whether a character does something instead of being seen: control characters, line ends, and
/// marks that turn the direction of writing or have no width.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line in which everything can be seen: `\u{1b}` for what would act on a terminal, line ends
/// and tabs too.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match acts(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out.into()
}

/// Text in GitHub's Markdown, in a table too: no markup, no HTML, no link, no mention.
pub fn markdown(text: &str) -> String {
    let lines: String = text.chars().map(|c| if "\r\n".contains(c) { ' ' } else { c }).collect();
    let seen = visible(&lines);
    let mut out = String::with_capacity(seen.len() + 8);
    let mut rest = seen.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied().unwrap_or(' ');
        match c {
            // What begins a list, a quote or a rule.
            '>' | '=' if out.is_empty() => out.extend(['\\', c]),
            '-' | '+' if out.is_empty() && (next == ' ' || next == c) && rest.peek().is_some() => {
                out.extend(['\\', c]);
            }
            '.' | ')'
                if next == ' ' && !out.is_empty() && out.bytes().all(|b| b.is_ascii_digit()) =>
            {
                out.extend(['\\', c]);
            }
            '|' | '*' | '_' | '`' | '\\' | '[' | ']' | '#' | '~' => out.extend(['\\', c]),
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            '$' => out += "&#36;",
            // `https://x` and `www.x` become links by themselves.
            ':' if next == '/' => out += "&#58;",
            '.' if out.to_ascii_lowercase().ends_with("www") => out += "&#46;",
            '@' if next.is_alphanumeric() => out += "@<!-- -->",
            c => out.push(c),
        }
    }
    out
}

/// A cell of CSV that no spreadsheet takes for a formula: what begins like one is put behind an
/// apostrophe. For text only; a number may begin with a minus.
pub fn cell(text: &str) -> String {
    const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let seen = visible(text);
    match seen.trim_start().starts_with(FORMULA) {
        true => format!("'{seen}"),
        false => seen.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(markdown("a|b_c <script>&\nx"), "a\\|b\\_c &lt;script>&amp; x");
        assert_eq!(
            markdown("see http://x.y, WWW.z or @me"),
            "see http&#58;//x.y, WWW&#46;z or @<!-- -->me"
        );
        assert_eq!(
            ["- a", "> a", "12. a", "a 12.", "-", "-1.5", "3.5M"].map(markdown),
            ["\\- a", "\\> a", "12\\. a", "a 12.", "-", "-1.5", "3.5M"]
        );
        assert_eq!(markdown("2x @ 3 GHz $x$ ~~y~~"), "2x @ 3 GHz &#36;x&#36; \\~\\~y\\~\\~");
    }

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(visible("plain µ 中"), "plain µ 中");
        assert_eq!(visible("a\u{1b}[2Jb\nc\u{9b}\u{202e}"), "a\\u{1b}[2Jb\\u{a}c\\u{9b}\\u{202e}");
    }

    #[test]
    fn cells_are_no_formulas() {
        assert_eq!(
            ["=1+1", " @x", "\t-1", "a=b", ""].map(cell),
            ["'=1+1", "' @x", "\\u{9}-1", "a=b", ""]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_one_line(text in any::<String>()) {
            for shown in [visible(&text).into_owned(), markdown(&text), cell(&text)] {
                prop_assert!(!shown.chars().any(acts), "{shown:?}");
            }
            prop_assert!(!cell(&text).starts_with(['=', '+', '-', '@']));
        }
    }
}
