//! What a checkpoint is made of: tensors, and where their numbers come from. One that is whole has
//! all; an incremental one has of tables, and of the optimizer's state of their rows, the rows that
//! were touched since its base.

use crate::{
    batch::Bags,
    checkpoint::{Base, Form, Loaded, SavedRows, Tensor, changed_name, rows_name},
    embedding::RowKind,
    engine::{Engine, EngineConfig, EngineError, StateSpec, TensorId},
    model::{ParamKind, ParamSpec, Part},
};
use std::sync::Arc;

/// Numbers of rows, ascending.
pub(super) type RowNumbers = Arc<[u32]>;

/// What is in a tensor of a checkpoint.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// All of one of the engine's.
    Whole(TensorId),
    /// These rows of it.
    Rows(TensorId, RowNumbers),
    /// The numbers of these rows.
    Numbers(RowNumbers),
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub tensor: Tensor,
    pub content: Content,
    /// The parameter that it is of.
    pub param: usize,
}

impl Item {
    /// Copies numbers `first..` out.
    pub fn read(
        &self,
        engine: &dyn Engine,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        match &self.content {
            Content::Whole(from) => from.read(engine, first, out),
            Content::Rows(from, rows) => read_rows(engine, *from, rows, first, out),
            Content::Numbers(rows) => {
                copy_numbers(rows, first, out);
                Ok(())
            }
        }
    }
}

/// The numbers of rows in the form in which they are written.
pub(super) fn copy_numbers(rows: &[u32], first: usize, out: &mut [f32]) {
    out.iter_mut().zip(&rows[first..]).for_each(|(o, &row)| *o = f32::from_bits(row));
}

/// Copies numbers `first..` of all that are in some rows out.
pub(super) fn read_rows(
    engine: &dyn Engine,
    from: TensorId,
    rows: &[u32],
    first: usize,
    out: &mut [f32],
) -> Result<(), EngineError> {
    let (cols, end) = (from.width(engine), first + out.len());
    let rows = &rows[first / cols..end.div_ceil(cols)];
    if rows.len() * cols == out.len() {
        return engine.read_rows(from, rows, out);
    }
    // A row reaches over either end.
    let mut whole = vec![0.0; rows.len() * cols];
    engine.read_rows(from, rows, &mut whole)?;
    out.copy_from_slice(&whole[first % cols..][..out.len()]);
    Ok(())
}

/// All that goes into a checkpoint.
#[derive(Debug)]
pub(super) struct Contents {
    pub model: Vec<Item>,
    pub optimizer: Vec<Item>,
    /// What it is the changes of.
    pub base: Option<Base>,
    /// Rows that are in segments of a row file.
    pub saved: Option<SavedRows>,
}

impl Contents {
    /// Everything.
    pub fn whole(engine: &dyn Engine, rows: RowKind) -> Self {
        let params = engine.params().iter().enumerate();
        let item = |from, param, tensor| Item { tensor, content: Content::Whole(from), param };
        let model = params.map(|(i, p)| item(TensorId::Parameter(i), i, tensor(p, rows)));
        let state = engine.optimizer_state().iter().enumerate();
        let optimizer = state.map(|(i, s)| item(TensorId::State(i), s.param, state_tensor(s)));
        Contents { model: model.collect(), optimizer: optimizer.collect(), base: None, saved: None }
    }

    /// Of what has rows those that were touched since `base`, of the others everything.
    pub fn changed(engine: &dyn Engine, rows: RowKind, touched: &Touched, base: &Base) -> Self {
        let numbers: Vec<Option<RowNumbers>> = touched.rows();
        let changed = |items: Vec<Item>| -> Vec<Item> {
            let of = |item: Item| match (&numbers[item.param], &item.content) {
                (Some(rows), Content::Whole(from)) => item.of_rows(*from, rows),
                _ => vec![item],
            };
            items.into_iter().flat_map(of).collect()
        };
        let Contents { model, optimizer, .. } = Contents::whole(engine, rows);
        let (model, optimizer) = (changed(model), changed(optimizer));
        Contents { model, optimizer, base: Some(base.clone()), saved: None }
    }

    /// Without what `saved` has.
    pub fn beside(self, saved: Option<SavedRows>) -> Self {
        let Some(saved) = saved else { return self };
        let Contents { mut model, mut optimizer, base, .. } = self;
        model.retain(|item| !saved.has(&item.tensor.name));
        optimizer.retain(|item| !saved.has(&item.tensor.name));
        Contents { model, optimizer, base, saved: Some(saved) }
    }
}

impl Item {
    /// The two tensors that stand for some rows of this one.
    fn of_rows(&self, from: TensorId, rows: &RowNumbers) -> Vec<Item> {
        let Tensor { name, form, shape } = &self.tensor;
        let shape = [&[rows.len()], &shape[1..]].concat();
        let numbers = Tensor { name: rows_name(name), form: Form::U32, shape: vec![rows.len()] };
        let values = Tensor { name: changed_name(name), form: *form, shape };
        let param = self.param;
        vec![
            Item { tensor: numbers, content: Content::Numbers(Arc::clone(rows)), param },
            Item { tensor: values, content: Content::Rows(from, Arc::clone(rows)), param },
        ]
    }
}

fn state_tensor(state: &StateSpec) -> Tensor {
    Tensor { name: state.name.clone(), form: Form::F32, shape: state.shape.clone() }
}

/// A parameter as it is written: in 16 bits where its rows are kept so.
pub(super) fn tensor(param: &ParamSpec, rows: RowKind) -> Tensor {
    let form = match (param.kind, rows) {
        (ParamKind::Table, RowKind::Bf16) => Form::Bf16,
        (ParamKind::Table, RowKind::Fp16) => Form::F16,
        _ => Form::F32,
    };
    Tensor { name: param.name.clone(), form, shape: param.shape.clone() }
}

/// By what ids the rows of each parameter are changed; `None` if they are changed by each step.
pub(super) fn reads(engine: &dyn Engine, config: &EngineConfig) -> Vec<Option<(usize, Part)>> {
    let specs = config.model.table_specs();
    let mut weights = specs.iter();
    let of = |p: &ParamSpec| match p.kind {
        ParamKind::Table => specs.iter().find(|t| t.name == p.name),
        // One for each table, in their order.
        ParamKind::RowWeight => weights.next(),
        _ => None,
    };
    engine.params().iter().map(of).map(|t| t.map(|t| (t.column, t.part))).collect()
}

/// The rows that steps have touched, of each parameter that has rows.
#[derive(Debug, Clone)]
pub(super) struct Touched {
    params: Vec<Option<Rows>>,
}

#[derive(Debug, Clone)]
struct Rows {
    /// The ids' column, and what of them.
    read: (usize, Part),
    /// Numbers of a row, those of the optimizer's state included.
    width: usize,
    rows: usize,
    /// A bit a row.
    bits: Vec<u64>,
}

impl Rows {
    fn touch(&mut self, row: usize) {
        // An id without a row is for the step to refuse.
        if row < self.rows {
            self.bits[row / 64] |= 1 << (row % 64);
        }
    }

    fn count(&self) -> usize {
        self.bits.iter().map(|b| b.count_ones() as usize).sum()
    }
}

impl Touched {
    /// None so far.
    pub fn none(engine: &dyn Engine, config: &EngineConfig) -> Self {
        let (params, state) = (engine.params(), engine.optimizer_state());
        let of = |(i, read): (usize, Option<(usize, Part)>)| {
            let (read, rows) = (read?, params[i].shape[0]);
            let numbers = state.iter().filter(|s| s.param == i).map(StateSpec::len).sum::<usize>();
            let width = (params[i].len() + numbers) / rows.max(1);
            Some(Rows { read, width, rows, bits: vec![0; rows.div_ceil(64)] })
        };
        Touched { params: reads(engine, config).into_iter().enumerate().map(of).collect() }
    }

    /// Adds the rows of a batch's ids.
    pub fn add(&mut self, bags: &[Bags]) {
        for rows in self.params.iter_mut().flatten() {
            let (column, part) = rows.read;
            bags[column].indices.iter().for_each(|&id| rows.touch(part.of(id) as usize));
        }
    }

    /// Adds those of another set.
    pub fn add_all(&mut self, other: &Touched) {
        let pairs = self.params.iter_mut().flatten().zip(other.params.iter().flatten());
        for (rows, other) in pairs {
            rows.bits.iter_mut().zip(&other.bits).for_each(|(a, b)| *a |= b);
        }
    }

    /// Adds the rows that a checkpoint has besides its base.
    pub fn add_changed(&mut self, engine: &dyn Engine, loaded: &Loaded) {
        for (param, rows) in engine.params().iter().zip(&mut self.params) {
            let (Some(rows), Some(view)) = (rows, loaded.tensors.get(&param.name)) else {
                continue;
            };
            view.changed_rows().for_each(|row| rows.touch(row as usize));
        }
    }

    /// Forgets all; what they were.
    pub fn take(&mut self) -> Touched {
        let params = self.params.iter().map(|rows| {
            rows.as_ref().map(|rows| Rows { bits: vec![0; rows.bits.len()], ..rows.clone() })
        });
        let none = Touched { params: params.collect() };
        std::mem::replace(self, none)
    }

    /// The share of all numbers that are in touched rows.
    pub fn share(&self) -> f64 {
        let sum = |of: &dyn Fn(&Rows) -> usize| -> usize {
            self.params.iter().flatten().map(|rows| of(rows) * rows.width).sum()
        };
        sum(&Rows::count) as f64 / sum(&|rows| rows.rows).max(1) as f64
    }

    /// Numbers of the rows of each parameter that has some, ascending.
    fn rows(&self) -> Vec<Option<RowNumbers>> {
        let numbers = |rows: &Rows| -> RowNumbers {
            let words = rows.bits.iter().enumerate().filter(|(_, bits)| **bits != 0);
            words
                .flat_map(|(k, bits)| {
                    let set = move |b: &u32| bits >> b & 1 == 1;
                    (0..64).filter(set).map(move |b| 64 * k as u32 + b)
                })
                .collect()
        };
        self.params.iter().map(|rows| rows.as_ref().map(numbers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{train, workload};
    use proptest::prelude::*;
    use std::path::Path;

    /// Any part of the numbers of any rows.
    #[test]
    fn parts_of_rows_are_read() {
        let set = ["data.max_rows=100", "data.train_samples=1000", "model.dim=5"];
        let set = set.map(str::to_owned).into_iter().chain(["model.bottom=[8,5]".to_owned()]);
        let workload = workload::load(Path::new("quickstart"), &set.collect::<Vec<_>>()).unwrap();
        let p = train::prepare(&workload.workload).unwrap();
        let engine = &*p.engine;
        let (table, spec) =
            engine.params().iter().enumerate().find(|(_, p)| p.shape == [100, 5]).unwrap();
        let mut whole = vec![0.0; spec.len()];
        engine.read(table, &mut whole).unwrap();
        let rows = prop::collection::btree_set(0u32..100, 1..40);
        let cases = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) };
        let mut runner = prop::test_runner::TestRunner::new(cases);
        let case = (rows, 0.0..1.0, 0.0..1.0);
        let result = runner.run(&case, |(rows, first, len)| {
            let rows: Vec<u32> = rows.into_iter().collect();
            let all = 5 * rows.len();
            let first = (first * all as f64) as usize;
            let mut got = vec![0.0; ((all - first) as f64 * len) as usize];
            read_rows(engine, TensorId::Parameter(table), &rows, first, &mut got).unwrap();
            let want = rows.iter().flat_map(|&row| whole[5 * row as usize..][..5].to_vec());
            let want: Vec<f32> = want.skip(first).take(got.len()).collect();
            prop_assert_eq!(got, want);
            Ok(())
        });
        result.unwrap();
    }
}
