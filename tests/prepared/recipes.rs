//! What each recipe makes can be trained on.

use super::{Bench, data, done, log::realistic};

/// One ids' table for each column of the log, at most.
const DLRM: &str = "kind = \"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]\ninteraction = \"dot\"";
/// Without dense columns.
const DEEPFM: &str = "kind = \"deepfm\"\ndim = 4\nhidden = [8]";
/// Smaller tables than the recipe's.
const TABLE_ROWS: &str = "table_rows = [400, 39, 17, 7, 20, 3, 7, 15, 63, 1000, 300, 4052, 10, 22, 11, 155, 4, 97, 14, 40, 400, 4000, 590, 129, 108, 36]";

/// Trains on a tiny log by `recipe`; the samples of each split must be these.
fn trains(recipe: &str, more: &str, model: &str, train: u64, eval: u64) -> Bench {
    let bench = Bench::new();
    bench.days(3, 151);
    bench.write("logs-of-one/train.txt", realistic(453, 9));
    let data = data(recipe, more).replace("logs/train.txt", "logs-of-one/train.txt");
    done(&bench.command_of(&data, model, &[]).output().unwrap(), &["prepared data: made in "]);
    let (record, metrics) = bench.last();
    let facts = record.facts.clone().unwrap();
    assert_eq!((facts.train_samples, facts.eval_samples), (train, eval), "{recipe}");
    assert!(!metrics.loss.is_empty() && metrics.loss.iter().all(|l| l.is_finite()), "{recipe}");
    done(&bench.command_of(&data, model, &[]).output().unwrap(), &["prepared data: found in "]);
    let (again, same) = bench.last();
    assert_eq!((again.data_set, same.loss), (record.data_set, metrics.loss), "{recipe}");
    bench
}

#[test]
fn facebooks_can_be_trained_on() {
    // The last of seven slices has 64 lines.
    trains("facebook-kaggle", "randomize = \"day\"", DLRM, 389, 32);
    trains("facebook-terabyte", "randomize = \"total\"\nshuffle = \"batch\"", DLRM, 302, 76);
    trains("mlperf-v1", "buffer = 50\nid_range = 20", DLRM, 302, 76);
}

#[test]
fn mlperf_v2_can_be_trained_on() {
    let bench = trains("mlperf-v2", TABLE_ROWS, DLRM, 302, 76);
    let (record, _) = bench.last();
    let set = record.data_set.unwrap();
    assert_eq!((set.tables.unwrap()[9], set.hotness.unwrap()[20]), (1000, 100));
    // The rest of the last day.
    assert!(record.outcome.unwrap().test.is_some());
}

#[test]
fn oneflows_can_be_trained_on() {
    trains("oneflow-dlrm", "max_ind_range = 1000\nshuffle = \"row_group\"", DLRM, 302, 76);
    trains("oneflow-dlrm", "max_ind_range = 0\nid_range = 100", DLRM, 302, 76);
    trains("oneflow-deepfm", "id_range = 100\nshard_rows = 50", DEEPFM, 361, 46);
    // Hashes as they are, in tables that grow.
    let grows = format!("{DEEPFM}\n[embedding]\nstore = \"hashed\"");
    trains("oneflow-deepfm", "ids = \"keys\"\nshard_rows = 50", &grows, 361, 46);
}

#[test]
fn deeprecs_can_be_trained_on() {
    trains("deeprec", "id_range = 100\ndense_transform = \"log1p_clamp0\"", DLRM, 363, 90);
}

#[test]
fn fuxictrs_can_be_trained_on() {
    trains("fuxictr-criteo-x4", "min_count = 2", DEEPFM, 361, 46);
}

#[test]
fn nvidias_can_be_trained_on() {
    trains("nvidia", "min_count = 2", DLRM, 302, 75);
}
