//! Which server has which parameters, and in which order messages hold them.

use super::place;
use crate::{
    engine::EngineConfig,
    model::{ModelSpec, ParamKind, Pooling},
};
use serde::{Deserialize, Serialize};

/// Where the parameters of a model are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Homes {
    /// Servers: ranks 1 to this.
    pub servers: usize,
    /// The server of each parameter, from 0, and of the state beside it.
    pub of: Vec<usize>,
    /// Bytes that each server's tables take with their state.
    pub bytes: Vec<u64>,
    /// Categorical columns whose tables each has.
    pub columns: Vec<usize>,
}

impl Homes {
    /// Places a model on servers.
    pub fn new(config: &EngineConfig, servers: usize) -> Self {
        let (params, tables) = (config.model.params(), config.model.table_specs());
        // Without a limit of memory there is room.
        let placed = place(config, servers, None).ok();
        let owner = |column: usize| {
            placed.as_ref().and_then(|placed| placed.owners[column].first().copied()).unwrap_or(0)
        };
        let owners: Vec<usize> = tables.iter().map(|t| owner(t.column)).collect();
        let mut of = vec![0; params.len()];
        let (mut values, mut weights) = (owners.iter(), owners.iter());
        let mut dense = Vec::new();
        for (index, spec) in params.iter().enumerate() {
            match spec.kind {
                ParamKind::Table => of[index] = values.next().copied().unwrap_or(0),
                ParamKind::RowWeight => of[index] = weights.next().copied().unwrap_or(0),
                _ => dense.push(index),
            }
        }
        dense.sort_by_key(|&index| (std::cmp::Reverse(params[index].len()), index));
        let mut numbers = vec![0; servers];
        for index in dense {
            let least = (0..servers).min_by_key(|&s| (numbers[s], s)).unwrap_or(0);
            numbers[least] += params[index].len();
            of[index] = least;
        }
        let loads = placed.map(|placed| placed.loads).unwrap_or_default();
        Homes {
            servers,
            of,
            bytes: loads.iter().map(|load| load.bytes).collect(),
            columns: loads.iter().map(|load| load.columns.len()).collect(),
        }
    }

    /// The rank that has a parameter.
    pub fn rank(&self, param: usize) -> usize {
        1 + self.of[param]
    }

    /// The ranks of servers.
    pub fn ranks(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.servers
    }
}

/// What one server has, in the order of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holding {
    /// Dense parameters, and how many numbers each has.
    pub dense: Vec<(usize, usize)>,
    /// Running statistics likewise.
    pub running: Vec<(usize, usize)>,
    /// Tables, by the list of bags that they read.
    pub reads: Vec<Read>,
}

/// The tables that one list of bags is read by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    /// Its number among [`ModelSpec::reads`].
    pub number: usize,
    /// The tables.
    pub tables: Vec<TableOf>,
}

/// A table, and the weights of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableOf {
    /// Its parameter.
    pub param: usize,
    /// Numbers of a row.
    pub width: usize,
    /// The parameter of the weights, and whether they learn.
    pub weights: Option<(usize, bool)>,
}

impl TableOf {
    /// Numbers of a row that are handed out.
    fn pulled(&self) -> usize {
        self.width + usize::from(self.weights.is_some())
    }

    /// Numbers of a row's gradient.
    fn pushed(&self) -> usize {
        self.width + usize::from(self.weights.is_some_and(|(_, learns)| learns))
    }
}

impl Holding {
    /// What each server has.
    pub fn all(config: &EngineConfig, homes: &Homes) -> Vec<Holding> {
        let model = &config.model;
        let learns = matches!(model, ModelSpec::Dlrm(m) if m.pooling == Pooling::WeightedLearned);
        let mut shares = vec![Holding::default(); homes.servers];
        let params = model.params();
        let (mut tables, mut weights) = (Vec::new(), Vec::new());
        for (index, spec) in params.iter().enumerate() {
            let share = &mut shares[homes.of[index]];
            match spec.kind {
                ParamKind::Table => tables.push(index),
                ParamKind::RowWeight => weights.push(index),
                ParamKind::RunningMean | ParamKind::RunningVar => {
                    share.running.push((index, spec.len()));
                }
                _ => share.dense.push((index, spec.len())),
            }
        }
        for set in model.table_sets() {
            for (k, &table) in set.tables.iter().enumerate() {
                let (number, param) = (set.first_read + k, tables[table]);
                let weights = weights.get(table).map(|&w| (w, learns));
                let width = params[param].shape[1..].iter().product();
                let reads = &mut shares[homes.of[param]].reads;
                let at = reads.iter().position(|read| read.number == number);
                let at = at.unwrap_or_else(|| {
                    reads.push(Read { number, tables: Vec::new() });
                    reads.len() - 1
                });
                reads[at].tables.push(TableOf { param, width, weights });
            }
        }
        shares
    }

    /// Words of what is handed out: a version, dense parameters if they are wanted, and `rows[k]` rows
    /// of the tables that read list `k`.
    pub fn pulled(&self, dense: bool, rows: impl Fn(usize) -> usize) -> usize {
        let numbers = self.dense.iter().chain(&self.running).map(|(_, len)| len);
        let dense = if dense { numbers.sum() } else { 0 };
        2 + dense + self.of_rows(rows, TableOf::pulled)
    }

    /// Words of gradients.
    pub fn pushed(&self, rows: impl Fn(usize) -> usize) -> usize {
        let dense: usize = self.dense.iter().map(|(_, len)| len).sum();
        let running: usize = self.running.iter().map(|(_, len)| 2 * len).sum();
        dense + running + self.of_rows(rows, TableOf::pushed)
    }

    fn of_rows(&self, rows: impl Fn(usize) -> usize, width: fn(&TableOf) -> usize) -> usize {
        let of = |read: &Read| rows(read.number) * read.tables.iter().map(width).sum::<usize>();
        self.reads.iter().map(of).sum()
    }
}
