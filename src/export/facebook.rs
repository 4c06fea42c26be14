//! The dictionary that facebookresearch/dlrm saves (dlrm_s_pytorch.py, `--save-model`), and that its
//! `--load-model` takes.

use super::{ExportError, Model};
use crate::{
    checkpoint::torch::{
        OPTIMIZER, PARAMETERS, Pickled, STATE_WORDS, StateWord, is_trained, write,
    },
    host::atomic_file::replace,
    model::{ParamKind, ParamSpec},
    optim::{OptimizerSpec, rules::Value},
};
use std::path::Path;

/// Numbers of a tensor in the file.
enum Storage {
    /// Those of a tensor of the model.
    Tensor(String, usize),
    /// One number.
    Scalar(f32),
}

/// The tensors of a file, as they are named.
#[derive(Default)]
struct Storages(Vec<Storage>);

impl Storages {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Pickled {
        self.0.push(Storage::Tensor(name.to_owned(), shape.iter().product()));
        Pickled::Tensor { storage: self.0.len() - 1, shape: shape.to_vec() }
    }

    fn scalar(&mut self, value: f32) -> Pickled {
        self.0.push(Storage::Scalar(value));
        Pickled::Tensor { storage: self.0.len() - 1, shape: Vec::new() }
    }
}

/// Writes the file; sentences about what was left out.
pub(super) fn write_pt(
    model: &Model<'_>,
    mut params: Vec<ParamSpec>,
    path: &Path,
) -> Result<Vec<String>, ExportError> {
    // The original's dictionary has none of these.
    params.retain(|p| !model.config.model.stays_one(p));
    // The original makes the matrix of a narrow table with the table.
    params.sort_by_key(|p| place(&p.name));
    let mut storages = Storages::default();
    let state_dict: Vec<_> = params
        .iter()
        .map(|p| (p.name.as_str().into(), storages.tensor(&p.name, &p.shape)))
        .collect();
    let mut notes = Vec::new();
    let optimizer = match optimizer(model, &params, &mut storages) {
        Ok(optimizer) => Some(optimizer),
        Err(why) => {
            notes.push(format!("the optimizer's state is left out: {why}"));
            None
        }
    };
    let c = model.counters();
    let float = |x: Option<f64>| Pickled::Float(x.unwrap_or(f64::NAN));
    let mut root = vec![
        ("nepochs", Pickled::Int(c.nepochs)),
        ("nbatches", Pickled::Int(c.nbatches)),
        ("nbatches_test", Pickled::Int(c.nbatches_test)),
        (PARAMETERS, Pickled::Ordered(state_dict)),
        ("test_acc", float(c.test_acc)),
        ("epoch", Pickled::Int(c.epoch)),
        ("iter", Pickled::Int(c.iter)),
        ("train_loss", float(c.train_loss)),
        ("total_loss", float(c.total_loss)),
    ];
    root.extend(optimizer.map(|o| (OPTIMIZER, o)));
    let lengths: Vec<usize> = storages.0.iter().map(Storage::len).collect();
    let mut read = |i: usize, first: usize, out: &mut [f32]| {
        match &storages.0[i] {
            Storage::Scalar(value) => out[0] = *value,
            Storage::Tensor(name, _) => model.copy(name, first, out)?,
        }
        Ok(())
    };
    replace(path, |to| write(to, &Pickled::dict(root), &lengths, &mut read))
        .map_err(|source| model.failed(path, source))?;
    Ok(notes)
}

impl Storage {
    fn len(&self) -> usize {
        match self {
            Storage::Tensor(_, numbers) => *numbers,
            Storage::Scalar(_) => 1,
        }
    }
}

/// Where a parameter stands: those of column `k` together, all others behind.
fn place(name: &str) -> usize {
    let column = name.strip_prefix("emb_l.").and_then(|rest| rest.split('.').next());
    column.and_then(|k| k.parse().ok()).unwrap_or(usize::MAX)
}

/// What the optimizer's `state_dict` would say, or why it would not.
fn optimizer(
    model: &Model<'_>,
    params: &[ParamSpec],
    storages: &mut Storages,
) -> Result<Pickled, String> {
    let rule = &model.workload.optimizer.rule;
    let updates = match model.loaded.rule() {
        Some((kind, updates)) if kind == rule.kind() => updates,
        Some((kind, _)) => {
            return Err(format!("it is of {kind}, the workload's rule is {}", rule.kind()));
        }
        None => return Err("the model has none".to_owned()),
    };
    let words: Vec<&StateWord> = STATE_WORDS.iter().filter(|w| w.rule == rule.kind()).collect();
    let specs = model.config.optimizer_state();
    if words.is_empty() && !specs.is_empty() {
        return Err(format!("PyTorch has no {}", rule.kind()));
    }
    if let Some(e) = specs.iter().find_map(|s| model.loaded.tensor(&s.name, &s.shape).err()) {
        return Err(e.to_string());
    }
    let mut state = Vec::new();
    let trained: Vec<&ParamSpec> = params.iter().filter(|p| is_trained(&p.name)).collect();
    for (i, param) in trained.iter().enumerate().filter(|_| !words.is_empty()) {
        let table = matches!(param.kind, ParamKind::Table | ParamKind::RowWeight);
        // Torch's own rules count in a tensor, facebook's in a number.
        let step = match rule {
            OptimizerSpec::RowwiseAdagrad(_) => Pickled::Int(updates as i64),
            _ => storages.scalar(updates as f32),
        };
        let mut of = vec![("step", step)];
        for word in words.iter().filter(|w| w.tables.is_none_or(|tables| tables == table)) {
            let name = format!("{}.{}", param.name, word.ours);
            let Some(spec) = specs.iter().find(|s| s.name == name) else { continue };
            // A number a row has one dimension there.
            let shape = if word.tables == Some(true) { &spec.shape[..1] } else { &spec.shape[..] };
            of.push((word.torch, storages.tensor(&name, shape)));
        }
        // Row weights that stay 1 have none.
        if of.len() > 1 {
            state.push((Pickled::Int(i as i64), Pickled::dict(of)));
        }
    }
    let mut group = group(model);
    let numbers = (0..trained.len()).map(|i| Pickled::Int(i as i64)).collect();
    group.push(("params", Pickled::List(numbers)));
    Ok(Pickled::dict([
        ("state", Pickled::Dict(state)),
        ("param_groups", Pickled::List(vec![Pickled::dict(group)])),
    ]))
}

/// The settings of the one group of parameters, by the names of torch (torch/optim/sgd.py, adagrad.py,
/// adam.py) and of facebook's rule (optim/rwsadagrad.py).
fn group(model: &Model<'_>) -> Vec<(&'static str, Pickled)> {
    let config = &model.workload.optimizer;
    let set = |key: &str| {
        let found = config.rule.settings().find(|(k, _)| k.name == key).map(|(_, value)| value);
        Pickled::Float(match found {
            Some(Value::Number(x)) => x,
            _ => 0.0,
        })
    };
    let rate = Pickled::Float(config.learning_rate);
    let no = || Pickled::Bool(false);
    let of_torch = || {
        vec![
            ("foreach", Pickled::Nothing),
            ("maximize", no()),
            ("differentiable", no()),
            ("fused", Pickled::Nothing),
        ]
    };
    let mut group = vec![("lr", rate.clone())];
    match config.rule {
        OptimizerSpec::Sgd(_) => {
            let zero = || Pickled::Int(0);
            group.extend([
                ("momentum", zero()),
                ("dampening", zero()),
                ("weight_decay", zero()),
                ("nesterov", no()),
            ]);
            group.extend(of_torch());
        }
        OptimizerSpec::Adam(adam) => {
            let betas = [adam.beta1, adam.beta2].map(Pickled::Float);
            group.extend([("betas", Pickled::Pair(Box::new(betas))), ("eps", set("eps"))]);
            group.extend([
                ("weight_decay", Pickled::Int(0)),
                ("amsgrad", no()),
                ("capturable", no()),
            ]);
            group.extend(of_torch());
        }
        rule => {
            group.extend([("lr_decay", set("lr_decay")), ("eps", set("eps"))]);
            group.push(("weight_decay", Pickled::Int(0)));
            group.push(("initial_accumulator_value", set("initial_accumulator")));
            if matches!(rule, OptimizerSpec::Adagrad(_)) {
                group.extend(of_torch());
            }
        }
    }
    group.push(("initial_lr", rate));
    group
}
