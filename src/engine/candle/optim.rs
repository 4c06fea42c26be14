//! Update rules of [`OptimizerSpec`] on candle tensors: for whole parameters and for rows of a
//! table the same lines.

use crate::{
    model::{ParamKind, ParamSpec},
    optim::{
        Adagrad, AdagradDecay, Adam, AdamAsync, AdamForm, OptimizerConfig, OptimizerSpec,
        RowwiseAdagrad,
        rules::{Buffer, Per},
    },
};
use candle_core::{Device, Result, Tensor, Var};

/// State of all parameters.
pub(super) struct Optimizer {
    rule: OptimizerSpec,
    /// The pieces of state of each parameter ([`crate::optim::rules::State`]).
    states: Vec<Vec<Tensor>>,
    /// Which parameters are tables, or weights of rows.
    tables: Vec<bool>,
    learning_rate: f64,
    /// 1-based number of the update.
    step: u64,
}

/// The factor that brings the global 2-norm of `grads` down to `limit`, if it is above
/// (`torch.nn.utils.clip_grad_norm_`).
pub(super) fn clip_factor(limit: Option<f64>, grads: &[Option<Tensor>]) -> Result<Option<f64>> {
    let Some(limit) = limit else { return Ok(None) };
    let mut squares = 0.0;
    for grad in grads.iter().flatten() {
        squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let factor = limit / (squares.sqrt() + 1e-6);
    Ok((factor < 1.0).then_some(factor))
}

impl Optimizer {
    pub fn new(config: &OptimizerConfig, specs: &[ParamSpec], device: &Device) -> Result<Self> {
        let state = config.rule.state();
        let make = |p: &ParamSpec| {
            let per = |b: &Buffer| if is_table(p) { b.rows } else { b.dense };
            let numbers = |b: &Buffer| {
                let shape = match per(b) {
                    Per::Row => vec![p.shape[0], 1],
                    Per::Element | Per::Variable => p.shape.clone(),
                };
                Tensor::full(b.initial, shape, device)?.contiguous()
            };
            // What a variable has follows from the number of the update.
            state.buffers.iter().filter(|b| per(b) != Per::Variable).map(numbers).collect()
        };
        Ok(Optimizer {
            rule: config.rule,
            states: specs.iter().map(make).collect::<Result<_>>()?,
            tables: specs.iter().map(is_table).collect(),
            learning_rate: 0.0,
            step: 0,
        })
    }

    /// A buffer of the state of a parameter. All of them are contiguous.
    pub fn state(&self, param: usize, buffer: usize) -> &Tensor {
        &self.states[param][buffer]
    }

    /// Begins update number `step`, counted from 1.
    pub fn start(&mut self, step: u64, learning_rate: f64) {
        (self.step, self.learning_rate) = (step, learning_rate);
    }

    /// Updates parameter `index`, or its `rows` `[U]`, by `grad` of the same shape.
    pub fn update(
        &self,
        index: usize,
        param: &Var,
        grad: &Tensor,
        rows: Option<&Tensor>,
    ) -> Result<()> {
        if grad.elem_count() == 0 {
            return Ok(());
        }
        let place = Place { rows };
        let value = place.read(param)?;
        let old = self.states[index].iter().map(|s| place.read(s)).collect::<Result<Vec<_>>>()?;
        let (delta, new) = self.rule(grad, &old, self.tables[index])?;
        place.write(param, &(value - delta)?)?;
        for (state, new) in self.states[index].iter().zip(&new) {
            place.write(state, new)?;
        }
        Ok(())
    }

    /// What to subtract, and the new accumulators.
    fn rule(&self, g: &Tensor, old: &[Tensor], of_rows: bool) -> Result<(Tensor, Vec<Tensor>)> {
        let lr = self.learning_rate;
        match self.rule {
            OptimizerSpec::Sgd(_) => Ok((g.affine(lr, 0.0)?, vec![])),
            OptimizerSpec::Adagrad(Adagrad { eps, lr_decay, .. }) => {
                adagrad(g, &old[0], lr / (1.0 + (self.step - 1) as f64 * lr_decay), eps)
            }
            OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps, .. }) if of_rows => {
                let sum = (&old[0] + g.sqr()?.mean_keepdim(1)?)?;
                Ok((g.broadcast_div(&(sum.sqrt()? + eps)?)?.affine(lr, 0.0)?, vec![sum]))
            }
            OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps, .. }) => {
                adagrad(g, &old[0], lr, eps)
            }
            OptimizerSpec::AdamAsync(rule) => self.adam_async(&rule, g, old, of_rows),
            OptimizerSpec::AdagradDecay(rule) => self.adagrad_decay(&rule, g, old),
            OptimizerSpec::Adam(Adam { beta1, beta2, eps, form, .. }) => {
                let m = (old[0].affine(beta1, 0.0)? + g.affine(1.0 - beta1, 0.0)?)?;
                let v = (old[1].affine(beta2, 0.0)? + g.sqr()?.affine(1.0 - beta2, 0.0)?)?;
                let (c1, c2) =
                    (1.0 - beta1.powf(self.step as f64), 1.0 - beta2.powf(self.step as f64));
                let (root, rate) = match form {
                    AdamForm::Torch => (v.affine(1.0 / c2, 0.0)?.sqrt()?, lr / c1),
                    AdamForm::Tf => (v.sqrt()?, lr * c2.sqrt() / c1),
                };
                Ok(((&m / (root + eps)?)?.affine(rate, 0.0)?, vec![m, v]))
            }
        }
    }
}

impl Optimizer {
    fn adam_async(
        &self,
        rule: &AdamAsync,
        g: &Tensor,
        old: &[Tensor],
        of_rows: bool,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let AdamAsync { beta1, beta2, eps, .. } = *rule;
        let v = (old[1].affine(beta2, 0.0)? + g.sqr()?.affine(1.0 - beta2, 0.0)?)?;
        if of_rows && rule.apply_sparse_rmsprop {
            let step = (g / (&v + eps)?.sqrt()?)?.affine(self.learning_rate, 0.0)?;
            let m = (old[0].affine(beta1, 0.0)? + step)?;
            return Ok((m.clone(), vec![m, v]));
        }
        let new = g.affine(1.0 - beta1, 0.0)?;
        let m = (old[0].affine(beta1, 0.0)? + &new)?;
        let ahead = if rule.nesterov { (m.affine(beta1, 0.0)? + new)? } else { m.clone() };
        let power = |beta: f64| beta.powf(self.step as f64);
        let alpha = self.learning_rate * (1.0 - power(beta2)).sqrt() / (1.0 - power(beta1));
        Ok(((ahead / (v.sqrt()? + eps)?)?.affine(alpha, 0.0)?, vec![m, v]))
    }

    fn adagrad_decay(
        &self,
        rule: &AdagradDecay,
        g: &Tensor,
        old: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (before, sum) = (self.step - 1, &old[0]);
        let faded = sum.affine(rule.decay_rate, 0.0)?.maximum(rule.initial_accumulator)?;
        let (sum, periods) = match old.get(1) {
            Some(own) => {
                let due = own.lt((before / rule.decay_step) as f64)?;
                let sum = due.broadcast_as(g.shape())?.where_cond(&faded, sum)?;
                (sum, Some((own + due.to_dtype(own.dtype())?)?))
            }
            None if before > 0 && before % rule.decay_step == 0 => (faded, None),
            None => (sum.clone(), None),
        };
        let sum = (sum + g.sqr()?)?;
        let delta = (g / sum.sqrt()?)?.affine(self.learning_rate, 0.0)?;
        Ok((delta, [sum].into_iter().chain(periods).collect()))
    }
}

fn is_table(p: &ParamSpec) -> bool {
    matches!(p.kind, ParamKind::Table | ParamKind::RowWeight)
}

fn adagrad(g: &Tensor, old: &Tensor, lr: f64, eps: f64) -> Result<(Tensor, Vec<Tensor>)> {
    let sum = (old + g.sqr()?)?;
    Ok(((g / (sum.sqrt()? + eps)?)?.affine(lr, 0.0)?, vec![sum]))
}

/// A whole tensor, or some of its rows.
struct Place<'a> {
    rows: Option<&'a Tensor>,
}

impl Place<'_> {
    fn read(&self, t: &Tensor) -> Result<Tensor> {
        match self.rows {
            Some(rows) => t.detach().index_select(rows, 0),
            None => Ok(t.detach()),
        }
    }

    fn write(&self, t: &Tensor, new: &Tensor) -> Result<()> {
        match self.rows {
            Some(rows) => {
                let index = rows
                    .reshape((rows.elem_count(), 1))?
                    .broadcast_as(new.shape())?
                    .contiguous()?;
                t.scatter_set(&index, new, 0)
            }
            None => t.slice_set(new, 0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamRows;

    const ADAM: OptimizerSpec = OptimizerSpec::Adam(Adam {
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-3,
        form: AdamForm::Torch,
        rows: AdamRows::Lazy,
    });

    /// Updates a `[3, 2]` table of ones twice at rate 0.1, the second time rows 2 and 0 only.
    fn two_steps(rule: OptimizerSpec) -> Vec<Vec<f32>> {
        let device = Device::Cpu;
        let config = OptimizerConfig { rule, learning_rate: 0.1, clip_norm: None };
        let spec = ParamSpec::new("table".into(), ParamKind::Table, &[3, 2]);
        let mut optimizer = Optimizer::new(&config, &[spec], &device).unwrap();
        let table = Var::ones((3, 2), candle_core::DType::F32, &device).unwrap();
        optimizer.start(1, 0.1);
        let grad = Tensor::new(&[[3f32, 4.0], [1.0, 1.0], [0.0, 2.0]], &device).unwrap();
        optimizer.update(0, &table, &grad, None).unwrap();
        optimizer.start(2, 0.1);
        let grad = Tensor::new(&[[1f32, 1.0], [4.0, 3.0]], &device).unwrap();
        let rows = Tensor::new(&[2u32, 0], &device).unwrap();
        optimizer.update(0, &table, &grad, Some(&rows)).unwrap();
        table.to_vec2().unwrap()
    }

    #[track_caller]
    fn near(got: &[Vec<f32>], want: [[f64; 2]; 3]) {
        for (g, w) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((f64::from(*g) - w).abs() < 2e-6, "{got:?} is not {want:?}");
        }
    }

    #[test]
    fn sgd_by_hand() {
        near(
            &two_steps(OptimizerSpec::SGD),
            [[1.0 - 0.7, 1.0 - 0.7], [0.9, 0.9], [0.9, 1.0 - 0.3]],
        );
    }

    #[test]
    fn adagrad_by_hand() {
        let rule =
            OptimizerSpec::Adagrad(Adagrad { eps: 1e-10, initial_accumulator: 0.0, lr_decay: 1.0 });
        // Accumulators after both: [25, 25], [1, 1], [1, 5]; the second step at half the rate.
        let last = [
            [0.9 - 0.05 * 4.0 / 5.0, 0.9 - 0.05 * 3.0 / 5.0],
            [0.9, 0.9],
            [0.95, 0.9 - 0.05 / 5f64.sqrt()],
        ];
        near(&two_steps(rule), last);
    }

    #[test]
    fn rowwise_adagrad_by_hand() {
        let rule =
            OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps: 1e-10, initial_accumulator: 0.0 });
        // One accumulator a row, means of squares: 12.5, 1, 2, then 25 and 3.
        let (a, b) = (12.5f64.sqrt(), 3f64.sqrt());
        let first = [1.0 - 0.3 / a, 1.0 - 0.4 / a];
        let third = [1.0 - 0.1 / b, 1.0 - 0.2 / 2f64.sqrt() - 0.1 / b];
        near(&two_steps(rule), [[first[0] - 0.4 / 5.0, first[1] - 0.3 / 5.0], [0.9, 0.9], third]);
    }

    #[test]
    fn adam_by_hand() {
        let by_formula = |gs: [f64; 2], steps: usize, tf: bool| {
            let (mut m, mut v, mut p) = (0.0, 0.0, 1.0);
            for (t, g) in (1..).zip(&gs[..steps]) {
                m = 0.9 * m + 0.1 * g;
                v = 0.99 * v + 0.01 * g * g;
                let (c1, c2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.99f64.powi(t));
                p -= 0.1
                    * if tf {
                        c2.sqrt() / c1 * m / (v.sqrt() + 1e-3)
                    } else {
                        m / c1 / ((v / c2).sqrt() + 1e-3)
                    };
            }
            p
        };
        for (tf, rule) in [
            (false, ADAM),
            (
                true,
                OptimizerSpec::Adam(Adam {
                    beta1: 0.9,
                    beta2: 0.99,
                    eps: 1e-3,
                    form: AdamForm::Tf,
                    rows: AdamRows::Lazy,
                }),
            ),
        ] {
            let cell = |gs, steps| by_formula(gs, steps, tf);
            let untouched = [cell([1.0, 0.0], 1); 2];
            let want = [
                [cell([3.0, 4.0], 2), cell([4.0, 3.0], 2)],
                untouched,
                [cell([0.0, 1.0], 2), cell([2.0, 1.0], 2)],
            ];
            near(&two_steps(rule), want);
        }
    }

    #[test]
    fn the_global_norm_is_cut() {
        let grads = [
            Some(Tensor::new(&[3f32, 0.0], &Device::Cpu).unwrap()),
            None,
            Some(Tensor::new(&[4f32], &Device::Cpu).unwrap()),
        ];
        assert_eq!(clip_factor(None, &grads).unwrap(), None);
        assert_eq!(clip_factor(Some(5.1), &grads).unwrap(), None);
        assert_eq!(clip_factor(Some(1.0), &grads).unwrap(), Some(1.0 / (5.0 + 1e-6)));
    }
}
