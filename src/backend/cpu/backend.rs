//! [`Backend`] for CPUs: hands each operation to its kernel.

use super::{
    bags,
    batch_norm::{self, NormShape, Running},
    dense_update,
    dropout::{self, DropoutBits, MaskKey},
    elementwise, fields, fm,
    gemm::{self, Gemm, LinearShape, Rows, RowsMut},
    interaction::Dot,
    loss,
    memory::{Floats, Input, Uploaded},
    products,
    quantised::{self, Layers},
    sparse_update::{self, BagGradient, SparseUpdate},
    step_control::StepState,
};
use crate::{
    backend::{
        After, Backend, BackendError, DotShape, Dropout, Gate, Held, InFlight, Join, Linear, Mat,
        MatMut, Norm, ONLY_PREDICTS, Onto, PART, Position, Precision, ProductShape, Quantisation,
        Result, SparseGradient, StepControl, StepStart, StepSums, TableState, TablesShape, Window,
    },
    batch::{BatchLimits, CheckedBatch, GeneratedLog, Span},
    comm::NormRanks,
    embedding::{EmbeddingError, TableSet},
    host::{Isa, pool::Pool},
    metrics::{Counts, MetricsError},
    model::LossSpec,
};
use std::convert::Infallible;

/// How a CPU is to compute.
#[derive(Debug, Clone, Copy)]
pub struct CpuConfig {
    /// Threads of the pool, the caller included; at least 1.
    pub threads: usize,
    /// Rounding of the operands of matrix products.
    pub precision: Precision,
    /// Pin each thread to a core.
    pub pin_threads: bool,
    /// In what fewer bits the model is kept, if it is only to predict.
    pub quantisation: Quantisation,
}

/// The CPU: a pool of threads and scratch space.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
    isa: Isa,
    gemm: Gemm,
    mask: DropoutBits,
    norm_scratch: Vec<f32>,
    /// The ranks that share a batch, if they do.
    norm_ranks: Option<NormRanks>,
    sparse: SparseUpdate,
    partial_sums: Vec<f64>,
    step: StepState,
    quantisation: Quantisation,
    /// Weights of fully connected layers that are quantised.
    layers: Option<Layers>,
}

impl Cpu {
    /// Starts the threads and makes the scratch space.
    ///
    /// # Errors
    /// If `DLRM_BENCH_ISA` asks for an instruction set that there is not, or the precision is one
    /// that CPUs have not.
    pub fn new(config: &CpuConfig) -> Result<Self> {
        if config.precision == Precision::Tf32 {
            return Err(BackendError::Device(
                "precision tf32 is one of CUDA devices; a CPU has fp32, bf16 and fp16".into(),
            ));
        }
        // Products of f16 weights are f32; int8 layers have none.
        let layers = config.quantisation.layers;
        let precision = if layers.is_some() { Precision::Fp32 } else { config.precision };
        let isa = Isa::detect().map_err(|e| BackendError::Device(e.to_string()))?;
        Ok(Cpu {
            pool: Pool::with_pinning(config.threads, config.pin_threads),
            isa,
            gemm: Gemm::new(isa, precision, config.threads, &[])?,
            mask: DropoutBits::new(0, 0),
            norm_scratch: Vec::new(),
            norm_ranks: None,
            sparse: SparseUpdate::new(0, 0, config.threads),
            partial_sums: Vec::new(),
            step: StepState::none(),
            quantisation: config.quantisation,
            layers: layers.map(Layers::new),
        })
    }

    /// Lets batch normalisations go by the samples of all ranks.
    pub(crate) fn share_norms(&mut self, ranks: NormRanks) {
        self.norm_ranks = Some(ranks);
    }

    /// A dropout of the present step.
    fn drawn(&self, Dropout { layer, p, first }: Dropout) -> dropout::Dropout {
        let (seed, step) = self.step.key();
        dropout::Dropout { key: MaskKey { seed, step, layer }, p, first }
    }

    /// A gradient of bags; its `l2` is scaled like the gradient, by the loss scale.
    fn bag_gradient<'a>(
        &self,
        batch: &'a Uploaded<'_>,
        gradient: SparseGradient<'a, Floats>,
    ) -> BagGradient<'a> {
        let l2 = (f64::from(gradient.l2) * self.step.loss_scale()) as f32;
        BagGradient { bags: &batch.batch.get().bags, pooled: gradient.pooled.data(), l2 }
    }
}

impl From<EmbeddingError> for BackendError {
    fn from(error: EmbeddingError) -> Self {
        let EmbeddingError::Memory { what, bytes, .. } = error;
        BackendError::Memory { what, bytes }
    }
}

fn shape(layer: Linear, batch: usize) -> LinearShape {
    LinearShape { batch, input: layer.inputs, output: layer.outputs }
}

fn norm_shape(norm: Norm, rows: usize) -> NormShape {
    let Norm { cols, eps, momentum, unbiased, relu, .. } = norm;
    NormShape { rows, cols, eps, momentum, unbiased, relu }
}

/// Two parts of one slice, `n` elements each.
fn two_parts(all: &mut [f32], a: usize, b: usize, n: usize) -> (&mut [f32], &mut [f32]) {
    let (low, high) = all.split_at_mut(a.max(b));
    let (first, second) = (&mut low[a.min(b)..][..n], &mut high[..n]);
    if a < b { (first, second) } else { (second, first) }
}

impl Backend for Cpu {
    const AHEAD: usize = 1;

    type Floats = Floats;
    type Input = Input;
    type Batch<'a> = Uploaded<'a>;
    type Tables = TableSet;
    type Generator = Infallible;
    type Scores = Infallible;
    type Dot = Dot;

    fn zeros(&mut self, len: usize, what: &str) -> Result<Floats> {
        // Room to sum its squares, now rather than in the first step whose gradients do not
        // overflow.
        self.partial_sums.reserve(dense_update::chunks(len));
        Floats::zeros(len, what)
    }

    fn write(&mut self, to: &mut Floats, at: usize, from: &[f32]) -> Result<()> {
        to.get_mut()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn read(&self, from: &Floats, at: usize, to: &mut [f32]) -> Result<()> {
        to.copy_from_slice(&from.get()[at..at + to.len()]);
        Ok(())
    }

    fn read_mat(&self, x: Mat<'_, Floats>, out: &mut [f32]) -> Result<()> {
        let (rows, cols) = (x.rows, x.window.cols);
        let out = RowsMut { data: out, stride: cols };
        elementwise::copy(&self.pool, (rows, cols), x.data(), out);
        Ok(())
    }

    fn write_mat(&mut self, to: MatMut<'_, Floats>, values: &[f32]) -> Result<()> {
        let (rows, cols) = (to.rows, to.window.cols);
        let values = Rows { data: values, stride: cols };
        elementwise::copy(&self.pool, (rows, cols), values, to.data());
        Ok(())
    }

    fn fill(&mut self, to: &mut Floats, value: f32) -> Result<()> {
        to.get_mut().fill(value);
        Ok(())
    }

    fn host_pool(&self) -> &Pool {
        &self.pool
    }

    fn input(&mut self, limits: &BatchLimits, dense_width: usize) -> Result<Input> {
        self.sparse.reserve(limits.hotness.iter().map(|h| h * limits.samples));
        Input::new(limits, dense_width, self.pool.threads())
    }

    fn upload<'a>(
        &mut self,
        batch: CheckedBatch<'a>,
        input: &'a mut Input,
    ) -> Result<Uploaded<'a>> {
        Ok(input.upload(batch))
    }

    fn generator(&mut self, _log: &GeneratedLog) -> Result<Option<Infallible>> {
        Ok(None)
    }

    fn generate<'a>(
        &mut self,
        generator: &Infallible,
        _span: Span,
        _input: &'a mut Input,
    ) -> Result<Uploaded<'a>> {
        match *generator {}
    }

    fn borrow<'a>(batch: &'a Uploaded<'_>) -> &'a Uploaded<'a> {
        batch
    }

    fn dense<'a>(&self, batch: &'a Uploaded<'_>) -> Mat<'a, Floats> {
        let (dense, width) = batch.dense();
        Window::whole(width).of(dense, batch.batch.len)
    }

    fn tables(&mut self, shape: &TablesShape<'_>) -> Result<TableSet> {
        self.sparse.reserve_tables(shape.dim, shape.rows.len());
        let TablesShape { rows, dim, pooling, .. } = *shape;
        let mut set = match self.quantisation.of_rows(dim) {
            Some(kind) => TableSet::quantised(kind, rows, dim, pooling)?,
            None => TableSet::new(shape.kind, rows, dim, pooling, &shape.rule)?,
        };
        (set.first, set.column) = (shape.first, shape.column);
        Ok(set)
    }

    fn with_table(
        &mut self,
        tables: &mut TableSet,
        index: usize,
        f: &mut dyn FnMut(usize, &mut [f32], &Pool),
    ) -> Result<()> {
        match &mut tables.quantised {
            Some(tables) => quantised::edit_table(&self.pool, &mut tables[index], PART, f),
            None => tables.tables[index].edit(PART, |at, part| f(at, part, &self.pool)),
        }
        Ok(())
    }

    fn write_table(
        &mut self,
        tables: &mut TableSet,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        match tables.tables.get_mut(index) {
            Some(table) => table.write(first, values),
            // Quantised ones are made as a whole.
            None => return Err(BackendError::Device(ONLY_PREDICTS.into())),
        }
        Ok(())
    }

    fn with_row_weights(
        &mut self,
        tables: &mut TableSet,
        index: usize,
        f: &mut dyn FnMut(&mut [f32], &Pool),
    ) -> Result<()> {
        if let Some(weights) = &mut tables.weights {
            f(weights.tables[index].values_mut(), &self.pool);
        }
        Ok(())
    }

    fn read_table(
        &self,
        tables: &TableSet,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        match &tables.quantised {
            Some(tables) => tables[index].read(first, out),
            None => tables.tables[index].read(first, out),
        }
        Ok(())
    }

    fn read_row_weights(
        &self,
        tables: &TableSet,
        index: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        if let Some(weights) = &tables.weights {
            out.copy_from_slice(&weights.tables[index].values()[first..][..out.len()]);
        }
        Ok(())
    }

    fn read_state(
        &self,
        tables: &TableSet,
        state: TableState,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let weights = tables.weights.as_ref().filter(|_| state.of_weights);
        let buffers = weights.map_or(&tables.state, |w| &w.state);
        let values = buffers[state.buffer][state.table].values();
        out.copy_from_slice(&values[first..][..out.len()]);
        Ok(())
    }

    fn write_state(
        &mut self,
        tables: &mut TableSet,
        state: TableState,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        let weights = tables.weights.as_mut().filter(|_| state.of_weights);
        let buffers = weights.map_or(&mut tables.state, |w| &mut w.state);
        let all = buffers[state.buffer][state.table].values_mut();
        all[first..][..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn bags_forward(
        &mut self,
        tables: &TableSet,
        batch: &Uploaded<'_>,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let bags = batch.batch.checked_bags();
        match &tables.quantised {
            Some(quantised) => quantised::bags::forward(
                (&self.pool, self.isa),
                tables,
                quantised,
                bags,
                out.data(),
            ),
            None => bags::forward(&self.pool, self.isa, tables, bags, out.data()),
        }
        Ok(())
    }

    fn group_rows(&mut self, batch: &mut Uploaded<'_>) -> Result<()> {
        batch.groups.sort(&self.pool, batch.batch.checked_bags());
        Ok(())
    }

    fn add_sparse_squares(
        &mut self,
        tables: &TableSet,
        batch: &Uploaded<'_>,
        gradient: SparseGradient<'_, Floats>,
    ) -> Result<()> {
        if self.step.may_update() {
            let gradient = self.bag_gradient(batch, gradient);
            let squares =
                self.sparse.sum_squares(&self.pool, self.isa, tables, batch.groups, gradient);
            self.step.add_squares(squares);
        }
        Ok(())
    }

    fn sparse_update(
        &mut self,
        tables: &mut TableSet,
        batch: &Uploaded<'_>,
        gradient: SparseGradient<'_, Floats>,
    ) -> Result<()> {
        let gradient = self.bag_gradient(batch, gradient);
        if let Some(update) = self.step.update() {
            self.sparse.update(&self.pool, self.isa, tables, batch.groups, gradient, update);
        }
        Ok(())
    }

    fn table_gradient(
        &mut self,
        tables: &TableSet,
        index: usize,
        batch: &Uploaded<'_>,
        gradient: SparseGradient<'_, Floats>,
        (rows, weights): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        sparse_update::gradient(
            tables,
            index,
            batch.groups,
            self.bag_gradient(batch, gradient),
            rows,
            weights,
        );
        Ok(())
    }

    fn plan_linear(&mut self, layer: Linear, max_batch: usize) -> Result<()> {
        let shape = shape(layer, max_batch);
        match &mut self.layers {
            Some(layers) => layers.plan(&mut self.gemm, shape),
            None => self.gemm.plan(shape),
        }
    }

    fn plan_norm(&mut self, cols: usize, max_batch: usize) -> Result<()> {
        let scratch = NormShape::scratch(max_batch, cols).max(self.norm_scratch.len());
        self.norm_scratch.resize(scratch, 0.0);
        Ok(())
    }

    fn plan_dropout(&mut self, cols: usize, max_batch: usize) -> Result<()> {
        self.mask.plan(max_batch, cols);
        Ok(())
    }

    /// Dot products are summed in f32 here in any case.
    fn plan_dot(&mut self, shape: DotShape, _held: Held) -> Result<Dot> {
        Ok(Dot::new(shape.features, shape.dim, shape.self_interaction, self.pool.threads()))
    }

    fn keeps_weights(&self) -> bool {
        self.layers.is_some()
    }

    fn add_weight(&mut self, number: usize, shape: [usize; 2]) -> Result<()> {
        self.layers.as_mut().map_or(Ok(()), |layers| layers.add(number, shape))
    }

    fn with_weight(&mut self, number: usize, f: &mut dyn FnMut(&mut [f32], &Pool)) -> Result<()> {
        if let Some(layers) = &mut self.layers {
            layers.edit(number, &mut |values| f(values, &self.pool));
        }
        Ok(())
    }

    fn read_weight(&self, number: usize, first: usize, out: &mut [f32]) -> Result<()> {
        if let Some(layers) = &self.layers {
            layers.read(number, first, out);
        }
        Ok(())
    }

    fn linear_forward(
        &mut self,
        x: Mat<'_, Floats>,
        params: &Floats,
        layer: Linear,
        after: After,
        mut y: MatMut<'_, Floats>,
    ) -> Result<()> {
        let b = layer.bias.map(|at| &params.get()[at..][..layer.outputs]);
        if let Some(layers) = &mut self.layers {
            let on = (&self.pool, self.isa, &mut self.gemm);
            layers.forward(on, layer, (x.data(), x.rows), (b, after.relu), y.data());
            return Ok(());
        }
        let w = &params.get()[layer.weight..][..layer.inputs * layer.outputs];
        let s = shape(layer, x.rows);
        let (fused, alone) =
            if s.output > 1 { (after.dropout, None) } else { (None, after.dropout) };
        let fused = fused.map(|d| self.drawn(d));
        let dropout = fused.map(|d| self.mask.draw(&self.pool, self.isa, s.batch, s.output, d));
        self.gemm.linear_forward(
            &self.pool,
            s,
            x.data(),
            w,
            b,
            gemm::After { relu: after.relu, dropout },
            y.reborrow().data(),
        );
        alone.map_or(Ok(()), |dropout| self.dropout(dropout, y))
    }

    fn linear_backward_data(
        &mut self,
        dy: Mat<'_, Floats>,
        params: &Floats,
        layer: Linear,
        onto: Onto<'_, Floats>,
        dx: MatMut<'_, Floats>,
    ) -> Result<()> {
        let w = &params.get()[layer.weight..][..layer.inputs * layer.outputs];
        let onto = match onto {
            Onto::Set => gemm::Onto::Set,
            Onto::Add => gemm::Onto::Add,
            Onto::Gate(Gate { activation, factor }) => {
                gemm::Onto::Gate(gemm::Gate { activation: activation.data(), factor })
            }
        };
        self.gemm.linear_backward_data(
            &self.pool,
            shape(layer, dy.rows),
            dy.data(),
            w,
            onto,
            dx.data(),
        );
        Ok(())
    }

    fn linear_backward_weight(
        &mut self,
        dy: Mat<'_, Floats>,
        x: Mat<'_, Floats>,
        layer: Linear,
        grads: &mut Floats,
    ) -> Result<()> {
        // A layer's bias lies behind its weight.
        let grads = grads.get_mut();
        let (w, b) = grads.split_at_mut(layer.bias.unwrap_or(grads.len()));
        let dw = &mut w[layer.weight..][..layer.inputs * layer.outputs];
        let db = layer.bias.map(|_| &mut b[..layer.outputs]);
        self.gemm.linear_backward_weight(
            &self.pool,
            shape(layer, dy.rows),
            dy.data(),
            x.data(),
            dw,
            db,
        );
        Ok(())
    }

    fn relu_backward(&mut self, x: Mat<'_, Floats>, dx: MatMut<'_, Floats>) -> Result<()> {
        elementwise::relu_backward(
            &self.pool,
            self.isa,
            x.rows,
            x.window.cols,
            x.data(),
            dx.data(),
        );
        Ok(())
    }

    fn multiply_add(
        &mut self,
        a: Mat<'_, Floats>,
        b: Mat<'_, Floats>,
        c: Option<Mat<'_, Floats>>,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let shape = (a.rows, a.window.cols);
        let (factors, term) = ([a, b].map(Mat::data), c.map(Mat::data));
        elementwise::multiply_add(&self.pool, self.isa, shape, factors, term, out.data());
        Ok(())
    }

    fn multiply_add_backward(
        &mut self,
        factors: [Mat<'_, Floats>; 2],
        g: Mat<'_, Floats>,
        (da, join): (MatMut<'_, Floats>, Join),
        db: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (shape, factors) = ((g.rows, g.window.cols), factors.map(Mat::data));
        let (da, db) = (da.data(), db.data());
        let isa = self.isa;
        elementwise::multiply_add_backward(
            &self.pool,
            isa,
            shape,
            factors,
            g.data(),
            (da, join),
            db,
        );
        Ok(())
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
        let s = norm_shape(norm, z.rows);
        let (mean, var) = two_parts(running.get_mut(), norm.mean, norm.var, norm.cols);
        let mut running = Running { mean, var };
        batch_norm::statistics(
            &self.pool,
            self.isa,
            s,
            z.data(),
            &mut running,
            stats.get_mut(),
            &mut self.norm_scratch,
            self.norm_ranks.as_ref(),
        )?;
        let (scale, shift) = (&params.get()[norm.scale..], &params.get()[norm.shift..]);
        batch_norm::normalise(
            &self.pool,
            self.isa,
            s,
            z.data(),
            stats.get(),
            scale,
            shift,
            y.data(),
        );
        Ok(())
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
        let (mean, rstd) = stats.get_mut().split_at_mut(norm.cols);
        mean.copy_from_slice(&running.get()[norm.mean..][..norm.cols]);
        for (rstd, var) in rstd.iter_mut().zip(&running.get()[norm.var..][..norm.cols]) {
            *rstd = 1.0 / (var + norm.eps).sqrt();
        }
        let (scale, shift) = (&params.get()[norm.scale..], &params.get()[norm.shift..]);
        let s = norm_shape(norm, z.rows);
        batch_norm::normalise(
            &self.pool,
            self.isa,
            s,
            z.data(),
            stats.get(),
            scale,
            shift,
            y.data(),
        );
        Ok(())
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
        let s = norm_shape(norm, z.rows);
        let (d_scale, d_shift) = two_parts(grads.get_mut(), norm.scale, norm.shift, norm.cols);
        let (scale, scratch) = (&params.get()[norm.scale..], &mut self.norm_scratch);
        batch_norm::backward(
            &self.pool,
            self.isa,
            s,
            z.data(),
            stats.get(),
            scale,
            g.data(),
            d_scale,
            d_shift,
            scratch,
            self.norm_ranks.as_ref(),
        )?;
        Ok(())
    }

    fn dropout(&mut self, dropout: Dropout, x: MatMut<'_, Floats>) -> Result<()> {
        dropout::apply(&self.pool, self.isa, x.rows, x.window.cols, self.drawn(dropout), x.data());
        Ok(())
    }

    fn dot_forward(
        &mut self,
        dot: &mut Dot,
        t: Mat<'_, Floats>,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        dot.forward(&self.pool, self.isa, t.rows, t.data(), out.window.cols, out.data());
        Ok(())
    }

    fn dot_backward(
        &mut self,
        dot: &mut Dot,
        t: Mat<'_, Floats>,
        dout: Mat<'_, Floats>,
        dt: MatMut<'_, Floats>,
    ) -> Result<()> {
        dot.backward(&self.pool, self.isa, t.rows, t.data(), dout.data(), dt.data());
        Ok(())
    }

    fn products_forward(
        &mut self,
        shape: ProductShape,
        x: Mat<'_, Floats>,
        factors: [Mat<'_, Floats>; 2],
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (rows, direct, factors) = (x.rows, (x.data(), x.window.cols), factors.map(Mat::data));
        products::forward(&self.pool, self.isa, rows, shape, direct, factors, out.data());
        Ok(())
    }

    fn products_backward(
        &mut self,
        shape: ProductShape,
        factors: [Mat<'_, Floats>; 2],
        dout: Mat<'_, Floats>,
        gradients: [MatMut<'_, Floats>; 2],
    ) -> Result<()> {
        let at = dout.window.cols - shape.left * shape.right;
        let (rows, g, factors) = (dout.rows, (dout.data(), at), factors.map(Mat::data));
        let gradients = gradients.map(MatMut::data);
        products::backward(&self.pool, self.isa, rows, shape, factors, g, gradients);
        Ok(())
    }

    fn copy(&mut self, x: Mat<'_, Floats>, to: MatMut<'_, Floats>) -> Result<()> {
        elementwise::copy(&self.pool, (x.rows, x.window.cols), x.data(), to.data());
        Ok(())
    }

    fn add(&mut self, x: Mat<'_, Floats>, to: MatMut<'_, Floats>) -> Result<()> {
        let shape = (x.rows, x.window.cols);
        elementwise::add(&self.pool, self.isa, shape, x.data(), to.data());
        Ok(())
    }

    fn fm_forward(
        &mut self,
        v: Mat<'_, Floats>,
        dim: usize,
        linear: Mat<'_, Floats>,
        logits: MatMut<'_, Floats>,
    ) -> Result<()> {
        let shape = (linear.window.cols, dim);
        fm::forward(&self.pool, self.isa, v.rows, shape, v.data(), linear.data(), logits.data());
        Ok(())
    }

    fn fm_backward(
        &mut self,
        v: Mat<'_, Floats>,
        dim: usize,
        dlogits: Mat<'_, Floats>,
        dv: MatMut<'_, Floats>,
        dlinear: MatMut<'_, Floats>,
    ) -> Result<()> {
        let shape = (dlinear.window.cols, dim);
        fm::backward(
            &self.pool,
            self.isa,
            v.rows,
            shape,
            v.data(),
            dlogits.data(),
            dv.data(),
            dlinear.data(),
        );
        Ok(())
    }

    fn fields_forward(
        &mut self,
        x: Mat<'_, Floats>,
        params: &Floats,
        weight: usize,
        dim: usize,
        out: MatMut<'_, Floats>,
    ) -> Result<()> {
        let s = fields::FieldShape { rows: x.rows, columns: x.window.cols, dim };
        fields::forward(
            &self.pool,
            s,
            x.data(),
            &params.get()[weight..][..s.columns * dim],
            out.data(),
        );
        Ok(())
    }

    fn fields_backward(
        &mut self,
        x: Mat<'_, Floats>,
        dout: Mat<'_, Floats>,
        weight: usize,
        dim: usize,
        grads: &mut Floats,
    ) -> Result<()> {
        let s = fields::FieldShape { rows: x.rows, columns: x.window.cols, dim };
        fields::backward(
            &self.pool,
            s,
            x.data(),
            dout.data(),
            &mut grads.get_mut()[weight..][..s.columns * dim],
        );
        Ok(())
    }

    fn begin(&mut self, control: &StepControl) -> Result<()> {
        self.step = StepState::new(*control);
        Ok(())
    }

    fn position(&mut self) -> Result<Position> {
        Ok(self.step.position())
    }

    fn go_on(&mut self, from: Position) -> Result<()> {
        self.step.go_on(from);
        Ok(())
    }

    fn begin_step(&mut self, start: StepStart) -> Result<()> {
        if !self.quantisation.is_none() {
            return Err(BackendError::Device(ONLY_PREDICTS.into()));
        }
        self.step.begin(start);
        Ok(())
    }

    fn repeat(
        &mut self,
        batch: &mut Uploaded<'_>,
        work: &mut dyn FnMut(&mut Self, &mut Uploaded<'_>) -> Result<()>,
    ) -> Result<()> {
        work(self, batch)
    }

    fn loss(
        &mut self,
        spec: &LossSpec,
        logits: Mat<'_, Floats>,
        batch: &Uploaded<'_>,
        first: usize,
        over: usize,
        mut dlogits: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (n, all) = (logits.rows, batch.batch.len);
        let d = &mut dlogits.reborrow().data().data[..n];
        let labels = &batch.batch.labels[first..][..n];
        let losses = loss::forward_backward(spec, &logits.data().data[..n], labels, over, d);
        self.step.add_losses(losses, all);
        let scale = self.step.loss_scale() as f32;
        if scale != 1.0 {
            elementwise::scale(&self.pool, self.isa, n, 1, scale, dlogits.data());
        }
        Ok(())
    }

    fn check_finite(&mut self, x: Mat<'_, Floats>) -> Result<()> {
        let (rows, cols) = (x.rows, x.window.cols);
        if self.step.may_update()
            && !elementwise::all_finite(&self.pool, self.isa, rows, cols, x.data())
        {
            self.step.overflows();
        }
        Ok(())
    }

    fn add_squares(&mut self, x: &Floats) -> Result<()> {
        if self.step.may_update() {
            let squares =
                dense_update::sum_squares(&self.pool, self.isa, x.get(), &mut self.partial_sums);
            self.step.add_squares(squares);
        }
        Ok(())
    }

    fn step_sums(&mut self) -> Result<StepSums> {
        Ok(self.step.sums())
    }

    fn set_step_sums(&mut self, sums: StepSums) -> Result<()> {
        self.step.set_sums(sums);
        Ok(())
    }

    fn decide_update(&mut self) -> Result<()> {
        self.step.decide_update();
        Ok(())
    }

    fn dense_update(
        &mut self,
        params: &mut Floats,
        grads: &Floats,
        state: &mut [Floats],
    ) -> Result<()> {
        let Some(update) = self.step.update() else { return Ok(()) };
        let mut state = state.iter_mut().map(Floats::get_mut);
        let (s0, s1) = (state.next().unwrap_or_default(), state.next().unwrap_or_default());
        let (p, g) = (params.get_mut(), grads.get());
        dense_update::update(&self.pool, self.isa, &update.step, update.scale, p, g, s0, s1);
        Ok(())
    }

    fn end_step(&mut self) -> Result<()> {
        self.step.end();
        Ok(())
    }

    fn in_flight(&mut self) -> &mut InFlight {
        self.step.in_flight()
    }

    /// None computes: a step has its result when it ends.
    fn fetch_result(&mut self, _wait: bool) -> Result<bool> {
        Ok(false)
    }

    fn resume(&mut self) -> Result<()> {
        self.step.resume();
        Ok(())
    }

    fn probabilities(&mut self, logits: Mat<'_, Floats>, out: &mut [f32]) -> Result<()> {
        loss::probabilities(&logits.data().data[..logits.rows], out);
        Ok(())
    }

    fn begin_scores(&mut self, _samples: u64, _scores: &mut Option<Infallible>) -> Result<bool> {
        Ok(false)
    }

    fn add_scores(
        &mut self,
        _logits: Mat<'_, Floats>,
        _batch: &Uploaded<'_>,
        scores: &mut Infallible,
    ) -> Result<()> {
        match *scores {}
    }

    fn count_scores(
        &mut self,
        scores: &mut Infallible,
    ) -> Result<std::result::Result<Counts, MetricsError>> {
        match *scores {}
    }
}
