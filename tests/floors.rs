//! Arrows between the rooms of `src/` point down: this reads what each file imports.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The floors, top first. A room may use all rooms on floors below its own.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["report", "gate"],
    &["results"],
    &["mllog", "selftest", "export"],
    &["train"],
    &["workload"],
    &["engine", "system"],
    &["backend", "checkpoint"],
    &["data", "embedding"],
    &["batch"],
    &["optim", "model"],
    &["comm", "metrics", "stats"],
    &["random", "exact", "host"],
];

/// Arrows that point down and are refused all the same, but for files below the folder that is
/// named: a device knows no source of data; only its check sets its samples beside the source's.
const REFUSED: &[(&str, &str, &str)] = &[("backend", "data", "src/backend/cuda/check")];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Tests may look anywhere.
        if ["tests", "tests.rs", "testing.rs"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, and without its module of tests, which comes last.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The rooms that code names as `crate::room` or `crate::{room::..., room}`.
fn named(code: &str) -> Vec<String> {
    let mut rooms: Vec<String> = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(list) => {
                let (mut depth, mut start) = (0, 0);
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        ',' if depth == 0 => {
                            rooms.push(word(&list[start..i]));
                            start = i + 1;
                        }
                        '}' if depth == 0 => {
                            rooms.push(word(&list[start..i]));
                            break;
                        }
                        '}' => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

/// What is wrong with an import of `room` by the file at `path` (relative, from `src` on).
fn wrong(path: &str, room: &str) -> Option<String> {
    let own = path.split('/').nth(1).unwrap().trim_end_matches(".rs");
    // What `lib.rs` and `main.rs` name is no arrow between rooms; macros have no room.
    let (from, to) = (floor(own)?, floor(room)?);
    let refused =
        REFUSED.iter().any(|&(a, b, but)| (a, b) == (own, room) && !path.starts_with(but));
    if own != room && (to <= from || refused) {
        return Some(format!("{path} uses crate::{room}, which is not below {own}"));
    }
    None
}

#[test]
fn arrows_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 300, "{}", files.len());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        found.extend(named(&code(&text)).iter().filter_map(|room| wrong(&path, room)));
    }
    assert!(found.is_empty(), "arrows that point up or sideways:\n{}", found.join("\n"));
}

#[test]
fn each_room_has_a_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !["lib", "main"].contains(&&*room) {
            assert!(floor(&room).is_some(), "{room} stands on no floor of tests/floors.rs");
        }
    }
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let text = "use crate::{\n    batch::{Batch, Span},\n    workload::Workload,\n};\n// crate::cli\n\
                fn f() { crate::report::x() }\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n";
    assert_eq!(named(&code(text)), ["batch", "workload", "report"]);
    assert!(wrong("src/data/a.rs", "batch").is_none());
    assert!(wrong("src/data/a.rs", "workload").is_some());
    assert!(wrong("src/data/a.rs", "embedding").is_some());
    assert!(wrong("src/backend/cpu/a.rs", "data").is_some());
    assert!(wrong("src/backend/cuda/check/data.rs", "data").is_none());
}
