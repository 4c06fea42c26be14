//! The tables of docs/workload-file.md.

use super::{
    key::{Fallback, Key, Setting},
    keys,
};

const START: &str = "<!-- keys: ";
const END: &str = "<!-- end of keys -->";

/// `text` with every table between `<!-- keys: GROUP -->` and `<!-- end of keys -->` made anew.
/// GROUP is a section, a value of `data.source`, `formats` for all formats that have no source of
/// their own, or `otherwise` for the tables within sections.
///
/// # Errors
/// If a marker is not closed, names no group, or a key has no place among the markers.
pub fn document(text: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    let mut told = Vec::new();
    while let Some(start) = rest.find(START) {
        let open = rest[start..].find("-->").ok_or("a marker is not closed")? + start;
        let group = rest[start + START.len()..open].trim();
        let end =
            rest[open..].find(END).ok_or_else(|| format!("{group}: {END} is missing"))? + open;
        let rows: Vec<_> = keys::all().iter().filter(|k| group_of(k) == group).collect();
        out += &rest[..open];
        if group == "otherwise" {
            out += "-->\n| table | what it holds |\n|---|---|\n";
            keys::OTHERWISE.iter().for_each(|(section, says)| {
                out += &format!("| `[{section}.otherwise]` | {says} |\n")
            });
        } else {
            out += "-->\n| key | type | default | meaning |\n|---|---|---|---|\n";
            rows.iter().for_each(|k| out += &row(k));
            if rows.is_empty() {
                return Err(format!("{START}{group} -->: there is no such group"));
            }
        }
        out += END;
        told.push(group);
        rest = &rest[end + END.len()..];
    }
    if !told.contains(&"otherwise") {
        return Err(format!("{START}otherwise --> is missing"));
    }
    match keys::all().iter().find(|k| !told.contains(&group_of(k))) {
        Some(key) => Err(format!("{START}{} --> is missing", group_of(key))),
        None => Ok(out + rest),
    }
}

/// The section of a key, or the source that it belongs to.
fn group_of(key: &Key) -> &'static str {
    let mut when: &[Setting] = &key.facts.when;
    while let [setting] = when {
        match (setting.key, setting.words) {
            ("data.source", [source]) => return source,
            ("data.source", _) => return "formats",
            _ => {}
        }
        when = keys::called(setting.key).next().map_or(&[], |k| &k.facts.when);
    }
    key.facts.name.split('.').next().unwrap_or_default()
}

fn row(key: &Key) -> String {
    let f = &key.facts;
    let range = if f.range.is_empty() { String::new() } else { format!(", {}", f.range) };
    let fallback = match &f.fallback {
        Fallback::Required => "**required**".to_owned(),
        Fallback::Off => "-".to_owned(),
        Fallback::Follows(words) => (*words).to_owned(),
        Fallback::Value(value) => match value.as_str() {
            Some("") => "`\"\"`".to_owned(),
            Some(word) => format!("`{word}`"),
            None if value.is_array() => format!("`{value}`"),
            None => value.as_float().map_or_else(|| value.to_string(), |x| format!("{x:?}")),
        },
    };
    let section = f.name.split('.').next().unwrap_or_default();
    let only: Vec<String> = f
        .when
        .iter()
        .filter(|s| s.key != "data.source")
        .map(|s| {
            let key = s.key.strip_prefix(section).map_or(s.key, |rest| &rest[1..]);
            match s.words {
                [] => format!("with `{key}`"),
                words => {
                    let words: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
                    format!("{key} {}", super::value::join_or(&words))
                }
            }
        })
        .collect();
    let only = if only.is_empty() { String::new() } else { format!(" ({})", only.join("; ")) };
    format!("| `{}` | {}{range} | {fallback} | {}{only} |\n", f.name, f.type_name, f.says)
}
