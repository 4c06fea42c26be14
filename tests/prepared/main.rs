//! `data.source = "prepared"`: the first run makes files of a raw log, later runs find them, and
//! what they train on is what the log holds.

mod found;
mod interrupted;
#[path = "../preprocess/log.rs"]
#[allow(dead_code)]
mod log;
mod recipes;
mod refused;
mod same;
#[cfg(unix)]
#[path = "../support/signal.rs"]
mod signal;

use dlrm_bench::results::{
    RunRecord,
    metrics::{self, Metrics},
    record,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// A folder for logs, workloads, caches and results.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// `logs/day_0`, ...: so many days of so many made-up lines.
    fn days(&self, days: u64, lines: usize) {
        (0..days).for_each(|day| {
            drop(self.write(&format!("logs/day_{day}"), log::realistic(lines, day)))
        });
    }

    /// `run` on a tiny DLRM that is trained on `data`, for 20 steps.
    fn command(&self, data: &str, args: &[&str]) -> Command {
        let model =
            "kind = \"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]\ninteraction = \"dot\"";
        self.command_of(data, model, args)
    }

    fn command_of(&self, data: &str, model: &str, args: &[&str]) -> Command {
        let rest = "[train]\nbatch_size = 32\nmax_steps = 20\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.05\n[eval]\nevery = \"end\"\nbatch_size = 64\n[engine]\nthreads = 1";
        let text =
            format!("[workload]\nname = \"tiny\"\n[data]\n{data}\n[model]\n{model}\n{rest}\n");
        fs::write(self.at("w.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(["run", "w.toml"]);
        if !args.contains(&"--loader-only") {
            command.args(["--no-ceilings", "--no-plots"]);
        }
        command.args(args);
        command
    }

    fn run(&self, data: &str, args: &[&str]) -> Output {
        self.command(data, args).output().unwrap()
    }

    /// The folders of all runs so far, in order of their names, which count up.
    fn runs(&self) -> Vec<PathBuf> {
        let systems = list(&self.at("results"));
        systems.iter().flat_map(|system| list(&system.join("tiny"))).collect()
    }

    fn last(&self) -> (RunRecord, Metrics) {
        let run = self.runs().pop().unwrap();
        let record = record::read(&run.join("run.json")).unwrap();
        (record, metrics::read(&run.join("metrics.parquet")).unwrap())
    }

    /// Folders of prepared data beside the logs.
    fn prepared(&self) -> Vec<PathBuf> {
        list(&self.at("logs/dlrm-bench-cache"))
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(dir).map(|d| d.map(|e| e.unwrap().path()).collect()).unwrap_or_default();
    all.sort();
    all
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The run did its work, and told this.
fn done(output: &Output, told: &[&str]) -> String {
    let error = error(output);
    assert!(output.status.success(), "{error}");
    told.iter().for_each(|what| assert!(error.contains(what), "{error}\nlacks {what}"));
    error
}

/// One line, and this code.
fn refused(output: &Output, code: i32, what: &[&str]) {
    let error = error(output);
    assert_eq!(output.status.code(), Some(code), "{error}");
    let lines: Vec<&str> = error.lines().filter(|l| l.starts_with("error: ")).collect();
    assert!(lines.len() == 1 && error.ends_with(&format!("{}\n", lines[0])), "{error}");
    what.iter().for_each(|w| assert!(lines[0].contains(w), "{error}\nlacks {w}"));
}

/// `source = "prepared"` by `recipe` on `logs`, with more keys.
fn data(recipe: &str, more: &str) -> String {
    let raw = match recipe {
        "facebook-kaggle" | "oneflow-deepfm" | "deeprec" | "fuxictr-criteo-x4" => "logs/train.txt",
        _ => "logs",
    };
    format!(
        "source = \"prepared\"\nrecipe = \"{recipe}\"\nraw = \"{raw}\"\nmemory = \"64MiB\"\n{more}"
    )
}
