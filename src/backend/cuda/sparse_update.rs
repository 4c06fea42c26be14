//! Updates of embedding rows: gradients of bags summed by row in the order of the batch, then the
//! rule, in one sweep.

use super::{
    driver::{Address, Driver, Launch, Memory, Plain, Source, bytes_of_mut},
    elementwise, groups,
    launch::launch,
    memory::{Input, Place},
    rules,
    scratch::{Purpose, Scratch},
    step_control::StepState,
    tables::Tables,
};
use crate::{
    backend::{BackendError, Result},
    model::Pooling,
};
use std::rc::Rc;

pub(super) static SOURCE: Source = Source {
    name: "sparse_update",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/philox.cuh"),
        include_str!("common/sixteen.cuh"),
        rules::FORMULAS,
        include_str!("common/rules.cuh"),
        include_str!("sparse_update.cu"),
    ],
};

/// Occurrences of a span (`SPAN` in sparse_update.cu).
const SPAN: usize = 32;

/// Columns of the widest row: a group's lanes keep a row's gradient in registers.
pub(super) const MAX_DIM: usize = 1024;

/// What is done with the gradient of a row; numbers as in sparse_update.cu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Mode {
    Update = 0,
    Squares = 1,
    WriteOut = 2,
}

/// `Work` of sparse_update.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Work {
    tables: Address,
    keys: Address,
    samples: Address,
    id_base: Address,
    row_base: Address,
    offsets: Address,
    pooled: Address,
    parts: Address,
    step: Address,
    loss_scale: Address,
    slots: Address,
    behind: Address,
    squares: Address,
    out_rows: Address,
    out_weights: Address,
    stride: u32,
    table_count: u32,
    batch: u32,
    kind: u32,
    dim: u32,
    first_table: u32,
    mean: u32,
    weighted: u32,
    learned: u32,
    mode: u32,
    lanes: u32,
    row_from: u32,
    row_to: u32,
    l2: f32,
    pooled_kind: u32,
    unused: u32,
}
// SAFETY: fifteen addresses, then sixteen numbers of 32 bits.
unsafe impl Plain for Work {}

/// Gradients of a set of tables, from those of the pooled vectors.
pub(super) struct Sparse<'a> {
    pub driver: &'a Rc<dyn Driver>,
    pub scratch: &'a mut Scratch,
    pub step: &'a StepState,
    pub tables: &'a Tables,
    pub input: &'a Input,
    pub pooled: Place,
    pub l2: f32,
}

impl Sparse<'_> {
    /// Adds the sum of squares of the gradient of all rows and of row weights, if trained, to that
    /// of the step.
    pub(super) fn add_squares(&mut self) -> Result<()> {
        let mut work = self.work(Mode::Squares)?;
        let (driver, to) = (&**self.driver, self.step.squares());
        if self.l2 != 0.0 {
            let shape = self.all_rows_shape(&work);
            let blocks = shape.grid[0] as usize;
            work.squares = self.scratch.get(Purpose::Partials, blocks * size_of::<f64>())?;
            self.launch_all_rows(shape, work)?;
            return elementwise::add_sum(driver, work.squares, blocks, to);
        }
        if self.input.most_ids() == 0 {
            return Ok(());
        }
        let shape = self.spans_shape(&work);
        let blocks = shape.grid[0] as usize;
        work.squares = self.scratch.get(Purpose::Partials, 2 * blocks * size_of::<f64>())?;
        self.launch_spans(shape, work)?;
        let behind =
            Work { squares: work.squares + (blocks * size_of::<f64>()) as Address, ..work };
        self.launch_joins(shape, behind)?;
        elementwise::add_sum(driver, work.squares, 2 * blocks, to)
    }

    /// Updates the rows that the batch touched, and all others if the rule or the regularisation
    /// asks for it.
    pub(super) fn update(&mut self) -> Result<()> {
        let work = self.work(Mode::Update)?;
        if self.tables.all_rows || self.l2 != 0.0 {
            return self.launch_all_rows(self.all_rows_shape(&work), work);
        }
        if self.input.most_ids() == 0 {
            return Ok(());
        }
        let shape = self.spans_shape(&work);
        self.launch_spans(shape, work)?;
        self.launch_joins(shape, work)
    }

    /// The gradient of table `k` written out, and that of its row weights if they are trained. For
    /// tests and diagnosis.
    pub(super) fn gradient(
        &mut self,
        k: usize,
        rows: &mut [f32],
        weights: &mut [f32],
    ) -> Result<()> {
        let mut work = self.work(Mode::WriteOut)?;
        let out = Memory::zeros(self.driver, size_of_val(rows), "the gradient of a table")?;
        let out_weights =
            Memory::zeros(self.driver, size_of_val(weights), "the gradient of row weights")?;
        let first = self.input.rows.before(self.tables.column + k);
        (work.row_from, work.row_to) = (first as u32, (first + self.tables.rows[k]) as u32);
        (work.out_rows, work.out_weights) = (out.at(), out_weights.at());
        self.launch_all_rows(self.all_rows_shape(&work), work)?;
        self.driver.to_host(out.at(), bytes_of_mut(rows))?;
        if self.tables.learned() {
            self.driver.to_host(out_weights.at(), bytes_of_mut(weights))?;
        }
        Ok(())
    }

    fn work(&mut self, mode: Mode) -> Result<Work> {
        let (t, input) = (self.tables, self.input);
        assert!(
            self.pooled.cols as usize == t.rows.len() * t.dim
                && self.pooled.rows as usize == input.len,
            "pooled gradients"
        );
        let (column, n) = (t.column, t.rows.len());
        assert!(
            column + n <= input.tables
                && t.rows.iter().enumerate().all(|(k, rows)| {
                    input.rows.before(column + k) + rows == input.rows.before(column + k + 1)
                }),
            "tables of the batch"
        );
        let (keys, samples) = groups::sorted(input);
        let spans = input.max_ids.div_ceil(SPAN);
        Ok(Work {
            tables: t.at(),
            keys,
            samples,
            id_base: input.id_base(column),
            row_base: input.told_apart().at(column),
            offsets: input.offsets(column),
            pooled: self.pooled.at,
            parts: self.scratch.get(Purpose::Parts, spans * 2 * t.dim * size_of::<f32>())?,
            step: self.step.update(),
            loss_scale: self.step.loss_scale(),
            slots: input.ids(),
            behind: input.behind(),
            squares: 0,
            out_rows: 0,
            out_weights: 0,
            stride: self.pooled.stride,
            table_count: n as u32,
            batch: input.len as u32,
            kind: t.kind as u32,
            dim: t.dim as u32,
            first_table: t.first as u32,
            mean: u32::from(t.pooling == Pooling::Mean),
            weighted: u32::from(t.weighted()),
            learned: u32::from(t.learned()),
            mode: mode as u32,
            lanes: t.dim.div_ceil(4).next_power_of_two().min(32) as u32,
            row_from: input.rows.before(column) as u32,
            row_to: input.rows.before(column + n) as u32,
            l2: self.l2,
            pooled_kind: self.pooled.number.kind(),
            unused: 0,
        })
    }

    /// A group of lanes for each span that there may be.
    fn spans_shape(&self, work: &Work) -> Launch {
        Launch::all(self.input.most_ids().div_ceil(SPAN) * work.lanes as usize)
    }

    /// A group of lanes for each row, in turn.
    fn all_rows_shape(&self, work: &Work) -> Launch {
        Launch::all((work.row_to - work.row_from) as usize * work.lanes as usize)
    }

    fn launch_spans(&self, shape: Launch, work: Work) -> Result<()> {
        let driver = &**self.driver;
        match sweeps(&work) {
            1 => launch!(driver, SOURCE, "spans_1", shape, work),
            2 => launch!(driver, SOURCE, "spans_2", shape, work),
            _ => launch!(driver, SOURCE, "spans_8", shape, work),
        }
    }

    fn launch_joins(&self, shape: Launch, work: Work) -> Result<()> {
        let driver = &**self.driver;
        match sweeps(&work) {
            1 => launch!(driver, SOURCE, "join_spans_1", shape, work),
            2 => launch!(driver, SOURCE, "join_spans_2", shape, work),
            _ => launch!(driver, SOURCE, "join_spans_8", shape, work),
        }
    }

    fn launch_all_rows(&self, shape: Launch, work: Work) -> Result<()> {
        assert_eq!(work.behind, 0, "rows that stand for themselves");
        let driver = &**self.driver;
        match sweeps(&work) {
            1 => launch!(driver, SOURCE, "all_rows_1", shape, work),
            2 => launch!(driver, SOURCE, "all_rows_2", shape, work),
            _ => launch!(driver, SOURCE, "all_rows_8", shape, work),
        }
    }
}

/// Times that a group's lanes go over four columns each to see a row.
fn sweeps(work: &Work) -> u32 {
    work.dim.div_ceil(4 * work.lanes)
}

/// Whether rows of `dim` columns can be updated.
///
/// # Errors
/// If they are too wide.
pub(super) fn check_dim(dim: usize) -> Result<()> {
    if dim <= MAX_DIM {
        return Ok(());
    }
    Err(BackendError::Device(format!(
        "embedding rows of {dim} columns; a GPU's kernels take up to {MAX_DIM}"
    )))
}
