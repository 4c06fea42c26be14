//! facebookresearch/dlrm's runs, replayed from workload files, digit by digit, with both engines.

#[path = "support/facebook.rs"]
mod facebook;

use dlrm_bench::{
    batch::Batch,
    data::loader,
    engine::{Engine, EngineKind},
    metrics::{self, Quality},
    train::{
        self, Job,
        events::{EvalEvent, Listener, StepEvent},
    },
    workload::{Workload, parse},
};
use facebook::Transcript;
use std::{path::Path, sync::atomic::AtomicBool};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ENGINES: [EngineKind; 2] = [EngineKind::Fused, EngineKind::Candle];
/// Losses are printed with 6 digits.
const LOSS: f64 = 2e-6;
/// Parameters are printed with 5 digits.
const PARAMETER: f64 = 1e-5;

/// What the loop tells.
#[derive(Default)]
struct Heard {
    losses: Vec<f64>,
    evals: Vec<Quality>,
}

impl Listener for Heard {
    fn step(&mut self, step: &StepEvent) -> std::io::Result<()> {
        self.losses.push(f64::from(step.loss));
        Ok(())
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> std::io::Result<()> {
        self.evals.push(eval.quality);
        Ok(())
    }
}

fn workload(file: &str, engine: EngineKind, set: &[&str]) -> Workload {
    let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
    let mut workload = parse::load(&Path::new(ROOT).join(file), &set).unwrap().workload;
    workload.engine.kind = engine;
    workload
}

fn reference(name: &str) -> Option<Transcript> {
    let path = Path::new(ROOT).join("../shared/reference/facebook").join(format!("{name}.txt"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(Transcript::parse(&text)),
        Err(_) => {
            eprintln!("skipped: {} is not there", path.display());
            None
        }
    }
}

/// All parameters one after another, in the model's order.
fn parameters(engine: &dyn Engine) -> Vec<f64> {
    let mut all = Vec::new();
    for (i, p) in engine.params().iter().enumerate() {
        let mut values = vec![0.0; p.len()];
        engine.read(i, &mut values).unwrap();
        all.extend(values.iter().map(|&v| f64::from(v)));
    }
    all
}

/// Trains, and gives what was heard and the parameters at the end.
fn run(workload: &Workload) -> (Heard, Vec<f64>) {
    let mut heard = Heard::default();
    let stop = AtomicBool::new(false);
    let finished = train::run(&Job { workload, stop: &stop }, &mut [&mut heard]).unwrap();
    (heard, parameters(&*finished.engine))
}

fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}: how many");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what} {i}: {a}, but the original has {b}");
    }
}

/// Replays one transcript of `../shared/reference/facebook` with both engines.
fn replay(name: &str) {
    let Some(theirs) = reference(name) else { return };
    assert!(!theirs.losses.is_empty());
    for kind in ENGINES {
        let what = |part: &str| format!("{name}, {kind:?}, {part}");
        let workload = workload(&format!("tests/workloads/facebook/{name}.toml"), kind, &[]);
        if !theirs.initial.is_empty() {
            let prepared = train::prepare(&workload).unwrap();
            assert_close(
                &what("initial parameter"),
                &parameters(&*prepared.engine),
                &theirs.initial,
                PARAMETER,
            );
        }
        let (heard, parameters) = run(&workload);
        assert_close(&what("loss"), &heard.losses, &theirs.losses, LOSS);
        if !theirs.updated.is_empty() {
            assert_close(&what("updated parameter"), &parameters, &theirs.updated, PARAMETER);
        }
    }
}

macro_rules! replays {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name));
        }
    )+};
}

replays! {
    adagrad, bce_sgd, lr_schedule, mse_cat, rwsadagrad, tiny_cat_debug, tiny_debug, tiny_self_debug, two_epochs, wbce, weighted_fixed,
}

#[test]
fn every_transcript_is_replayed() {
    let Ok(folder) = std::fs::read_dir(Path::new(ROOT).join("../shared/reference/facebook")) else {
        return;
    };
    for file in folder {
        let name = file.unwrap().file_name().into_string().unwrap();
        if let Some(stem) = name.strip_suffix(".txt") {
            let workload =
                Path::new(ROOT).join("tests/workloads/facebook").join(format!("{stem}.toml"));
            assert!(workload.exists(), "{name} has no workload");
        }
    }
}

/// The README's own transcript: losses and all updated parameters as the README prints them.
#[test]
fn readme() {
    for kind in ENGINES {
        let (heard, parameters) = run(&workload("workloads/facebook-readme.toml", kind, &[]));
        assert_close("README's loss", &heard.losses, &[0.451893, 0.402002, 0.275460], LOSS);
        assert_close("README's parameter", &parameters, &README_PARAMETERS, PARAMETER);
    }
}

/// From raw lines to the last metrics, ties settled: see [`TIES`].
#[test]
fn kaggle_8000() {
    let Some(theirs) = kaggle_reference() else { return };
    for kind in ENGINES {
        let heard = run_settled(&kaggle(kind));
        // The issue asks for 1e-4 and 5e-4; with ties settled nothing but the rounding of the
        // printed digits remains.
        assert_close(&format!("{kind:?}, loss"), &heard.losses, &theirs.losses, 1e-5);
        assert_eq!(heard.evals.len(), 6);
        for (i, (q, t)) in heard.evals.iter().zip(&theirs.tests).enumerate() {
            let ours = [q.recall, q.precision, q.f1, q.average_precision, q.auc, q.accuracy];
            assert_close(&format!("{kind:?}, test {i}, metric"), &ours, t, 1e-4);
        }
    }
}

/// The same by the training loop, without a touch. Which side of a tie an engine takes is its own
/// affair, so losses agree to 1e-4 up to where the first tie shows, and to 5e-3 after it; the AUC
/// of the 571 samples to 2e-3.
#[test]
fn kaggle_8000_untouched() {
    let Some(theirs) = kaggle_reference() else { return };
    for kind in ENGINES {
        let heard = run(&kaggle(kind)).0;
        assert_close(&format!("{kind:?}, loss"), &heard.losses[..16], &theirs.losses[..16], 1e-4);
        assert_close(&format!("{kind:?}, loss"), &heard.losses, &theirs.losses, 5e-3);
        let auc = |(q, t): (&Quality, &[f64; 6])| (q.auc, t[4]);
        let (ours, theirs): (Vec<_>, Vec<_>) =
            heard.evals.iter().zip(&theirs.tests).map(auc).unzip();
        assert_close(&format!("{kind:?}, AUC"), &ours, &theirs, 2e-3);
    }
}

fn kaggle(kind: EngineKind) -> Workload {
    workload("tests/workloads/facebook/kaggle_8000.toml", kind, &[])
}

fn kaggle_reference() -> Option<Transcript> {
    if !Path::new(ROOT).join("../shared/data/criteo_sample/kaggle_8000.txt").exists() {
        eprintln!("skipped: the sample of Criteo's lines is not there");
        return None;
    }
    let theirs = reference("kaggle_8000")?;
    assert_eq!((theirs.losses.len(), theirs.tests.len()), (54, 6));
    Some(theirs)
}

/// Units whose input, somewhere in the 54 steps of `kaggle_8000`, is 0 but for rounding: within
/// 3e-7 of the sum of its terms' sizes, out of some 11 million inputs. There ReLU lets a gradient
/// pass or not as the order of a sum happens to round, and the two continuations drift apart by
/// 1e-3 in loss. `(bias, unit, sign of the input in the original)`; found by replaying the run in
/// numpy, where two of them (step 12, `bot_l.2` unit 203; step 18, `top_l.2` unit 227) had to be
/// turned over by hand for all 54 losses to agree with the original within 1e-6.
const TIES: [(&str, usize, f32); 19] = [
    ("bot_l.0.bias", 428, 1.0),
    ("bot_l.0.bias", 264, 1.0),
    ("bot_l.0.bias", 108, 1.0),
    ("bot_l.0.bias", 59, -1.0),
    ("bot_l.0.bias", 253, 1.0),
    ("bot_l.0.bias", 330, -1.0),
    ("bot_l.2.bias", 203, -1.0),
    ("bot_l.2.bias", 235, 1.0),
    ("bot_l.2.bias", 148, 1.0),
    ("bot_l.4.bias", 17, -1.0),
    ("top_l.0.bias", 113, 1.0),
    ("top_l.0.bias", 130, 1.0),
    ("top_l.2.bias", 227, -1.0),
    ("top_l.2.bias", 231, -1.0),
    ("top_l.2.bias", 155, -1.0),
    ("top_l.2.bias", 138, -1.0),
    ("top_l.2.bias", 228, 1.0),
    ("top_l.2.bias", 114, -1.0),
    ("top_l.2.bias", 132, 1.0),
];

/// Trains and evaluates as the loop does, from initial parameters with the ties settled.
fn run_settled(workload: &Workload) -> Heard {
    let mut engine = train::prepare(workload).unwrap().engine;
    settle_ties(&mut *engine);
    let mut data = workload.open_data().unwrap();
    let train = loader::read_all(&mut *data.train, workload.train.batch_size).unwrap();
    let eval = loader::read_all(&mut *data.eval, workload.eval.batch_size).unwrap();
    let mut heard = Heard::default();
    for (i, batch) in train.iter().enumerate() {
        let loss = engine.train_step(batch, workload.optimizer.learning_rate).unwrap();
        heard.losses.push(f64::from(loss));
        if (i + 1) % 10 == 0 || i + 1 == train.len() {
            heard.evals.push(evaluate(&mut *engine, &eval));
        }
    }
    heard
}

fn evaluate(engine: &mut dyn Engine, batches: &[Batch]) -> Quality {
    let (mut predictions, mut labels) = (Vec::new(), Vec::new());
    for batch in batches {
        let at = predictions.len();
        predictions.resize(at + batch.len, 0.0);
        engine.predict(batch, &mut predictions[at..]).unwrap();
        labels.extend_from_slice(&batch.labels);
    }
    metrics::quality(&predictions, &labels).unwrap()
}

/// Moves the initial bias of each tied unit by 1e-6 to the original's side: more than rounding, and
/// a hundredth of what the losses are held to.
fn settle_ties(engine: &mut dyn Engine) {
    for (name, unit, sign) in TIES {
        let index = engine.params().iter().position(|p| p.name == name).unwrap();
        let mut bias = vec![0.0; engine.params()[index].len()];
        engine.read(index, &mut bias).unwrap();
        bias[unit] += sign * 1e-6;
        engine.write(index, &bias).unwrap();
    }
}

/// Tables, then weight and bias of each layer, bottom before top.
#[rustfmt::skip]
const README_PARAMETERS: [f64; 90] = [
    0.05430, -0.11120, 0.42513, 0.34167, -0.14283, -0.45679, -0.19532, -0.10197,
    0.23667, 0.57199, -0.16660, 0.30285, 0.10751, 0.22124,
    -0.49338, -0.14301, -0.36664, -0.22164,
    0.51313, 0.66663, 0.10591, 0.13090, 0.32196, 0.66154, 0.84649, 0.55324, 0.85444, 0.38482, 0.31677, 0.35425,
    0.17109, 0.82907, 0.33863,
    0.55238, 0.57857, 0.52154, 0.00265, 0.98825, 0.90528,
    0.20764, 0.29244,
    0.51996, 0.90184, 0.98368, 0.25752, 0.56436, 0.80700, 0.39437, 0.73107,
    0.16096, 0.60055, 0.86596, 0.98348, 0.07938, 0.42842, 0.20453, 0.45064,
    0.54760, 0.09310, 0.29701, 0.92752, 0.56902, 0.45752, 0.75351, 0.74187,
    0.04849, 0.70857, 0.83933, 0.16590, 0.78101, 0.28660, 0.30646, 0.66526,
    0.11137, 0.66482, 0.88778, 0.69627,
    0.44029, 0.43816, 0.76502, 0.56561, 0.08485, 0.58260, 0.81474, 0.33702,
    0.92754, 0.75067,
    0.57379, 0.75140,
    0.07908,
];
