//! A set of tables that read some columns of a batch, with row weights and optimizer state.

use super::{
    EmbeddingError, QuantisedRows, QuantisedTable, RowKind, RowTable, Table,
    quantised::quantised_tables, rows::row_tables, tables,
};
use crate::{model::Pooling, optim::OptimizerSpec};

/// Tables of equal dimension, their row weights if bags are weighted, and what the update rule
/// keeps beside them.
#[derive(Debug)]
pub struct TableSet {
    /// The rows `[rows, dim]`, one entry a table; none where they are quantised.
    pub tables: Vec<RowTable>,
    /// The rows of a set that only predicts, one entry a table.
    pub quantised: Option<Vec<QuantisedTable>>,
    /// Number of the first table among all of a model: random bits of rounding depend on a table's
    /// number.
    pub first: usize,
    /// The column of a batch that the first table reads; the others read those behind it.
    pub column: usize,
    /// Elements of a row.
    pub dim: usize,
    /// How bags become vectors.
    pub pooling: Pooling,
    /// One scalar a row, if pooling is weighted.
    pub weights: Option<RowWeights>,
    /// State of the rule: up to two buffers, each one entry a table, `[rows, dim]` or `[rows, 1]`
    /// ([`crate::optim::rules::State::rows`]).
    pub state: Vec<Vec<Table>>,
    /// Whether the rule moves rows that a batch does not touch.
    pub all_rows: bool,
}

/// Weights of rows in a weighted sum.
#[derive(Debug)]
pub struct RowWeights {
    /// `[rows, 1]`, one entry a table.
    pub tables: Vec<Table>,
    /// Whether they are trained.
    pub learned: bool,
    /// State of the rule, if they are trained.
    pub state: Vec<Vec<Table>>,
}

impl TableSet {
    /// Tables of zeros kept as `kind`, row weights of ones, state as `rule` has it at start.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn new(
        kind: RowKind,
        rows: &[usize],
        dim: usize,
        pooling: Pooling,
        rule: &OptimizerSpec,
    ) -> Result<Self, EmbeddingError> {
        let shape = rule.state();
        let what =
            |kind: &str| format!("{kind} of {} embedding tables of dimension {dim}", rows.len());
        let filled = |width: usize, value: f32, kind: &str| -> Result<Vec<Table>, EmbeddingError> {
            let mut set: Vec<Table> = tables(rows.iter().map(|&r| (r, width)), &what(kind))?;
            if value != 0.0 {
                set.iter_mut().for_each(|t| t.values_mut().fill(value));
            }
            Ok(set)
        };
        let state_of = |width: usize, kind: &str| -> Result<Vec<Vec<Table>>, EmbeddingError> {
            shape.rows(width).map(|(width, initial)| filled(width, initial, kind)).collect()
        };
        let learned = pooling == Pooling::WeightedLearned;
        let weights = match pooling {
            Pooling::Sum | Pooling::Mean => None,
            Pooling::WeightedFixed | Pooling::WeightedLearned => Some(RowWeights {
                tables: filled(1, 1.0, "row weights")?,
                learned,
                state: if learned {
                    state_of(1, "optimizer state of row weights")?
                } else {
                    Vec::new()
                },
            }),
        };
        Ok(TableSet {
            tables: row_tables(
                kind,
                &rows.iter().map(|&r| (r, dim)).collect::<Vec<_>>(),
                &what("rows"),
            )?,
            quantised: None,
            first: 0,
            column: 0,
            dim,
            pooling,
            weights,
            state: state_of(dim, "optimizer state")?,
            all_rows: shape.moves_all_rows,
        })
    }

    /// Quantised tables of zeros to predict with, row weights of ones.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn quantised(
        kind: QuantisedRows,
        rows: &[usize],
        dim: usize,
        pooling: Pooling,
    ) -> Result<Self, EmbeddingError> {
        let what = format!("{} rows of {} tables of dimension {dim}", kind.name(), rows.len());
        let quantised = Some(quantised_tables(kind, rows, dim, &what)?);
        let weights = match pooling {
            Pooling::Sum | Pooling::Mean => None,
            Pooling::WeightedFixed | Pooling::WeightedLearned => {
                let mut tables: Vec<Table> = tables(rows.iter().map(|&r| (r, 1)), "row weights")?;
                tables.iter_mut().for_each(|t| t.values_mut().fill(1.0));
                Some(RowWeights { tables, learned: false, state: Vec::new() })
            }
        };
        Ok(TableSet {
            tables: Vec::new(),
            quantised,
            first: 0,
            column: 0,
            dim,
            pooling,
            weights,
            state: Vec::new(),
            all_rows: false,
        })
    }

    /// Number of tables.
    pub fn count(&self) -> usize {
        self.quantised.as_ref().map_or(self.tables.len(), Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Adam, AdamForm, AdamRows, RowwiseAdagrad};

    #[test]
    fn a_set_has_the_weights_and_state_that_its_rule_asks_for() {
        let rule =
            OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps: 1e-10, initial_accumulator: 0.1 });
        let set = TableSet::new(RowKind::Fp32, &[3, 70_000], 16, Pooling::WeightedLearned, &rule)
            .unwrap();
        assert_eq!(set.tables[1].elements(), 70_000 * 16);
        assert!(set.state.len() == 1 && set.state[0][1].values().iter().all(|&v| v == 0.1));
        assert_eq!(set.state[0][1].values().len(), 70_000, "one accumulator a row");
        let weights = set.weights.unwrap();
        assert!(
            weights.learned && weights.tables[0].values() == [1.0; 3] && weights.state.len() == 1
        );

        let rule = OptimizerSpec::Adam(Adam {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            form: AdamForm::Tf,
            rows: AdamRows::Dense,
        });
        let set = TableSet::new(RowKind::Fp32, &[5], 3, Pooling::WeightedFixed, &rule).unwrap();
        assert!(set.all_rows && set.state.len() == 2 && set.state[1][0].values() == [0.0; 15]);
        assert!(set.weights.is_some_and(|w| !w.learned && w.state.is_empty()));
        let set =
            TableSet::new(RowKind::Fp32, &[5], 3, Pooling::Mean, &OptimizerSpec::SGD).unwrap();
        assert!(!set.all_rows && set.state.is_empty() && set.weights.is_none());
    }
}
