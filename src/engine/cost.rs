//! The least work of a training step, counted from shapes alone: floating-point operations and rows
//! of memory. Divided by what the machine can do (`results::floor`) it says how fast a
//! step could be at best.

use super::EngineConfig;
use crate::{
    backend::Precision,
    embedding::RowKind,
    model::{ModelSpec, ParamKind, Pooling},
    stats::Popular,
};

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of a cache line, the least that memory moves.
const LINE: u64 = 64;

/// Ids that samples hold in one column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnIds {
    /// Ids of a sample, on average.
    pub mean: f64,
    /// How likely an id is which of them; empty where that is not known.
    pub chances: Vec<Popular>,
}

/// Work of one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cost {
    /// Operations of the MLPs: a layer of `m` outputs and `n` inputs takes `2 B m n` forward, as
    /// many for the gradient of its weights, and as many for that of its input, which a DLRM's
    /// first bottom layer does not need.
    pub mlp_flops: f64,
    /// Operations of the interaction's layers, and of matrices in front of it, counted likewise.
    pub interaction_products: f64,
    /// Numbers that these multiply.
    pub precision: Precision,
    /// Operations of the interaction beside those ([`crate::model::Interaction::flops`]), and of what
    /// makes vectors of those of a trick's tables. FM of `n` fields: a sum and a sum of squares forward (`3 B n d`), a
    /// product, a difference and a sum backward (`3 B n d`).
    pub interaction_flops: f64,
    /// Rows that are read for bags.
    pub lookups: Vec<Visits>,
    /// Rows, and their optimizer state, that are changed.
    pub updates: Vec<Visits>,
    /// What is changed as a whole: dense parameters with gradients and state, and tables whose rows
    /// all move.
    pub streams: Vec<Stream>,
}

/// Rows at random places of one table or of its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Visits {
    /// Bytes of the whole table.
    pub resident: u64,
    /// Rows that a step visits, each once, since its later visits find it in a cache, and of several
    /// rows in a cache line one: as many as are expected to be told apart, or, where chances are
    /// not known, at most as many as there are.
    pub rows: f64,
    /// Bytes of a row.
    pub bytes: u64,
    /// The same by how often rows are visited; empty where that is not known.
    pub parts: Vec<Part>,
}

/// Rows of a table that are visited equally often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Bytes of all of them.
    pub resident: f64,
    /// Those of them that a step visits.
    pub rows: f64,
}

/// Memory that is gone through from end to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// Bytes that it holds.
    pub resident: u64,
    /// Bytes read and written.
    pub moved: f64,
}

/// The work of a step of `batch` samples with `ids[k]` in column `k`.
///
/// # Panics
/// If there are not as many `ids` as tables.
pub fn cost(config: &EngineConfig, batch: usize, ids: &[ColumnIds]) -> Cost {
    let model = &config.model;
    assert_eq!(ids.len(), model.tables().len(), "ids of each table");
    let samples = batch as f64;
    let interaction_flops = samples * interaction(model);
    let mut cost = Cost { interaction_flops, precision: config.precision, ..Cost::default() };
    let state = config.optimizer.rule.state();
    let dense_state = state.dense().count() as u64;
    let (learned, all_rows) = (learned_weights(model), config.moves_all_rows());
    let (specs, mut table) = (model.table_specs(), 0);
    let (mut products, mut dense) = (0.0, 0);
    for p in model.params() {
        match p.kind {
            ParamKind::Table | ParamKind::RowWeight => {
                let (rows, width) = (p.shape[0], p.shape[1]);
                let of = &ids[specs[table % specs.len()].column];
                let visits = |rows, width, element| Visits::of(rows, width, element, samples, of);
                table += 1;
                let kind =
                    if p.kind == ParamKind::Table { config.embedding_rows } else { RowKind::Fp32 };
                cost.lookups.push(visits(rows, width, kind.lookup_bytes()));
                if all_rows {
                    let (row, kept) = (
                        (rows * width * kind.bytes()) as u64,
                        (rows * state.row_len(width)) as u64 * F32,
                    );
                    cost.streams.push(Stream::update(row, kept, 0));
                } else if p.kind == ParamKind::Table || learned {
                    let part = visits(rows, width, kind.lookup_bytes());
                    cost.updates
                        .extend(std::iter::repeat_n(part, kind.bytes() / kind.lookup_bytes()));
                    cost.updates
                        .extend(state.rows(width).map(|(n, _)| visits(rows, n, F32 as usize)));
                }
            }
            ParamKind::Weight => {
                // Forward, gradient of the weights, and of the input unless that is the data.
                let times = if p.name == "bot_l.0.weight" { 2.0 } else { 3.0 };
                products += times * 2.0 * p.len() as f64;
                dense += p.len() as u64 * F32;
            }
            ParamKind::RunningMean | ParamKind::RunningVar => {}
            _ => dense += p.len() as u64 * F32,
        }
    }
    products -= 6.0 * dead_weights(model) as f64;
    cost.interaction_products = samples * 6.0 * interaction_weights(model) as f64;
    cost.mlp_flops = samples * products - cost.interaction_products;
    cost.streams.push(Stream::update(dense, dense * dense_state, dense));
    cost
}

impl ColumnIds {
    /// As many as that, of whose chances nothing is known.
    pub fn some(mean: f64) -> Self {
        ColumnIds { mean, chances: Vec::new() }
    }
}

impl Visits {
    /// Of a table of `rows` rows of `width` elements of `element` bytes, by the ids of `samples`
    /// samples. Chances are those of rows where each id can have a row of its own, and rows that
    /// share a cache line are equally likely, wherever the popular ones are.
    fn of(rows: usize, width: usize, element: usize, samples: f64, ids: &ColumnIds) -> Self {
        let bytes = (width * element) as u64;
        let resident = rows as u64 * bytes;
        let places = if bytes < LINE { resident.div_ceil(LINE) } else { rows as u64 } as f64;
        let visits = samples * ids.mean;
        // Of `n` ids, one with a chance of `p` is among them with a chance of `1 - (1 - p)^n`.
        let met = |p: &Popular| p.ids * -(visits * (-p.chance).ln_1p()).exp_m1();
        let likely = || ids.chances.iter().filter(|p| p.chance > 0.0);
        let apart: f64 =
            if ids.chances.is_empty() { visits } else { likely().map(met).sum::<f64>() };
        let every: f64 = likely().map(|p| p.ids).sum();
        let parts = if bytes < LINE || every > rows as f64 {
            Vec::new()
        } else {
            let part = |p: &Popular| Part { resident: p.ids * bytes as f64, rows: met(p) };
            likely().map(part).collect()
        };
        Visits { resident, rows: apart.min(places), bytes, parts }
    }
}

impl Stream {
    /// Bytes of parameters, of their state and of their gradients: all are read, parameters and
    /// state written too.
    fn update(parameters: u64, state: u64, gradients: u64) -> Self {
        Stream {
            resident: parameters + state + gradients,
            moved: (2 * (parameters + state) + gradients) as f64,
        }
    }
}

/// Operations of a sample, forward and backward.
fn interaction(model: &ModelSpec) -> f64 {
    match model {
        ModelSpec::DeepFm(m) => (6 * m.fields() * m.dim) as f64,
        ModelSpec::Dlrm(m) => (m.interaction.flops(m.vectors()) + m.trick_flops()) as f64,
    }
}

/// Elements of the weights of a DLRM's interaction, and of those that bring vectors to one width.
fn interaction_weights(model: &ModelSpec) -> usize {
    let ModelSpec::Dlrm(m) = model else { return 0 };
    let projections = m.projections().into_iter().map(|(_, spec)| spec);
    let params = m.interaction.params(m.vectors()).into_iter().chain(projections);
    params.filter(|p| p.kind == ParamKind::Weight).map(|p| p.len()).sum()
}

/// Elements of the weights that nothing is computed with.
fn dead_weights(model: &ModelSpec) -> usize {
    let ModelSpec::Dlrm(m) = model else { return 0 };
    m.top[..m.dead_layers()].iter().map(|width| width * m.top_input()).sum()
}

fn learned_weights(model: &ModelSpec) -> bool {
    matches!(model, ModelSpec::Dlrm(m) if m.pooling == Pooling::WeightedLearned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::source, workload::parse};

    fn of(text: &str, batch: usize) -> Cost {
        let w = parse::resolve("w.toml".as_ref(), text.into(), &[]).unwrap().workload;
        let schema = w.data_schema().unwrap().unwrap();
        let ids: Vec<_> =
            source::mean_ids(&w.data, &schema).into_iter().map(ColumnIds::some).collect();
        cost(&w.engine_config(&schema).unwrap(), batch, &ids)
    }

    /// DeepRec's DLRM, counted by hand.
    #[test]
    fn a_dlrm_counted_by_hand() {
        let c = of(
            r#"
            workload.name = "a"
            data = { source = "planted", max_rows = 1000 }
            model = { kind = "dlrm", dim = 16, bottom = [512, 256, 64, 16], top = [512, 256, 1] }
            train.batch_size = 10
            optimizer = { kind = "adagrad", learning_rate = 0.1 }
            "#,
            100,
        );
        let first = 13 * 512;
        let others = 512 * 256 + 256 * 64 + 64 * 16 + (16 + 27 * 26 / 2) * 512 + 512 * 256 + 256;
        assert_eq!(c.mlp_flops, 100.0 * f64::from(4 * first + 6 * others));
        assert_eq!(c.interaction_flops, 100.0 * f64::from(351 * 16 * 6));
        assert_eq!(c.lookups.len(), 26);
        assert!(c.lookups.iter().all(|v| v.bytes == 64 && v.rows <= 100.0 && v.resident <= 64_000));
        assert!(
            c.lookups.contains(&Visits { resident: 3 * 64, rows: 3.0, bytes: 64, parts: vec![] }),
            "a table of three rows"
        );
        assert_eq!(c.updates.len(), 52, "rows and accumulators");
        // Weights and biases: parameters and accumulators read and written, gradients read.
        let dense = 4 * (first + others + 512 + 256 + 64 + 16 + 512 + 256 + 1) as u64;
        assert_eq!(c.streams, [Stream { resident: 3 * dense, moved: 5.0 * dense as f64 }]);
    }

    #[test]
    fn a_deepfm_whose_rows_all_move() {
        let text = r#"
            workload.name = "a"
            data = { source = "planted", preset = "custom", tables = [100, 50], dense = 3, positive_rate = 0.3 }
            model = { kind = "deepfm", dim = 8, hidden = [20] }
            train.batch_size = 10
            optimizer = { kind = "adam", learning_rate = 0.1, rows = "dense" }
            "#;
        let c = of(text, 10);
        assert_eq!(c.mlp_flops, 10.0 * 6.0 * f64::from(40 * 20 + 20));
        assert_eq!(c.interaction_flops, 10.0 * f64::from(6 * 5 * 8));
        // Rows of 4 bytes: 50 of them are 4 lines. Rows of 32 bytes: 50 are 25 lines.
        assert_eq!(c.lookups[3], Visits { resident: 200, rows: 4.0, bytes: 4, parts: vec![] });
        assert_eq!(c.lookups[1], Visits { resident: 1600, rows: 10.0, bytes: 32, parts: vec![] });
        assert!(c.updates.is_empty());
        assert_eq!(c.streams[0], Stream { resident: 3 * 3200, moved: 6.0 * 3200.0 });
        assert_eq!(c.streams.len(), 5);
        let lazy = of(&text.replace(", rows = \"dense\"", ""), 10);
        assert_eq!((lazy.updates.len(), lazy.streams.len()), (12, 1));
        let lazy = text
            .replace(", rows = \"dense\"", "")
            .replace("train.", "engine.embedding_rows = \"bf16-split\"\n train.");
        let halves = of(&lazy, 10);
        assert_eq!(
            halves.lookups[1],
            Visits { resident: 800, rows: 10.0, bytes: 16, parts: vec![] }
        );
        assert_eq!(
            (halves.updates.len(), halves.updates[2].bytes),
            (16, 32),
            "two halves and two moments"
        );
    }

    #[test]
    fn rows_are_told_apart_by_their_chances() {
        let popular = |chance, ids| Popular { chance, ids };
        let ids = ColumnIds {
            mean: 2.0,
            chances: vec![popular(0.5, 1.0), popular(0.25, 2.0), popular(0.0, 9.0)],
        };
        // Four ids of three: each is missing with a chance of 1/16 or (3/4)^4.
        let (often, seldom) = (1.0 - 1.0 / 16.0, 2.0 * (1.0 - 81.0 / 256.0));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        let v = Visits::of(3, 32, 4, 2.0, &ids);
        near(v.rows, often + seldom);
        assert_eq!((v.parts.len(), v.parts[1].resident), (2, 256.0));
        near(v.parts[0].rows, often);
        near(v.parts[1].rows, seldom);
        // In rows of 16 bytes three share one line; of two rows, nobody knows which id has which.
        let narrow = Visits::of(3, 4, 4, 2.0, &ids);
        assert_eq!((narrow.rows, narrow.parts.len()), (1.0, 0));
        let fewer = Visits::of(2, 32, 4, 2.0, &ids);
        assert_eq!((fewer.rows, fewer.parts.len()), (2.0, 0));
        // One id that is always the same.
        let one = ColumnIds { mean: 1.0, chances: vec![popular(1.0, 1.0)] };
        assert_eq!(Visits::of(9, 32, 4, 50.0, &one).rows, 1.0);
    }
}
