//! Commands that write files are killed at random moments: what has its name is whole, and the next
//! try is not in anybody's way. Runs with checkpoints: tests/checkpoint.
#![cfg(target_os = "linux")]

use dlrm_bench::random::philox::{Philox, Stream};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 2000, train_samples = 4000, eval_samples = 4000 }
model = { kind = "dlrm", dim = 16, bottom = [8, 16], top = [8, 1] }
train = { batch_size = 64, max_steps = 20 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every_steps = 10, batch_size = 500 }
checkpoint = { at_eval = true }
mlperf.platform = "here"
"#;

/// Kills of each command, about.
fn kills() -> u64 {
    std::env::var("DLRM_BENCH_KILLS").map_or(4, |n| n.parse().unwrap())
}

struct Bench {
    dir: TempDir,
}

impl Bench {
    /// A folder with data, and a run that has checkpoints.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
        let bench = Bench { dir };
        bench.does(&[
            "data",
            "generate",
            "criteo_kaggle",
            "--samples",
            "30000",
            "-o",
            "in.csv",
            "-q",
        ]);
        bench.does(&["run", "w.toml", "--no-plots", "--no-ceilings", "--quiet"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn does(&self, args: &[&str]) {
        let out = self.command(args).output().unwrap();
        assert_eq!(
            out.status.code(),
            Some(0),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// Does something that makes `file`, again and again, killed at random moments of the time that
    /// it takes; `same` compares a whole file with another.
    fn killed(&self, number: u64, args: &[&str], file: &str, same: fn(&[u8], &[u8]) -> bool) {
        let began = Instant::now();
        self.does(args);
        let takes = began.elapsed();
        let path = self.path(file);
        let whole = fs::read(&path).unwrap();
        let mut were_killed = 0;
        for i in 0..kills() {
            fs::remove_file(&path).unwrap();
            let mut child = self.command(args).spawn().unwrap();
            let share = f64::from(draw(number, i)) / f64::from(u32::MAX);
            sleep(Duration::from_secs_f64(takes.as_secs_f64() * share));
            child.kill().unwrap();
            were_killed += u64::from(child.wait().unwrap().code().is_none());
            match fs::read(&path) {
                Ok(found) => assert!(same(&found, &whole), "{args:?}: {file} is not whole"),
                // It is there or not; what is half done has another name.
                Err(_) => self.does(args),
            }
            assert!(same(&fs::read(&path).unwrap(), &whole), "{args:?}: another {file}");
        }
        assert!(were_killed > 0, "{args:?}: none of {} was killed", kills());
        let left = half_done(self.dir.path());
        assert!(left.len() <= 1, "{args:?}: {left:?}");
    }
}

fn draw(command: u64, i: u64) -> u32 {
    Philox::new(0x6b17, Stream::Order, command).block(i)[0]
}

/// Files that are not done, by their names, which are hidden.
fn half_done(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let hidden = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with('.');
    entries.filter(|p| p.is_file() && hidden(p)).collect()
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    a == b
}

/// A page says when it was made.
fn pages(a: &[u8], b: &[u8]) -> bool {
    a.len().abs_diff(b.len()) < 64 && a.ends_with(b"</html>\n") == b.ends_with(b"</html>\n")
}

#[test]
fn what_has_its_name_is_whole() {
    let bench = Bench::new();
    let run = fs::read_dir(bench.path("results/here/tiny")).unwrap().next().unwrap();
    let run = run.unwrap().path().display().to_string();
    let run = run.as_str();
    let of = |n, args: &[&str], file, same| bench.killed(n, args, file, same);
    of(0, &["data", "convert", "in.csv", "-o", "out.parquet", "-q"], "out.parquet", equal);
    of(1, &["data", "convert", "in.csv", "-o", "out.bin", "-q"], "out.bin", equal);
    of(2, &["report", "results", "-o", "page.html"], "page.html", pages);
    of(3, &["eval", run, "--predictions", "p.parquet"], "p.parquet", equal);
    of(4, &["eval", run, "--predictions", "p.csv"], "p.csv", equal);
    of(5, &["export", run, "-o", "m.pt"], "m.pt", equal);
    of(6, &["export", run, "-o", "m.onnx"], "m.onnx", equal);
    of(7, &["export", run, "-o", "m.safetensors"], "m.safetensors", equal);
}
