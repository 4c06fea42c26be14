//! Which embedding tables a model has, and which of a sample's ids each is read by. Engines, costs
//! and memory plans ask here.

use super::{DeepFmSpec, DlrmSpec, MlpInit, ModelSpec, ParamKind, ParamSpec};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};

/// What stands in for a DLRM's larger tables, to save memory.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trick {
    /// Nothing: a table has a row for each id.
    #[default]
    None,
    /// Two small tables (Shi et al. 2019, arXiv:1909.02107).
    Qr(Qr),
    /// Narrower tables (Ginart et al. 2019, arXiv:1909.11810).
    Md(Md),
}

/// The quotient-remainder trick (facebookresearch/dlrm, tricks/qr_embedding_bag.py): a column of
/// `n` ids, more than `threshold`, has one table of `ceil(n / collisions)` rows, read by `id /
/// collisions`, and one of `collisions` rows, read by `id % collisions`. Both are pooled, then their
/// vectors become one. Each starts as a table of its size: with U(+-sqrt(1/rows)) a product has the
/// bound of the whole table, sqrt(1/n). The quotient is exact; the original's, a division in f32, is
/// not for ids beyond 2^24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qr {
    /// How two vectors become one.
    pub operation: QrOperation,
    /// Columns of more ids than this have two tables.
    pub threshold: usize,
    /// Ids that share a row of the first table; at least 1.
    pub collisions: usize,
    /// Both tables start from U(sqrt(1/n), 1), as in the original, whose `uniform_` was given no
    /// upper end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init_quirk: bool,
}

/// How the vectors of a quotient and of a remainder become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QrOperation {
    /// Their product, element by element.
    Mult,
    /// Their sum.
    Add,
    /// One behind the other: twice as wide.
    Concat,
}

/// Mixed dimensions (facebookresearch/dlrm, tricks/md_embedding_bag.py): a column of many ids has
/// narrow rows, and a matrix that makes pooled vectors as wide as all others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Md {
    /// How much narrower: 0 is not at all.
    pub temperature: f64,
    /// Columns of more ids than this are meant.
    pub threshold: usize,
    /// Round widths to powers of two.
    pub round_dims: bool,
}

impl Md {
    /// Elements of a row of each column's table, where `ids[k]` ids are in column `k` and `dim` is
    /// what the smallest column has (`md_solver` by the alpha power rule): `dim (n_0 / n)^alpha`
    /// for the least `n_0` of all `n`, at least 1, rounded to the nearest, halves to even; in f32 as
    /// there.
    pub fn dims(&self, ids: &[usize], dim: usize) -> Vec<usize> {
        let alpha = f64::from(self.temperature as f32);
        let power = |n: f32, alpha: f64| libm::pow(n.into(), alpha) as f32;
        let Some(least) = ids.iter().position(|n| Some(n) == ids.iter().min()) else {
            return Vec::new();
        };
        let lambda = dim as f32 * power(ids[least] as f32, alpha);
        let width = |(k, &n): (usize, &usize)| {
            if n <= self.threshold {
                return dim;
            }
            let free = lambda * power(n as f32, -alpha);
            let d = if k == least { dim as f32 } else { free.max(1.0).round_ties_even() };
            if self.round_dims { 1 << d.log2().round_ties_even() as u32 } else { d as usize }
        };
        ids.iter().enumerate().map(width).collect()
    }
}

impl Qr {
    /// Numbers of the columns that have two tables, where `ids[k]` ids are in column `k`.
    pub fn columns(self, ids: &[usize]) -> impl Iterator<Item = usize> {
        ids.iter().enumerate().filter(move |&(_, &n)| n > self.threshold).map(|(k, _)| k)
    }
}

impl Trick {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Trick::None
    }

    /// Elements of a pooled vector, where rows have `dim`.
    pub fn vector(&self, dim: usize) -> usize {
        match self {
            Trick::Qr(Qr { operation: QrOperation::Concat, .. }) => 2 * dim,
            _ => dim,
        }
    }
}

/// What of an id a table is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The id.
    Whole,
    /// The id over this, rounded down.
    Quotient(u32),
    /// What remains of the id then.
    Remainder(u32),
}

impl Part {
    /// The row that is read by an id.
    pub fn of(self, id: u32) -> u32 {
        match self {
            Part::Whole => id,
            Part::Quotient(by) => id / by,
            Part::Remainder(by) => id % by,
        }
    }
}

/// One embedding table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Name of its parameter.
    pub name: String,
    /// The categorical column whose ids it is read by.
    pub column: usize,
    /// What of them.
    pub part: Part,
    /// Its rows.
    pub rows: usize,
    /// Elements of a row.
    pub dim: usize,
}

/// Tables of equal width, which engines keep together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// Elements of a row.
    pub dim: usize,
    /// Their numbers among [`ModelSpec::table_specs`].
    pub tables: Vec<usize>,
    /// The first of [`ModelSpec::reads`] that is theirs; the others follow it.
    pub first_read: usize,
}

impl ModelSpec {
    /// All embedding tables, in the order of their parameters.
    pub fn table_specs(&self) -> Vec<TableSpec> {
        match self {
            ModelSpec::Dlrm(m) => m.table_specs(),
            ModelSpec::DeepFm(m) => m.table_specs(),
        }
    }

    /// The tables in sets of equal width.
    pub fn table_sets(&self) -> Vec<SetSpec> {
        let specs = self.table_specs();
        match self {
            ModelSpec::Dlrm(m) => m.table_sets(&specs),
            ModelSpec::DeepFm(m) => {
                let n = m.tables.len();
                let set = |dim, tables: Range<usize>| SetSpec {
                    dim,
                    tables: tables.collect(),
                    first_read: 0,
                };
                vec![set(m.dim, 0..n), set(1, n..2 * n)]
            }
        }
    }

    /// What bags are read: a categorical column and what of its ids. Sets of tables read some in a
    /// row. These are the columns as they are unless tables stand in for others.
    pub fn reads(&self) -> Vec<(usize, Part)> {
        let specs = self.table_specs();
        let mut reads = Vec::new();
        for set in self.table_sets() {
            // A set may read what one before it has read.
            if set.first_read == reads.len() {
                reads.extend(set.tables.iter().map(|&t| (specs[t].column, specs[t].part)));
            }
        }
        reads
    }
}

impl DlrmSpec {
    /// All embedding tables, in the order of their parameters.
    pub fn table_specs(&self) -> Vec<TableSpec> {
        let widths = match self.trick {
            Trick::Md(md) => md.dims(&self.tables, self.dim),
            Trick::None | Trick::Qr(_) => vec![self.dim; self.tables.len()],
        };
        let mut specs = Vec::new();
        for (column, (&n, dim)) in self.tables.iter().zip(widths).enumerate() {
            let mut table = |name: &str, part, rows| {
                let name = format!("emb_l.{column}.{name}");
                specs.push(TableSpec { name, column, part, rows, dim });
            };
            match self.trick {
                Trick::Md(md) if n > md.threshold => table("embs.weight", Part::Whole, n),
                Trick::Qr(Qr { threshold, collisions, .. }) if n > threshold => {
                    let by = collisions as u32;
                    table("weight_q", Part::Quotient(by), n.div_ceil(collisions));
                    table("weight_r", Part::Remainder(by), collisions);
                }
                _ => table("weight", Part::Whole, n),
            }
        }
        specs
    }

    /// The matrices that make vectors of narrow rows as wide as all others, by the number of their
    /// column.
    pub fn projections(&self) -> Vec<(usize, ParamSpec)> {
        let narrow = |t: &TableSpec| t.dim < self.dim;
        let param = |t: TableSpec| {
            let name = format!("emb_l.{}.proj.weight", t.column);
            let spec = ParamSpec::new(name, ParamKind::Weight, &[self.dim, t.dim]);
            // xavier_uniform_
            (t.column, ParamSpec { init: Some(MlpInit::GlorotUniform), ..spec })
        };
        self.table_specs().into_iter().filter(narrow).map(param).collect()
    }

    /// Operations of a sample, forward and backward, that make vectors of those of a trick's tables:
    /// a product forward and two backward, or a sum forward.
    pub fn trick_flops(&self) -> usize {
        let Trick::Qr(qr) = self.trick else { return 0 };
        let each = match qr.operation {
            QrOperation::Mult => 3,
            QrOperation::Add => 1,
            QrOperation::Concat => 0,
        };
        each * qr.columns(&self.tables).count() * self.dim
    }

    /// Elements of pooled vectors that are not as wide as those of `T`, and so are kept apart from it.
    pub fn apart(&self) -> usize {
        match self.trick {
            Trick::Md(_) => self.table_specs().iter().map(|t| t.dim).sum(),
            Trick::None | Trick::Qr(_) => 0,
        }
    }

    /// Widths of the matrices that a trick keeps of a sample between forward and backward, their
    /// gradients included, as operands of products.
    pub fn trick_keeps(&self) -> Vec<usize> {
        let Trick::Qr(qr) = self.trick else { return Vec::new() };
        let matrices = match qr.operation {
            QrOperation::Mult => 3,
            QrOperation::Add => 2,
            QrOperation::Concat => 0,
        };
        vec![qr.columns(&self.tables).count() * self.dim; matrices]
    }

    /// Of `specs`, the widest first; where the vectors of remainders meet those of quotients, in a
    /// set of their own.
    fn table_sets(&self, specs: &[TableSpec]) -> Vec<SetSpec> {
        if let Trick::Md(_) = self.trick {
            let mut by_width = BTreeMap::<_, Vec<usize>>::new();
            for (t, spec) in specs.iter().enumerate() {
                by_width.entry(spec.dim).or_default().push(t);
            }
            let mut behind = 0;
            let set = |(dim, tables): (usize, Vec<usize>)| {
                let first_read = behind;
                behind += tables.len();
                SetSpec { dim, tables, first_read }
            };
            return by_width.into_iter().rev().map(set).collect();
        }
        let (all, dim) = ((0..specs.len()).collect::<Vec<_>>(), self.dim);
        let apart = |&t: &usize| match self.trick {
            Trick::Qr(qr) if qr.operation != QrOperation::Concat => {
                matches!(specs[t].part, Part::Remainder(_))
            }
            _ => false,
        };
        let (remainders, tables): (Vec<usize>, Vec<usize>) = all.into_iter().partition(apart);
        let behind = tables.len();
        let mut sets = vec![SetSpec { dim, tables, first_read: 0 }];
        if !remainders.is_empty() {
            sets.push(SetSpec { dim, tables: remainders, first_read: behind });
        }
        sets
    }
}

impl DeepFmSpec {
    /// Of all columns a `dim`-wide table, then of all a scalar a row.
    pub fn table_specs(&self) -> Vec<TableSpec> {
        let all = |name: &'static str, dim| {
            self.tables.iter().enumerate().map(move |(column, &rows)| {
                let name = format!("{name}.{column}.weight");
                TableSpec { name, column, part: Part::Whole, rows, dim }
            })
        };
        all("emb", self.dim).chain(all("linear", 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DlrmQuirks, EmbeddingInit, Interaction, Pooling};

    pub(in crate::model) fn with(trick: Trick, tables: &[usize]) -> ModelSpec {
        ModelSpec::Dlrm(DlrmSpec {
            dense: 3,
            dense_pad_to: 1,
            tables: tables.to_vec(),
            dim: 4,
            bottom: vec![4],
            top: vec![1],
            interaction: Interaction::Cat,
            pooling: Pooling::Sum,
            trick,
            mlp_init: MlpInit::Facebook,
            embedding_init: EmbeddingInit::UniformSqrtInvRows,
            batch_norm: false,
            quirks: DlrmQuirks::default(),
        })
    }

    /// The rule of tricks/qr_embedding_bag.py: above the threshold, not at it; rows rounded up.
    #[test]
    fn columns_above_the_threshold_have_two_tables() {
        let qr =
            Qr { operation: QrOperation::Mult, threshold: 200, collisions: 4, init_quirk: false };
        let model = with(Trick::Qr(qr), &[200, 201, 7]);
        let names: Vec<_> =
            model.table_specs().into_iter().map(|t| (t.name, t.column, t.rows)).collect();
        let name = |name: &str, column, rows| (name.to_owned(), column, rows);
        assert_eq!(
            names,
            [
                name("emb_l.0.weight", 0, 200),
                name("emb_l.1.weight_q", 1, 51),
                name("emb_l.1.weight_r", 1, 4),
                name("emb_l.2.weight", 2, 7),
            ]
        );
        let reads = model.reads();
        let by = [Part::Quotient(4), Part::Remainder(4)];
        assert_eq!(reads, [(0, Part::Whole), (1, by[0]), (2, Part::Whole), (1, by[1])]);
        let concat = Qr { operation: QrOperation::Concat, ..qr };
        let reads = with(Trick::Qr(concat), &[201, 202]).reads();
        assert_eq!(reads, [(0, by[0]), (0, by[1]), (1, by[0]), (1, by[1])]);
    }

    /// `md_solver`'s rule by hand: 16 sqrt(3 / n), never below 1, halves to even, and the nearest
    /// powers of two.
    #[test]
    fn widths_follow_the_power_rule() {
        let md = |round_dims| Md { temperature: 0.5, threshold: 0, round_dims };
        let ids = [300, 3, 12, 3072, 1_000_000, 3, 27];
        assert_eq!(md(false).dims(&ids, 16), [2, 16, 8, 1, 1, 16, 5]);
        assert_eq!(md(true).dims(&ids, 16), [2, 16, 8, 1, 1, 16, 4]);
        // 10 sqrt(4 / 64) is 2.5, 10 sqrt(4 / 16) is 5, 11 over 2 is 5.5.
        assert_eq!(md(false).dims(&[64, 16, 4], 10), [2, 5, 10]);
        assert_eq!(md(false).dims(&[16, 4], 11), [6, 11]);
        // Powers of two are nearest by their logarithm: 2^2.5 is 5.66.
        assert_eq!(md(true).dims(&[16, 9, 4], 11), [8, 8, 8]);
        let small = Md { threshold: 100, ..md(false) };
        assert_eq!(small.dims(&ids, 16), [2, 16, 16, 1, 1, 16, 16]);
        assert_eq!(Md { temperature: 0.0, ..md(false) }.dims(&ids, 16), [16; 7]);
        // The counts of Criteo's Kaggle data whose columns differ most, as the original is run:
        // 16 (3 / n)^0.3.
        let kaggle = Md { temperature: 0.3, threshold: 200, round_dims: true };
        let ids = [5683, 583, 10_131_227, 2_202_608, 305, 24, 3];
        assert_eq!(kaggle.dims(&ids, 16), [2, 4, 1, 1, 4, 16, 16]);
    }

    #[test]
    fn narrow_tables_have_sets_of_their_own_and_matrices() {
        let md = Md { temperature: 0.5, threshold: 3, round_dims: false };
        let model = with(Trick::Md(md), &[64, 1, 16, 65]);
        let shapes: Vec<_> =
            model.params().into_iter().map(|p| (p.name, p.shape)).take(7).collect();
        let of = |name: &str, shape: [usize; 2]| (name.to_owned(), shape.to_vec());
        assert_eq!(
            shapes,
            [
                of("emb_l.0.embs.weight", [64, 1]),
                of("emb_l.1.weight", [1, 4]),
                of("emb_l.2.embs.weight", [16, 1]),
                of("emb_l.3.embs.weight", [65, 1]),
                of("emb_l.0.proj.weight", [4, 1]),
                of("emb_l.2.proj.weight", [4, 1]),
                of("emb_l.3.proj.weight", [4, 1]),
            ]
        );
        let sets = model.table_sets();
        assert_eq!(sets[0], SetSpec { dim: 4, tables: vec![1], first_read: 0 });
        assert_eq!(sets[1], SetSpec { dim: 1, tables: vec![0, 2, 3], first_read: 1 });
        let whole = |column| (column, Part::Whole);
        assert_eq!(model.reads(), [whole(1), whole(0), whole(2), whole(3)]);
    }

    /// Where nothing stands in for a table, a batch is read as it is.
    #[test]
    fn plain_models_read_the_columns_themselves() {
        let deepfm = ModelSpec::DeepFm(DeepFmSpec {
            tables: vec![5, 6],
            dense: 0,
            dim: 3,
            hidden: vec![],
            batch_norm: false,
            dropout: 0.0,
            embedding_l2: 0.0,
            mlp_init: MlpInit::Facebook,
            embedding_init: EmbeddingInit::UniformSqrtInvRows,
        });
        for model in [deepfm, with(Trick::None, &[5, 6])] {
            assert_eq!(model.reads(), [(0, Part::Whole), (1, Part::Whole)]);
        }
    }
}
