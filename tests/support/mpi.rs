//! Runs of several processes over MPI libraries that are at hand.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 300, train_samples = 20000, eval_samples = 1501 }
model = { kind = "dlrm", dim = 8, bottom = [16, 8], top = [16, 1] }
train = { batch_size = 101, max_steps = 12 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every_steps = 6, batch_size = 500 }
engine.threads = 1
checkpoint.at_eval = true
mlperf.platform = "here"
"#;

/// Long enough for any of it on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An MPI: a folder with `bin/mpirun`.
pub struct Home(pub PathBuf);

/// The MPIs to try.
pub fn homes() -> Vec<Home> {
    let Some(homes) = std::env::var_os("DLRM_BENCH_MPI_HOMES") else {
        eprintln!("skipped: DLRM_BENCH_MPI_HOMES names no MPI");
        return Vec::new();
    };
    let homes: Vec<Home> = std::env::split_paths(&homes).map(Home).collect();
    assert!(homes.iter().all(|h| h.0.join("bin/mpirun").is_file()), "mpirun in each of them");
    homes
}

impl Home {
    pub fn open_mpi(&self) -> bool {
        self.0.join("bin/ompi_info").exists()
    }

    /// `mpirun -n ranks dlrm-bench args`, in `dir`.
    pub fn command(&self, ranks: usize, dir: &Path, args: &[&str]) -> Command {
        let bin = self.0.join("bin");
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(bin.join("mpirun"));
        if self.open_mpi() {
            command.args(["--oversubscribe", "--bind-to", "none"]);
        }
        command
            .args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_dlrm-bench")])
            .args(args)
            .current_dir(dir)
            .env("PATH", format!("{}:{path}", bin.display()))
            .envs(["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"].map(|n| (n, "1")))
            .envs(["PRTE_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"].map(|n| (n, "1")))
            .env("OMPI_MCA_mpi_yield_when_idle", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

pub fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
    dir
}

/// The command, without a workload of its own.
pub const RUN: [&str; 5] = ["run", "w.toml", "--no-plots", "--no-ceilings", "--quiet"];

/// Kills over each MPI.
pub fn kills() -> u64 {
    std::env::var("DLRM_BENCH_KILLS").map_or(2, |n| n.parse().unwrap())
}

/// Waits for an end, but not for ever.
pub fn end(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it hangs: {:?}", child.wait_with_output());
        }
        sleep(Duration::from_millis(50));
    }
    child.wait_with_output().unwrap()
}

pub fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy);
    all.concat()
}

/// The record of the only run.
pub fn record(dir: &Path) -> serde_json::Value {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("results")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == "run.json" {
                found.push(entry.path());
            }
        }
    }
    assert_eq!(found.len(), 1, "one record, of the first rank: {found:?}");
    serde_json::from_slice(&fs::read(&found[0]).unwrap()).unwrap()
}

/// Every tensor of the newest checkpoint: parameters and optimizer state.
pub fn tensors(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.join("results")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "safetensors") {
                files.push(path);
            }
        }
    }
    let newest = files.iter().filter_map(|f| f.parent()).max().unwrap().to_owned();
    let mut all = BTreeMap::new();
    for file in files.iter().filter(|f| f.parent() == Some(&*newest)) {
        let bytes = fs::read(file).unwrap();
        for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
            all.insert(name, view.data().to_vec());
        }
    }
    assert!(all.len() > 10);
    all
}

/// The processes of ranks of a run in `dir`, by rank.
fn pids(dir: &Path) -> BTreeMap<usize, i32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir);
        let ours = fs::read_link(entry.path().join("exe"))
            .is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_dlrm-bench")));
        if !here || !ours {
            continue;
        }
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let rank = environment.split(|b| *b == 0).find_map(|variable| {
            let variable = std::str::from_utf8(variable).ok()?;
            let (name, value) = variable.split_once('=')?;
            ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].contains(&name).then(|| value.parse().ok())?
        });
        if let Some(rank) = rank {
            found.insert(rank, pid);
        }
    }
    found
}

/// Starts a long run of some ranks with some settings and sends one of them a signal, `after` all
/// train.
pub fn disturbed(
    home: &Home,
    (ranks, set): (usize, &[&str]),
    rank: usize,
    signal: i32,
    after: Duration,
) -> (Output, Duration) {
    let dir = folder();
    let root = dir.path().canonicalize().unwrap();
    let more = [
        "--set",
        "train.max_steps=1000000",
        "--set",
        "eval.every_steps=",
        "--set",
        "eval.every=never",
        "--set",
        "checkpoint.at_eval=",
        "--set",
        "train.epochs=1000",
        "--set",
        "comm.timeout_seconds=3",
    ];
    let child = home.command(ranks, &root, &[&RUN[..], &more, set].concat()).spawn().unwrap();
    let began = Instant::now();
    let trains = || {
        let mut folders = vec![root.join("results")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() == "result_0.txt" {
                    let log = fs::read_to_string(entry.path()).unwrap_or_default();
                    return log.contains("run_start");
                }
            }
        }
        false
    };
    while !trains() || pids(&root).len() < ranks {
        assert!(began.elapsed() < PATIENCE, "they never train");
        sleep(Duration::from_millis(50));
    }
    sleep(after);
    let pid = pids(&root)[&rank];
    // SAFETY: kill has no memory of ours; the process is a rank of this test's run.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    let began = Instant::now();
    let output = end(child);
    // Whoever was stopped is not left behind.
    for pid in pids(&root).into_values() {
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    (output, began.elapsed())
}
