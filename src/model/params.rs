//! Names and shapes of a model's parameters, in the order in which they are initialised.

use super::{DeepFmSpec, DlrmSpec, MlpInit, ModelSpec, Pooling, TableSpec};
use serde::Serialize;

/// What a parameter is; decides which update it gets and which initialiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// MLP weight `[out, in]`.
    Weight,
    /// MLP bias `[out]`.
    Bias,
    /// Embedding table `[rows, dim]`: sparse gradient.
    Table,
    /// One scalar a row of a table `[rows, 1]`, ones at start: sparse gradient if learned.
    RowWeight,
    /// One vector (or scalar) a dense column of a DeepFM, multiplied by the column's value:
    /// `[dense, dim]` or `[dense, 1]`. Initialised like a table, but its gradient is dense.
    FieldWeight,
    /// Batch normalisation scale `[features]`, ones at start.
    Scale,
    /// Batch normalisation shift `[features]`, zeros at start.
    Shift,
    /// Batch normalisation running mean `[features]`: state, not trained; zeros at start.
    RunningMean,
    /// Batch normalisation running variance `[features]`: state, not trained; ones at start.
    RunningVar,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParamSpec {
    /// Name as facebook's state dict has it where there is a counterpart: `emb_l.0.weight`,
    /// `bot_l.0.weight`, `top_l.2.bias`.
    pub name: String,
    /// What it is.
    pub kind: ParamKind,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// The initialiser of a weight, and of the bias behind it, that is not the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<MlpInit>,
}

impl ParamSpec {
    /// A parameter of shape `shape`, initialised as the model says.
    pub fn new(name: String, kind: ParamKind, shape: &[usize]) -> Self {
        ParamSpec { name, kind, shape: shape.to_vec(), init: None }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ModelSpec {
    /// All parameters: tables first, then row weights, projections of narrow tables, bottom MLP, interaction, top MLP (facebook's
    /// order of creation is tables with their row weights, bottom, top); for DeepFM the `dim`-wide tables,
    /// the 1-wide ones, the DNN.
    pub fn params(&self) -> Vec<ParamSpec> {
        match self {
            ModelSpec::Dlrm(m) => dlrm(m),
            ModelSpec::DeepFm(m) => deepfm(m),
        }
    }

    /// Whether a parameter never moves from what it is at start, ones, so that programs without a word
    /// for it lack it: facebook's `--weighted-pooling=fixed` saves no weights.
    pub fn stays_one(&self, param: &ParamSpec) -> bool {
        let fixed = matches!(self, ModelSpec::Dlrm(m) if m.pooling == Pooling::WeightedFixed);
        fixed && param.kind == ParamKind::RowWeight
    }

    /// Ids of each categorical column.
    pub fn tables(&self) -> &[usize] {
        match self {
            ModelSpec::Dlrm(m) => &m.tables,
            ModelSpec::DeepFm(m) => &m.tables,
        }
    }
}

/// Weight and bias of each layer of an MLP; `name(i)` is what layer `i`'s names begin with.
pub(super) fn mlp(
    out: &mut Vec<ParamSpec>,
    name: impl Fn(usize) -> String,
    input: usize,
    widths: &[usize],
) {
    let mut n = input;
    for (i, &m) in widths.iter().enumerate() {
        layer(out, &name(i), n, m);
        n = m;
    }
}

fn tables(specs: Vec<TableSpec>) -> Vec<ParamSpec> {
    let param = |t: TableSpec| ParamSpec::new(t.name, ParamKind::Table, &[t.rows, t.dim]);
    specs.into_iter().map(param).collect()
}

/// Weight and bias of the layer `name`, of `n` inputs and `m` outputs.
fn layer(out: &mut Vec<ParamSpec>, name: &str, n: usize, m: usize) {
    out.push(ParamSpec::new(format!("{name}.weight"), ParamKind::Weight, &[m, n]));
    out.push(ParamSpec::new(format!("{name}.bias"), ParamKind::Bias, &[m]));
}

/// The batch normalisation of the layer `name`, of `m` outputs.
fn norm(out: &mut Vec<ParamSpec>, name: &str, m: usize) {
    for (what, kind) in [
        ("scale", ParamKind::Scale),
        ("shift", ParamKind::Shift),
        ("running_mean", ParamKind::RunningMean),
        ("running_var", ParamKind::RunningVar),
    ] {
        out.push(ParamSpec::new(format!("{name}.bn.{what}"), kind, &[m]));
    }
}

fn dlrm(m: &DlrmSpec) -> Vec<ParamSpec> {
    let mut p = tables(m.table_specs());
    if matches!(m.pooling, Pooling::WeightedFixed | Pooling::WeightedLearned) {
        for (k, &rows) in m.tables.iter().enumerate() {
            p.push(ParamSpec::new(format!("v_W_l.{k}"), ParamKind::RowWeight, &[rows, 1]));
        }
    }
    p.extend(m.projections().into_iter().map(|(_, spec)| spec));
    let mut n = m.bottom_input();
    for (i, &width) in m.bottom.iter().enumerate() {
        let name = format!("bot_l.{}", 2 * i);
        layer(&mut p, &name, n, width);
        if m.batch_norm {
            norm(&mut p, &name, width);
        }
        n = width;
    }
    p.extend(m.interaction.params(m.vectors()));
    let (dead, live) = m.top.split_at(m.dead_layers());
    for (i, &width) in dead.iter().enumerate() {
        layer(&mut p, &top_layer(i), m.top_input(), width);
    }
    mlp(&mut p, |i| top_layer(dead.len() + i), m.top_input(), live);
    p
}

/// What the names of layer `i` of a DLRM's top MLP begin with.
pub fn top_layer(i: usize) -> String {
    format!("top_l.{}", 2 * i)
}

fn deepfm(m: &DeepFmSpec) -> Vec<ParamSpec> {
    let mut p = tables(m.table_specs());
    if m.dense > 0 {
        p.push(ParamSpec::new("dense_emb".into(), ParamKind::FieldWeight, &[m.dense, m.dim]));
        p.push(ParamSpec::new("dense_linear".into(), ParamKind::FieldWeight, &[m.dense, 1]));
    }
    let mut n = m.fields() * m.dim;
    for (i, &h) in m.hidden.iter().enumerate() {
        let name = format!("dnn.{i}");
        layer(&mut p, &name, n, h);
        if m.batch_norm {
            norm(&mut p, &name, h);
        }
        n = h;
    }
    layer(&mut p, &format!("dnn.{}", m.hidden.len()), n, 1);
    p
}
