//! What follows from several keys, and checks between them.

use super::{
    embedding,
    error::{Origin, WorkloadError},
    tree::Tree,
};
use crate::{
    backend::{Device, Precision},
    data::source::prepared::goes_on_from_numpy,
    engine::{
        self, EngineKind, SumOrder,
        ranks::{Exchange, Gpus, server::CommMode},
    },
    model::{DlrmQuirks, LossKind, Trick},
    optim::{ScheduleSpec, schedule::Schedule},
    workload::*,
};

/// Fills in values that follow from several keys.
pub(super) fn fill_derived(w: &mut Workload, tree: &Tree) -> Result<(), WorkloadError> {
    if w.engine.threads == 0 {
        w.engine.threads =
            std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    }
    if let ScheduleSpec::FacebookPolicy { plateau_quirk, .. } = &mut w.schedule {
        *plateau_quirk = w.workload.quirks.contains(&Quirk::FbLrPlateau);
    }
    let has = |quirk: Quirk| w.workload.quirks.contains(&quirk);
    if let ModelConfig::Dlrm { trick, quirks, .. } = &mut w.model {
        if let Trick::Qr(qr) = trick {
            qr.init_quirk = has(Quirk::FbQrInit);
        }
        *quirks = DlrmQuirks {
            dead_top: has(Quirk::DrTopMlpDeadLayer),
            batch_stats_in_eval: has(Quirk::DrBnBatchStatsInEval),
        };
    }
    w.train.loss.of_probability = w.workload.quirks.contains(&Quirk::FbBceOfProbability);
    embedding::fill_derived(w);
    every(w, tree)
}

/// When to evaluate: at most one of three keys says so.
fn every(w: &mut Workload, tree: &Tree) -> Result<(), WorkloadError> {
    let given: Vec<&str> = ["eval.every_steps", "eval.every_epochs", "eval.every"]
        .into_iter()
        .filter(|key| tree.get(key).is_some())
        .collect();
    if let [first, .., last] = given[..] {
        // Who has just set one means that one.
        let set = |key: &str| tree.origin(key) == Origin::Set;
        let (out, which) = match set(last) && !set(first) {
            true => (first, "that"),
            false => (last, "this"),
        };
        let what = format!(
            "stands beside {first}; leave one of them out (--set {out}= takes {which} one out)"
        );
        return Err(tree.error(last, what));
    }
    // Without rounding, these labels are any number in [0, 1]: there are no classes to tell apart.
    let classless =
        matches!(w.data, DataConfig::NumpyRandom(NumpyRandomConfig { round_targets: false, .. }));
    match given.first() {
        None if classless => w.eval.every = EvalEvery::Never,
        Some(key) if classless && w.eval.every != EvalEvery::Never => {
            let what = "asks for evaluations, but with data.round_targets = false the labels are no classes; must be every = \"never\"";
            return Err(tree.error(key, what));
        }
        _ => {}
    }
    Ok(())
}

/// Label, dense, categorical and ignored columns: each named once, and in `data.columns` where
/// those are given.
fn roles(w: &Workload, tree: &Tree) -> Result<(), WorkloadError> {
    let (label, lists, columns) = match &w.data {
        DataConfig::Csv(c) => {
            (Some(&c.label), [&c.dense, &c.categorical, &c.ignore], c.columns.as_ref())
        }
        DataConfig::Parquet(c) => (c.label.as_ref(), [&c.dense, &c.categorical, &c.ignore], None),
        DataConfig::Files(c) => (c.label.as_ref(), [&c.dense, &c.categorical, &c.ignore], None),
        _ => return Ok(()),
    };
    let dates = match &w.data {
        DataConfig::Csv(c) => c.dates().0,
        DataConfig::Parquet(c) => c.dates.as_deref().unwrap_or_default(),
        _ => &[],
    };
    let lists = lists.into_iter().map(|names| &names[..]).chain([dates]);
    let keys = ["data.dense", "data.categorical", "data.ignore", "data.dates"];
    let named =
        keys.into_iter().zip(lists).flat_map(|(key, names)| names.iter().map(move |n| (key, n)));
    let mut seen: Vec<(&str, &String)> = Vec::new();
    for (key, name) in label.map(|name| ("data.label", name)).into_iter().chain(named) {
        if let Some((other, _)) = seen.iter().find(|(_, n)| *n == name) {
            let what = format!(
                "names \"{name}\", which {other} names already; must name each column once"
            );
            return Err(tree.error(key, what));
        }
        if let Some(all) = columns.filter(|all| !all.contains(name)) {
            let all = all.join(", ");
            let what = format!("names \"{name}\", which is not in data.columns ({all})");
            return Err(tree.error(key, what));
        }
        seen.push((key, name));
    }
    Ok(())
}

/// Refuses what each key allows by itself but not with the others.
pub(super) fn check(w: &Workload, tree: &Tree) -> Result<(), WorkloadError> {
    roles(w, tree)?;
    let refuse = |key: &str, what: &str| Err(tree.error(key, what));
    if let Some((key, what)) = w.optimizer.rule.conflict() {
        return refuse(key, &what);
    }
    let random = matches!(w.data, DataConfig::NumpyRandom(_));
    let planted = matches!(w.data, DataConfig::Planted(_));
    let facebook = match &w.data {
        DataConfig::CriteoTsv(_) => true,
        DataConfig::Prepared(d) => goes_on_from_numpy(d),
        _ => random,
    };
    if w.model.init_rng() == InitRng::Numpy && !facebook {
        return refuse(
            "model.init_rng",
            "\"numpy\" goes on from the generator of the data, so data.source must be \"numpy_random\", \"criteo_tsv\" or \"prepared\" by a recipe of facebook's; use \"philox\"",
        );
    }
    let EngineSection { kind, device, precision, .. } = w.engine;
    if kind == EngineKind::Candle && matches!(device, Device::Cuda(_)) && !engine::CANDLE_CUDA {
        return refuse("engine.device", engine::NO_CANDLE_CUDA);
    }
    if precision == Precision::Tf32 && device == Device::Cpu {
        return refuse(
            "engine.precision",
            "\"tf32\" is computed by GPUs only; use \"fp32\", or engine.device = \"cuda:0\"",
        );
    }
    for quirk in &w.workload.quirks {
        match quirk {
            Quirk::DrTopMlpDeadLayer if !matches!(&w.model, ModelConfig::Dlrm { top, .. } if top.len() > 2) =>
            {
                return refuse(
                    "workload.quirks",
                    "\"dr.top-mlp-dead-layer\" needs model.kind = \"dlrm\" with at least two hidden layers in model.top; remove it",
                );
            }
            Quirk::DrBnBatchStatsInEval
                if !matches!(w.model, ModelConfig::Dlrm { batch_norm: true, .. }) =>
            {
                return refuse(
                    "workload.quirks",
                    "\"dr.bn-batch-stats-in-eval\" needs model.kind = \"dlrm\" with model.batch_norm = true; remove it",
                );
            }
            Quirk::FbLrPlateau if !matches!(w.schedule, ScheduleSpec::FacebookPolicy { .. }) => {
                return refuse(
                    "workload.quirks",
                    "\"fb.lr-plateau\" needs schedule.kind = \"facebook_policy\"; remove it",
                );
            }
            Quirk::FbQrInit
                if !matches!(w.model, ModelConfig::Dlrm { trick: Trick::Qr(_), .. }) =>
            {
                return refuse(
                    "workload.quirks",
                    "\"fb.qr-init\" needs model.trick = \"qr\"; remove it",
                );
            }
            Quirk::FbBceOfProbability
                if !matches!(w.train.loss.kind, LossKind::Bce | LossKind::Wbce { .. }) =>
            {
                return refuse(
                    "workload.quirks",
                    "\"fb.bce-of-probability\" needs train.loss = \"bce\" or \"wbce\"; remove it",
                );
            }
            Quirk::FbGradAccumDrops
                if w.train.micro_batches == 1
                    || !matches!(w.model, ModelConfig::Dlrm { .. })
                    || !["sgd", "adagrad", "rowwise_adagrad"]
                        .contains(&w.optimizer.rule.kind()) =>
            {
                return refuse(
                    "workload.quirks",
                    "\"fb.grad-accum-drops\" needs model.kind = \"dlrm\", train.micro_batches above 1 and an optimizer.kind \
                     of facebook's: \"sgd\", \"adagrad\" or \"rowwise_adagrad\"; remove it",
                );
            }
            Quirk::FbDebugDataFirst | Quirk::FbTargetsLast if !random => {
                return refuse(
                    "workload.quirks",
                    "\"fb.debug-data-first\" and \"fb.targets-last\" need data.source = \"numpy_random\"; remove it",
                );
            }
            _ => {}
        }
    }
    if matches!(w.data, DataConfig::NumpyRandom(NumpyRandomConfig { dense: 0, .. }))
        && matches!(w.model, ModelConfig::Dlrm { .. })
    {
        return refuse("data.dense", "is 0; a DLRM's bottom MLP needs at least 1 dense column");
    }
    if let Err(e) = Schedule::new(&w.schedule, w.optimizer.learning_rate) {
        return refuse(&format!("schedule.{}", e.key), &e.what);
    }
    if matches!(w.schedule, ScheduleSpec::ReduceOnPlateau { .. })
        && matches!(w.eval.every, EvalEvery::Never | EvalEvery::AtEnd)
    {
        return refuse(
            "schedule.kind",
            "\"reduce_on_plateau\" acts on evaluations; give eval.every_steps or eval.every_epochs",
        );
    }
    if w.eval.every == EvalEvery::Never {
        let asked = [
            ("target.auc", w.target.auc.is_some()),
            ("target.accuracy", w.target.accuracy.is_some()),
            ("target.share_of_best", w.target.share_of_best.is_some()),
            ("eval.patience", w.eval.patience.is_some()),
            ("eval.restore_best", w.eval.restore_best),
        ];
        if let Some((key, _)) = asked.iter().find(|(_, asked)| *asked) {
            return refuse(
                key,
                "needs evaluations, but eval.every is \"never\"; remove it, or give eval.every_steps",
            );
        }
    }
    if w.checkpoint.is_on() && w.loader.queue.is_some() {
        return refuse(
            "loader.queue",
            "does not go with checkpoints: what a process had taken from the queue is gone when it goes on; remove it, or [checkpoint]",
        );
    }
    if let Some((key, what)) = embedding::conflict(w) {
        return refuse(key, &what);
    }
    if let Some((key, what)) = tree_conflict(w).or_else(|| gpus_conflict(w)) {
        return refuse(key, what);
    }
    if w.comm.mode == CommMode::ParameterServer && w.comm.sum == SumOrder::Tree {
        return refuse(
            "comm.sum",
            "is \"tree\", and with comm.mode = \"parameter_server\" nothing is summed over ranks; remove one of them",
        );
    }
    if let Some((key, what)) = closed::refusal(w) {
        return refuse(key, &what);
    }
    if w.target.share_of_best.is_some() && !planted {
        return refuse(
            "target.share_of_best",
            "needs data whose best reachable AUC is known, data.source = \"planted\"; use target.auc",
        );
    }
    Ok(())
}

/// What does not go with ranks on GPUs.
fn gpus_conflict(w: &Workload) -> Option<(&'static str, &'static str)> {
    let on_gpus = matches!(w.engine.device, Device::Cuda(_));
    match (w.comm.gpus, w.comm.exchange) {
        (Gpus::Shared, _) if !on_gpus => Some((
            "comm.gpus",
            "is \"shared\", which is said of GPUs; set engine.device = \"cuda:N\", or remove it",
        )),
        (_, Exchange::Nccl) if !on_gpus => Some((
            "comm.exchange",
            "is \"nccl\", which sends from GPU to GPU; set engine.device = \"cuda:N\", or use \"host\"",
        )),
        (Gpus::Shared, Exchange::Nccl) => Some((
            "comm.exchange",
            "is \"nccl\", which wants a GPU for each rank; use \"host\", or comm.gpus = \"own\"",
        )),
        _ => None,
    }
}

/// What does not go with sums as a tree.
fn tree_conflict(w: &Workload) -> Option<(&'static str, &'static str)> {
    let batch_norm = match &w.model {
        ModelConfig::Dlrm { batch_norm, .. } | ModelConfig::DeepFm { batch_norm, .. } => {
            *batch_norm
        }
    };
    if w.comm.sum == SumOrder::Rank {
        None
    } else if w.engine.kind != EngineKind::Fused {
        Some(("comm.sum", "is \"tree\", which the fused engine has; use \"rank\""))
    } else if w.train.micro_batches > 1 {
        Some((
            "comm.sum",
            "is \"tree\", which cuts a batch itself; use \"rank\", or remove train.micro_batches",
        ))
    } else if batch_norm {
        Some((
            "comm.sum",
            "is \"tree\", which computes layers slice by slice, and model.batch_norm goes by the whole batch; use \"rank\"",
        ))
    } else {
        None
    }
}
