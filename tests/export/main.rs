//! Models that leave the program, and come back: `dlrm-bench export`, and `train.start_from`.

use dlrm_bench::{batch::Bags, checkpoint::Loaded};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

#[path = "../support/npz.rs"]
#[allow(dead_code)]
mod npz;
mod onnx;
mod start;
mod torch;

/// A folder to work in.
struct Bench {
    dir: TempDir,
}

impl Bench {
    /// With a workload in it.
    fn new(workload: &str) -> Self {
        let bench = Bench { dir: tempfile::tempdir().unwrap() };
        bench.write("w.toml", workload);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn dlrm(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// A command that must work.
    fn good(&self, args: &[&str]) -> String {
        let output = self.dlrm(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
        text(&output)
    }

    /// The one line that a command refuses with.
    fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.dlrm(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        told
    }

    /// Trains on a workload, and gives the folder of the run.
    fn train(&self, workload: &str, set: &[&str]) -> PathBuf {
        let before = self.runs();
        let set = set.iter().flat_map(|s| ["--set", s]);
        let fixed = ["run", workload, "--quiet", "--no-plots", "--no-ceilings"];
        self.good(&fixed.into_iter().chain(set).collect::<Vec<_>>());
        self.runs().into_iter().find(|run| !before.contains(run)).unwrap()
    }

    fn runs(&self) -> Vec<PathBuf> {
        let inside = |folder: PathBuf| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
        };
        inside(self.path("results")).into_iter().flat_map(inside).flat_map(inside).collect()
    }
}

/// The newest checkpoint of a run.
fn checkpoint(run: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all.pop().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// All tensors of a model, as bits.
fn tensors(of: &Loaded) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let one = |name: &str| {
        let view = of.tensors.get(name).unwrap();
        let mut values = vec![0.0; view.shape.iter().product()];
        view.copy(0, &mut values);
        let bits = values.into_iter().map(f32::to_bits).collect();
        (name.to_owned(), view.shape.to_vec(), bits)
    };
    of.tensors.names().map(one).collect()
}

/// Asks that two models have the same tensors, bit by bit; names those that differ.
fn same(a: &[(String, Vec<usize>, Vec<u32>)], b: &[(String, Vec<usize>, Vec<u32>)], what: &str) {
    let lacks = |a: &[(String, Vec<usize>, Vec<u32>)], b: &[(String, Vec<usize>, Vec<u32>)]| {
        let other = a.iter().filter(|t| !b.contains(t));
        other.map(|(name, shape, _)| format!("{name} {shape:?}")).collect::<Vec<_>>()
    };
    assert_eq!((lacks(a, b), lacks(b, a)), (vec![], vec![]), "{what}");
}

/// Runs `script` with Python (`DLRM_BENCH_PYTHON`, or `python3`), where that has the modules; says so
/// where it has not.
fn python(modules: &[&str], script: &str, args: &[&Path]) -> bool {
    let program = std::env::var("DLRM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let run =
        |code: &str, args: &[&Path]| Command::new(&program).arg("-c").arg(code).args(args).output();
    if !run(&format!("import {}", modules.join(", ")), &[]).is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {program} with {} is not there", modules.join(", "));
        return false;
    }
    let output = run(script, args).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// A file of `../shared`, where that is.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is missing", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap())
}

/// That of facebook's command (stores-README.txt beside the files), on data of its generator.
const FACEBOOK: &str = r#"
[workload]
name = "facebook"
[data]
source = "numpy_random"
tables = [40, 7, 3, 1]
dense = 13
samples = 96
indices_per_lookup = 3
round_targets = true
[model]
kind = "dlrm"
dim = 16
bottom = [8, 16]
top = [8, 4, 1]
[train]
batch_size = 16
[optimizer]
kind = "RULE"
learning_rate = 0.1
[eval]
every_steps = 3
"#;

/// The update rules of facebook's files, and ours.
const RULES: [(&str, &str); 3] =
    [("sgd", "sgd"), ("adagrad", "adagrad"), ("rwsadagrad", "rowwise_adagrad")];

/// The batch that was given to facebook's models: dense values, bags, labels.
fn expected() -> Option<(std::collections::HashMap<String, npz::Array>, Vec<Bags>)> {
    let all = npz::read(&shared("reference/facebook_pt/facebook_expected.npz")?);
    let bags = |k: usize| {
        let whole = |name: &str| -> Vec<u32> {
            all[&format!("{name}_{k}")].values.iter().map(|&v| v as u32).collect()
        };
        let mut offsets = whole("offsets");
        let indices = whole("indices");
        offsets.push(indices.len() as u32);
        Bags::new(indices, offsets)
    };
    let bags = (0..4).map(bags).collect();
    Some((all, bags))
}
