//! Prepared files train as the log does in memory, and need less of it.

use super::{Bench, data, done, log::realistic};
use std::{fs, path::Path};

const SAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/criteo_sample/kaggle_8000.txt");

/// Real lines if they are there, else made-up ones.
fn lines() -> String {
    match fs::read_to_string(SAMPLE) {
        Ok(text) if Path::new(SAMPLE).exists() => text,
        _ => {
            eprintln!("skipped: {SAMPLE} is not there");
            realistic(3000, 7)
        }
    }
}

/// Losses and the last evaluation of a run whose initial values go on from the data's generator.
fn trained(bench: &Bench, data: &str) -> (Vec<u32>, Vec<u64>) {
    let model = "kind = \"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]\ninteraction = \"dot\"\ninit_rng = \"numpy\"";
    done(&bench.command_of(data, model, &[]).output().unwrap(), &[]);
    let (record, metrics) = bench.last();
    let outcome = record.outcome.unwrap();
    let quality = [outcome.last_eval.unwrap().quality, outcome.test.unwrap()];
    let bits = |x: &f32| x.to_bits();
    (
        metrics.loss.iter().map(bits).collect(),
        quality.iter().flat_map(|q| [q.auc.to_bits(), q.logloss.to_bits()]).collect(),
    )
}

#[test]
fn kaggle_trains_bit_for_bit_as_in_memory() {
    let bench = Bench::new();
    bench.write("logs/train.txt", lines());
    let memory =
        "source = \"criteo_tsv\"\nset = \"kaggle\"\npaths = \"logs/train.txt\"\nshuffle = \"none\"";
    let prepared = data("facebook-kaggle", "randomize = \"none\"");
    assert_eq!(trained(&bench, &prepared), trained(&bench, memory));
}

#[test]
fn days_train_bit_for_bit_as_in_memory() {
    let bench = Bench::new();
    let lines = lines();
    let lines: Vec<&str> = lines.lines().collect();
    for (day, lines) in lines.chunks(lines.len().div_ceil(3)).enumerate() {
        bench.write(&format!("logs/day_{day}"), lines.join("\n") + "\n");
    }
    let paths = "paths = [\"logs/day_0\", \"logs/day_1\", \"logs/day_2\"]";
    let memory = format!(
        "source = \"criteo_tsv\"\nset = \"terabyte\"\n{paths}\nshuffle = \"none\"\nmax_ind_range = 1000"
    );
    let prepared = data("facebook-terabyte", "max_ind_range = 1000");
    assert_eq!(trained(&bench, &prepared), trained(&bench, &memory));
}

/// Neither the log nor the files made of it are held: 32 MB of text, 19 MB of records.
#[test]
fn memory_is_tables_and_budget_and_little_else() {
    let bench = Bench::new();
    bench.days(3, 40_000);
    let steps = ["--set", "train.max_steps=100000", "--set", "train.batch_size=2048"];
    done(&bench.run(&data("facebook-terabyte", "max_ind_range = 1000"), &steps), &[]);
    let (record, _) = bench.last();
    let tables: u64 = record.memory_plan.iter().map(|item| item.bytes).sum();
    let peak = record.peak_memory.unwrap();
    assert!(peak < tables + (64 << 20) + (48 << 20), "{peak} of {tables}");
}
