//! Names that folders and files are called after.

/// Bytes of a name; file systems take 255, and endings are put behind it.
const LONGEST: usize = 128;
/// Names that Windows keeps for devices, with any ending.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Why `name` cannot be a folder's or a file's name; ends a sentence that begins with the name.
pub fn unfit_name(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default().trim().to_lowercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|n| n.len() == 1 && n.chars().all(is_digit))
    };
    // What text runs into it unseen: controls, line separators, marks of direction.
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    match name {
        n if n.trim().is_empty() => Some("is empty"),
        n if n.starts_with('.') => Some("begins with a dot"),
        n if n.contains(['/', '\\']) => Some("holds a slash"),
        n if n.chars().any(unseen) => Some("holds a control character"),
        n if n.contains(['<', '>', ':', '"', '|', '?', '*']) => {
            Some("holds one of < > : \" | ? *, which not every file system takes")
        }
        n if n.starts_with(' ') || n.ends_with([' ', '.']) => {
            Some("begins with a space, or ends with a space or a dot")
        }
        n if n.len() > LONGEST => Some("is longer than 128 bytes"),
        _ if DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt") => {
            Some("is a device on Windows")
        }
        _ => None,
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_or_nowhere_are_unfit() {
        for name in
            ["nvidia-h200", "8x H200", "DGX_A100 (80 GB)", "größer", "console", "com10", "a.b"]
        {
            assert_eq!(unfit_name(name), None, "{name}");
        }
        for name in [
            "",
            " ",
            ".",
            "..",
            "../x",
            ".hidden",
            "a/b",
            "/abs",
            "a\\b",
            "a\nb",
            "a\x1b[2J",
            "a\u{202e}b",
            "a\0",
            "CON",
            "nul.txt",
            "Com1",
            "lpt9.x",
            "a:b",
            "C:",
            "a*",
            "x.",
            "x ",
            " x",
        ] {
            assert!(unfit_name(name).is_some(), "{name:?}");
        }
        assert_eq!(unfit_name(&"x".repeat(128)), None);
        assert!(unfit_name(&"x".repeat(129)).is_some());
    }
}
