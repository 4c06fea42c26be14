//! What a side runs: a program, and the workload as it was read at the start.

use super::{SliceError, slice::Task};
use crate::workload::{shipped, short::Given};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What a side runs.
#[derive(Debug, Clone)]
pub struct Program {
    binary: PathBuf,
    /// The binary's size and time of change; `None` where it is looked up in PATH.
    stamp: Option<(u64, SystemTime)>,
    workload: PathBuf,
    text: Vec<u8>,
    set: Vec<String>,
    given: Given,
}

impl Program {
    /// The program `binary`, a `dlrm-bench`, on the workload file `workload` with overrides
    /// `KEY=VALUE`, or on the one of this program that has this name. It is read here and not again, so that all slices run the same.
    ///
    /// # Errors
    /// If the workload file cannot be read.
    pub fn open(binary: &Path, workload: &Path, set: &[String]) -> Result<Self, SliceError> {
        let text = shipped::read(workload)
            .map_err(|e| SliceError::Cause { code: 64, what: e.to_string() })?;
        Ok(Self::new(binary, workload, text, set))
    }

    /// Another program on the same workload.
    pub fn beside(&self, binary: &Path, set: &[String]) -> Self {
        Self::new(binary, &self.workload, self.text.clone(), set)
    }

    fn new(binary: &Path, workload: &Path, text: Vec<u8>, set: &[String]) -> Self {
        Program {
            binary: binary.to_owned(),
            stamp: stamp(binary),
            workload: workload.to_owned(),
            given: Given::new(&String::from_utf8_lossy(&text), set),
            text,
            set: set.to_vec(),
        }
    }

    /// The program's file.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Keys that were given.
    pub(super) fn given(&self) -> &Given {
        &self.given
    }

    /// Whether another file is at the binary's place by now.
    pub(super) fn replaced(&self) -> bool {
        self.stamp != stamp(&self.binary)
    }

    /// Writes the workload's text into `folder`, under the file's own name.
    pub(super) fn write_workload(&self, folder: &Path) -> io::Result<PathBuf> {
        let name = self.workload.file_name().unwrap_or("workload.toml".as_ref());
        let path = folder.join(name);
        fs::write(&path, &self.text)?;
        Ok(path)
    }

    /// What a message says of the copy at `copy`, said of the file.
    pub(super) fn about_file(&self, message: &str, copy: &Path) -> String {
        message.replace(&copy.display().to_string(), &self.workload.display().to_string())
    }

    /// All overrides of a slice for `task`: the user's, then the gate's.
    pub(super) fn overrides(&self, task: Task) -> Vec<String> {
        [&self.set[..], &self.given.overrides(task.short())].concat()
    }

    /// The command line, for people.
    pub(super) fn shown(&self) -> String {
        let set: String = self.set.iter().map(|s| format!(" --set {s}")).collect();
        format!("{} {}{set}", self.binary.display(), self.workload.display())
    }
}

fn stamp(binary: &Path) -> Option<(u64, SystemTime)> {
    let data = fs::metadata(binary).ok()?;
    Some((data.len(), data.modified().ok()?))
}
