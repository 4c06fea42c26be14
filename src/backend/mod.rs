//! The hardware: the few operations that layers need, for each kind of device.
//!
//! A layer sees device memory only through the associated types of [`Backend`], addresses it by
//! [`Mat`] and [`MatMut`] (an offset and a row stride, so that one buffer can hold the outputs of
//! several layers side by side), and asks for operations at the granularity of a kernel. A new
//! device is a new implementation of this trait and touches no layer.

pub mod cpu;
pub mod cuda;
mod device;
mod in_flight;
mod link;
mod mat;
mod precision;
mod quantisation;
mod step_control;

use crate::{
    batch::{BatchLimits, CheckedBatch, GeneratedLog, Misfit, Span},
    comm::{Comm, CommError, Patience},
    embedding::RowKind,
    host::pool::Pool,
    metrics::{Counts, MetricsError},
    model::{LossSpec, Pooling},
    optim::OptimizerSpec,
};

pub use device::Device;
pub use in_flight::InFlight;
pub use link::DeviceLink;
pub use mat::{Linear, Mat, MatMut, Norm, Window};
pub use precision::{Held, Precision};
pub use quantisation::{ONLY_PREDICTS, Quantisation, QuantisedLayers};
pub use step_control::{Position, StepContext, StepControl, StepEnd, StepStart, StepSums, Update};

/// Errors of a device.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Memory could not be had.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// Purpose.
        what: String,
        /// Amount.
        bytes: u64,
    },
    /// The device itself.
    #[error("{0}")]
    Device(String),
    /// Other ranks.
    #[error(transparent)]
    Ranks(#[from] CommError),
}

impl From<Misfit> for BackendError {
    fn from(Misfit(what): Misfit) -> Self {
        BackendError::Device(what)
    }
}

/// Result of a device operation.
pub type Result<T> = std::result::Result<T, BackendError>;

/// A set of embedding tables of equal width that read some columns of a batch, one after another.
#[derive(Debug, Clone, Copy)]
pub struct TablesShape<'a> {
    /// Rows of each table.
    pub rows: &'a [usize],
    /// Elements of a row.
    pub dim: usize,
    /// The column of a batch that the first table reads; the others read those behind it.
    pub column: usize,
    /// In what form rows are kept.
    pub kind: RowKind,
    /// Number of the first table among all of the model.
    pub first: usize,
    /// Pooling of bags into vectors; decides also whether rows have weights and train them.
    pub pooling: Pooling,
    /// Decides the state kept beside the rows.
    pub rule: OptimizerSpec,
}

/// A buffer of optimizer state beside a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableState {
    /// The table in its set.
    pub table: usize,
    /// Whether it belongs to the weights of the rows, which are trained, and not to the rows.
    pub of_weights: bool,
    /// Which of those that are stored ([`crate::optim::rules::State::rows`]).
    pub buffer: usize,
}

/// Something that there is for each row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsOf {
    /// The rows of this table.
    Values(usize),
    /// Their weights.
    Weights(usize),
    /// Optimizer state.
    State(TableState),
}

/// Rows by their numbers, of something that there is for each row of a table.
#[derive(Debug, Clone, Copy)]
pub struct MovedRows<'a> {
    /// The set of tables.
    pub set: usize,
    /// What of it.
    pub of: RowsOf,
    /// The rows, none twice.
    pub numbers: &'a [u32],
}

/// Dimensions of a feature interaction: `T` is `[B, features, dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DotShape {
    /// Vectors that meet, the bottom MLP's output first.
    pub features: usize,
    /// Elements of each.
    pub dim: usize,
    /// Keep `<T_i, T_i>`.
    pub self_interaction: bool,
}

/// Dimensions of products of two matrices a sample: `[left, inner]` by `[inner, right]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductShape {
    /// Rows of the first.
    pub left: usize,
    /// Columns of the first, rows of the second.
    pub inner: usize,
    /// Columns of the second.
    pub right: usize,
}

/// Gradient of a set of tables.
pub struct SparseGradient<'a, F> {
    /// Gradient of the pooled vectors: bag `k` of a sample in columns `k * dim..(k + 1) * dim`.
    pub pooled: Mat<'a, F>,
    /// `l2 * p`, times the loss scale, is added to the gradient of every element `p` of every row,
    /// touched or not. 0 is off.
    pub l2: f32,
}

impl<F> Clone for SparseGradient<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for SparseGradient<'_, F> {}

/// Zeroes elements with probability `p` and divides the others by `1 - p`. Element `(r, c)` of a
/// matrix with `cols` columns draws word `(first + r) * cols + c` of the mask of its layer in the
/// present step ([`crate::random::philox::Philox::dropout`]); it is dropped if that, as a number in [0, 1),
/// is below `p`. The same seed, step and layer give the same mask on every device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Number of the layer in its network.
    pub layer: u16,
    /// Probability, below 1.
    pub p: f32,
    /// The matrix's first row among those of the batch.
    pub first: usize,
}

/// Operations behind the bias of a fully connected layer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct After {
    /// `max(z, 0)`.
    pub relu: bool,
    /// Last of all.
    pub dropout: Option<Dropout>,
}

/// The ReLU, and the dropout behind it, that a gradient passes on its way back.
pub struct Gate<'a, F> {
    /// Their output: a dropped element is zero, as is one that the ReLU cut.
    pub activation: Mat<'a, F>,
    /// Factor of the dropout; 1 without one.
    pub factor: f32,
}

/// How the gradient of a layer's input is stored.
pub enum Onto<'a, F> {
    /// Overwrites the target.
    Set,
    /// Adds to the target.
    Add,
    /// Passes a ReLU, then overwrites the target.
    Gate(Gate<'a, F>),
}

/// Terms added to the gradient of a product's first factor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Join {
    /// The target's present values.
    pub there: bool,
    /// The gradient of the sum: the first factor was its other term too.
    pub sum: bool,
}

/// Error of a device that keeps no weights itself.
const NO_WEIGHTS: &str = "this device keeps no weights of layers itself";

/// Error of a device whose messages to others go through the host.
const NO_LINK: &str = "this device sends nothing to other devices; use comm.exchange = \"host\"";

/// Elements of a table that are changed at a time where that cannot be done in place: 4 MiB in f32.
pub const PART: usize = 1 << 20;

/// The operations that layers need. Windows of one call never overlap unless a text says so. All
/// operations of a backend take place in the order in which they are called; a device may still be
/// at work when they return, unless they hand something to the host.
///
/// A backend controls the steps of one training, which [`Backend::begin`] starts. A step is
/// [`Backend::begin_step`], [`Backend::loss`], as many of [`Backend::check_finite`],
/// [`Backend::add_squares`] and [`Backend::add_sparse_squares`] as are wanted,
/// [`Backend::decide_update`], the updates, and [`Backend::end_step`]. What a step decides
/// (overflow, clipping, the constants of the update) never passes through the host.
pub trait Backend: 'static {
    /// Most steps that the device computes at a time. 1: operations are done when they return.
    const AHEAD: usize;

    /// A buffer of f32.
    type Floats;
    /// Room for batches.
    type Input;
    /// A batch to compute on: on the device, or read in place where the device's memory is the
    /// host's.
    type Batch<'a>;
    /// A set of embedding tables with their row weights and optimizer state.
    type Tables;
    /// Generator of samples on the device.
    type Generator;
    /// Predictions with their labels, kept on the device.
    type Scores;
    /// Plan and scratch space of dot interactions of one shape.
    type Dot;

    // Ranks

    /// What carries messages from this device to those of other ranks, with its version.
    ///
    /// # Errors
    /// If there is nothing.
    fn link_library(&self) -> Result<String> {
        Err(BackendError::Device(NO_LINK.into()))
    }

    /// From now on messages to the other ranks go from device to device. All ranks do this at the
    /// same time.
    ///
    /// # Errors
    /// If there is nothing that carries them, or the others do not come.
    fn link_ranks(&mut self, _comm: &dyn Comm, _patience: Patience) -> Result<()> {
        Err(BackendError::Device(NO_LINK.into()))
    }

    /// The way to the other ranks' devices; `None` where messages go through the host.
    fn link(&mut self) -> Option<&mut dyn DeviceLink<Self::Floats>> {
        None
    }

    // Memory

    /// A buffer of `len` zeros; `what` names its purpose should memory run out.
    fn zeros(&mut self, len: usize, what: &str) -> Result<Self::Floats>;

    /// A buffer of `len` zeros for what matrix products read and write. A backend may keep it in
    /// the numbers that products round their operands to. It may be given to
    /// [`Backend::bags_forward`], [`Backend::sparse_update`] and its like, the layers of a network
    /// without dropout, [`Backend::relu_backward`], [`Backend::multiply_add`] and its gradient,
    /// [`Backend::check_finite`], [`Backend::add`], [`Backend::copy`], the dot interaction and products a sample, and
    /// be read, written and filled; all else wants f32.
    fn operands(&mut self, len: usize, what: &str) -> Result<Self::Floats> {
        self.zeros(len, what)
    }

    /// A buffer of `len` zeros in some numbers.
    fn buffer(&mut self, held: Held, len: usize, what: &str) -> Result<Self::Floats> {
        match held {
            Held::F32 => self.zeros(len, what),
            Held::Operands => self.operands(len, what),
        }
    }

    /// Copies `from` to elements `at..` of `to`.
    fn write(&mut self, to: &mut Self::Floats, at: usize, from: &[f32]) -> Result<()>;

    /// Copies elements `at..at + to.len()` of `from` to `to`, after everything asked for before is
    /// done.
    fn read(&self, from: &Self::Floats, at: usize, to: &mut [f32]) -> Result<()>;

    /// Copies a matrix out, row by row; `out` has just its elements.
    fn read_mat(&self, x: Mat<'_, Self::Floats>, out: &mut [f32]) -> Result<()> {
        let Window { at, stride, cols } = x.window;
        let mut rows = out.chunks_mut(cols.max(1)).enumerate();
        rows.try_for_each(|(row, out)| self.read(x.buf, at + row * stride, out))
    }

    /// Sets a matrix to values that lie row by row.
    fn write_mat(&mut self, to: MatMut<'_, Self::Floats>, values: &[f32]) -> Result<()> {
        let MatMut { buf, window: Window { at, stride, cols }, .. } = to;
        let mut rows = values.chunks(cols.max(1)).enumerate();
        rows.try_for_each(|(row, values)| self.write(buf, at + row * stride, values))
    }

    /// Sets all elements of a buffer.
    fn fill(&mut self, to: &mut Self::Floats, value: f32) -> Result<()>;

    // Batches

    /// Room for batches within some limits. Rows of dense features have `dense_width` columns;
    /// those beyond `limits.dense` are 0.
    fn input(&mut self, limits: &BatchLimits, dense_width: usize) -> Result<Self::Input>;

    /// Brings a batch to the device, unless its memory is the host's. It was checked against the
    /// limits that `input` was made for.
    fn upload<'a>(
        &mut self,
        batch: CheckedBatch<'a>,
        input: &'a mut Self::Input,
    ) -> Result<Self::Batch<'a>>;

    /// A generator of a log's samples; `None` where the host generates them.
    fn generator(&mut self, log: &GeneratedLog) -> Result<Option<Self::Generator>>;

    /// Generates samples in place of [`Backend::upload`]. They fit the limits of `input`.
    fn generate<'a>(
        &mut self,
        generator: &Self::Generator,
        span: Span,
        input: &'a mut Self::Input,
    ) -> Result<Self::Batch<'a>>;

    /// Shortens the lifetime of a batch to that of its borrow, as for any shared reference.
    fn borrow<'a>(batch: &'a Self::Batch<'_>) -> &'a Self::Batch<'a>;

    /// The dense features of a batch, `[B, dense_width]`.
    fn dense<'a>(&self, batch: &'a Self::Batch<'_>) -> Mat<'a, Self::Floats>;

    // Embedding tables

    /// The threads of the host that work for this device.
    fn host_pool(&self) -> &Pool;

    /// Tables of zeros, row weights of ones.
    fn tables(&mut self, shape: &TablesShape<'_>) -> Result<Self::Tables>;

    /// Lets `f` change table `index`, given its present values, in consecutive parts: `f(first
    /// element, part, pool)`. Parts begin at multiples of [`PART`], or are whole rows where rows are
    /// quantised; in place where the device's memory is the host's and rows are f32.
    fn with_table(
        &mut self,
        tables: &mut Self::Tables,
        index: usize,
        f: &mut dyn FnMut(usize, &mut [f32], &Pool),
    ) -> Result<()>;

    /// Sets elements `first..` of table `index`, rounded as rows are kept; there are so many.
    fn write_table(
        &mut self,
        tables: &mut Self::Tables,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<()>;

    /// The same as [`Backend::with_table`] for the weights of the rows of table `index`, `[rows]`.
    fn with_row_weights(
        &mut self,
        tables: &mut Self::Tables,
        index: usize,
        f: &mut dyn FnMut(&mut [f32], &Pool),
    ) -> Result<()>;

    /// Copies elements `first..` of table `index` out.
    fn read_table(
        &self,
        tables: &Self::Tables,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()>;

    /// Copies the weights of the rows of table `index` out, from row `first` on.
    fn read_row_weights(
        &self,
        tables: &Self::Tables,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()>;

    /// Copies numbers `first..` of a buffer of optimizer state out.
    fn read_state(
        &self,
        tables: &Self::Tables,
        state: TableState,
        first: usize,
        out: &mut [f32],
    ) -> Result<()>;

    /// Sets numbers `first..` of a buffer of optimizer state.
    fn write_state(
        &mut self,
        tables: &mut Self::Tables,
        state: TableState,
        first: usize,
        values: &[f32],
    ) -> Result<()>;

    /// Copies rows out by their numbers, one after another, exact.
    fn read_rows(
        &self,
        tables: &Self::Tables,
        of: RowsOf,
        rows: &[u32],
        out: &mut [f32],
    ) -> Result<()> {
        let width = out.len() / rows.len().max(1);
        for (&row, out) in rows.iter().zip(out.chunks_mut(width.max(1))) {
            let first = row as usize * width;
            match of {
                RowsOf::Values(k) => self.read_table(tables, k, first, out)?,
                RowsOf::Weights(k) => self.read_row_weights(tables, k, first, out)?,
                RowsOf::State(state) => self.read_state(tables, state, first, out)?,
            }
        }
        Ok(())
    }

    /// Sets rows by their numbers, no row twice; values are rounded as rows are kept.
    fn write_rows(
        &mut self,
        tables: &mut Self::Tables,
        of: RowsOf,
        rows: &[u32],
        values: &[f32],
    ) -> Result<()> {
        let width = values.len() / rows.len().max(1);
        let parts = || rows.iter().zip(values.chunks(width.max(1)));
        match of {
            RowsOf::Values(k) => parts().try_for_each(|(&row, values)| {
                self.write_table(tables, k, row as usize * width, values)
            }),
            RowsOf::Weights(k) => self.with_row_weights(tables, k, &mut |all, _| {
                parts().for_each(|(&row, value)| all[row as usize] = value[0]);
            }),
            RowsOf::State(state) => parts().try_for_each(|(&row, values)| {
                self.write_state(tables, state, row as usize * width, values)
            }),
        }
    }

    /// Sets rows of several tables, after the steps that have begun and without waiting for them where
    /// the device computes beside the host.
    fn move_in(
        &mut self,
        tables: &mut [Self::Tables],
        pieces: &[(MovedRows<'_>, &[f32])],
    ) -> Result<()> {
        pieces.iter().try_for_each(|(rows, values)| {
            self.write_rows(&mut tables[rows.set], rows.of, rows.numbers, values)
        })
    }

    /// Begins to copy rows of several tables out, as they are after the steps that have begun; they are
    /// not to be set before [`Backend::moved_out`]. `false` where the device does not compute beside the
    /// host, and nothing was done.
    fn begin_moving_out(
        &mut self,
        _tables: &[Self::Tables],
        _pieces: &[MovedRows<'_>],
    ) -> Result<bool> {
        Ok(false)
    }

    /// Those rows, one after another; waits until they are there.
    fn moved_out(&mut self, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        Ok(())
    }

    /// Pools the bags of all tables (`tables` x `dim` columns of `out`, table by table).
    fn bags_forward(
        &mut self,
        tables: &Self::Tables,
        batch: &Self::Batch<'_>,
        out: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// Finds which samples touch which row; once a batch, before [`Backend::add_sparse_squares`]
    /// and [`Backend::sparse_update`].
    fn group_rows(&mut self, batch: &mut Self::Batch<'_>) -> Result<()>;

    /// Adds the sum of squares of the gradient of all rows (summed over a row's occurrences first,
    /// `l2` term included) and of the row weights, if trained, to that of the step.
    fn add_sparse_squares(
        &mut self,
        tables: &Self::Tables,
        batch: &Self::Batch<'_>,
        gradient: SparseGradient<'_, Self::Floats>,
    ) -> Result<()>;

    /// Updates the rows that the batch touched, and all others where the rule or the `l2` term asks
    /// for it, if the step has an update.
    fn sparse_update(
        &mut self,
        tables: &mut Self::Tables,
        batch: &Self::Batch<'_>,
        gradient: SparseGradient<'_, Self::Floats>,
    ) -> Result<()>;

    /// Gradient of table `index`, `[rows, dim]`, and, if trained, of its row weights, `[rows]`,
    /// written out on the host. For tests and diagnosis.
    fn table_gradient(
        &mut self,
        tables: &Self::Tables,
        index: usize,
        batch: &Self::Batch<'_>,
        gradient: SparseGradient<'_, Self::Floats>,
        out: (&mut [f32], &mut [f32]),
    ) -> Result<()>;

    // Plans: each layer asks once, before it computes on batches of up to `max_batch` samples

    /// Makes ready for a fully connected layer.
    fn plan_linear(&mut self, _layer: Linear, _max_batch: usize) -> Result<()> {
        Ok(())
    }

    /// Makes ready for a batch normalisation of `cols` features.
    fn plan_norm(&mut self, _cols: usize, _max_batch: usize) -> Result<()> {
        Ok(())
    }

    /// Makes ready for a dropout behind a layer of `cols` outputs.
    fn plan_dropout(&mut self, _cols: usize, _max_batch: usize) -> Result<()> {
        Ok(())
    }

    /// Makes ready for dot interactions of matrices that are held so: of f32 in f32, whatever products
    /// round to.
    fn plan_dot(&mut self, shape: DotShape, held: Held) -> Result<Self::Dot>;

    // Dense layers

    /// Whether this device keeps weights of fully connected layers itself, in a form of its own, and
    /// not with all other dense parameters. Then it only predicts, and [`Linear::weight`] is the
    /// number that a weight was added by.
    fn keeps_weights(&self) -> bool {
        false
    }

    /// Adds a weight `[outputs, inputs]` of zeros that the device is to keep.
    fn add_weight(&mut self, _number: usize, _shape: [usize; 2]) -> Result<()> {
        Err(BackendError::Device(NO_WEIGHTS.into()))
    }

    /// Lets `f` change a weight that the device keeps, given its present elements, all at once.
    fn with_weight(&mut self, _number: usize, _f: &mut dyn FnMut(&mut [f32], &Pool)) -> Result<()> {
        Err(BackendError::Device(NO_WEIGHTS.into()))
    }

    /// Copies elements `first..` of a weight that the device keeps out, as products see them.
    fn read_weight(&self, _number: usize, _first: usize, _out: &mut [f32]) -> Result<()> {
        Err(BackendError::Device(NO_WEIGHTS.into()))
    }

    /// `y = after(x W^T + b)`, or `y = after(x W^T)` without a bias. `x [B, inputs]`, `y [B,
    /// outputs]`.
    fn linear_forward(
        &mut self,
        x: Mat<'_, Self::Floats>,
        params: &Self::Floats,
        layer: Linear,
        after: After,
        y: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `dx = dy W` or `dx += dy W`. Behind a gate it is zero wherever the gate's activation, of
    /// `dx`'s shape, is not above zero, and times its factor elsewhere.
    fn linear_backward_data(
        &mut self,
        dy: Mat<'_, Self::Floats>,
        params: &Self::Floats,
        layer: Linear,
        onto: Onto<'_, Self::Floats>,
        dx: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `dW = dy^T x`, and with a bias `db = sum of dy over the batch`, overwritten in `grads`.
    fn linear_backward_weight(
        &mut self,
        dy: Mat<'_, Self::Floats>,
        x: Mat<'_, Self::Floats>,
        layer: Linear,
        grads: &mut Self::Floats,
    ) -> Result<()>;

    /// Zero in `dx` wherever the activation `x` is not above zero.
    fn relu_backward(
        &mut self,
        x: Mat<'_, Self::Floats>,
        dx: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `out = a * b + c`, or `a * b`, element by element; all of one shape.
    fn multiply_add(
        &mut self,
        a: Mat<'_, Self::Floats>,
        b: Mat<'_, Self::Floats>,
        c: Option<Mat<'_, Self::Floats>>,
        out: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// From the gradient `g` of [`Backend::multiply_add`]'s output to those of its factors: `db = a
    /// * g`, `da = b * g`, to which `join` is added. That of `c` is `g` itself.
    fn multiply_add_backward(
        &mut self,
        factors: [Mat<'_, Self::Floats>; 2],
        g: Mat<'_, Self::Floats>,
        da: (MatMut<'_, Self::Floats>, Join),
        db: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `y = scale * (z - mean) / sqrt(var + eps) + shift`, with `norm.relu` `max(y, 0)`, with mean
    /// and biased variance of each column of this batch, left in `stats` as `[mean, 1 / sqrt(var +
    /// eps)]`. The running statistics move by `momentum` towards the mean and the variance, unbiased
    /// if `norm.unbiased`; with a momentum of 0 they stay.
    fn batch_norm_train(
        &mut self,
        z: Mat<'_, Self::Floats>,
        params: &Self::Floats,
        norm: Norm,
        running: &mut Self::Floats,
        stats: &mut Self::Floats,
        y: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// The same with the running statistics, which stay; `stats` is scratch space.
    fn batch_norm_eval(
        &mut self,
        z: Mat<'_, Self::Floats>,
        params: &Self::Floats,
        norm: Norm,
        running: &Self::Floats,
        stats: &mut Self::Floats,
        y: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// From the gradient `g` of the normalised output, before its ReLU if it has one (already
    /// masked), to that of `z`, in place; gradients of scale and shift are overwritten in `grads`.
    fn batch_norm_backward(
        &mut self,
        z: Mat<'_, Self::Floats>,
        params: &Self::Floats,
        norm: Norm,
        stats: &Self::Floats,
        g: MatMut<'_, Self::Floats>,
        grads: &mut Self::Floats,
    ) -> Result<()>;

    /// Dropout in place.
    fn dropout(&mut self, dropout: Dropout, x: MatMut<'_, Self::Floats>) -> Result<()>;

    // Interactions

    /// `out = concat[T_0, <T_i, T_j> for i > j (i >= j)]`, zeros in the columns that remain; `T [B,
    /// features * dim]`.
    fn dot_forward(
        &mut self,
        dot: &mut Self::Dot,
        t: Mat<'_, Self::Floats>,
        out: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// Gradient of `T`, overwritten.
    fn dot_backward(
        &mut self,
        dot: &mut Self::Dot,
        t: Mat<'_, Self::Floats>,
        dout: Mat<'_, Self::Floats>,
        dt: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `out = concat[x, P Q]` with `P [B, left, inner]` and `Q [B, inner, right]`, every matrix
    /// row-major in a row of its buffer.
    fn products_forward(
        &mut self,
        shape: ProductShape,
        x: Mat<'_, Self::Floats>,
        factors: [Mat<'_, Self::Floats>; 2],
        out: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// Gradients of `P` and `Q`, overwritten. That of `x` is `dout`'s first columns.
    fn products_backward(
        &mut self,
        shape: ProductShape,
        factors: [Mat<'_, Self::Floats>; 2],
        dout: Mat<'_, Self::Floats>,
        gradients: [MatMut<'_, Self::Floats>; 2],
    ) -> Result<()>;

    /// `to = x`, element by element.
    fn copy(&mut self, x: Mat<'_, Self::Floats>, to: MatMut<'_, Self::Floats>) -> Result<()>;

    /// `to += x`, element by element.
    fn add(&mut self, x: Mat<'_, Self::Floats>, to: MatMut<'_, Self::Floats>) -> Result<()>;

    /// `logits += sum of linear's columns + sum_{i<j} <v_i, v_j>`; `v [B, fields * dim]`, `linear
    /// [B, fields]`, `logits [B, 1]`.
    fn fm_forward(
        &mut self,
        v: Mat<'_, Self::Floats>,
        dim: usize,
        linear: Mat<'_, Self::Floats>,
        logits: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `dv_i += dlogit * (sum_j v_j - v_i)`; `dlinear = dlogit` in all columns.
    fn fm_backward(
        &mut self,
        v: Mat<'_, Self::Floats>,
        dim: usize,
        dlogits: Mat<'_, Self::Floats>,
        dv: MatMut<'_, Self::Floats>,
        dlinear: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// Fields of dense columns: `out[b, j * dim + k] = x[b, j] * w[j, k]`, `w` `[columns, dim]` at
    /// `weight` in `params`.
    fn fields_forward(
        &mut self,
        x: Mat<'_, Self::Floats>,
        params: &Self::Floats,
        weight: usize,
        dim: usize,
        out: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// `dw[j, k] = sum_b x[b, j] * dout[b, j * dim + k]`, overwritten in `grads`.
    fn fields_backward(
        &mut self,
        x: Mat<'_, Self::Floats>,
        dout: Mat<'_, Self::Floats>,
        weight: usize,
        dim: usize,
        grads: &mut Self::Floats,
    ) -> Result<()>;

    // Control of training steps

    /// Begins a training.
    fn begin(&mut self, control: &StepControl) -> Result<()>;

    /// Where the training stands. The device computes no step.
    fn position(&mut self) -> Result<Position>;

    /// Goes on where another training stood; after [`Backend::begin`], before any step.
    fn go_on(&mut self, from: Position) -> Result<()>;

    /// Begins a step. The device computes fewer than `AHEAD` others ([`Backend::fetch_result`]).
    fn begin_step(&mut self, start: StepStart) -> Result<()>;

    /// Notes for the record of a run: how steps were done.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Does `work` on a batch: a step from [`Backend::group_rows`] to the updates. It
    /// must ask for the same operations on the same buffers at each call for a batch of as many
    /// samples, so that a device may note down what is asked for and repeat it by itself.
    fn repeat(
        &mut self,
        batch: &mut Self::Batch<'_>,
        work: &mut dyn FnMut(&mut Self, &mut Self::Batch<'_>) -> Result<()>,
    ) -> Result<()>;

    /// Adds the losses of as many samples as there are logits, from sample `first` of the batch on,
    /// to that of the step, which ends with their mean over the whole batch; the gradient by these
    /// logits of the mean over `over` samples, times the loss scale, in `dlogits`, of `logits`'
    /// shape `[rows, 1]`.
    fn loss(
        &mut self,
        spec: &LossSpec,
        logits: Mat<'_, Self::Floats>,
        batch: &Self::Batch<'_>,
        first: usize,
        over: usize,
        dlogits: MatMut<'_, Self::Floats>,
    ) -> Result<()>;

    /// Looks for an infinite or NaN element: with one the step has overflowed and has no update.
    fn check_finite(&mut self, x: Mat<'_, Self::Floats>) -> Result<()>;

    /// Adds the sum of squares of a buffer to that of the step.
    fn add_squares(&mut self, x: &Self::Floats) -> Result<()>;

    /// What this device has counted of the present step, for ranks to sum.
    fn step_sums(&mut self) -> Result<StepSums>;

    /// Puts what all ranks have counted in its place.
    fn set_step_sums(&mut self, sums: StepSums) -> Result<()>;

    /// Decides on the update, after all of [`Backend::check_finite`] and of the squares, and adjusts
    /// the loss scale.
    fn decide_update(&mut self) -> Result<()>;

    /// Updates all dense parameters, if the step has an update; `state` holds the rule's buffers
    /// ([`crate::optim::rules::State::dense`]), in the same layout.
    fn dense_update(
        &mut self,
        params: &mut Self::Floats,
        grads: &Self::Floats,
        state: &mut [Self::Floats],
    ) -> Result<()>;

    /// Ends a step.
    fn end_step(&mut self) -> Result<()>;

    /// Steps that have ended here and whose results nobody has taken.
    fn in_flight(&mut self) -> &mut InFlight;

    /// Fetches the result of the oldest step that the device computes into
    /// [`Backend::in_flight`]. `false` if it computes none, or if the result is not known yet and
    /// nobody wants to `wait`.
    fn fetch_result(&mut self, wait: bool) -> Result<bool>;

    /// Takes the result of the oldest step in flight; `None` if there is none, or if it is not
    /// known yet and nobody wants to `wait`.
    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>> {
        if let Some(end) = self.in_flight().take_oldest() {
            return Ok(Some(end));
        }
        self.fetch_result(wait)?;
        Ok(self.in_flight().take_oldest())
    }

    /// Bytes of the device's own memory that are taken, by whomever; `None` where it has none, or
    /// does not say.
    fn memory_in_use(&self) -> Option<u64> {
        None
    }

    /// Goes on after a loss that was not finite. The device computes no step.
    fn resume(&mut self) -> Result<()>;

    // Evaluation

    /// Sigmoids of the logits, to the host.
    fn probabilities(&mut self, logits: Mat<'_, Self::Floats>, out: &mut [f32]) -> Result<()>;

    /// Makes room for the predictions of `samples` samples in `scores`, and forgets those that were
    /// there. `false` if this device keeps none, or not so many.
    fn begin_scores(&mut self, samples: u64, scores: &mut Option<Self::Scores>) -> Result<bool>;

    /// Keeps the sigmoids of the logits, with the labels of the batch.
    fn add_scores(
        &mut self,
        logits: Mat<'_, Self::Floats>,
        batch: &Self::Batch<'_>,
        scores: &mut Self::Scores,
    ) -> Result<()>;

    /// Counts for the metrics of the kept predictions, or an error of theirs.
    fn count_scores(
        &mut self,
        scores: &mut Self::Scores,
    ) -> Result<std::result::Result<Counts, MetricsError>>;
}
