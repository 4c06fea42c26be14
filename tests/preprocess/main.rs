//! `data preprocess` and `data verify`: what the original makes, from any threads and memory, after
//! any kill; and clear about what is broken.

mod broken;
mod kill;
mod log;
mod original;
mod plan;
mod recipes;
#[cfg(unix)]
#[path = "../support/signal.rs"]
mod signal;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

/// The program.
fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
}

/// Runs `data` with these words.
fn data(words: &[&str]) -> Output {
    program().arg("data").args(words).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files of a folder, and of folders in it, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}
