//! AUC against training samples on planted data with Criteo Kaggle's tables: logistic regressions
//! and a DLRM, as CSV.
//!
//! `cargo run --release --example planted_curves -- SAMPLES SEED...`
//!
//! The logistic regression sees the same columns: one weight an id, one a dense feature, a bias;
//! updated sample by sample with Adagrad at several rates, so that the best of them stands for what
//! such a model can reach. The DLRM has the sizes of facebook's Kaggle script.

use dlrm_bench::{
    batch::Batch,
    data::loader::read_all,
    metrics,
    train::{
        self, Job,
        events::{EvalEvent, Listener},
    },
    workload::{Workload, parse},
};
use std::{path::Path, sync::atomic::AtomicBool};

const WORKLOAD: &str = r#"
[workload]
name = "planted-curves"
[data]
source = "planted"
preset = "criteo_kaggle"
eval_samples = 200_000
[model]
kind = "dlrm"
dim = 16
bottom = [512, 256, 64, 16]
top = [512, 256, 1]
[train]
batch_size = 2048
[optimizer]
kind = "adagrad"
learning_rate = 0.02
[eval]
every_steps = 122
batch_size = 16384
"#;
const RATES: [f32; 3] = [0.03, 0.06, 0.12];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let samples: u64 = args.next().ok_or("usage: planted_curves SAMPLES SEED...")?.parse()?;
    println!("model,seed,samples,auc");
    for seed in args {
        let overrides = [format!("data.train_samples={samples}"), format!("train.seed={seed}")];
        let resolved = parse::resolve(Path::new("planted_curves"), WORKLOAD.into(), &overrides)?;
        let mut curves = Curve { seed, model: "DLRM".into() };
        logistic(&resolved.workload, &curves.seed)?;
        let stop = AtomicBool::new(false);
        train::run(&Job::new(&resolved.workload, &stop), &mut [&mut curves])?;
    }
    Ok(())
}

/// Prints each evaluation.
struct Curve {
    model: String,
    seed: String,
}

impl Listener for Curve {
    fn eval_stop(&mut self, e: &EvalEvent) -> std::io::Result<()> {
        println!("{},{},{},{:.6}", self.model, self.seed, e.samples, e.quality.auc);
        Ok(())
    }
}

/// Trains all logistic regressions side by side; the seed only names the rows, since nothing in
/// them is random.
fn logistic(workload: &Workload, seed: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut data = workload.open_data()?;
    eprintln!("best reachable AUC {:?}, positives {:?}", data.facts.best_auc, data.facts.base_rate);
    let schema = data.train.schema().clone();
    let eval = read_all(&mut *data.eval, 8192)?;
    let rows: Vec<usize> = schema.tables.iter().map(|t| t.rows).collect();
    let mut models = RATES.map(|rate| Logistic::new(&rows, schema.dense, rate));
    let mut batch = Batch::with_capacity(&schema, 2048);
    let (mut at, len) = (0, data.train.len().unwrap_or(0));
    while at < len {
        let n = (len - at).min(2048);
        data.train.fill(0, at, n as usize, &mut batch)?;
        at += n;
        models.iter_mut().for_each(|m| m.learn(&batch));
        if (at / 2048).is_multiple_of(122) || at == len {
            for m in &models {
                println!("logistic regression {},{seed},{at},{:.6}", m.rate, m.auc(&eval)?);
            }
        }
    }
    Ok(())
}

/// A weight and its sum of squared gradients.
#[derive(Clone, Copy, Default)]
struct Weight {
    w: f32,
    g: f32,
}

impl Weight {
    fn update(&mut self, gradient: f32, rate: f32) {
        self.g += gradient * gradient;
        self.w -= rate * gradient / (self.g.sqrt() + 1e-8);
    }
}

struct Logistic {
    tables: Vec<Vec<Weight>>,
    /// One a dense feature, then the bias.
    dense: Vec<Weight>,
    rate: f32,
}

impl Logistic {
    fn new(rows: &[usize], dense: usize, rate: f32) -> Self {
        Logistic {
            tables: rows.iter().map(|&r| vec![Weight::default(); r]).collect(),
            dense: vec![Weight::default(); dense + 1],
            rate,
        }
    }

    fn predict(&self, batch: &Batch, b: usize) -> f32 {
        let n = self.dense.len() - 1;
        let dense: f32 =
            self.dense.iter().zip(&batch.dense[b * n..(b + 1) * n]).map(|(w, x)| w.w * x).sum();
        let ids = self
            .tables
            .iter()
            .zip(&batch.bags)
            .flat_map(|(t, bags)| bags.bag(b).iter().map(|&id| t[id as usize].w));
        1.0 / (1.0 + (-(self.dense[n].w + dense + ids.sum::<f32>())).exp())
    }

    fn learn(&mut self, batch: &Batch) {
        let n = self.dense.len() - 1;
        for b in 0..batch.len {
            let error = self.predict(batch, b) - batch.labels[b];
            for (w, x) in
                self.dense.iter_mut().zip(batch.dense[b * n..(b + 1) * n].iter().chain([&1.0]))
            {
                w.update(error * x, self.rate);
            }
            for (table, bags) in self.tables.iter_mut().zip(&batch.bags) {
                bags.bag(b).iter().for_each(|&id| table[id as usize].update(error, self.rate));
            }
        }
    }

    fn auc(&self, eval: &[Batch]) -> Result<f64, metrics::MetricsError> {
        let predictions: Vec<f32> =
            eval.iter().flat_map(|b| (0..b.len).map(|i| self.predict(b, i))).collect();
        let labels: Vec<f32> = eval.iter().flat_map(|b| b.labels.iter().copied()).collect();
        Ok(metrics::quality(&predictions, &labels)?.auc)
    }
}
