//! `[workload]`, `[loader]`, `[engine]` and `[mlperf]`: what a run is called, and how it goes.

use super::{Key, Setting, lens, under};
use crate::{
    backend::{Device, Precision},
    embedding::RowKind,
    engine::EngineKind,
    model::Interaction,
    optim::LossScaleSpec,
    workload::{
        EngineSection, EvalEvery, MAX_THREADS, ModelConfig, Shard, SliceQueue, Workload,
        parse::key::{above, key, split},
        rounds, unfit_name,
    },
};

/// More processes than this are a slip.
const MAX_SHARDS: usize = 1 << 20;
/// More batches ahead than this are a slip.
const MAX_PREFETCH: usize = 4096;

/// `[workload]`
pub(super) fn workload() -> Vec<Key> {
    vec![
        key("workload.name", |w| Some(&mut w.workload.name))
            .check(|name, _| {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if name.chars().all(plain) && unfit_name(name).is_none() {
                    return Ok(());
                }
                Err(format!("is {name:?}; must be letters, digits, '-', '_' and '.', not starting with '.', since folders are named after it"))
            })
            .pattern("^[A-Za-z0-9_-][A-Za-z0-9._-]*$")
            .says("Name, used for folders: letters, digits, `-`, `_`, `.`"),
        key("workload.description", |w| Some(&mut w.workload.description))
            .or(String::new())
            .check(|text, _| {
                if text.contains('\n') { Err("must be one line".to_owned()) } else { Ok(()) }
            })
            .says("One line for people"),
        key("workload.quirks", |w| Some(&mut w.workload.quirks))
            .or(Vec::new())
            .check(|quirks, _| {
                match quirks.iter().enumerate().any(|(i, q)| quirks[..i].contains(q)) {
                    true => Err("names a quirk twice; remove one".to_owned()),
                    false => Ok(()),
                }
            })
            .says(
                "Surprising behaviour of the original program to reproduce: `fb.lr-plateau` \
                 (facebook's schedule stays at the last warm-up rate instead of the base rate), \
                 `fb.debug-data-first` (its `--debug-mode` draws all data before the parameters), \
                 `fb.targets-last` (its README transcript draws the targets of all batches after \
                 their inputs), `fb.qr-init` (its tables of quotients and remainders start from \
                 U(sqrt(1/n), 1) for a column of n ids), `dr.top-mlp-dead-layer` (each hidden layer of \
                 the top MLP is given the interaction's output, so that all but the last of them \
                 are neither used nor trained), `dr.bn-batch-stats-in-eval` (in evaluations, too, \
                 batch normalisation goes by each batch's own statistics, so that they depend on \
                 `eval.batch_size`), `fb.bce-of-probability` (facebook's log loss is \
                 torch's of the f32 probability: beyond logits of 16 or so it jumps to 100, and \
                 there is no gradient), `fb.grad-accum-drops` (of the parts \
                 of a batch, `train.micro_batches`, all but the last are thrown away), \
                 `fb.table-gradients-by-ranks` (on several ranks gradients of tables are as many times \
                 too large as there are ranks)",
            ),
        key("workload.without", |w| Some(&mut w.workload.without))
            .or(None)
            .not_empty("is empty; must name at least one variable, or be left out")
            .says(
                "In the workload that a run keeps: the environment variables that were not set, so \
                 that `[data.otherwise]` was taken",
            ),
    ]
}

/// `[loader]`
pub(super) fn loader() -> Vec<Key> {
    vec![
        split(
            "loader.shards",
            |_| true,
            |w| Some(w.loader.shards.map(|s| s.of)),
            |w, of| w.loader.shards = of.map(|of| Shard { shard: 0, of }),
        )
        .or(None)
        .within_as(1..=MAX_SHARDS, "processes, from 1 to 1048576")
        .says("Processes that share the training samples, each sample going to one of them"),
        key("loader.shard", |w| w.loader.shards.as_mut().map(|s| &mut s.shard))
            .when(&[Setting { key: "loader.shards", words: &[] }])
            .check(|&shard, w| match w.loader.shards {
                Some(Shard { of, .. }) if shard >= of => Err(format!(
                    "is {shard}; must be from 0 to {}, the number of this process",
                    of - 1
                )),
                _ => Ok(()),
            })
            .says("Which of them this is, from 0"),
        split(
            "loader.queue",
            |_| true,
            |w| Some(w.loader.queue.as_ref().map(|q| q.path.clone())),
            |w, path| w.loader.queue = path.map(|path| SliceQueue { path, slice: 0 }),
        )
        .or(None)
        .check(|queue, w| match queue {
            Some(_) if w.loader.shards.is_some() => Err(
                "deals out samples to whichever process is free, and loader.shards deals them out beforehand; remove one of them".to_owned()
            ),
            _ => Ok(()),
        })
        .says(
            "A file from which processes take slices of the training samples, each whenever it \
             has done its last one; made by the first. Instead of `shards`",
        ),
        key("loader.slice", |w| w.loader.queue.as_mut().map(|q| &mut q.slice))
            .when(&[Setting { key: "loader.queue", words: &[] }])
            .or_by(|w| Some(64 * w.train.batch_size as u64), "64 batches")
            .check(|&slice, w| match w.train.batch_size as u64 {
                batch if slice == 0 || slice % batch != 0 => {
                    Err(format!("is {slice}; must be a multiple of train.batch_size, {batch}"))
                }
                _ => Ok(()),
            })
            .says("Samples of a slice, a multiple of `train.batch_size`"),
        key("loader.prefetch", |w| Some(&mut w.loader.prefetch))
            .or(None)
            .or_in_words("4")
            .within_as(1..=MAX_PREFETCH, "batches, from 1 to 4096")
            .says("Batches made ahead of their use, the one in the making included"),
    ]
}

/// `[checkpoint]`
pub(super) fn checkpoint() -> Vec<Key> {
    vec![
        key("checkpoint.every_steps", |w| Some(&mut w.checkpoint.every_steps))
            .or(None)
            .within_as(1.., "at least 1; leave it out for never")
            .says("Write a checkpoint after every so many steps"),
        key("checkpoint.every_minutes", |w| Some(&mut w.checkpoint.every_minutes))
            .or(None)
            .within(above(0.0))
            .says("Write one when so many minutes have passed since the last"),
        key("checkpoint.at_eval", |w| Some(&mut w.checkpoint.at_eval))
            .or(None)
            .or_in_words("false")
            .says("Write one after each evaluation"),
        key("checkpoint.initial", |w| Some(&mut w.checkpoint.initial))
            .or(None)
            .or_in_words("false")
            .says("Write one before the first step"),
        key("checkpoint.best", |w| Some(&mut w.checkpoint.best))
            .or(None)
            .or_in_words("false")
            .check(|best, w| match (best, w.eval.every) {
                (Some(true), EvalEvery::Never) => Err(
                    "needs evaluations, but eval.every is \"never\"; remove it, or give eval.every_steps".to_owned(),
                ),
                _ => Ok(()),
            })
            .says(
                "Write one after each evaluation that is the best so far by `eval.monitor`, or \
                 reaches the target; the newest of these is kept beside the others",
            ),
        key("checkpoint.keep", |w| Some(&mut w.checkpoint.keep))
            .or(None)
            .or_in_words("2")
            .within_as(1.., "at least 1")
            .check(|keep, w| without_occasion(keep.is_some(), w))
            .says("Keep the newest so many; older ones go when one is written"),
        key("checkpoint.dir", |w| Some(&mut w.checkpoint.dir))
            .or(None)
            .or_in_words("in the run's folder of results")
            .check(|dir, w| without_occasion(dir.is_some(), w))
            .says("Folder for the checkpoints of all runs, each of which has one of its name there"),
        key("checkpoint.incremental", |w| Some(&mut w.checkpoint.incremental))
            .or(None)
            .or_in_words("false")
            .check(|incremental, w| {
                let l2 = matches!(w.model, ModelConfig::DeepFm { embedding_l2, .. } if embedding_l2 > 0.0);
                let moves_all = w.optimizer.rule.state().moves_all_rows || l2;
                if *incremental == Some(true) && w.embedding.hashed().is_some() {
                    return Err("is for resident tables: rows of tables that grow come and go; remove it, or embedding.store".to_owned());
                }
                match *incremental == Some(true) && moves_all {
                    true => Err(format!(
                        "has no effect, for {} moves rows that no sample touches and all are written; remove it",
                        if l2 { "model.embedding_l2" } else { "the optimizer" }
                    )),
                    false => without_occasion(incremental.is_some(), w),
                }
            })
            .says(
                "Between whole checkpoints write of tables only the rows that were touched since \
                 the last whole one, until these are more than half of all; the best evaluation's \
                 is whole always",
            ),
        key("checkpoint.linked", |w| Some(&mut w.checkpoint.linked))
            .or(None)
            .or_in_words("false")
            .check(linked)
            .says(
                "Rows in a row file (`embedding.store = \"cached\"`) stay there: a checkpoint gets \
                 names for the file's segments, or copies on another file system, and only rows that \
                 have changed in memory are written",
            ),
    ]
}

/// Refuses links to a row file that there is not, or beside what has all rows.
fn linked(linked: &Option<bool>, w: &Workload) -> Result<(), String> {
    if *linked != Some(true) {
        return without_occasion(linked.is_some(), w);
    }
    if w.embedding.cached().is_none() {
        return Err(
            "is for rows in a file; remove it, or use embedding.store = \"cached\"".to_owned()
        );
    }
    if w.embedding.cached().is_some_and(|c| c.device_cache.is_some()) {
        return Err("is for rows in a file, and behind embedding.device_cache they are in the host's memory first; remove it".to_owned());
    }
    if w.checkpoint.incremental == Some(true) {
        return Err("writes rows that have changed and no others, as checkpoint.incremental does in another way; remove one of them".to_owned());
    }
    if w.eval.restore_best {
        return Err("does not go with eval.restore_best, whose parameters are part of each checkpoint, all rows; use checkpoint.best = true".to_owned());
    }
    without_occasion(true, w)
}

/// Refuses what says how checkpoints are written where none are.
fn without_occasion(given: bool, w: &Workload) -> Result<(), String> {
    match given && !w.checkpoint.is_on() {
        true => Err("has no effect, for no checkpoint is written; say when, as in checkpoint.every_steps = 1000, or remove it".to_owned()),
        false => Ok(()),
    }
}

/// `[engine]`
pub(super) fn engine() -> Vec<Key> {
    let fused = &[Setting { key: "engine.kind", words: &["fused"] }];
    let scale =
        |lens| key("engine.loss_scale", lens).within_as(LossScaleSpec::RANGE, "from 2^-24 to 2^60");
    let mut keys = vec![
        key("engine.kind", |w| Some(&mut w.engine.kind)).or(EngineKind::Fused).says(
            "`fused` (this project's layers) or `candle` (candle's tensors and autograd). \
             `--engine` is short for it",
        ),
        key("engine.device", |w| Some(&mut w.engine.device)).or(Device::Cpu).says(
            "What computes: `cpu`, `cuda:N` (NVIDIA GPU number N; the `candle` engine only if \
             the program was built for that, see docs/cuda.md) or `auto` (`cuda:0` where a \
             driver, a GPU, NVRTC and cuBLASLt are there, else the CPU; `run` says which). \
             `npu:N` is known and not built. `--device` is short for it",
        ),
        key("engine.threads", |w| Some(&mut w.engine.threads))
            .or(0)
            .within_as(..=MAX_THREADS, "from 0 (all cores) to 1024")
            .says(
                "Threads; 0 = all cores. Results do not depend on it. candle computes on as many, \
                 too. More than the process may use (affinity, quota) draw a warning. `--threads` \
                 is short for it",
            ),
        key("engine.pin_threads", |w| Some(&mut w.engine.pin_threads))
            .or(false)
            .says("Bind each thread to a core"),
        // candle computes in f32 only.
        key(
            "engine.precision",
            lens!(engine; EngineSection { kind: EngineKind::Fused, precision, .. } => precision),
        )
        .when(fused)
        .or(Precision::Fp32)
        .says(
            "Numbers in matrix products: `fp32`, `tf32` (operands rounded to 11 significant \
             bits by a GPU's tensor cores; GPUs only), or `bf16` or `fp16`, to which operands \
             are then rounded on their way into a product. Parameters, activations and sums stay \
             in f32, and so do layers with one output (a GPU keeps activations rounded, see \
             docs/cuda.md). `bf16` is about twice as fast as `fp32` where the machine multiplies \
             bf16 (AVX512-BF16); `fp16` is no faster than `fp32` on today's CPUs and there to see \
             what it does to the AUC",
        ),
        // Written only where it is on, so that a workload without it stays what it was.
        split(
            "engine.fp32_interaction",
            |w| w.engine.kind == EngineKind::Fused && w.engine.precision != Precision::Fp32,
            |w| w.engine.fp32_interaction.then_some(true),
            |w, value| w.engine.fp32_interaction = value,
        )
        .when(&[Setting { key: "engine.precision", words: &["bf16", "fp16", "tf32"] }])
        .or(false)
        .check(|exact, w| match &w.model {
            ModelConfig::Dlrm { interaction: Interaction::Dot { .. } | Interaction::Cat, .. } => Ok(()),
            _ if *exact => Err(
                "is true, which has a meaning only with model.interaction = \"dot\" or \"cat\", which have no layers of their own; remove it".to_owned()
            ),
            _ => Ok(()),
        })
        .says(
            "Looked-up vectors, a DLRM's interaction (`dot` or `cat`) and their gradients in f32 \
             nevertheless, as DeepRec's `--bf16` has it. A CPU has them so in any case; a GPU then \
             keeps them in f32 and computes dot products in f32",
        ),
        key(
            "engine.embedding_rows",
            lens!(engine; EngineSection { kind: EngineKind::Fused, embedding_rows, .. } => embedding_rows),
        )
        .when(fused)
        .or(RowKind::Fp32)
        .says(
            "Form of embedding rows in memory; lookups and updates compute in f32, optimizer \
             state stays f32. `bf16`, `fp16`: half the memory; each update is rounded up or down \
             at random such that the mean is exact (bits from seed, step, table, row and column, \
             so results do not depend on threads); `fp16` is finer, but has steps of at least \
             2^-24. `bf16-split`: f32 in two halves of 16 bits; lookups read the upper halves only \
             (the numbers rounded to the nearest bf16, ties away from zero), updates are exactly \
             those of f32, memory is that of f32",
        ),
    ];
    keys.extend(under(
        "engine.precision",
        &["fp16"],
        [
            key(
                "engine.loss_scaling",
                lens!(engine; EngineSection { precision: Precision::Fp16, loss_scale, .. } => loss_scale),
            )
            .or(LossScaleSpec::Dynamic { initial: 0.0, growth_steps: 0 })
            .says(
                "Gradients are scaled up on their way through f16, by a fixed factor (`static`) \
                 or by one that is halved when a gradient overflows (that step's update is \
                 skipped and counted) and doubled after some steps without (`dynamic`)",
            ),
            scale(lens!(engine; EngineSection { loss_scale: LossScaleSpec::Static { scale }, .. } => scale))
                .when(&[Setting { key: "engine.loss_scaling", words: &["static"] }])
                .or(1024.0)
                .says("The factor"),
            scale(lens!(engine; EngineSection { loss_scale: LossScaleSpec::Dynamic { initial, .. }, .. } => initial))
                .when(&[Setting { key: "engine.loss_scaling", words: &["dynamic"] }])
                .or(65_536.0)
                .says("The first factor"),
            key(
                "engine.loss_scale_growth_steps",
                lens!(engine; EngineSection { loss_scale: LossScaleSpec::Dynamic { growth_steps, .. }, .. } => growth_steps),
            )
            .when(&[Setting { key: "engine.loss_scaling", words: &["dynamic"] }])
            .or(2000)
            .within(1..)
            .says("Steps without overflow before the factor doubles"),
        ],
    ));
    keys
}

/// `[mlperf]`
pub(super) fn mlperf() -> Vec<Key> {
    vec![
        key("mlperf.benchmark", |w| Some(&mut w.mlperf.benchmark))
            .one_of(&["dlrm", "dlrm_dcnv2", "deepfm"])
            .or_by(
                |w| Some(if is_deepfm(&w.model) { "deepfm" } else { "dlrm" }.to_owned()),
                "`dlrm`, or `deepfm` by the model",
            )
            .check(|benchmark, w| {
                let (kind, right) = match is_deepfm(&w.model) {
                    true => ("deepfm", "\"deepfm\""),
                    false => ("dlrm", "\"dlrm\" or \"dlrm_dcnv2\""),
                };
                if is_deepfm(&w.model) == (benchmark == "deepfm") {
                    return Ok(());
                }
                Err(format!("is \"{benchmark}\", but model.kind is \"{kind}\"; must be {right}"))
            })
            .says("Benchmark that the log is of"),
        key("mlperf.round", |w| Some(&mut w.mlperf.round))
            .or(None)
            .or_in_words("the newest that has the benchmark")
            .check(|round, w| match round {
                Some(round) => rounds::refusal(&w.mlperf.benchmark, round),
                None => Ok(()),
            })
            .says(
                "Round of MLPerf Training that the log is of: `0.7` to `2.1` for `dlrm`, `3.0` to \
                 `6.0` for `dlrm_dcnv2`. The log states its ruleset, and `check` and `package` judge by it",
            ),
        key("mlperf.division", |w| Some(&mut w.mlperf.division))
            .one_of(&["open", "closed"])
            .or("open".to_owned())
            .says(
                "Division. `closed` is refused unless it is: data from files that hold Criteo 1TB \
                 (columns, rows of tables, samples), and the reference's model and target",
            ),
        key("mlperf.org", |w| Some(&mut w.mlperf.org))
            .or("dlrm-bench".to_owned())
            .check(|org, _| fit_name(org))
            .says("Who runs it; a name that a folder can have"),
        key("mlperf.platform", |w| Some(&mut w.mlperf.platform))
            .or(None)
            .or_in_words("made from the machine")
            .check(|platform, _| platform.as_deref().map_or(Ok(()), fit_name))
            .says(
                "Name of the system, and of its folder in the results: no slash, control character \
                 or dot in front, at most 128 bytes",
            ),
        key("mlperf.status", |w| Some(&mut w.mlperf.status))
            .one_of(&["cloud", "onprem", "preview", "research"])
            .or("research".to_owned())
            .says("What kind of system it is"),
    ]
}

fn is_deepfm(model: &ModelConfig) -> bool {
    matches!(model, ModelConfig::DeepFm { .. })
}

/// Refuses what cannot be a folder's name.
fn fit_name(text: &str) -> Result<(), String> {
    match unfit_name(text) {
        Some(why) => {
            Err(format!("is {text:?}, which {why}; must be a name that a folder can have"))
        }
        None => Ok(()),
    }
}
