//! What of the programs that this one grew from works here. `table.json` is the one list;
//! docs/coverage.md is made of it (`DLRM_BENCH_REGENERATE=1 cargo test --test coverage`), and what
//! the list names has to be there: keys, commands, options, workloads and tests.

use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
    process::Command,
};

/// The list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    original: Vec<Original>,
}

/// One program, or one part of what it offers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Original {
    name: String,
    /// A sentence or two.
    #[serde(default)]
    about: String,
    rows: Vec<Row>,
}

/// One flag or feature.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// As the original calls it.
    is: String,
    state: State,
    /// What stands for it here: names in backquotes are looked up.
    #[serde(default)]
    here: String,
    /// Tests that show it, as `program::function` or `src/path.rs::function`.
    #[serde(default)]
    test: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum State {
    Works,
    /// Part of it does.
    Partial,
    Absent,
    /// Does nothing there, or has no counterpart: `here` says why.
    NotNeeded,
}

impl State {
    const ALL: [State; 4] = [State::Works, State::Partial, State::Absent, State::NotNeeded];

    fn name(self) -> &'static str {
        match self {
            State::Works => "works",
            State::Partial => "partial",
            State::Absent => "absent",
            State::NotNeeded => "not needed",
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn table() -> Table {
    serde_json::from_str(&read("tests/coverage/table.json")).unwrap()
}

fn help(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).args(args).arg("--help").output();
    let out = out.unwrap();
    assert!(out.status.success(), "{args:?} is no command");
    String::from_utf8(out.stdout).unwrap()
}

/// The names that may stand in backquotes.
struct Known {
    /// What values each key takes, in each of its rows.
    keys: BTreeMap<String, Vec<String>>,
    workloads: BTreeSet<String>,
    recipes: String,
}

impl Known {
    fn new() -> Self {
        let reference = read("docs/workload-file.md");
        let mut keys = BTreeMap::<String, Vec<String>>::new();
        for row in reference.lines().filter_map(|l| l.strip_prefix("| `")) {
            let mut cells = row.split(" | ");
            let (name, values) = (cells.next().unwrap(), cells.next().unwrap_or_default());
            let name = name.split('`').next().unwrap();
            keys.entry(name.to_owned()).or_default().push(values.to_owned());
        }
        let files = fs::read_dir(root().join("workloads")).unwrap();
        let name = |f: fs::DirEntry| f.path().file_stem().unwrap().to_str().unwrap().to_owned();
        Known {
            keys,
            workloads: files.map(|f| name(f.unwrap())).collect(),
            recipes: help(&["data", "preprocess"]),
        }
    }

    /// Why `name` is nothing here.
    fn lacks(&self, name: &str) -> Option<String> {
        let words: Vec<&str> = name.split_whitespace().collect();
        let Some((&first, rest)) = words.split_first() else { return Some("is empty".into()) };
        if first == "dlrm-bench" {
            return self.lacks_command(rest);
        }
        if let Some(name) = first.strip_prefix("workloads/") {
            let there = name.strip_suffix(".toml").is_some_and(|n| self.workloads.contains(n));
            return (!there).then(|| "is no workload".into());
        }
        if first.contains('/') {
            return (!root().join(first).exists()).then(|| "is no file".into());
        }
        // `section.key`, `section.key = value`, `quirk fb.name`.
        let key = if first == "quirk" { "workload.quirks" } else { first };
        let Some(values) = self.keys.get(key) else {
            return Some("is no key of a workload".into());
        };
        let value = match rest {
            ["=", value] => *value,
            [quirk] if first == "quirk" => *quirk,
            [] => return None,
            _ => return Some("is neither a key nor KEY = VALUE".into()),
        };
        let taken = |row: &String| {
            let number = ["integer", "number"].iter().any(|kind| row.starts_with(kind));
            row.contains(&format!("`{value}`")) || number && value.parse::<f64>().is_ok()
        };
        (!values.iter().any(taken)).then(|| format!("has no value {value}"))
    }

    /// `run FILE --option`, `data preprocess RECIPE`: words in capitals stand for anything.
    fn lacks_command(&self, words: &[&str]) -> Option<String> {
        let is_option = |w: &&&str| w.starts_with('-');
        let plain: Vec<&str> = words
            .iter()
            .take_while(|w| !is_option(w) && !w.chars().any(char::is_uppercase))
            .copied()
            .collect();
        let (command, recipe) = match plain[..] {
            ["data", "preprocess", recipe] => (&plain[..2], Some(recipe)),
            _ => (&plain[..], None),
        };
        if recipe.is_some_and(|r| !self.recipes.contains(r)) {
            return Some("is no recipe".into());
        }
        let help = help(command);
        let mut option = "";
        for word in &words[plain.len()..] {
            if word.starts_with('-') {
                option = word;
                let named = |l: &str| l.split([' ', ',', '=']).any(|w| w == *word);
                if !help.lines().any(|l| l.trim_start().starts_with('-') && named(l)) {
                    return Some(format!("has no option {word}"));
                }
            } else if !option.is_empty() && !word.chars().any(char::is_uppercase) {
                // Values are listed one a line, or all in one.
                let takes = |l: &str| {
                    let one = l.strip_prefix("- ").and_then(|l| l.split(':').next());
                    let all = l.strip_prefix("[possible values: ").map(|l| l.trim_end_matches(']'));
                    one == Some(word) || all.is_some_and(|l| l.split(", ").any(|v| v == *word))
                };
                if !help.lines().any(|l| takes(l.trim())) {
                    return Some(format!("{option} takes no {word}"));
                }
            }
        }
        None
    }
}

/// Why `name` is no test.
fn lacks_test(name: &str) -> Option<String> {
    let Some((place, function)) = name.rsplit_once("::") else {
        return Some("is not PLACE::FUNCTION".into());
    };
    let files = match place.ends_with(".rs") {
        true => vec![place.to_owned()],
        false => {
            let folder = root().join("tests").join(place);
            let inside = fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .map(|f| format!("tests/{place}/{}", f.unwrap().file_name().to_str().unwrap()));
            [format!("tests/{place}.rs")].into_iter().chain(inside).collect()
        }
    };
    let is_test = |text: String| {
        let wanted = format!("fn {function}(");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let at = lines.iter().position(|l| l.trim_start_matches("async ").starts_with(&wanted));
        // Attributes stand above it; tests made by a macro have none.
        at.is_some_and(|at| {
            lines[..at].iter().rev().take(6).any(|l| *l == "#[test]" || l.starts_with("proptest!"))
        })
    };
    let found = files
        .iter()
        .filter(|f| f.ends_with(".rs"))
        .filter_map(|f| fs::read_to_string(root().join(f)).ok())
        .any(is_test);
    (!found).then(|| "is no test".into())
}

/// The names in backquotes.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn what_the_list_names_is_there() {
    let known = Known::new();
    let mut wrong = Vec::new();
    for original in table().original {
        for row in original.rows {
            let place = format!("{}: {}", original.name, row.is);
            for name in names(&row.here) {
                wrong.extend(known.lacks(name).map(|why| format!("{place}: `{name}` {why}")));
            }
            for test in &row.test {
                wrong.extend(lacks_test(test).map(|why| format!("{place}: {test} {why}")));
            }
            match row.state {
                State::Works if row.here.is_empty() || row.test.is_empty() => {
                    wrong.push(format!("{place}: works, but where and by which test is not said"));
                }
                State::Partial | State::NotNeeded | State::Absent if row.here.is_empty() => {
                    wrong.push(format!("{place}: why is not said"));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The page.
fn page(table: &Table) -> String {
    let mut out = String::from(
        "# What of the originals works here\n\n\
         This program grew from five others. Here is each of their flags and features, with what stands for it and a test that shows it. \
         The page is made of tests/coverage/table.json; a test fails if a key, command, workload or test that it names is not there.\n\n\
         | original | works | partial | absent | not needed |\n|---|---|---|---|---|\n",
    );
    for o in &table.original {
        write!(out, "| {} |", o.name).unwrap();
        for state in State::ALL {
            write!(out, " {} |", o.rows.iter().filter(|r| r.state == state).count()).unwrap();
        }
        out.push('\n');
    }
    for o in &table.original {
        write!(out, "\n## {}\n\n", o.name).unwrap();
        if !o.about.is_empty() {
            write!(out, "{}\n\n", o.about.trim()).unwrap();
        }
        out.push_str("| there | state | here | shown by |\n|---|---|---|---|\n");
        for r in &o.rows {
            let tests: Vec<String> = r.test.iter().map(|t| format!("`{t}`")).collect();
            let (is, state) = (r.is.replace('|', "\\|"), r.state.name());
            let here = r.here.replace('|', "\\|");
            writeln!(out, "| {is} | {state} | {here} | {} |", tests.join(", ")).unwrap();
        }
    }
    out
}

#[test]
fn the_page_is_made_of_the_list() {
    let made = page(&table());
    if std::env::var_os("DLRM_BENCH_REGENERATE").is_some() {
        fs::write(root().join("docs/coverage.md"), &made).unwrap();
    }
    assert!(
        read("docs/coverage.md") == made,
        "docs/coverage.md is not what the list makes: run DLRM_BENCH_REGENERATE=1 cargo test --test coverage"
    );
}

/// Each quirk has its story.
#[test]
fn quirks_are_told() {
    let (keys, stories) = (read("docs/workload-file.md"), read("docs/quirks.md"));
    let row = keys.lines().find(|l| l.starts_with("| `workload.quirks` |")).unwrap();
    let words = row.split('|').nth(2).unwrap();
    let told: BTreeSet<&str> = stories.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    let known: BTreeSet<&str> = names(words).collect();
    assert!(known.len() > 3, "{words}");
    assert_eq!(told, known);
}

#[test]
fn what_is_not_there_is_noticed() {
    let known = Known::new();
    for right in [
        "data.tables",
        "model.pad_to = 8",
        "data.source = bin40",
        "dlrm-bench compare RESULTS --format deeprec",
        "dlrm-bench run FILE --engine",
        "dlrm-bench data preprocess deeprec",
        "workloads/terabyte.toml",
        "quirk fb.lr-plateau",
    ] {
        assert_eq!(known.lacks(right), None, "{right}");
    }
    for wrong in [
        "data.nosuch",
        "data.source = nosuch",
        "model.interaction = 8",
        "model.pad_to 8",
        "dlrm-bench compare RESULTS --format nosuch",
        "dlrm-bench run FILE --trac",
        "dlrm-bench run FILE --nosuch",
        "dlrm-bench data preprocess nosuch",
        "workloads/nosuch.toml",
        "quirk fb.nosuch",
    ] {
        assert!(known.lacks(wrong).is_some(), "{wrong}");
    }
    assert_eq!(lacks_test("coverage::what_is_not_there_is_noticed"), None);
    assert!(lacks_test("coverage::nosuch").is_some() && lacks_test("coverage::root").is_some());
}
