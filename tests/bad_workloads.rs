//! Broken workload files, one by one through the binary: each is refused in one line that names
//! file, line, key and what would be right, with exit code 64, before anything is read or written.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const GOOD: &str = r#"[workload]
name = "small"

[data]
source = "planted"
preset = "custom"
tables = [50, 60]
dense = 3
train_samples = 1000
eval_samples = 500

[model]
kind = "dlrm"
dim = 16
bottom = [32, 16]
top = [64, 1]

[train]
batch_size = 128

[optimizer]
kind = "sgd"
learning_rate = 0.1

[eval]
batch_size = 256

[target]
auc = 0.7
"#;

fn run(dir: &Path, file: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir)
        .env_remove("DLRM_BENCH_NO_SUCH_VARIABLE")
        .arg("run")
        .arg(file)
        .args(args)
        .output()
        .unwrap()
}

/// The one line on standard error without `error: `.
fn refusal(output: &Output, code: i32) -> String {
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(output.stdout.is_empty());
    let line = err.strip_prefix("error: ").unwrap_or_else(|| panic!("{err:?}"));
    let line = line.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{err}");
    line.to_owned()
}

/// What is replaced in GOOD by what, and the message: `LINE: KEY: WHAT`, the file's name in front
/// of it.
const BROKEN: &[(&str, &str, &str)] = &[
    // Not TOML.
    ("dim = 16", "dim 16", "14: not valid TOML: "),
    ("dim = 16", "dim = 16\ndim = 8", "15: not valid TOML: duplicate key"),
    ("top = [64, 1]", "top = [64, 1", "18: not valid TOML: "),
    ("name = \"small\"", "name = small", "2: not valid TOML: "),
    // Sections and keys that do not exist, or stand in the wrong place.
    ("[train]", "[training]", "18: training: unknown section; did you mean [train]?"),
    (
        "[train]",
        "[zebra]",
        "18: zebra: unknown section; the sections are [workload] [data] [loader] [model] ",
    ),
    (
        "batch_size = 128",
        "batchsize = 128",
        "19: train.batchsize: unknown key; did you mean batch_size?",
    ),
    (
        "batch_size = 128",
        "batch_size = 128\nauc = 0.8",
        "20: train.auc: unknown key; did you mean target.auc?",
    ),
    (
        "[train]\nbatch_size = 128",
        "[[train]]\nbatch_size = 128",
        "18: train: must be a section: write [train] once and its keys below it",
    ),
    (
        "dim = 16",
        "dim = 16\nhidden = [4]",
        "15: model.hidden: has no effect here, it belongs to model.kind = \"deepfm\"; remove it",
    ),
    (
        "learning_rate = 0.1",
        "learning_rate = 0.1\nbeta1 = 0.9",
        "24: optimizer.beta1: has no effect here, it belongs to optimizer.kind = \"adam\" or \"adam_async\"; remove it",
    ),
    // Essentials that are missing.
    (
        "kind = \"sgd\"\n",
        "",
        "21: optimizer.kind: missing; must be \"sgd\", \"adagrad\", \"rowwise_adagrad\", \"adam\", \"adagrad_decay\" or \"adam_async\"",
    ),
    (
        "[data]\nsource = \"planted\"\npreset = \"custom\"\ntables = [50, 60]\ndense = 3\ntrain_samples = 1000\neval_samples = 500\n",
        "",
        "1: data.source: missing; must be ",
    ),
    // Types.
    (
        "batch_size = 128",
        "batch_size = \"many\"",
        "19: train.batch_size: is \"many\"; must be a whole number that is not negative",
    ),
    (
        "batch_size = 128",
        "batch_size = -1",
        "19: train.batch_size: is -1; must be a whole number that is not negative",
    ),
    (
        "batch_size = 128",
        "batch_size = 12.5",
        "19: train.batch_size: is 12.5; must be a whole number that is not negative",
    ),
    (
        "batch_size = 128",
        "batch_size = 128\ndrop_last = 1",
        "20: train.drop_last: is 1; must be true or false",
    ),
    (
        "top = [64, 1]",
        "top = [64, \"1\"]",
        "16: model.top: entry 2 is \"1\"; must be a whole number that is not negative",
    ),
    (
        "learning_rate = 0.1",
        "learning_rate = nan",
        "23: optimizer.learning_rate: is nan; must be a number",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adagrad_decay\"\ndecay_step = 0",
        "23: optimizer.decay_step: is 0; must be at least 1",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adagrad_decay\"\ndecay_rate = 1.5",
        "23: optimizer.decay_rate: is 1.5; must be from 0 to 1",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adagrad_decay\"\ninitial_accumulator = 0",
        "23: optimizer.initial_accumulator: is 0; must be above 0",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adagrad_decay\"\neps = 1e-8",
        "23: optimizer.eps: has no effect here, it belongs to optimizer.kind = \"adagrad\", \"rowwise_adagrad\", \"adam\" or \"adam_async\"; remove it",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adam_async\"\nnesterov = 1",
        "23: optimizer.nesterov: is 1; must be true or false",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adam_async\"\nbeta2 = 1.0",
        "23: optimizer.beta2: is 1; must be from 0 to below 1",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adam\"\napply_sparse_rmsprop = true",
        "23: optimizer.apply_sparse_rmsprop: has no effect here, it belongs to optimizer.kind = \"adam_async\"; remove it",
    ),
    // Words.
    (
        "kind = \"sgd\"",
        "kind = \"adagard\"",
        "22: optimizer.kind: is \"adagard\"; must be \"sgd\", \"adagrad\", \"rowwise_adagrad\", \"adam\", \"adagrad_decay\" or \"adam_async\" (did you mean \"adagrad\"?)",
    ),
    (
        "source = \"planted\"",
        "source = \"hdf5\"",
        "5: data.source: is \"hdf5\"; must be \"planted\", \"numpy_random\", \"criteo_tsv\", \"prepared\", \"csv\", \"bin40\", \"parquet\", \"npz\", \"npz-day\", \"npz-reordered\", \"npy-intermediate\", \"numpy\", \"torchrec\", \"nvidia\", \"hugectr\", \"fuxictr\", \"deeprec\", \"libsvm\" or \"libfm\"",
    ),
    (
        "dim = 16",
        "dim = 16\npooling = \"weighted_mean\"",
        "15: model.pooling: is \"weighted_mean\"; must be \"sum\", \"mean\", ",
    ),
    (
        "[eval]",
        "[engine]\nprecision = \"tf32\"\n[eval]",
        "26: engine.precision: \"tf32\" is computed by GPUs only; use \"fp32\", or engine.device = \"cuda:0\"",
    ),
    (
        "[eval]",
        "[engine]\nprecision = \"fp8\"\n[eval]",
        "26: engine.precision: is \"fp8\"; must be \"fp32\", \"tf32\", \"bf16\" or \"fp16\"",
    ),
    #[cfg(not(feature = "candle-cuda"))]
    (
        "[eval]",
        "[engine]\nkind = \"candle\"\ndevice = \"cuda:0\"\n[eval]",
        "27: engine.device: this program has no CUDA side of candle's (cargo build --features candle-cuda); use the fused engine, or the CPU",
    ),
    (
        "[eval]",
        "[engine]\nkind = \"candle\"\nprecision = \"bf16\"\n[eval]",
        "27: engine.precision: has no effect here, it belongs to engine.kind = \"fused\"",
    ),
    (
        "[eval]",
        "[engine]\nprecision = \"bf16\"\nloss_scale = 8\n[eval]",
        "27: engine.loss_scale: has no effect here, it belongs to engine.precision = \"fp16\"",
    ),
    (
        "[eval]",
        "[engine]\nprecision = \"fp16\"\nloss_scale = 0\n[eval]",
        "27: engine.loss_scale: is 0; must be from 2^-24 to 2^60",
    ),
    (
        "[eval]",
        "[engine]\ndevice = \"tpu\"\n[eval]",
        "26: engine.device: is \"tpu\"; must be \"cpu\", \"cuda:N\"",
    ),
    (
        "name = \"small\"",
        "name = \"a/b\"",
        "2: workload.name: is \"a/b\"; must be letters, digits, ",
    ),
    (
        "name = \"small\"",
        "name = \"small\"\nquirks = [\"fb.x\"]",
        "3: workload.quirks: entry 1 is \"fb.x\"; must be \"fb.lr-plateau\", ",
    ),
    (
        "name = \"small\"",
        "name = \"small\"\nquirks = [\"dr.bn-batch-stats-in-eval\"]",
        "3: workload.quirks: \"dr.bn-batch-stats-in-eval\" needs model.kind = \"dlrm\" with model.batch_norm = true",
    ),
    (
        "name = \"small\"",
        "name = \"small\"\nquirks = [\"dr.top-mlp-dead-layer\"]",
        "3: workload.quirks: \"dr.top-mlp-dead-layer\" needs model.kind = \"dlrm\" with at least two hidden layers",
    ),
    // Ranges.
    (
        "batch_size = 128",
        "batch_size = 0",
        "19: train.batch_size: is 0; must be from 1 to 16777216",
    ),
    ("batch_size = 256", "batch_size = 0", "26: eval.batch_size: is 0; must be from 1 to 16777216"),
    ("auc = 0.7", "auc = 0.5", "29: target.auc: is 0.5; must be above 0.5 (chance) and below 1"),
    ("auc = 0.7", "auc = 70", "29: target.auc: is 70; must be above 0.5 (chance) and below 1"),
    (
        "learning_rate = 0.1",
        "learning_rate = -0.1",
        "23: optimizer.learning_rate: is -0.1; must be above 0",
    ),
    (
        "learning_rate = 0.1",
        "learning_rate = 0.1\nclip_norm = 0",
        "24: optimizer.clip_norm: is 0; must be above 0; leave it out for no clipping",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adam\"\nbeta2 = 1.0",
        "23: optimizer.beta2: is 1; must be from 0 to below 1",
    ),
    (
        "kind = \"sgd\"",
        "kind = \"adagrad\"\neps = 0",
        "23: optimizer.eps: is 0 with initial_accumulator 0, so a zero gradient divides by 0; make one of them above 0",
    ),
    (
        "kind = \"dlrm\"\ndim = 16\nbottom = [32, 16]\ntop = [64, 1]",
        "kind = \"deepfm\"\ndim = 16\nhidden = [8]\ndropout = 1.0",
        "16: model.dropout: is 1; must be from 0 to below 1",
    ),
    (
        "batch_size = 128",
        "batch_size = 128\nloss_clamp = 0.7",
        "20: train.loss_clamp: is 0.7; must be from 0 (off) to below 0.5",
    ),
    (
        "batch_size = 128",
        "batch_size = 128\nloss = \"wbce\"\nloss_weights = [1.0]",
        "21: train.loss_weights: must be two weights, of class 0 and class 1, not negative and not both 0",
    ),
    // Shapes and combinations that make no sense.
    (
        "bottom = [32, 16]",
        "bottom = [64, 32]",
        "15: model.bottom: last width is 32, but model.dim is 16; make them equal",
    ),
    ("top = [64, 1]", "top = [64, 2]", "16: model.top: last width is 2; must be 1, the logit"),
    ("top = [64, 1]", "top = []", "16: model.top: is empty; must hold at least one width"),
    (
        "top = [64, 1]",
        "top = [64, 1]\ninteraction = \"cat\"\npad_to = 8",
        "18: model.pad_to: is 8; padding exists only with interaction = \"dot\", but it is \"cat\"; remove it",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\ninteraction = \"cross\"\ncross_layers = 0",
        "18: model.cross_layers: is 0; must be from 1 to 100",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\ninteraction = \"cross\"\ncross_rank = 0",
        "18: model.cross_rank: is 0; must be from 1 to 1048576; without it weights have full rank",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\ncross_rank = 8",
        "17: model.cross_rank: has no effect here, it belongs to model.interaction = \"cross\"; remove it",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\ninteraction = \"cross\"\npad_to = 8",
        "18: model.pad_to: has no effect here, it belongs to model.interaction = \"dot\"; remove it",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\ninteraction = \"projection\"\nbranch1 = [40]\nbranch2 = [32]",
        "18: model.branch1: last width is 40; must be a multiple of model.dim, 16",
    ),
    (
        "bottom = [32, 16]",
        "bottom = [32, 16]\ntrick = \"qr\"\nqr_operation = \"concat\"",
        "15: model.bottom: last width is 16; must be 32, twice model.dim, with model.qr_operation = \"concat\"",
    ),
    (
        "bottom = [32, 16]",
        "bottom = [32, 16]\ntrick = \"qr\"\nqr_collisions = 0",
        "17: model.qr_collisions: is 0; must be from 1 to 4294967295",
    ),
    (
        "bottom = [32, 16]",
        "bottom = [32, 16]\nqr_collisions = 4",
        "16: model.qr_collisions: has no effect here, it belongs to model.trick = \"qr\"; remove it",
    ),
    (
        "bottom = [32, 16]",
        "bottom = [32, 16]\ntrick = \"md\"\nmd_temperature = -0.5",
        "17: model.md_temperature: is -0.5; must be 0 or more",
    ),
    (
        "dim = 16\nbottom = [32, 16]",
        "dim = 12\nbottom = [32, 12]\ntrick = \"md\"\nmd_round_dims = true",
        "17: model.md_round_dims: is true, but model.dim is 12; must be false, or model.dim a power of two",
    ),
    (
        "bottom = [32, 16]",
        "bottom = [32, 16]\ntrick = \"qr\"\npooling = \"weighted_fixed\"",
        "17: model.pooling: weights rows of which each has one id, but model.trick is \"qr\"; use \"sum\" or \"mean\"",
    ),
    (
        "name = \"small\"",
        "name = \"small\"\nquirks = [\"fb.qr-init\"]",
        "3: workload.quirks: \"fb.qr-init\" needs model.trick = \"qr\"; remove it",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\nbranch2 = [32]",
        "17: model.branch2: has no effect here, it belongs to model.interaction = \"projection\"; remove it",
    ),
    (
        "[eval]",
        "[schedule]\nkind = \"facebook_policy\"\nwarmup_steps = 10\ndecay_start_step = 5\n[eval]",
        "28: schedule.decay_start_step: is 5, before the warm-up's end; must be at least warmup_steps, 10",
    ),
    (
        "[eval]",
        "[schedule]\nkind = \"multi_step\"\nmilestones = [20, 10]\n[eval]",
        "27: schedule.milestones: is [20, 10]; must be rising step numbers",
    ),
    (
        "[eval]",
        "[schedule]\nkind = \"reduce_on_plateau\"\n[eval]\nevery = \"end\"",
        "26: schedule.kind: \"reduce_on_plateau\" acts on evaluations; give eval.every_steps or eval.every_epochs",
    ),
    (
        "batch_size = 256",
        "batch_size = 256\nevery_steps = 5\nevery_epochs = 0.5",
        "28: eval.every_epochs: stands beside eval.every_steps; leave one of them out (--set eval.every_epochs= takes this one out)",
    ),
    (
        "batch_size = 256",
        "batch_size = 256\nevery = \"never\"",
        "30: target.auc: needs evaluations, but eval.every is \"never\"; remove it, or give eval.every_steps",
    ),
    (
        "auc = 0.7",
        "auc = 0.7\nshare_of_best = 0.9",
        "30: target.share_of_best: stands beside target.auc; leave one of them out ",
    ),
    (
        "top = [64, 1]",
        "top = [64, 1]\ninit_rng = \"numpy\"",
        "17: model.init_rng: \"numpy\" goes on from the generator of the data, so data.source must be ",
    ),
    (
        "dense = 3",
        "dense = 3\nhotness = [1]",
        "9: data.hotness: has 1 entries, but data.tables has 2; must have one for each table",
    ),
    (
        "dense = 3",
        "dense = 3\nexponents = [1.1, 4.5]",
        "9: data.exponents: is 4.5; must be exponents from 0 (all ids alike) to 4",
    ),
    (
        "[target]",
        "[mlperf]\nbenchmark = \"deepfm\"\n[target]",
        "29: mlperf.benchmark: is \"deepfm\", but model.kind is \"dlrm\"; must be \"dlrm\" or \"dlrm_dcnv2\"",
    ),
    (
        "auc = 0.7",
        "auc = 0.7\naccuracy = 78.9",
        "30: target.accuracy: is 78.9; must be above 0 and below 1",
    ),
    // Other sources.
    (
        "source = \"planted\"\npreset = \"custom\"\ntables = [50, 60]\ndense = 3\ntrain_samples = 1000\neval_samples = 500",
        "source = \"csv\"\ntrain = \"${DLRM_BENCH_NO_SUCH_VARIABLE}/a.csv\"\neval = \"b.csv\"\nlabel = \"y\"",
        "6: data.train: needs the environment variable DLRM_BENCH_NO_SUCH_VARIABLE, which is not set; set it, or write the path out",
    ),
    (
        "source = \"planted\"\npreset = \"custom\"\ntables = [50, 60]\ndense = 3\ntrain_samples = 1000\neval_samples = 500",
        "source = \"csv\"\ntrain = \"a.csv\"\neval = \"b.csv\"\nlabel = \"y\"\ndense = [\"y\"]",
        "9: data.dense: names \"y\", which data.label names already; must name each column once",
    ),
    (
        "source = \"planted\"\npreset = \"custom\"\ntables = [50, 60]\ndense = 3\ntrain_samples = 1000\neval_samples = 500",
        "source = \"criteo_tsv\"\nset = \"terabyte\"\npaths = [\"day_0\"]",
        "7: data.paths: names 1 file(s); must name the day files in order, at least 2, since the last one is for evaluation",
    ),
];

#[test]
fn broken_workload_files_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (what, by, message) in BROKEN {
        assert!(GOOD.contains(what), "{what}");
        std::fs::write(dir.path().join("w.toml"), GOOD.replacen(what, by, 1)).unwrap();
        let line = refusal(&run(dir.path(), "w.toml", &[]), 64);
        assert!(
            line.starts_with(&format!("w.toml:{message}")),
            "\n  is: {line}\nmust: w.toml:{message}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was written");
    }
}

/// What only the data tell.
#[test]
fn vectors_of_two_widths_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let concat = "bottom = [32, 32]\ntrick = \"qr\"\nqr_operation = \"concat\"\nqr_threshold = 50";
    let text = GOOD.replacen("bottom = [32, 16]", concat, 1);
    std::fs::write(dir.path().join("w.toml"), text).unwrap();
    let line = refusal(&run(dir.path(), "w.toml", &["--quiet"]), 64);
    let message = "model.qr_operation: \"concat\" makes vectors twice as wide, so that no column may keep a table of its own, but column C1 has 50 ids, not more than model.qr_threshold = 50; lower that, or use \"mult\" or \"add\"";
    assert!(line.ends_with(message), "{line}");
}

#[test]
fn broken_overrides_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.toml"), GOOD).unwrap();
    for (set, message) in [
        ("train.batch_size=0", "--set train.batch_size: is 0; must be from 1 to 16777216"),
        ("train.micro_batches=0", "--set train.micro_batches: is 0; must be from 1 to 16777216"),
        (
            "train.micro_batches=5000",
            "--set train.micro_batches: is 5000; must be at most train.batch_size, 128",
        ),
        (
            "train.micro_batches=100",
            "--set train.micro_batches: is 100, but 128 samples in parts of one size are 64 of them, not 100; use 64",
        ),
        (
            "train.batch_size=lots",
            "--set train.batch_size: is \"lots\"; must be a whole number that is not negative",
        ),
        (
            "data.positive_rate=0.0001",
            "--set data.positive_rate: is 0.0001; must be from 0.001 to 0.999",
        ),
        (
            "data.hotness=[5000, 1]",
            "--set data.hotness: is 5000; must be ids a sample, from 1 to 4096",
        ),
        (
            "data.tables=[3000000000, 60]",
            "--set data.tables: is 3000000000; must be rows up to 2147483648",
        ),
        (
            "model.dim=8",
            "w.toml:15: model.bottom: last width is 16, but model.dim is 8; make them equal",
        ),
        (
            "train.batch_size",
            "--set train.batch_size: must be KEY=VALUE, as in --set train.batch_size=4096",
        ),
        ("traim.batch_size=1", "--set traim.batch_size: unknown section; did you mean [train]?"),
        ("model.top=[4, 1", "--set model.top: not a TOML value: "),
        (
            "optimizer.beta1=0.5",
            "--set optimizer.beta1: has no effect here, it belongs to optimizer.kind = \"adam\" or \"adam_async\"; remove it",
        ),
    ] {
        let line = refusal(&run(dir.path(), "w.toml", &["--set", set]), 64);
        assert!(line.starts_with(message), "\n  is: {line}\nmust: {message}");
    }
}

#[test]
fn files_that_are_no_workloads_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let line = refusal(&run(dir.path(), "missing.toml", &[]), 64);
    assert!(line.starts_with("missing.toml: cannot be read: "), "{line}");
    std::fs::write(dir.path().join("binary.toml"), [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(
        refusal(&run(dir.path(), "binary.toml", &[]), 64),
        "binary.toml: not a text file (UTF-8); must be a workload in TOML"
    );
    std::fs::write(dir.path().join("empty.toml"), "").unwrap();
    assert!(
        refusal(&run(dir.path(), "empty.toml", &[]), 64)
            .starts_with("empty.toml:1: workload.name: missing; must be ")
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    for (args, right) in [
        (&["--engine", "torch"][..], "[possible values: "),
        (&["--threads", "-1"], "must be a whole number from 0 to 1024"),
        (&["--seed", "x"], "must be a whole number from 0"),
        (
            &["--seed", "9223372036854775808"],
            "must be a whole number from 0 to 9223372036854775807",
        ),
        (&["--seeds", "1,-2"], "must be a whole number from 0"),
        (&["--runs", "0"], "must be a whole number from 1 to 10000"),
        (&["--no-such-flag"], "unexpected argument"),
        (&["--quiet", "--json"], "cannot be used with"),
    ] {
        let output = run(dir.path(), "w.toml", args);
        assert_eq!(output.status.code(), Some(64));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with("error: ") && error.contains(right), "{error}");
    }
}

/// Every workload file that is shipped, and those of the tests, can be read where its data is said
/// to be.
#[test]
fn shipped_workloads_are_right() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["workloads", "src/selftest/facebook", "tests/workloads/facebook"] {
        files.extend(std::fs::read_dir(root.join(dir)).unwrap().map(|f| f.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    assert!(files.len() >= 5);
    for file in files {
        let output = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .envs(
                ["FRAPPE", "ADULT", "CRITEO_KAGGLE", "CRITEO_1TB", "KAGGLE_8000", "DEEPREC_DATA"]
                    .map(|name| (name, "/somewhere")),
            )
            .args(["run", "--explain"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
