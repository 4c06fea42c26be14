//! `data preprocess` and `data verify`: what the original makes, from any threads and memory, after any kill; and clear about what is broken.

mod broken;
mod kill;
mod log;
mod original;

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

/// All files of a folder but its manifest's, which names the raw files.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap())).collect()
}
