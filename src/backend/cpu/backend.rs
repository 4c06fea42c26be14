//! [`Backend`] for CPUs: hands each operation to its kernel.

use super::{
    batch_norm::{self, NormShape, Running},
    elementwise, fields,
    gemm::{Activation, Gemm, Isa, LinearShape},
    memory::{Floats, Input},
    plain,
    pool::Pool,
};
use crate::{
    backend::{
        Backend, BackendError, DotShape, InputShape, Linear, MaskKey, Mat, MatMut, Norm, Result, SparseGradient, TablesShape,
        Update, Window,
    },
    data::Batch,
    engine::LossSpec,
};

/// What a CPU backend has to be ready for.
#[derive(Debug, Clone)]
pub struct CpuConfig {
    /// Threads of the pool, the caller included; at least 1.
    pub threads: usize,
    /// Pin each thread to a core.
    pub pin_threads: bool,
    /// Every fully connected layer, at its largest batch.
    pub linears: Vec<LinearShape>,
    /// Rows and columns of the largest batch normalisation.
    pub norm: (usize, usize),
}

/// The CPU: a pool of threads and scratch space.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
    isa: Isa,
    gemm: Gemm,
    norm_scratch: Vec<f32>,
}

impl Cpu {
    /// Starts the threads and makes the scratch space.
    ///
    /// # Errors
    /// If `DLRM_BENCH_ISA` asks for an instruction set that there is not.
    pub fn new(config: &CpuConfig) -> Result<Self> {
        let isa = Isa::detect().map_err(|e| BackendError::Device(e.to_string()))?;
        let (rows, cols) = config.norm;
        Ok(Cpu {
            pool: Pool::new(config.threads),
            isa,
            gemm: Gemm::new(isa, config.threads, &config.linears),
            norm_scratch: vec![0.0; NormShape::scratch(rows, cols)],
        })
    }
}

fn shape(layer: Linear, batch: usize) -> LinearShape {
    LinearShape { batch, input: layer.inputs, output: layer.outputs }
}

fn norm_shape(norm: Norm, rows: usize) -> NormShape {
    NormShape { rows, cols: norm.cols, eps: norm.eps, momentum: norm.momentum }
}

/// Two parts of one slice, `n` elements each.
fn two_parts(all: &mut [f32], a: usize, b: usize, n: usize) -> (&mut [f32], &mut [f32]) {
    let (low, high) = all.split_at_mut(a.max(b));
    let (first, second) = (&mut low[a.min(b)..][..n], &mut high[..n]);
    if a < b { (first, second) } else { (second, first) }
}

impl Backend for Cpu {
    type Floats = Floats;
    type Input = Input;
    type Tables = plain::Tables;

    fn zeros(&mut self, len: usize, what: &str) -> Result<Floats> {
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

    fn read_mat(&self, from: Mat<'_, Floats>, to: &mut [f32]) -> Result<()> {
        let (cols, rows) = (from.window.cols, from.data());
        for (r, to) in to.chunks_exact_mut(cols).enumerate() {
            to.copy_from_slice(&rows.data[r * rows.stride..][..cols]);
        }
        Ok(())
    }

    fn fill(&mut self, to: &mut Floats, value: f32) -> Result<()> {
        to.get_mut().fill(value);
        Ok(())
    }

    fn host_pool(&self) -> &Pool {
        &self.pool
    }

    fn input(&mut self, shape: &InputShape<'_>) -> Result<Input> {
        Input::new(shape)
    }

    fn upload(&mut self, batch: &Batch, input: &mut Input) -> Result<()> {
        input.upload(batch)
    }

    fn dense<'a>(&self, input: &'a Input) -> Mat<'a, Floats> {
        Window::whole(input.dense_width()).of(&input.dense, input.len)
    }

    fn tables(&mut self, shape: &TablesShape<'_>) -> Result<plain::Tables> {
        Ok(plain::Tables::new(shape))
    }

    fn with_table(&mut self, tables: &mut plain::Tables, index: usize, f: &mut dyn FnMut(&mut [f32], &Pool)) -> Result<()> {
        f(&mut tables.tables[index].rows, &self.pool);
        Ok(())
    }

    fn with_row_weights(&mut self, tables: &mut plain::Tables, index: usize, f: &mut dyn FnMut(&mut [f32], &Pool)) -> Result<()> {
        f(&mut tables.tables[index].weights, &self.pool);
        Ok(())
    }

    fn read_table(&self, tables: &plain::Tables, index: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&tables.tables[index].rows);
        Ok(())
    }

    fn read_row_weights(&self, tables: &plain::Tables, index: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&tables.tables[index].weights);
        Ok(())
    }

    fn bags_forward(&mut self, tables: &plain::Tables, input: &Input, out: MatMut<'_, Floats>) -> Result<()> {
        plain::bags_forward(&self.pool, tables, input, out.data());
        Ok(())
    }

    fn group_rows(&mut self, _input: &mut Input) -> Result<()> {
        Ok(())
    }

    fn sparse_sum_squares(&mut self, tables: &plain::Tables, input: &Input, g: SparseGradient<'_, Floats>) -> Result<f64> {
        Ok(plain::sparse_sum_squares(tables, input, g.pooled.data(), g.l2))
    }

    fn sparse_update(
        &mut self,
        tables: &mut plain::Tables,
        input: &Input,
        g: SparseGradient<'_, Floats>,
        update: &Update,
    ) -> Result<()> {
        plain::sparse_update(&self.pool, tables, input, g.pooled.data(), g.l2, update);
        Ok(())
    }

    fn linear_forward(
        &mut self,
        x: Mat<'_, Floats>,
        params: &Floats,
        layer: Linear,
        relu: bool,
        y: MatMut<'_, Floats>,
    ) -> Result<()> {
        let (w, b) = (&params.get()[layer.weight..], &params.get()[layer.bias..]);
        let (w, b) = (&w[..layer.inputs * layer.outputs], &b[..layer.outputs]);
        let activation = if relu { Activation::Relu } else { Activation::None };
        self.gemm.linear_forward(&self.pool, shape(layer, x.rows), x.data(), w, b, activation, y.data());
        Ok(())
    }

    fn linear_backward_data(
        &mut self,
        dy: Mat<'_, Floats>,
        params: &Floats,
        layer: Linear,
        mask: Option<Mat<'_, Floats>>,
        dx: MatMut<'_, Floats>,
    ) -> Result<()> {
        let w = &params.get()[layer.weight..][..layer.inputs * layer.outputs];
        self.gemm.linear_backward_data(&self.pool, shape(layer, dy.rows), dy.data(), w, mask.map(Mat::data), dx.data());
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
        let (w, b) = grads.get_mut().split_at_mut(layer.bias);
        let (dw, db) = (&mut w[layer.weight..][..layer.inputs * layer.outputs], &mut b[..layer.outputs]);
        self.gemm.linear_backward_weight(&self.pool, shape(layer, dy.rows), dy.data(), x.data(), dw, db);
        Ok(())
    }

    fn relu_backward(&mut self, x: Mat<'_, Floats>, dx: MatMut<'_, Floats>) -> Result<()> {
        elementwise::relu_backward(&self.pool, self.isa, x.rows, x.window.cols, x.data(), dx.data());
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
        batch_norm::statistics(&self.pool, self.isa, s, z.data(), &mut running, stats.get_mut(), &mut self.norm_scratch);
        let (scale, shift) = (&params.get()[norm.scale..], &params.get()[norm.shift..]);
        batch_norm::normalise(&self.pool, self.isa, s, z.data(), stats.get(), scale, shift, y.data());
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
        batch_norm::normalise(&self.pool, self.isa, s, z.data(), stats.get(), scale, shift, y.data());
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
        batch_norm::backward(&self.pool, self.isa, s, z.data(), stats.get(), scale, g.data(), d_scale, d_shift, scratch);
        Ok(())
    }

    fn dropout(&mut self, key: MaskKey, p: f32, x: MatMut<'_, Floats>) -> Result<()> {
        elementwise::dropout(&self.pool, self.isa, x.rows, x.window.cols, key, p, x.data());
        Ok(())
    }

    fn scale(&mut self, factor: f32, x: MatMut<'_, Floats>) -> Result<()> {
        elementwise::scale(&self.pool, self.isa, x.rows, x.window.cols, factor, x.data());
        Ok(())
    }

    fn dot_forward(&mut self, t: Mat<'_, Floats>, shape: DotShape, out: MatMut<'_, Floats>) -> Result<()> {
        plain::dot_forward(&self.pool, t.rows, shape, t.data(), out.window.cols, out.data());
        Ok(())
    }

    fn dot_backward(&mut self, t: Mat<'_, Floats>, shape: DotShape, dout: Mat<'_, Floats>, dt: MatMut<'_, Floats>) -> Result<()> {
        plain::dot_backward(&self.pool, t.rows, shape, t.data(), dout.data(), dt.data());
        Ok(())
    }

    fn fm_forward(&mut self, v: Mat<'_, Floats>, dim: usize, linear: Mat<'_, Floats>, logits: MatMut<'_, Floats>) -> Result<()> {
        plain::fm_forward(v.rows, linear.window.cols, dim, v.data(), linear.data(), logits.data());
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
        plain::fm_backward(v.rows, dlinear.window.cols, dim, v.data(), dlogits.data(), dv.data(), dlinear.data());
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
        fields::forward(&self.pool, s, x.data(), &params.get()[weight..][..s.columns * dim], out.data());
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
        fields::backward(&self.pool, s, x.data(), dout.data(), &mut grads.get_mut()[weight..][..s.columns * dim]);
        Ok(())
    }

    fn loss(&mut self, spec: &LossSpec, logits: Mat<'_, Floats>, input: &Input, dlogits: MatMut<'_, Floats>) -> Result<f32> {
        Ok(plain::loss(spec, logits.data(), &input.labels, dlogits.data()))
    }

    fn probabilities(&mut self, logits: Mat<'_, Floats>, out: &mut [f32]) -> Result<()> {
        let z = logits.data();
        for (b, p) in out.iter_mut().enumerate() {
            *p = (1.0 / (1.0 + (-f64::from(z.data[b * z.stride])).exp())) as f32;
        }
        Ok(())
    }

    fn sum_squares(&mut self, x: &Floats) -> Result<f64> {
        Ok(x.get().iter().map(|&v| f64::from(v) * f64::from(v)).sum())
    }

    fn dense_update(&mut self, params: &mut Floats, grads: &Floats, state: &mut [Floats], update: &Update) -> Result<()> {
        let mut state = state.iter_mut().map(Floats::get_mut);
        let (m, v) = (state.next().unwrap_or_default(), state.next().unwrap_or_default());
        plain::dense_update(params.get_mut(), grads.get(), m, v, update);
        Ok(())
    }
}
