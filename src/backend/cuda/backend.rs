//! [`Backend`] for GPUs of NVIDIA's: hands each operation to its launcher.

use super::{
    bags, batch_norm, dense_update,
    driver::{Address, DeviceInfo, Driver, bytes_of, bytes_of_mut, real::Gpu},
    dropout, elementwise, fm,
    graphs::{self, Graphs, Way},
    groups,
    interaction::Dot,
    linear::{self, Params, Products},
    links::Links,
    loss, matrix,
    memory::{Floats, Input},
    moving::Moving,
    planted::Planted,
    products, rows,
    scores::Scores,
    scratch::Scratch,
    sparse_update::Sparse,
    step_control::{AHEAD, StepState},
    tables::Tables,
};
use crate::{
    backend::{
        After, Backend, DeviceLink, DotShape, Dropout, Gate, Held, InFlight, Join, Linear, Mat,
        MatMut, MovedRows, Norm, Onto, Position, Precision, ProductShape, Result, RowsOf,
        SparseGradient, StepControl, StepStart, StepSums, TableState, TablesShape, Window,
    },
    batch::{BatchLimits, CheckedBatch, GeneratedLog, Span},
    comm::{Comm, Patience},
    host::pool::Pool,
    metrics::{Counts, MetricsError},
    model::LossSpec,
};
use std::{cell::RefCell, rc::Rc};

/// How a GPU is to compute.
#[derive(Debug, Clone, Copy)]
pub struct CudaConfig {
    /// Threads of the host that work for it, the caller included; at least 1.
    pub threads: usize,
    /// Pin each of them to a core.
    pub pin_threads: bool,
    /// Rounding of the operands of matrix products.
    pub precision: Precision,
    /// Note steps down and repeat them as a whole (CUDA graphs), instead of asking for each
    /// operation anew.
    pub graphs: bool,
}

/// A GPU with scratch space.
#[derive(Debug)]
pub struct Cuda {
    driver: Rc<dyn Driver>,
    pool: Pool,
    precision: Precision,
    scratch: Scratch,
    /// For what is read, which changes nothing.
    reading: RefCell<Scratch>,
    step: StepState,
    graphs: Graphs,
    moving: Moving,
    /// The other ranks' GPUs, where messages go straight to them.
    links: Option<Links>,
}

impl Cuda {
    /// GPU number `ordinal`.
    ///
    /// # Errors
    /// What is missing: the driver, the GPU, a library.
    pub fn open(ordinal: u32, config: &CudaConfig) -> Result<Self> {
        let graphs = config.graphs && graphs::asked_for()?;
        Cuda::on(Gpu::open(ordinal)?, &CudaConfig { graphs, ..*config })
    }

    /// A device whose driver is given.
    ///
    /// # Errors
    /// Whatever the device says.
    pub(crate) fn on(driver: Rc<dyn Driver>, config: &CudaConfig) -> Result<Self> {
        Ok(Cuda {
            pool: Pool::with_pinning(config.threads, config.pin_threads),
            precision: config.precision,
            scratch: Scratch::new(&driver),
            reading: RefCell::new(Scratch::new(&driver)),
            step: StepState::new(&driver)?,
            graphs: Graphs::new(&driver, config.graphs),
            moving: Moving::default(),
            links: None,
            driver,
        })
    }

    /// What the device is.
    pub fn device(&self) -> &DeviceInfo {
        self.driver.device()
    }

    /// Steps that were repeated as they had been noted down.
    pub fn replays(&self) -> u64 {
        self.graphs.replays
    }

    fn products(&mut self) -> Products<'_> {
        Products { driver: &*self.driver, scratch: &mut self.scratch, precision: self.precision }
    }

    fn sparse<'a>(
        &'a mut self,
        tables: &'a Tables,
        input: &'a Input,
        gradient: SparseGradient<'_, Floats>,
    ) -> Sparse<'a> {
        let (pooled, l2) = (gradient.pooled.operand(), gradient.l2);
        Sparse {
            driver: &self.driver,
            scratch: &mut self.scratch,
            step: &self.step,
            tables,
            input,
            pooled,
            l2,
        }
    }
}

/// A layer's parameters, or their gradients.
fn params(buffer: &Floats, layer: Linear) -> Params {
    let Linear { weight, bias, inputs, outputs } = layer;
    Params {
        weight: buffer.at(weight, inputs * outputs),
        bias: bias.map(|bias| buffer.at(bias, outputs)),
        inputs,
        outputs,
    }
}

/// Two parameters of a normalisation, `norm.cols` elements each.
fn two(buffer: &Floats, norm: Norm, first: usize, second: usize) -> (Address, Address) {
    (buffer.at(first, norm.cols), buffer.at(second, norm.cols))
}

impl Backend for Cuda {
    const AHEAD: usize = AHEAD;

    type Floats = Floats;
    type Input = Input;
    type Batch<'a> = &'a mut Input;
    type Tables = Tables;
    type Generator = Planted;
    type Scores = Scores;
    type Dot = Dot;

    fn memory_in_use(&self) -> Option<u64> {
        let free = self.driver.available().ok()?;
        self.driver.device().memory.checked_sub(free)
    }

    fn link_library(&self) -> Result<String> {
        self.driver.link_library()
    }

    fn link_ranks(&mut self, comm: &dyn Comm, patience: Patience) -> Result<()> {
        self.links = Some(Links::join(&self.driver, comm, patience)?);
        Ok(())
    }

    fn link(&mut self) -> Option<&mut dyn DeviceLink<Floats>> {
        self.links.as_mut().map(|links| links as &mut dyn DeviceLink<Floats>)
    }

    fn zeros(&mut self, len: usize, what: &str) -> Result<Floats> {
        Floats::zeros(&self.driver, len, what)
    }

    fn operands(&mut self, len: usize, what: &str) -> Result<Floats> {
        Floats::operands(&self.driver, len, linear::operands(self.precision), what)
    }

    fn write(&mut self, to: &mut Floats, at: usize, from: &[f32]) -> Result<()> {
        to.write(&*self.driver, at, from)
    }

    fn read(&self, from: &Floats, at: usize, to: &mut [f32]) -> Result<()> {
        from.read(&*self.driver, at, to)
    }

    fn read_mat(&self, x: Mat<'_, Floats>, out: &mut [f32]) -> Result<()> {
        matrix::read(&*self.driver, &mut self.reading.borrow_mut(), x.operand(), out)
    }

    fn write_mat(&mut self, to: MatMut<'_, Floats>, values: &[f32]) -> Result<()> {
        matrix::write(&*self.driver, &mut self.scratch, to.operand(), values)
    }

    fn fill(&mut self, to: &mut Floats, value: f32) -> Result<()> {
        let n = to.len();
        let row = Window::whole(n).of_mut(to, 1).operand();
        elementwise::fill(&*self.driver, row.at, row.number, n, value)
    }

    fn input(&mut self, limits: &BatchLimits, dense_width: usize) -> Result<Input> {
        Input::new(&self.driver, limits, dense_width)
    }

    fn upload<'a>(
        &mut self,
        batch: CheckedBatch<'a>,
        input: &'a mut Input,
    ) -> Result<&'a mut Input> {
        input.upload(&self.pool, batch)?;
        Ok(input)
    }

    fn generator(&mut self, log: &GeneratedLog) -> Result<Option<Planted>> {
        Planted::new(&self.driver, log).map(Some)
    }

    fn generate<'a>(
        &mut self,
        generator: &Planted,
        span: Span,
        input: &'a mut Input,
    ) -> Result<&'a mut Input> {
        input.make(&*self.driver, generator, span)?;
        Ok(input)
    }

    fn borrow<'a>(batch: &'a &mut Input) -> &'a &'a mut Input {
        batch
    }

    fn dense<'a>(&self, batch: &'a &mut Input) -> Mat<'a, Floats> {
        Window::whole(batch.dense_width).of(batch.words(), batch.len)
    }

    fn host_pool(&self) -> &Pool {
        &self.pool
    }

    fn notes(&self) -> Vec<String> {
        vec![self.graphs.note()]
    }

    fn tables(&mut self, shape: &TablesShape<'_>) -> Result<Tables> {
        Tables::new(&self.driver, shape)
    }

    fn with_table(
        &mut self,
        tables: &mut Tables,
        index: usize,
        f: &mut dyn FnMut(usize, &mut [f32], &Pool),
    ) -> Result<()> {
        tables.edit(&*self.driver, &mut self.scratch, index, |at, part| f(at, part, &self.pool))
    }

    fn write_table(
        &mut self,
        tables: &mut Tables,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        tables.write(&*self.driver, &mut self.scratch, index, first, values)
    }

    fn with_row_weights(
        &mut self,
        tables: &mut Tables,
        index: usize,
        f: &mut dyn FnMut(&mut [f32], &Pool),
    ) -> Result<()> {
        tables.edit_weights(&*self.driver, index, |weights| f(weights, &self.pool))
    }

    fn read_table(
        &self,
        tables: &Tables,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        tables.read(&*self.driver, &mut self.reading.borrow_mut(), index, first, out)
    }

    fn read_row_weights(
        &self,
        tables: &Tables,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        tables.read_weights(&*self.driver, index, first, out)
    }

    fn read_state(
        &self,
        tables: &Tables,
        state: TableState,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        self.driver.to_host(tables.state(state, first, out.len()), bytes_of_mut(out))
    }

    fn write_state(
        &mut self,
        tables: &mut Tables,
        state: TableState,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        self.driver.to_device(tables.state(state, first, values.len()), bytes_of(values))
    }

    fn read_rows(
        &self,
        tables: &Tables,
        of: RowsOf,
        numbers: &[u32],
        out: &mut [f32],
    ) -> Result<()> {
        rows::read(&*self.driver, &mut self.reading.borrow_mut(), tables, of, numbers, out)
    }

    fn write_rows(
        &mut self,
        tables: &mut Tables,
        of: RowsOf,
        numbers: &[u32],
        values: &[f32],
    ) -> Result<()> {
        rows::write(&*self.driver, &mut self.scratch, tables, of, numbers, values)
    }

    fn move_in(&mut self, tables: &mut [Tables], pieces: &[(MovedRows<'_>, &[f32])]) -> Result<()> {
        self.moving.write(&self.driver, tables, pieces)
    }

    fn begin_moving_out(&mut self, tables: &[Tables], pieces: &[MovedRows<'_>]) -> Result<bool> {
        self.moving.begin_read(&self.driver, tables, pieces)?;
        Ok(true)
    }

    fn moved_out(&mut self, out: &mut Vec<f32>) -> Result<()> {
        self.moving.read(out)
    }

    fn bags_forward(
        &mut self,
        tables: &Tables,
        batch: &&mut Input,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        bags::forward(&*self.driver, tables, batch, out.operand())
    }

    fn group_rows(&mut self, batch: &mut &mut Input) -> Result<()> {
        groups::sort(&*self.driver, batch)
    }

    fn add_sparse_squares(
        &mut self,
        tables: &Tables,
        batch: &&mut Input,
        gradient: SparseGradient<'_, Floats>,
    ) -> Result<()> {
        self.sparse(tables, batch, gradient).add_squares()
    }

    fn sparse_update(
        &mut self,
        tables: &mut Tables,
        batch: &&mut Input,
        gradient: SparseGradient<'_, Floats>,
    ) -> Result<()> {
        tables.touch();
        self.sparse(tables, batch, gradient).update()
    }

    fn table_gradient(
        &mut self,
        tables: &Tables,
        index: usize,
        batch: &&mut Input,
        gradient: SparseGradient<'_, Floats>,
        (rows, weights): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        self.sparse(tables, batch, gradient).gradient(index, rows, weights)
    }

    /// # Errors
    /// If the vectors of a sample do not fit into a block's shared memory.
    fn plan_dot(&mut self, shape: DotShape, held: Held) -> Result<Dot> {
        let precision = match held {
            Held::F32 => Precision::Fp32,
            Held::Operands => self.precision,
        };
        Dot::new(shape, precision, self.driver.shared_memory())
    }

    fn linear_forward(
        &mut self,
        x: Mat<'_, Floats>,
        buffer: &Floats,
        layer: Linear,
        after: After,
        mut y: MatMut<'_, Floats>,
    ) -> Result<()> {
        let out = y.operand();
        // A dropout behind the ReLU is known by its zeros alone.
        let mask = if after.relu && after.dropout.is_none() { y.mask(&self.driver)? } else { None };
        if self.products().forward(x.operand(), params(buffer, layer), after.relu, out, mask)? {
            y.set_masked();
        }
        after.dropout.map_or(Ok(()), |dropout| self.dropout(dropout, y))
    }

    fn linear_backward_data(
        &mut self,
        dy: Mat<'_, Floats>,
        buffer: &Floats,
        layer: Linear,
        onto: Onto<'_, Floats>,
        dx: MatMut<'_, Floats>,
    ) -> Result<()> {
        let onto = match onto {
            Onto::Set => linear::Onto::Set,
            Onto::Add => linear::Onto::Add,
            Onto::Gate(Gate { activation: a, factor }) => {
                linear::Onto::Gate(linear::Gate { activation: a.operand(), factor, mask: a.mask() })
            }
        };
        self.products().backward_data(dy.operand(), params(buffer, layer), onto, dx.operand())
    }

    fn linear_backward_weight(
        &mut self,
        dy: Mat<'_, Floats>,
        x: Mat<'_, Floats>,
        layer: Linear,
        grads: &mut Floats,
    ) -> Result<()> {
        self.products().backward_weight(dy.operand(), x.operand(), params(grads, layer))
    }

    fn relu_backward(&mut self, x: Mat<'_, Floats>, dx: MatMut<'_, Floats>) -> Result<()> {
        elementwise::gate(&*self.driver, x.operand(), 1.0, dx.operand())
    }

    fn multiply_add(
        &mut self,
        a: Mat<'_, Floats>,
        b: Mat<'_, Floats>,
        c: Option<Mat<'_, Floats>>,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (factors, term) = ([a, b].map(|m| m.operand()), c.map(|m| m.operand()));
        elementwise::multiply_add(&*self.driver, factors, term, out.operand())
    }

    fn multiply_add_backward(
        &mut self,
        factors: [Mat<'_, Floats>; 2],
        g: Mat<'_, Floats>,
        (da, join): (MatMut<'_, Floats>, Join),
        db: MatMut<'_, Floats>,
    ) -> Result<()> {
        let [a, b] = factors.map(|m| m.operand());
        let driver = &*self.driver;
        elementwise::multiply_add_backward(
            driver,
            [a, b, g.operand()],
            (da.operand(), join),
            db.operand(),
        )
    }

    fn batch_norm_train(
        &mut self,
        z: Mat<'_, Floats>,
        params: &Floats,
        norm: Norm,
        running: &mut Floats,
        stats: &mut Floats,
        y: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (driver, z, stats) = (&*self.driver, z.place(), stats.at(0, 2 * norm.cols));
        let running = two(running, norm, norm.mean, norm.var);
        batch_norm::statistics(driver, &mut self.scratch, &self.step, z, norm, running, stats)?;
        batch_norm::normalise(
            driver,
            z,
            stats,
            two(params, norm, norm.scale, norm.shift),
            norm.relu,
            y.place(),
        )
    }

    fn batch_norm_eval(
        &mut self,
        z: Mat<'_, Floats>,
        params: &Floats,
        norm: Norm,
        running: &Floats,
        stats: &mut Floats,
        y: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (driver, stats) = (&*self.driver, stats.at(0, 2 * norm.cols));
        batch_norm::running(
            driver,
            two(running, norm, norm.mean, norm.var),
            norm.cols,
            norm.eps,
            stats,
        )?;
        batch_norm::normalise(
            driver,
            z.place(),
            stats,
            two(params, norm, norm.scale, norm.shift),
            norm.relu,
            y.place(),
        )
    }

    fn batch_norm_backward(
        &mut self,
        z: Mat<'_, Floats>,
        params: &Floats,
        norm: Norm,
        stats: &Floats,
        g: MatMut<'_, Floats>,
        grads: &mut Floats,
    ) -> Result<()> {
        let given = (stats.at(0, 2 * norm.cols), params.at(norm.scale, norm.cols));
        let wanted = two(grads, norm, norm.scale, norm.shift);
        batch_norm::backward(&*self.driver, &mut self.scratch, z.place(), given, g.place(), wanted)
    }

    fn dropout(&mut self, dropout: Dropout, x: MatMut<'_, Floats>) -> Result<()> {
        dropout::apply(&*self.driver, &self.step, dropout, x.place())
    }

    fn dot_forward(
        &mut self,
        dot: &mut Dot,
        t: Mat<'_, Floats>,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        dot.forward(&*self.driver, t.operand(), out.operand())
    }

    fn dot_backward(
        &mut self,
        dot: &mut Dot,
        t: Mat<'_, Floats>,
        dout: Mat<'_, Floats>,
        dt: MatMut<'_, Floats>,
    ) -> Result<()> {
        dot.backward(&*self.driver, t.operand(), dout.operand(), dt.operand())
    }

    fn products_forward(
        &mut self,
        shape: ProductShape,
        x: Mat<'_, Floats>,
        factors: [Mat<'_, Floats>; 2],
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let factors = factors.map(|m| m.operand());
        products::forward(&*self.driver, shape, x.operand(), factors, out.operand())
    }

    fn products_backward(
        &mut self,
        shape: ProductShape,
        factors: [Mat<'_, Floats>; 2],
        dout: Mat<'_, Floats>,
        gradients: [MatMut<'_, Floats>; 2],
    ) -> Result<()> {
        let (factors, gradients) = (factors.map(|m| m.operand()), gradients.map(|m| m.operand()));
        products::backward(&*self.driver, shape, factors, dout.operand(), gradients)
    }

    fn copy(&mut self, x: Mat<'_, Floats>, to: MatMut<'_, Floats>) -> Result<()> {
        elementwise::add(&*self.driver, x.operand(), false, to.operand())
    }

    fn add(&mut self, x: Mat<'_, Floats>, to: MatMut<'_, Floats>) -> Result<()> {
        elementwise::add(&*self.driver, x.operand(), true, to.operand())
    }

    fn fm_forward(
        &mut self,
        v: Mat<'_, Floats>,
        dim: usize,
        linear: Mat<'_, Floats>,
        logits: MatMut<'_, Floats>,
    ) -> Result<()> {
        fm::forward(&*self.driver, v.place(), dim, linear.place(), logits.place())
    }

    fn fm_backward(
        &mut self,
        v: Mat<'_, Floats>,
        dim: usize,
        dlogits: Mat<'_, Floats>,
        dv: MatMut<'_, Floats>,
        dlinear: MatMut<'_, Floats>,
    ) -> Result<()> {
        fm::backward(&*self.driver, v.place(), dim, dlogits.place(), dv.place(), dlinear.place())
    }

    fn fields_forward(
        &mut self,
        x: Mat<'_, Floats>,
        params: &Floats,
        weight: usize,
        dim: usize,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let weight = params.at(weight, x.window.cols * dim);
        fm::fields_forward(&*self.driver, x.place(), weight, dim, out.place())
    }

    fn fields_backward(
        &mut self,
        x: Mat<'_, Floats>,
        dout: Mat<'_, Floats>,
        weight: usize,
        dim: usize,
        grads: &mut Floats,
    ) -> Result<()> {
        let dw = grads.at(weight, x.window.cols * dim);
        fm::fields_backward(&*self.driver, &mut self.scratch, x.place(), dout.place(), dim, dw)
    }

    fn begin(&mut self, control: &StepControl) -> Result<()> {
        self.step.begin(control)
    }

    fn position(&mut self) -> Result<Position> {
        self.step.position()
    }

    fn go_on(&mut self, from: Position) -> Result<()> {
        self.step.go_on(from)
    }

    fn begin_step(&mut self, start: StepStart) -> Result<()> {
        self.step.begin_step(start)
    }

    fn repeat(
        &mut self,
        batch: &mut &mut Input,
        work: &mut dyn FnMut(&mut Self, &mut &mut Input) -> Result<()>,
    ) -> Result<()> {
        let key = batch.form();
        match self.graphs.way(key) {
            Way::Singly => work(self, batch),
            Way::Capture => {
                // Out of the way, since the work has all of this value meanwhile.
                let mut graphs =
                    std::mem::replace(&mut self.graphs, Graphs::new(&self.driver, false));
                let captured = graphs.capture(key, || work(self, batch));
                self.graphs = graphs;
                if captured { self.graphs.replay(key) } else { work(self, batch) }
            }
            Way::Replay => self.graphs.replay(key),
        }
    }

    fn loss(
        &mut self,
        spec: &LossSpec,
        logits: Mat<'_, Floats>,
        batch: &&mut Input,
        first: usize,
        over: usize,
        dlogits: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (n, all) = (logits.rows, batch.len);
        assert!(
            first + n <= all && n <= over && dlogits.rows == n,
            "losses of samples of the batch"
        );
        let labels = batch.labels() + (first * size_of::<f32>()) as Address;
        let (driver, step) = (&*self.driver, &self.step);
        loss::forward_backward(
            driver,
            &mut self.scratch,
            step,
            spec,
            (n, all, over),
            (logits.place().at, labels),
            dlogits.place().at,
        )
    }

    fn check_finite(&mut self, x: Mat<'_, Floats>) -> Result<()> {
        elementwise::check_finite(&*self.driver, x.operand(), self.step.overflow())
    }

    fn add_squares(&mut self, x: &Floats) -> Result<()> {
        elementwise::add_squares(
            &*self.driver,
            &mut self.scratch,
            x.at(0, x.len()),
            x.len(),
            self.step.squares(),
        )
    }

    fn step_sums(&mut self) -> Result<StepSums> {
        self.step.sums()
    }

    fn set_step_sums(&mut self, sums: StepSums) -> Result<()> {
        self.step.set_sums(sums)
    }

    fn decide_update(&mut self) -> Result<()> {
        self.step.decide_update()
    }

    fn dense_update(
        &mut self,
        params: &mut Floats,
        grads: &Floats,
        state: &mut [Floats],
    ) -> Result<()> {
        let n = params.len();
        let state = [0, 1].map(|k| state.get(k).map_or(0, |s| s.at(0, n)));
        let places = (params.at(0, n), grads.at(0, n));
        dense_update::update(&*self.driver, n, places, state, self.step.update())
    }

    fn end_step(&mut self) -> Result<()> {
        self.step.end_step()
    }

    fn in_flight(&mut self) -> &mut InFlight {
        self.step.in_flight()
    }

    fn fetch_result(&mut self, wait: bool) -> Result<bool> {
        self.step.fetch_result(wait)
    }

    fn resume(&mut self) -> Result<()> {
        self.step.resume()
    }

    fn probabilities(&mut self, logits: Mat<'_, Floats>, out: &mut [f32]) -> Result<()> {
        let n = logits.rows;
        let at = loss::probabilities(&*self.driver, &mut self.scratch, logits.place().at, n)?;
        self.driver.to_host(at, bytes_of_mut(&mut out[..n]))
    }

    fn begin_scores(&mut self, samples: u64, scores: &mut Option<Scores>) -> Result<bool> {
        Scores::begin(&self.driver, scores, samples)
    }

    fn add_scores(
        &mut self,
        logits: Mat<'_, Floats>,
        batch: &&mut Input,
        scores: &mut Scores,
    ) -> Result<()> {
        let at =
            loss::probabilities(&*self.driver, &mut self.scratch, logits.place().at, logits.rows)?;
        scores.add(at, batch.labels(), logits.rows)
    }

    fn count_scores(
        &mut self,
        scores: &mut Scores,
    ) -> Result<std::result::Result<Counts, MetricsError>> {
        scores.count()
    }
}
