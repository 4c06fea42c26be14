//! What happens to a run's files when the system fails it: every n-th write, rename and fsync in
//! turn, a full disk, a folder that goes away, a kill. Either the record is whole, or one line says
//! what was lost; never half a record that passes for a whole one.
#![cfg(target_os = "linux")]

use dlrm_bench::{
    checkpoint::Loaded,
    results::{metrics, record, tree},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "custom"
tables = [50, 20]
dense = 2
train_samples = 300
eval_samples = 200
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 100
[optimizer]
kind = "sgd"
learning_rate = 0.1
[eval]
every = "end"
"#;

/// Stands before the C library: calls that concern files below FAULT_DIR are counted, and the call
/// FAULT_AT fails (with FAULT_ON all that follow too). FAULT_MARK is made when one has.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long calls;

static int below(const char *path) {
    const char *dir = getenv("FAULT_DIR");
    return dir && path && strncmp(path, dir, strlen(dir)) == 0;
}

static int concerns(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static int fails(void) {
    const char *at = getenv("FAULT_AT");
    long n = __sync_add_and_fetch(&calls, 1);
    long wanted = at ? atol(at) : 0;
    if (n != wanted && !(getenv("FAULT_ON") && n > wanted)) return 0;
    const char *mark = getenv("FAULT_MARK");
    int fd = mark ? syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY, 0600) : -1;
    if (fd >= 0) syscall(SYS_close, fd);
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    if (concerns(fd) && fails()) { errno = ENOSPC; return -1; }
    return syscall(SYS_write, fd, bytes, n);
}

int fsync(int fd) {
    if (concerns(fd) && fails()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) {
    if (below(to) && fails()) { errno = ENOSPC; return -1; }
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
"#;

/// A folder with the workload.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
        Place { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(["run", "w.toml", "--no-ceilings"]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// The folders of runs below `results`.
    fn runs(&self) -> Vec<PathBuf> {
        let list = |dir: PathBuf| -> Vec<PathBuf> {
            fs::read_dir(dir).map(|d| d.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
        };
        list(self.at("results")).into_iter().flat_map(list).flat_map(list).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The shim, or why there is none.
fn shim(dir: &Path) -> Result<PathBuf, String> {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .args(["-ldl"])
        .output()
        .map_err(|e| format!("no C compiler: {e}"))?;
    if made.status.success() { Ok(library) } else { Err(text(&made.stderr)) }
}

/// What a run leaves must be whole, or the command must have said what is not.
fn judge(what: &str, out: &Output, run: Option<&Path>) {
    let error = text(&out.stderr);
    assert!(!error.contains("panicked") && out.status.code() != Some(101), "{what}: {error}");
    let code = out.status.code();
    assert!(matches!(code, Some(0 | 74)), "{what}: {code:?}, {error}");
    let done = code == Some(0);
    if !done {
        assert!(error.lines().count() == 1 && error.starts_with("error: "), "{what}: {error}");
    }
    let record = run.map(|run| record::read(&run.join("run.json")));
    let Some(Ok(record)) = record else {
        assert!(!done, "{what}: no record, and exit code 0");
        // No half of one either.
        assert!(run.is_none_or(|run| !run.join("run.json").exists()), "{what}");
        return;
    };
    let run = run.unwrap();
    let outcome = record.outcome.as_ref().expect("how it ended");
    let log = fs::read_to_string(run.join("result_0.txt")).unwrap_or_default();
    if done || (outcome.success && record.lost.is_empty()) {
        assert!(outcome.success && record.lost.is_empty(), "{what}: {:?}", record.lost);
        assert!(log.contains("run_stop") && log.contains("success"), "{what}: {log}");
        let rows = metrics::read(&run.join("metrics.parquet")).unwrap();
        assert_eq!(rows.len() as u64, outcome.steps, "{what}");
    } else if outcome.success {
        // It says what is missing, and where that is shown.
        assert!(error.contains(&record.lost[0]), "{what}: {error} {:?}", record.lost);
        let found = tree::read(&[run.display().to_string()]);
        assert!(found.runs[0].warnings.contains(&record.lost[0]), "{what}");
    } else {
        let found = tree::read(&[run.display().to_string()]);
        assert_eq!(found.runs[0].ending, tree::Ending::Unfinished, "{what}");
    }
    if outcome.success && !done {
        // What there is to tell is told.
        assert!(text(&out.stdout).contains("quality"), "{what}: {}", text(&out.stdout));
    }
}

#[test]
fn every_write_rename_and_fsync_may_fail() {
    let place = Place::new();
    let shim = match shim(place.dir.path()) {
        Ok(shim) => shim,
        Err(why) => return println!("skipped: {why}"),
    };
    // The calls of a whole run are counted first.
    for on in [false, true] {
        let mut failed = 0;
        for n in 1.. {
            // Of a disk that stays full, every third place will do.
            if on && n % 3 != 1 {
                continue;
            }
            let place = Place::new();
            let mark = place.at("mark");
            let mut command = place.command(&["--quiet"]);
            command
                .env("LD_PRELOAD", &shim)
                .env("FAULT_DIR", place.at("results"))
                .env("FAULT_MARK", &mark)
                .env("FAULT_AT", n.to_string());
            if on {
                command.env("FAULT_ON", "1");
            } else {
                // Drawing is slow, and writes as the record does.
                command.arg("--no-plots");
            }
            let out = command.output().unwrap();
            if !mark.exists() {
                assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
                break;
            }
            failed += 1;
            let runs = place.runs();
            assert!(runs.len() <= 1);
            judge(&format!("call {n}, on: {on}"), &out, runs.first().map(PathBuf::as_path));
        }
        // Lines of the log, the record, the metrics, the plots.
        assert!(failed > 15, "{failed}");
    }
}

/// A checkpoint is whole or not there; the run goes on without it and says so.
#[test]
fn every_call_of_a_checkpoint_may_fail() {
    let place = Place::new();
    let shim = match shim(place.dir.path()) {
        Ok(shim) => shim,
        Err(why) => return println!("skipped: {why}"),
    };
    let every = ["checkpoint.every_steps=1", "checkpoint.keep=1"];
    // Segments of a row file are copied from another file system.
    let linked = [
        "checkpoint.linked=true",
        "embedding.store=cached",
        "embedding.cache=1000",
        "embedding.path=/dev/shm",
        "data.tables=[200, 20]",
        "data.train_samples=30",
        "train.batch_size=10",
        "eval.batch_size=10",
    ];
    let linked = linked.iter().filter(|_| Path::new("/dev/shm").is_dir());
    let linked: Vec<&str> = every.iter().chain(linked).copied().collect();
    calls_of_checkpoints_fail(&shim, &every, 1);
    // Every fourth call will do: most are of the files above.
    calls_of_checkpoints_fail(&shim, &linked, 4);
}

fn calls_of_checkpoints_fail(shim: &Path, set: &[&str], step: usize) {
    let (mut failed, mut without) = (0, 0);
    for n in (1..).step_by(step) {
        let place = Place::new();
        let mark = place.at("mark");
        let mut command = place.command(&["--quiet", "--no-plots"]);
        command
            .args(set.iter().flat_map(|set| ["--set", set]))
            .env("LD_PRELOAD", shim)
            .env("FAULT_DIR", place.at("results"))
            .env("FAULT_MARK", &mark)
            .env("FAULT_AT", n.to_string());
        let out = command.output().unwrap();
        let (code, error) = (out.status.code(), text(&out.stderr));
        if !mark.exists() {
            assert_eq!(code, Some(0), "{error}");
            break;
        }
        failed += 1;
        assert!(matches!(code, Some(0 | 74)), "call {n}: {code:?}, {error}");
        let Some(run) = place.runs().into_iter().next() else { continue };
        let folders = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
        for folder in folders.map(|e| e.path()) {
            if folder.file_name().unwrap().to_string_lossy().starts_with("step-") {
                Loaded::open(&folder).unwrap_or_else(|e| panic!("call {n}: {e}"));
            }
        }
        if error.contains("no checkpoint after step") {
            without += 1;
            assert_eq!(code, Some(74), "call {n}: {error}");
            let record = record::read(&run.join("run.json")).unwrap();
            assert!(record.outcome.unwrap().success, "call {n}");
            assert!(record.lost[0].starts_with("the checkpoint after step"), "{:?}", record.lost);
        }
    }
    // Each of three has three files and folders that are written and brought to the disk.
    assert!(failed * step > 40 && without * step > 20, "{failed} {without}");
}

/// Names and bytes of all files below a folder, in order.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(at) = folders.pop() {
        for path in fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().to_owned();
                    files.push((name, fs::read(&path).unwrap()));
                }
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_package_is_whole_or_not_there_whichever_call_fails() {
    let place = Place::new();
    let shim = match shim(place.dir.path()) {
        Ok(shim) => shim,
        Err(why) => return println!("skipped: {why}"),
    };
    let ran = place.command(&["--quiet", "--no-plots", "--runs", "2"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let package = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(place.dir.path()).args(["package", "results", "--org", "X"]);
        command.args(["--allow-incomplete", "-o"]).arg(place.at(out));
        command
    };
    let out = package("good").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let whole = contents(&place.at("good/X"));
    let (mut failed, mut refused) = (0, 0);
    for n in 1.. {
        let (to, mark) = (format!("out-{n}"), place.at(&format!("mark-{n}")));
        let out = package(&to)
            .env("LD_PRELOAD", &shim)
            .env("FAULT_DIR", place.at(&to))
            .env("FAULT_MARK", &mark)
            .env("FAULT_AT", n.to_string())
            .output()
            .unwrap();
        let (code, error) = (out.status.code(), text(&out.stderr));
        if !mark.exists() {
            assert_eq!(code, Some(0), "{error}");
            break;
        }
        failed += 1;
        assert_eq!(code, Some(74), "call {n}: {error}");
        assert!(error.starts_with("error: cannot write ") && error.lines().count() == 1, "{error}");
        let left: Vec<_> =
            fs::read_dir(place.at(&to)).unwrap().map(|e| e.unwrap().file_name()).collect();
        match left.as_slice() {
            [] => refused += 1,
            // Only the folder's new name may not have reached the disk.
            [x] => assert!(x == "X" && contents(&place.at(&to).join("X")) == whole, "call {n}"),
            more => panic!("call {n} leaves {more:?}"),
        }
    }
    // Each file and folder is written, and brought to the disk.
    assert!(failed > 2 * whole.len() && refused + 1 >= failed, "{failed} {refused}");
}

#[test]
fn a_folder_that_goes_away_costs_the_record_and_not_the_summary() {
    let place = Place::new();
    let long = ["--quiet", "--set", "data.train_samples=2000000000"];
    let mut child =
        place.command(&long).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let run = begun(&place, &mut child);
    fs::remove_dir_all(&run).unwrap();
    // SAFETY: takes two numbers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(74), "{}", text(&out.stderr));
    let error = text(&out.stderr);
    assert!(error.starts_with("error: cannot write ") && error.lines().count() == 1, "{error}");
    assert!(text(&out.stdout).contains("interrupted after"), "{}", text(&out.stdout));
}

/// Waits until a run trains.
fn begun(place: &Place, child: &mut std::process::Child) -> PathBuf {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
        if let Some(run) = place.runs().first() {
            let log = fs::read_to_string(run.join("result_0.txt")).unwrap_or_default();
            if log.contains("epoch_start") {
                return run.clone();
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("training has not begun");
}

#[test]
fn a_killed_run_leaves_its_metrics_and_a_report_shows_them() {
    let place = Place::new();
    let long = [
        "--quiet",
        "--set",
        "data.train_samples=2000000000",
        "--set",
        "eval.every=",
        "--set",
        "eval.every_steps=20",
    ];
    let mut child =
        place.command(&long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run = begun(&place, &mut child);
    let since = Instant::now();
    let rows = loop {
        let rows = metrics::recover(&run.join("metrics.parquet")).unwrap();
        if rows.len() > 40 {
            break rows;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "no metrics");
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let left = metrics::recover(&run.join("metrics.parquet")).unwrap();
    assert!(left.len() >= rows.len() && left.step[..40] == rows.step[..40]);
    assert!(left.auc[19].is_some() && left.auc[18].is_none());
    assert!(!run.join("run.json").exists());
    let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(place.dir.path())
        .args(["report", "results"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let page = fs::read_to_string(place.at("report.html")).unwrap();
    let curve = "\"loss\":{\"samples\":[";
    assert!(page.contains(curve), "the page has no loss");
    assert!(!page.contains(&format!("{curve}]")), "the page's loss is empty");
}

/// The interruption of a run whose data are still being read.
#[test]
fn an_interruption_while_data_are_read_is_heard_at_once() {
    let place = Place::new();
    // A pipe that nobody writes to: reading it never ends.
    let pipe = std::ffi::CString::new(place.at("train.csv").to_str().unwrap()).unwrap();
    // SAFETY: the path is a string that ends with 0.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    fs::write(place.at("eval.csv"), "y,a,b\n1,2,3\n0,4,5\n").unwrap();
    let workload = WORKLOAD
        .split("[model]")
        .last()
        .map(|rest| {
            format!(
                "[workload]\nname = \"csv\"\n[data]\nsource = \"csv\"\nlabel = \"y\"\ndense = [\"a\"]\ncategorical = [\"b\"]\ntrain = \"train.csv\"\neval = \"eval.csv\"\n[model]{rest}"
            )
        })
        .unwrap();
    fs::write(place.at("w.toml"), workload).unwrap();
    let child =
        place.command(&["--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = || place.runs().first().and_then(|r| fs::read_to_string(r.join("result_0.txt")).ok());
    let since = Instant::now();
    while !log().is_some_and(|log| log.contains("init_start")) {
        assert!(since.elapsed() < Duration::from_secs(60), "the run has not begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(100));
    // SAFETY: takes two numbers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    let log = log().unwrap();
    assert!(log.lines().last().unwrap().contains("aborted"), "{log}");
    let record = record::read(&place.runs()[0].join("run.json")).unwrap();
    assert_eq!(record.outcome.unwrap().reason, dlrm_bench::train::events::StopReason::Interrupted);
}

/// Sends an interruption and gives what the child leaves, and how long it took to hear of it.
fn interrupt(child: std::process::Child) -> (Output, Duration) {
    let since = Instant::now();
    // SAFETY: takes two numbers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    (out, since.elapsed())
}

#[test]
fn an_interruption_while_tables_are_filled_is_heard_at_once() {
    let place = Place::new();
    // A law that takes long: seconds in any build.
    let large = WORKLOAD
        .replace("tables = [50, 20]", "tables = [8000000, 20]")
        .replace("dim = 4", "dim = 16\nembedding_init = \"truncated_normal\"")
        .replace("bottom = [8, 4]", "bottom = [8, 16]");
    fs::write(place.at("w.toml"), large).unwrap();
    let child =
        place.command(&["--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = || place.runs().first().and_then(|r| fs::read_to_string(r.join("result_0.txt")).ok());
    let since = Instant::now();
    while !log().is_some_and(|log| log.contains("init_start")) {
        assert!(since.elapsed() < Duration::from_secs(60), "the run has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(150));
    let filled = log().is_some_and(|log| log.contains("run_start"));
    let (out, heard) = interrupt(child);
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    assert!(heard < Duration::from_secs(2), "{heard:?}");
    let log = log().unwrap();
    assert!(log.lines().last().unwrap().contains("aborted"), "{log}");
    // A machine that is quicker than that has been interrupted in training.
    assert!(filled || !log.contains("run_start"), "{log}");
}

#[test]
fn an_interruption_while_a_file_is_opened_is_heard_at_once() {
    let place = Place::new();
    // A pipe that nobody writes to: opening it never ends.
    let pipe = std::ffi::CString::new(place.at("a.csv").to_str().unwrap()).unwrap();
    // SAFETY: the path is a string that ends with 0.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    for args in
        [&["data", "inspect", "a.csv"][..], &["data", "convert", "a.csv", "-o", "b.parquet"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(place.dir.path()).args(args).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let (out, heard) = interrupt(child);
        assert_eq!(out.status.code(), Some(130), "{args:?} {}", text(&out.stderr));
        assert!(heard < Duration::from_secs(2), "{heard:?}");
        let mut left: Vec<_> =
            fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.csv", "w.toml"], "{args:?}");
    }
}
