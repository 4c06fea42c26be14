//! Checks between sections.

use super::{error::WorkloadError, tree::Tree};
use crate::{
    backend::{Device, Precision},
    engine,
    optim::{ScheduleSpec, schedule::Schedule},
    workload::*,
};

/// Refuses what each section allows by itself but not with the others.
pub(super) fn check(w: &Workload, tree: &Tree) -> Result<(), WorkloadError> {
    let refuse = |key: &str, what: &str| Err(tree.error(key, what));
    let random = matches!(w.data, DataConfig::NumpyRandom(_));
    let planted = matches!(w.data, DataConfig::Planted(_));
    if w.model.init_rng() == InitRng::Numpy
        && !random
        && !matches!(w.data, DataConfig::CriteoTsv(_))
    {
        return refuse(
            "model.init_rng",
            "\"numpy\" goes on from the generator of the data, so data.source must be \"numpy_random\" or \"criteo_tsv\"; use \"philox\"",
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
            Quirk::FbLrPlateau if !matches!(w.schedule, ScheduleSpec::FacebookPolicy { .. }) => {
                return refuse(
                    "workload.quirks",
                    "\"fb.lr-plateau\" needs schedule.kind = \"facebook_policy\"; remove it",
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
