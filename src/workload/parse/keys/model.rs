//! `[model]`.

use super::{Key, Setting, lens, under};
use crate::{
    model::{
        EmbeddingInit,
        Interaction::{Cat, Cross, Dot, Projection},
        MlpInit, Pooling, QrOperation, Trick,
    },
    workload::{
        InitRng,
        ModelConfig::{self, DeepFm, Dlrm},
        Workload,
        parse::key::{Field, Lens, above, key, split},
    },
};

/// Layers wider than this are slips.
const MAX_WIDTH: usize = 1 << 20;

/// `[model]`
pub(super) fn keys() -> Vec<Key> {
    let mut keys = vec![
        key("model.kind", |w| Some(&mut w.model))
            .says("`dlrm` (arXiv:1906.00091) or `deepfm` (arXiv:1703.04247)"),
        key("model.dim", lens!(model; Dlrm { dim, .. } | DeepFm { dim, .. } => dim))
            .within(1..=MAX_WIDTH)
            .says("Embedding dimension"),
    ];
    keys.extend(under("model.kind", &["dlrm"], dlrm()));
    keys.extend(under("model.kind", &["deepfm"], deepfm()));
    keys.extend([
        key(
            "model.embedding_init_std",
            lens!(model;
                Dlrm { embedding_init: EmbeddingInit::Normal { std }, .. }
                | DeepFm { embedding_init: EmbeddingInit::Normal { std }, .. } => std),
        )
        .when(&[Setting { key: "model.embedding_init", words: &["normal"] }])
        .or(1e-4)
        .within(above(0.0))
        .says("Standard deviation of `normal`"),
        key(
            "model.init_rng",
            lens!(model; Dlrm { init_rng, .. } | DeepFm { init_rng, .. } => init_rng),
        )
        .or(InitRng::Philox)
        .says(
            "Generator of initial values: `philox`, or `numpy` (goes on from the data's \
                 generator as facebook's program does; only with `numpy_random`, \
                 `criteo_tsv`, and `prepared` by a recipe of facebook's; what that program draws \
                 from torch's generator, the tables of `qr` and the matrices of `md`, is drawn by \
                 philox all the same)",
        ),
    ]);
    keys
}

fn dlrm() -> Vec<Key> {
    let dot = &[Setting { key: "model.interaction", words: &["dot"] }];
    let cross = &[Setting { key: "model.interaction", words: &["cross"] }];
    let mut keys = trick();
    keys.extend([
        widths("model.bottom", lens!(model; Dlrm { bottom, .. } => bottom))
            .check(|bottom, w| {
                let (last, dim) = (bottom.last().copied().unwrap_or_default(), dim(&w.model));
                let vector = vector(&w.model);
                match last == vector {
                    true => Ok(()),
                    false if vector == dim => Err(format!(
                        "last width is {last}, but model.dim is {dim}; make them equal"
                    )),
                    false => Err(format!(
                        "last width is {last}; must be {vector}, twice model.dim, with model.qr_operation = \"concat\""
                    )),
                }
            })
            .says(
                "Widths of the bottom MLP without its input; the last one equals `model.dim`, or \
                 twice that with `model.qr_operation = \"concat\"`",
            ),
        widths("model.top", lens!(model; Dlrm { top, .. } => top))
            .check(|top, _| match top.last().copied().unwrap_or_default() {
                1 => Ok(()),
                last => Err(format!("last width is {last}; must be 1, the logit")),
            })
            .says("Widths of the top MLP without its input; the last one is 1"),
        // Written only where it is on, so that a workload without it stays what it was.
        split(
            "model.batch_norm",
            |w| matches!(w.model, Dlrm { .. }),
            |w| matches!(w.model, Dlrm { batch_norm: true, .. }).then_some(true),
            |w, value| {
                if let Dlrm { batch_norm, .. } = &mut w.model {
                    *batch_norm = value;
                }
            },
        )
        .or(false)
        .says(
            "Of a DLRM: batch normalisation behind each ReLU of the bottom MLP with TensorFlow's constants (momentum 0.99, epsilon 1e-3), as DeepRec has it",
        ),
        key("model.interaction", lens!(model; Dlrm { interaction, .. } => interaction))
            .or(Dot { self_interaction: false, pad_to: 1 })
            .says(
                "`dot` (products of all pairs), `cat` (concatenation), `cross` (cross layers of \
                 DCN v2, arXiv:2008.13535: `x_{l+1} = x_0 * (W_l V_l x_l + b_l) + x_l` from the \
                 concatenation `x_0` on; weights N(0, sqrt(2/(m+n))), biases 0) or `projection` \
                 (TorchRec: two MLPs over the concatenation, their outputs taken for matrices [p, \
                 dim] and [dim, q], and the bottom MLP's output with the product of the two)",
            ),
        // With "cat" these two may be given if they say what "cat" does anyway.
        split(
            "model.self_interaction",
            is_dot_or_cat,
            |w| match w.model {
                Dlrm { interaction: Dot { self_interaction, .. }, .. } => Some(self_interaction),
                _ => None,
            },
            |w, value| {
                if let Dlrm { interaction: Dot { self_interaction, .. }, .. } = &mut w.model {
                    *self_interaction = value;
                }
            },
        )
        .when(dot)
        .or(false)
        .check(|self_interaction, w| match w.model {
            Dlrm { interaction: Cat, .. } if *self_interaction => {
                Err(only_dot("is true, which has a meaning"))
            }
            _ => Ok(()),
        })
        .says("Pairs of a vector with itself too"),
        padding(split(
            "model.pad_to",
            is_dot_or_cat,
            |w| match w.model {
                Dlrm { interaction: Dot { pad_to, .. }, .. } => Some(pad_to),
                _ => None,
            },
            |w, value| {
                if let Dlrm { interaction: Dot { pad_to, .. }, .. } = &mut w.model {
                    *pad_to = value;
                }
            },
        ))
        .when(dot)
        .check(|pad_to, w| match w.model {
            Dlrm { interaction: Cat, .. } if *pad_to != 1 => {
                Err(only_dot(&format!("is {pad_to}; padding exists")))
            }
            _ => Ok(()),
        })
        .says("Pad the interaction's width with zeros to a multiple of this"),
        key(
            "model.cross_layers",
            lens!(model; Dlrm { interaction: Cross { layers, .. }, .. } => layers),
        )
        .when(cross)
        .or(3)
        .within(1..=100)
        .says("Layers"),
        key(
            "model.cross_rank",
            lens!(model; Dlrm { interaction: Cross { rank, .. }, .. } => rank),
        )
        .when(cross)
        .or(None)
        .within_as(1..=MAX_WIDTH, "from 1 to 1048576; without it weights have full rank")
        .says(
            "Rank r of the weights, V [r, D] and W [D, r] for a concatenation of width D; without \
             it one W [D, D]",
        ),
        branch(
            "model.branch1",
            lens!(model; Dlrm { interaction: Projection { branches: [first, _] }, .. } => first),
        )
        .says("Widths of the first MLP without its input; the last one is p times `model.dim`"),
        branch(
            "model.branch2",
            lens!(model; Dlrm { interaction: Projection { branches: [_, second] }, .. } => second),
        )
        .says("Widths of the second; the last one is q times `model.dim`"),
        key("model.pooling", lens!(model; Dlrm { pooling, .. } => pooling)).or(Pooling::Sum).check(
            |pooling, w| match (pooling, &w.model) {
                (
                    Pooling::WeightedFixed | Pooling::WeightedLearned,
                    Dlrm { trick: Trick::Qr(_), .. },
                ) => Err("weights rows of which each has one id, but model.trick is \"qr\"; use \"sum\" or \"mean\"".to_owned()),
                _ => Ok(()),
            },
        ).says(
            "How the rows of a bag become one vector: `sum`, `mean`, `weighted_fixed` (a scalar \
             for each row that stays 1), `weighted_learned`",
        ),
        padding(key("model.dense_pad_to", lens!(model; Dlrm { dense_pad_to, .. } => dense_pad_to)))
            .says("Pad the dense input with zeros to a multiple of this"),
        mlp_init(lens!(model; Dlrm { mlp_init, .. } => mlp_init), MlpInit::Facebook),
        embedding_init(
            lens!(model; Dlrm { embedding_init, .. } => embedding_init),
            EmbeddingInit::UniformSqrtInvRows,
        ),
    ]);
    keys
}

/// What stands in for larger tables.
fn trick() -> Vec<Key> {
    let qr = &[Setting { key: "model.trick", words: &["qr"] }];
    let md = &[Setting { key: "model.trick", words: &["md"] }];
    vec![
        // Not written where there is none, as it was not before there were any.
        split(
            "model.trick",
            |w| matches!(w.model, Dlrm { .. }),
            |w| match w.model {
                Dlrm { trick, .. } => Some(Some(trick).filter(|trick| !trick.is_none())),
                _ => None,
            },
            |w, new: Option<Trick>| {
                if let Dlrm { trick, .. } = &mut w.model {
                    *trick = new.unwrap_or_default();
                }
            },
        )
        .or(None)
        .says(
            "What stands in for larger tables: `qr` (the quotient-remainder trick, \
             arXiv:1909.02107: of n ids one table of n over `qr_collisions` rows, read by the \
             quotient, and one of `qr_collisions` rows, read by the remainder) or `md` (mixed \
             dimensions, arXiv:1909.11810: of many ids a table of narrow rows, and a matrix that \
             makes their vectors `model.dim` wide)",
        ),
        key(
            "model.qr_operation",
            lens!(model; Dlrm { trick: Trick::Qr(qr), .. } => &mut qr.operation),
        )
        .when(qr)
        .or(QrOperation::Mult)
        .says(
            "How the pooled vectors of both become one: `mult` (element by element), `add` or \
             `concat` (twice as wide; all columns must then have more than `qr_threshold` ids)",
        ),
        key(
            "model.qr_threshold",
            lens!(model; Dlrm { trick: Trick::Qr(qr), .. } => &mut qr.threshold),
        )
        .when(qr)
        .or(200)
        .says("Columns of more ids than this have two tables"),
        key(
            "model.qr_collisions",
            lens!(model; Dlrm { trick: Trick::Qr(qr), .. } => &mut qr.collisions),
        )
        .when(qr)
        .or(4)
        .within(1..=u32::MAX as usize)
        .says("Ids that share a row of the first table, and rows of the second"),
        key(
            "model.md_temperature",
            lens!(model; Dlrm { trick: Trick::Md(md), .. } => &mut md.temperature),
        )
        .when(md)
        .or(0.3)
        .within(0.0..)
        .says(
            "Rows of a column of n ids have `model.dim` (n_0 / n)^this elements, at least 1, where \
             n_0 is the least n",
        ),
        key(
            "model.md_threshold",
            lens!(model; Dlrm { trick: Trick::Md(md), .. } => &mut md.threshold),
        )
        .when(md)
        .or(200)
        .says("Columns of no more ids than this keep rows of `model.dim` elements"),
        key(
            "model.md_round_dims",
            lens!(model; Dlrm { trick: Trick::Md(md), .. } => &mut md.round_dims),
        )
        .when(md)
        .or(false)
        .check(|round, w| match dim(&w.model) {
            dim if *round && !dim.is_power_of_two() => Err(format!(
                "is true, but model.dim is {dim}; must be false, or model.dim a power of two"
            )),
            _ => Ok(()),
        })
        .says("Round widths of rows to powers of two"),
    ]
}

fn deepfm() -> Vec<Key> {
    vec![
        widths("model.hidden", lens!(model; DeepFm { hidden, .. } => hidden))
            .says("Hidden widths of the DNN; a last layer to 1 is added"),
        key("model.batch_norm", lens!(model; DeepFm { batch_norm, .. } => batch_norm))
            .or(false)
            .says(
                "Of a DeepFM: batch normalisation before each hidden ReLU with torch's constants \
                 (momentum 0.1, epsilon 1e-5)",
            ),
        key("model.dropout", lens!(model; DeepFm { dropout, .. } => dropout))
            .or(0.0)
            .within(0.0..1.0)
            .says("Dropout after each hidden ReLU"),
        key("model.embedding_l2", lens!(model; DeepFm { embedding_l2, .. } => embedding_l2))
            .or(0.0)
            .within(0.0..)
            .says(
                "Adds `l2 / 2` times the squared norm of all embedding rows, touched or not, to \
                 the objective",
            ),
        mlp_init(lens!(model; DeepFm { mlp_init, .. } => mlp_init), MlpInit::XavierNormal),
        embedding_init(
            lens!(model; DeepFm { embedding_init, .. } => embedding_init),
            EmbeddingInit::Normal { std: 0.0 },
        ),
    ]
}

fn widths(name: &'static str, lens: Lens<Vec<usize>>) -> Field<Vec<usize>> {
    key(name, lens)
        .not_empty("is empty; must hold at least one width")
        .within_as(1..=MAX_WIDTH, "widths from 1 to 1048576")
}

/// An MLP whose output is taken for a matrix.
fn branch(name: &'static str, lens: Lens<Vec<usize>>) -> Field<Vec<usize>> {
    widths(name, lens).when(&[Setting { key: "model.interaction", words: &["projection"] }]).check(
        |widths, w| {
            let (last, vector) = (widths.last().copied().unwrap_or_default(), vector(&w.model));
            let twice = if vector == dim(&w.model) { "" } else { "twice " };
            match last.is_multiple_of(vector) {
                true => Ok(()),
                false => Err(format!(
                    "last width is {last}; must be a multiple of {twice}model.dim, {vector}"
                )),
            }
        },
    )
}

fn padding(field: Field<usize>) -> Field<usize> {
    field.or(1).within_as(1..=MAX_WIDTH, "from 1 (no padding) to 1048576")
}

fn mlp_init(lens: Lens<MlpInit>, default: MlpInit) -> Key {
    key("model.mlp_init", lens).or(default).says(
        "Layers of m outputs and n inputs. `facebook`: weights N(0, sqrt(2/(m+n))), biases N(0, \
         sqrt(1/m)); `uniform01`: both U(0, 1); `xavier_normal`: weights N(0, sqrt(2/(m+n))), \
         biases 0; `glorot_uniform`: weights U(+-sqrt(6/(m+n))), biases 0; `torch_linear`: both \
         U(+-sqrt(1/n))",
    )
}

fn embedding_init(lens: Lens<EmbeddingInit>, default: EmbeddingInit) -> Key {
    key("model.embedding_init", lens).or(default).says(
        "Tables of N rows, each of those that stand in for another by its own N. \
         `uniform_sqrt_inv_rows`: U(+-sqrt(1/N)); `normal`: N(0, \
         `model.embedding_init_std`); `truncated_normal`: N(0, 1/sqrt(dim)) cut at two standard \
         deviations",
    )
}

fn dim(model: &ModelConfig) -> usize {
    match model {
        Dlrm { dim, .. } | DeepFm { dim, .. } => *dim,
    }
}

/// Elements of a pooled vector.
fn vector(model: &ModelConfig) -> usize {
    match model {
        Dlrm { dim, trick, .. } => trick.vector(*dim),
        DeepFm { dim, .. } => *dim,
    }
}

fn is_dot_or_cat(w: &Workload) -> bool {
    matches!(w.model, Dlrm { interaction: Dot { .. } | Cat, .. })
}

fn only_dot(what: &str) -> String {
    format!("{what} only with interaction = \"dot\", but it is \"cat\"; remove it")
}
