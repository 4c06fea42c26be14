//! MLPerf's closed division: what its label promises of model and data (training_policies,
//! training_rules.adoc; the references of DLRM and DLRM-DCNv2).

use super::{ModelConfig, Workload};
use crate::{
    batch::Schema,
    data::{
        preprocess::{criteo::DENSE, prepare::MLPERF_V2_ROWS},
        source::{config::DataConfig, planted::CRITEO_1TB_ROWS},
    },
    model::Interaction,
};

/// Training samples of Criteo 1TB in MLPerf's split.
pub const TRAIN_SAMPLES: u64 = 4_195_197_692;
/// Evaluation samples.
pub const EVAL_SAMPLES: u64 = 89_137_319;
/// AUC that the first DLRM has to reach.
pub const TARGET: f64 = 0.8025;
/// AUC that DLRM-DCNv2 has to reach.
pub const TARGET_DCNV2: f64 = 0.80275;
/// Cross layers of DLRM-DCNv2, and their rank.
const CROSS: Interaction = Interaction::Cross { layers: 3, rank: Some(512) };
/// Embedding dimension, bottom and top MLP of both.
const DIM: usize = 128;
const BOTTOM: [usize; 3] = [512, 256, 128];
const TOP: [usize; 5] = [1024, 1024, 512, 256, 1];
/// Preparations number rare and missing ids in their own ways; rows differ by as much.
const SLACK: f64 = 0.005;
/// A last, short batch may be left out.
const DROPPED: u64 = 1 << 20;

/// Rows of Criteo 1TB's tables, by number of ids, and as TorchRec's reference has them.
fn known_tables() -> [[usize; 26]; 2] {
    [CRITEO_1TB_ROWS, MLPERF_V2_ROWS.map(|rows| rows as usize)]
}

/// Whether data are Criteo 1TB by what they hold: columns, rows of tables, samples.
pub fn is_criteo_1tb(dense: usize, tables: &[usize], train: u64, eval: u64) -> bool {
    let near = |rows: &usize, known: &usize| {
        rows.abs_diff(*known) as f64 <= (SLACK * *known as f64).max(4.0)
    };
    let alike = |known: &[usize; 26]| {
        known.len() == tables.len() && tables.iter().zip(known).all(|(a, b)| near(a, b))
    };
    let samples = |n: u64, all: u64| n <= all && all - n <= DROPPED;
    dense == DENSE
        && known_tables().iter().any(alike)
        && samples(train, TRAIN_SAMPLES)
        && samples(eval, EVAL_SAMPLES)
}

/// Why `workload` is none of the closed division, as key and sentence; before any data are read.
pub(super) fn refusal(w: &Workload) -> Option<(&'static str, String)> {
    if w.mlperf.division != "closed" {
        return None;
    }
    const OPEN: &str = "use mlperf.division = \"open\"";
    let ModelConfig::Dlrm { dim, bottom, top, interaction, batch_norm, quirks, .. } = &w.model
    else {
        let what = format!("is \"closed\", but MLPerf has no benchmark \"deepfm\"; {OPEN}");
        return Some(("mlperf.division", what));
    };
    if matches!(w.data, DataConfig::Planted(_) | DataConfig::NumpyRandom(_)) {
        let what = format!(
            "is \"closed\", whose data are Criteo 1TB, but data.source computes its samples; {OPEN}"
        );
        return Some(("mlperf.division", what));
    }
    if w.train.start_from.is_some() {
        let what = format!(
            "stands beside mlperf.division = \"closed\", whose runs begin with initial values; remove it, or {OPEN}"
        );
        return Some(("train.start_from", what));
    }
    if *batch_norm || !quirks.is_empty() {
        let what = format!(
            "is \"closed\", whose model has no batch normalisation and none of DeepRec's quirks; {OPEN}"
        );
        return Some(("mlperf.division", what));
    }
    let cross = matches!(interaction, Interaction::Cross { .. });
    if (w.mlperf.benchmark == "dlrm_dcnv2") != cross {
        let what = match cross {
            true => format!(
                "is \"dlrm\", but the interaction is \"cross\"; use mlperf.benchmark = \"dlrm_dcnv2\", or {OPEN}"
            ),
            false => format!(
                "is \"dlrm_dcnv2\", a DLRM with a cross network, but the interaction is none; use mlperf.benchmark = \"dlrm\", or {OPEN}"
            ),
        };
        return Some(("mlperf.benchmark", what));
    }
    let (right, of, target) = match cross {
        true => (*interaction == CROSS, "cross layers, 3 of rank 512,", TARGET_DCNV2),
        false => (matches!(interaction, Interaction::Dot { .. }), "a dot interaction", TARGET),
    };
    let of_reference = right
        && *dim == DIM
        && *bottom == BOTTOM
        && *top == TOP
        && w.target.auc == Some(target)
        && w.target.accuracy.is_none();
    (!of_reference).then(|| {
        let what = format!(
            "is \"closed\", which fixes model.dim = {DIM}, model.bottom = {BOTTOM:?}, model.top = {TOP:?}, {of} and target.auc = {target} alone; {OPEN}"
        );
        ("mlperf.division", what)
    })
}

impl Workload {
    /// Why the opened data are not those that `mlperf.division = "closed"` promises.
    pub fn closed_data_refusal(&self, schema: &Schema, train: u64, eval: u64) -> Option<String> {
        let tables: Vec<usize> = schema.tables.iter().map(|t| t.rows).collect();
        let right =
            self.mlperf.division != "closed" || is_criteo_1tb(schema.dense, &tables, train, eval);
        (!right).then(|| {
            format!(
                "is \"closed\", whose data are Criteo 1TB ({TRAIN_SAMPLES} training and {EVAL_SAMPLES} evaluation samples, {DENSE} dense columns, 26 tables of its rows), but these have {train}, {eval}, {} and {}; use mlperf.division = \"open\"",
                schema.dense,
                tables.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteo_is_known_by_all_that_it_holds() {
        let is = |dense, tables: &[usize], train, eval| is_criteo_1tb(dense, tables, train, eval);
        for tables in known_tables() {
            assert!(is(13, &tables, TRAIN_SAMPLES, EVAL_SAMPLES));
            assert!(is(13, &tables.map(|r| r + 1), TRAIN_SAMPLES - 60_000, EVAL_SAMPLES));
        }
        let t = known_tables()[0];
        assert!(!is(12, &t, TRAIN_SAMPLES, EVAL_SAMPLES));
        assert!(!is(13, &t[1..], TRAIN_SAMPLES, EVAL_SAMPLES));
        assert!(!is(13, &t.map(|r| r.min(1000)), TRAIN_SAMPLES, EVAL_SAMPLES));
        assert!(!is(13, &t, TRAIN_SAMPLES / 2, EVAL_SAMPLES));
        assert!(!is(13, &t, TRAIN_SAMPLES, EVAL_SAMPLES + 1));
    }
}
