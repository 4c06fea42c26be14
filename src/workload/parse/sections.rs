//! Each section: its keys, their defaults and ranges.

use super::{data::data, error::WorkloadError, model::model, reader::Reader, words::*};
use crate::{
    backend::{Device, Precision},
    embedding::RowKind,
    model::{LossKind, LossSpec},
    optim::{LossScaleSpec, OptimizerConfig, OptimizerSpec, ScheduleSpec},
    workload::*,
};

type Result<T> = std::result::Result<T, WorkloadError>;

/// No batch is larger than this: positions in a batch are 32-bit.
const MAX_BATCH: usize = 1 << 24;
/// More processes than this are a slip.
const MAX_SHARDS: usize = 1 << 20;
/// More batches ahead than this are a slip.
const MAX_PREFETCH: usize = 4096;
/// Range of a batch size, in words.
const BATCH_RANGE: &str = "from 1 to 16777216";

/// The whole workload, each section checked by itself.
pub(super) fn workload(r: &Reader) -> Result<Workload> {
    let workload = about(r)?;
    let quirk = workload.quirks.contains(&Quirk::FbLrPlateau);
    let data = data(r)?;
    let model = model(r)?;
    let train = train(r)?;
    Ok(Workload {
        workload,
        engine: engine(r)?,
        loader: loader(r, train.batch_size)?,
        train,
        optimizer: optimizer(r)?,
        schedule: schedule(r, quirk)?,
        eval: eval(r, &data)?,
        target: target(r)?,
        mlperf: mlperf(r, &model)?,
        data,
        model,
    })
}

fn about(r: &Reader) -> Result<About> {
    let name: String = r.must("workload.name")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = !name.is_empty() && name.chars().all(plain) && !name.starts_with('.');
    let good = good && unfit_name(&name).is_none();
    r.check("workload.name", good, || {
        format!("is {name:?}; must be letters, digits, '-', '_' and '.', not starting with '.', since folders are named after it")
    })?;
    let description: String = r.or("workload.description", String::new())?;
    r.check("workload.description", !description.contains('\n'), || "must be one line".to_owned())?;
    let quirks: Vec<Quirk> = r.or("workload.quirks", Vec::new())?;
    let twice = quirks.iter().enumerate().find(|(i, q)| quirks[..*i].contains(q));
    r.check("workload.quirks", twice.is_none(), || "names a quirk twice; remove one".to_owned())?;
    Ok(About { name, description, quirks })
}

fn loader(r: &Reader, batch_size: usize) -> Result<LoaderSection> {
    let of = r.opt("loader.shards")?;
    let of = r.within_opt(
        "loader.shards",
        of,
        |n| (1..=MAX_SHARDS).contains(&n),
        "processes, from 1 to 1048576",
    )?;
    let shards = match of {
        Some(of) => {
            let shard = r.must("loader.shard")?;
            let right = format!("from 0 to {}, the number of this process", of - 1);
            Some(Shard { shard: r.within("loader.shard", shard, |k| k < of, &right)?, of })
        }
        None => None,
    };
    let queue = match r.opt("loader.queue")? {
        Some(path) => {
            let slice = r.or("loader.slice", 64 * batch_size as u64)?;
            r.check("loader.slice", slice > 0 && slice % batch_size as u64 == 0, || {
                format!("is {slice}; must be a multiple of train.batch_size, {batch_size}")
            })?;
            Some(SliceQueue { path, slice })
        }
        None => None,
    };
    r.check("loader.queue", queue.is_none() || shards.is_none(), || {
        "deals out samples to whichever process is free, and loader.shards deals them out beforehand; remove one of them"
            .to_owned()
    })?;
    let prefetch = r.opt("loader.prefetch")?;
    let prefetch = r.within_opt(
        "loader.prefetch",
        prefetch,
        |n| (1..=MAX_PREFETCH).contains(&n),
        "batches, from 1 to 4096",
    )?;
    Ok(LoaderSection { shards, queue, prefetch })
}

fn engine(r: &Reader) -> Result<EngineSection> {
    let kind = r.or("engine.kind", EngineKind::Fused)?;
    let device = r.or("engine.device", Device::Cpu)?;
    let threads = r.within(
        "engine.threads",
        r.or("engine.threads", 0)?,
        |t| t <= MAX_THREADS,
        "from 0 (all cores) to 1024",
    )?;
    let all_cores = || std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    // candle computes in f32 only.
    let precision = if kind == EngineKind::Fused {
        r.or("engine.precision", Precision::Fp32)?
    } else {
        Precision::Fp32
    };
    let embedding_rows = if kind == EngineKind::Fused {
        r.or("engine.embedding_rows", RowKind::Fp32)?
    } else {
        RowKind::Fp32
    };
    Ok(EngineSection {
        kind,
        device,
        threads: if threads == 0 { all_cores() } else { threads },
        pin_threads: r.or("engine.pin_threads", false)?,
        precision,
        embedding_rows,
        loss_scale: if precision == Precision::Fp16 { loss_scale(r)? } else { LossScaleSpec::Off },
    })
}

fn loss_scale(r: &Reader) -> Result<LossScaleSpec> {
    let scale = |default| {
        r.within(
            "engine.loss_scale",
            r.or("engine.loss_scale", default)?,
            LossScaleSpec::allows,
            "from 2^-24 to 2^60",
        )
    };
    Ok(match r.or("engine.loss_scaling", LossScalingWord::Dynamic)? {
        LossScalingWord::Static => LossScaleSpec::Static { scale: scale(1024.0)? },
        LossScalingWord::Dynamic => LossScaleSpec::Dynamic {
            initial: scale(65_536.0)?,
            growth_steps: {
                let key = "engine.loss_scale_growth_steps";
                r.within(key, r.or(key, 2000)?, |n| n >= 1, "at least 1")?
            },
        },
    })
}

fn train(r: &Reader) -> Result<TrainSection> {
    let batch = r.must("train.batch_size")?;
    let kind = match r.or("train.loss", LossWord::Bce)? {
        LossWord::Bce => LossKind::Bce,
        LossWord::Mse => LossKind::Mse,
        LossWord::Wbce => LossKind::Wbce { weights: loss_weights(r)? },
    };
    let clamp = r.or("train.loss_clamp", 0.0)?;
    Ok(TrainSection {
        batch_size: r.within(
            "train.batch_size",
            batch,
            |b| (1..=MAX_BATCH).contains(&b),
            BATCH_RANGE,
        )?,
        epochs: r.within("train.epochs", r.or("train.epochs", 1)?, |e| e >= 1, "at least 1")?,
        max_steps: r.within_opt(
            "train.max_steps",
            r.opt("train.max_steps")?,
            |s| s >= 1,
            "at least 1",
        )?,
        drop_last: r.or("train.drop_last", false)?,
        seed: r.or("train.seed", 1)?,
        loss: LossSpec {
            kind,
            clamp: r.within(
                "train.loss_clamp",
                clamp,
                |c: f32| (0.0..0.5).contains(&c),
                "from 0 (off) to below 0.5",
            )?,
        },
    })
}

fn loss_weights(r: &Reader) -> Result<[f32; 2]> {
    let list: Vec<f32> = r.must("train.loss_weights")?;
    match list[..] {
        [w0, w1] if w0 >= 0.0 && w1 >= 0.0 && w0 + w1 > 0.0 => Ok([w0, w1]),
        _ => Err(r.error(
            "train.loss_weights",
            "must be two weights, of class 0 and class 1, not negative and not both 0",
        )),
    }
}

fn optimizer(r: &Reader) -> Result<OptimizerConfig> {
    let kind = r.must_word("optimizer.kind", OptimizerSpec::KINDS)?;
    let rule = OptimizerSpec::read(kind, &mut |key| r.setting(key))?;
    if let Some((key, what)) = rule.conflict() {
        return Err(r.error(key, what));
    }
    let rate = r.must("optimizer.learning_rate")?;
    let clip = r.opt("optimizer.clip_norm")?;
    Ok(OptimizerConfig {
        rule,
        learning_rate: r.within("optimizer.learning_rate", rate, |x| x > 0.0, "above 0")?,
        clip_norm: r.within_opt(
            "optimizer.clip_norm",
            clip,
            |x| x > 0.0,
            "above 0; leave it out for no clipping",
        )?,
    })
}

fn schedule(r: &Reader, plateau_quirk: bool) -> Result<ScheduleSpec> {
    let positive = |key, x: f64| r.within(key, x, |x| x > 0.0, "above 0");
    let min_rate = |default| {
        r.within(
            "schedule.min_rate",
            r.or("schedule.min_rate", default)?,
            |x| x >= 0.0,
            "0 or more",
        )
    };
    Ok(match r.or("schedule.kind", ScheduleWord::Constant)? {
        ScheduleWord::Constant => ScheduleSpec::Constant,
        ScheduleWord::FacebookPolicy => {
            let (warmup_steps, decay_start_step) = warmup(r)?;
            let decay_steps = r.or("schedule.decay_steps", 0)?;
            ScheduleSpec::FacebookPolicy {
                warmup_steps,
                decay_start_step,
                decay_steps,
                plateau_quirk,
            }
        }
        ScheduleWord::WarmupPolynomial => {
            let (warmup_steps, decay_start_step) = warmup(r)?;
            let decay_steps = r.within(
                "schedule.decay_steps",
                r.must("schedule.decay_steps")?,
                |s| s >= 1,
                "at least 1",
            )?;
            let power = positive("schedule.power", r.or("schedule.power", 2.0)?)?;
            let end_rate = r.within(
                "schedule.end_rate",
                r.or("schedule.end_rate", 0.0)?,
                |x| x >= 0.0,
                "0 or more",
            )?;
            ScheduleSpec::WarmupPolynomial {
                warmup_steps,
                decay_start_step,
                decay_steps,
                power,
                end_rate,
            }
        }
        ScheduleWord::MultiStep => {
            let milestones: Vec<u64> = r.must("schedule.milestones")?;
            let rising = !milestones.is_empty() && milestones.windows(2).all(|w| w[0] < w[1]);
            r.check("schedule.milestones", rising, || {
                format!("is {milestones:?}; must be rising step numbers")
            })?;
            let gamma = r.or("schedule.gamma", 0.1)?;
            let gamma = r.within(
                "schedule.gamma",
                gamma,
                |g| g > 0.0 && g <= 1.0,
                "above 0 and at most 1",
            )?;
            ScheduleSpec::MultiStep { milestones, gamma, min_rate: min_rate(0.0)? }
        }
        ScheduleWord::ReduceOnPlateau => {
            let factor = r.or("schedule.factor", 0.1)?;
            let delta = r.or("schedule.min_delta", 1e-6)?;
            ScheduleSpec::ReduceOnPlateau {
                factor: r.within(
                    "schedule.factor",
                    factor,
                    |f| f > 0.0 && f < 1.0,
                    "above 0 and below 1",
                )?,
                patience: r.within(
                    "schedule.patience",
                    r.or("schedule.patience", 1)?,
                    |p| p >= 1,
                    "at least 1",
                )?,
                min_delta: r.within("schedule.min_delta", delta, |d| d >= 0.0, "0 or more")?,
                min_rate: min_rate(1e-6)?,
            }
        }
    })
}

/// `warmup_steps` and `decay_start_step` of both schedules that have them.
fn warmup(r: &Reader) -> Result<(u64, u64)> {
    let warmup = r.or("schedule.warmup_steps", 0)?;
    let start = r.or("schedule.decay_start_step", warmup)?;
    r.check("schedule.decay_start_step", start >= warmup, || {
        format!("is {start}, before the warm-up's end; must be at least warmup_steps, {warmup}")
    })?;
    Ok((warmup, start))
}

fn eval(r: &Reader, data: &DataConfig) -> Result<EvalSection> {
    let every = every(r, data)?;
    let batch = r.or("eval.batch_size", 16384)?;
    Ok(EvalSection {
        every,
        batch_size: r.within(
            "eval.batch_size",
            batch,
            |b| (1..=MAX_BATCH).contains(&b),
            BATCH_RANGE,
        )?,
        patience: r.within_opt(
            "eval.patience",
            r.opt("eval.patience")?,
            |p| p >= 1,
            "at least 1; leave it out for never",
        )?,
        min_delta: r.within(
            "eval.min_delta",
            r.or("eval.min_delta", 0.0)?,
            |d| d >= 0.0,
            "0 or more",
        )?,
        monitor: r.or("eval.monitor", Monitor::Auc)?,
        restore_best: r.or("eval.restore_best", false)?,
    })
}

fn every(r: &Reader, data: &DataConfig) -> Result<EvalEvery> {
    let word: Option<EveryWord> = r.opt("eval.every")?;
    let steps: Option<u64> = r.opt("eval.every_steps")?;
    let epochs: Option<f64> = r.opt("eval.every_epochs")?;
    let steps = r.within_opt("eval.every_steps", steps, |n| n >= 1, "at least 1")?;
    let epochs = r.within_opt("eval.every_epochs", epochs, |e| e > 0.0, "above 0")?;
    let given = [
        ("eval.every_steps", steps.is_some()),
        ("eval.every_epochs", epochs.is_some()),
        ("eval.every", word.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, there)| *there).map(|(key, _)| *key).collect();
    if let [first, .., last] = given[..] {
        return Err(r.error(
            last,
            format!(
                "stands beside {first}; leave one of them out (--set {last}= takes this one out)"
            ),
        ));
    }
    // Without rounding, these labels are any number in [0, 1]: there are no classes to tell apart.
    let classless =
        matches!(data, DataConfig::NumpyRandom(NumpyRandomConfig { round_targets: false, .. }));
    let every = match (word, steps, epochs) {
        (Some(EveryWord::End), _, _) => EvalEvery::AtEnd,
        (Some(EveryWord::Never), _, _) => EvalEvery::Never,
        (None, Some(n), _) => EvalEvery::Steps(n),
        (None, None, Some(e)) => EvalEvery::Epochs(e),
        (None, None, None) if classless => EvalEvery::Never,
        (None, None, None) => EvalEvery::Epochs(1.0),
    };
    r.check(given.first().unwrap_or(&"eval.every"), !classless || every == EvalEvery::Never, || {
        "asks for evaluations, but with data.round_targets = false the labels are no classes; must be every = \"never\""
            .to_owned()
    })?;
    Ok(every)
}

fn target(r: &Reader) -> Result<TargetSection> {
    let auc = r.opt("target.auc")?;
    let auc =
        r.within_opt("target.auc", auc, |a| a > 0.5 && a < 1.0, "above 0.5 (chance) and below 1")?;
    let share = r.opt("target.share_of_best")?;
    let share_of_best =
        r.within_opt("target.share_of_best", share, |s| s > 0.0 && s < 1.0, "above 0 and below 1")?;
    r.check("target.share_of_best", auc.is_none() || share.is_none(), || {
        "stands beside target.auc; leave one of them out (--set target.share_of_best= takes this one out)".to_owned()
    })?;
    Ok(TargetSection { auc, share_of_best })
}

fn mlperf(r: &Reader, model: &ModelConfig) -> Result<MlperfSection> {
    let deepfm = matches!(model, ModelConfig::DeepFm { .. });
    let benchmark =
        r.or("mlperf.benchmark", if deepfm { BenchmarkWord::DeepFm } else { BenchmarkWord::Dlrm })?;
    r.check("mlperf.benchmark", deepfm == (benchmark == BenchmarkWord::DeepFm), || {
        let (kind, right) =
            if deepfm { ("deepfm", "\"deepfm\"") } else { ("dlrm", "\"dlrm\" or \"dlrm_dcnv2\"") };
        format!("is \"{}\", but model.kind is \"{kind}\"; must be {right}", benchmark.word())
    })?;
    let folder = |key, text: String| {
        let unfit = unfit_name(&text);
        r.check(key, unfit.is_none(), || {
            let why = unfit.unwrap_or_default();
            format!("is {text:?}, which {why}; must be a name that a folder can have")
        })?;
        Ok(text)
    };
    Ok(MlperfSection {
        benchmark: benchmark.word().to_owned(),
        division: r.or("mlperf.division", DivisionWord::Open)?.word().to_owned(),
        org: folder("mlperf.org", r.or("mlperf.org", "dlrm-bench".to_owned())?)?,
        platform: r.opt("mlperf.platform")?.map(|p| folder("mlperf.platform", p)).transpose()?,
        status: r.or("mlperf.status", StatusWord::Research)?.word().to_owned(),
    })
}
