//! Before a run: its data opened, its model made, and all refused that cannot come to an end.

use super::{
    TrainError,
    evaluate::{EvalError, EvalSplit},
    events::RunFacts,
    feed,
    memory::{check_device, check_memory, memory_plan},
    ranked, served,
};
use crate::{
    batch::{GeneratedSplit, Schema},
    comm::Team,
    data::{DataError, Dataset, Facts, Source, loader::Plan, source::prepared::News},
    embedding::StoreConfig,
    engine::{self, Engine, EngineConfig, ranks::ALONE},
    model::init::{InitSource, Initializer},
    random::numpy::RandomState,
    workload::{DataConfig, EvalCache, EvalEvery, InitRng, PlantedConfig, Workload, WorkloadError},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// Data opened and model made.
pub struct Prepared {
    /// Columns of the data.
    pub schema: Schema,
    /// What is known of the data.
    pub data_facts: Facts,
    /// What the engine was made from.
    pub config: EngineConfig,
    /// The model at its initial parameters.
    pub engine: Box<dyn Engine>,
    /// Numbers that the listeners are told.
    pub facts: RunFacts,
    pub(super) plan: Plan,
    /// Where its initial parameters came from.
    pub(super) init: InitSource,
    pub(super) train: Box<dyn Source>,
    /// How the device makes the training samples itself, if it does.
    pub(super) generated: Option<GeneratedSplit>,
    pub(super) eval: EvalSplit,
    pub(super) test: Option<EvalSplit>,
}

/// Opens the data and makes the model.
///
/// # Errors
/// If the data cannot be opened, do not fit the workload, or the memory does not suffice.
pub fn prepare(workload: &Workload) -> Result<Prepared, TrainError> {
    prepare_until(workload, &AtomicBool::new(false), &mut |_| (), None)
}

/// [`prepare`], given up when `stop` is set. `tell` hears of data that are prepared first. The model
/// is made on all `ranks`.
pub(super) fn prepare_until(
    workload: &Workload,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
    ranks: Option<&Team>,
) -> Result<Prepared, TrainError> {
    if matches!(&workload.data, DataConfig::Planted(PlantedConfig { fit_memory: true, .. })) {
        let what = "is still to be followed; call train::fit_memory before the run".to_owned();
        return Err(WorkloadError::Unfit { key: "data.fit_memory", what }.into());
    }
    if matches!(&workload.embedding, StoreConfig::Auto(_)) {
        let what = "is still to be decided; call train::choose_store before the run".to_owned();
        return Err(WorkloadError::Unfit { key: "embedding.store", what }.into());
    }
    // Before anything is read: what is known without. Then again with all sizes, before the model
    // is made.
    let sizes =
        workload.data_schema()?.map(|schema| workload.engine_config(&schema)).transpose()?;
    // On several ranks a GPU has a part of the tables; `ranked::check` looks at that.
    let fits_device = |sizes: &EngineConfig| match ranks {
        Some(_) => Ok(()),
        None => check_device(workload, sizes),
    };
    if let Some(sizes) = &sizes {
        fits_device(sizes)?;
    }
    let checks_memory = |config: Option<&EngineConfig>| match (ranks, config) {
        (Some(team), Some(config)) => ranked::check(workload, config, team),
        (None, Some(config)) if workload.comm.server().is_some() => {
            served::check(workload, config, None)
        }
        (None, Some(config)) if config.tables_by_ranks => Err(TrainError::Ranks(ALONE.into())),
        _ => Ok(check_memory(&memory_plan(workload, config))?),
    };
    checks_memory(sizes.as_ref())?;
    let Dataset { train, eval, test, facts: mut data_facts, numpy } =
        workload.open_data_until(stop, tell)?.ok_or(TrainError::Interrupted)?;
    let schema = train.schema().clone();
    let config = workload.engine_config(&schema)?;
    if sizes.is_none() {
        checks_memory(Some(&config))?;
    }
    fits_device(&config)?;
    let plan = workload.loader_plan();
    let train_samples = train.len().unwrap_or(u64::MAX);
    check_steps(workload, &plan, train_samples)?;
    let (mut eval, test) = check_splits(workload, eval, test, stop)?;
    let seed = workload.train.seed;
    let init = match workload.model.init_rng() {
        InitRng::Philox => InitSource::Philox { seed },
        InitRng::Numpy => InitSource::Numpy {
            state: numpy.unwrap_or_else(|| RandomState::new(seed as u32)),
            seed,
        },
    };
    let mut initializer = Initializer::new(&config.whole_model(), init.clone()).until(stop);
    let mut engine = match ranks {
        Some(team) => {
            let (engine, note) = ranked::engine(workload, &config, team, &mut initializer)?;
            data_facts.notes.push(note);
            engine
        }
        None => {
            engine::build(workload.engine.kind, workload.engine.device, &config, &mut initializer)?
        }
    };
    if stop.load(Ordering::Relaxed) {
        return Err(TrainError::Interrupted);
    }
    let t = &workload.train;
    let steps_per_epoch = plan.batches_per_epoch(train_samples);
    let max_steps = steps_per_epoch.saturating_mul(t.epochs).min(t.max_steps.unwrap_or(u64::MAX));
    let eval_samples = eval.len();
    if let Some(what) = workload.closed_data_refusal(&schema, train_samples, eval_samples) {
        return Err(WorkloadError::Unfit { key: "mlperf.division", what }.into());
    }
    let [generated, eval_generated] =
        feed::attach_generator(&mut *engine, [&*train, eval.source()])?;
    // Which rows a step touches is known of samples that the host has.
    let generated = generated.filter(|_| workload.checkpoint.incremental != Some(true));
    // Room for the predictions is taken now; without it they are judged on the host, which then
    // needs the samples' labels too.
    let keeps = engine.begin_scores(eval_samples)?;
    eval.make_on_device(eval_generated.filter(|_| keeps));
    if generated.is_some() {
        data_facts.notes.push(format!("training samples are made on {}", workload.engine.device));
    }
    let facts = RunFacts {
        train_samples,
        eval_samples,
        steps_per_epoch,
        max_steps,
        target_auc: workload.target.resolve(data_facts.best_auc)?,
        target_accuracy: workload.target.accuracy,
        best_auc: data_facts.best_auc,
    };
    Ok(Prepared {
        schema,
        data_facts,
        config,
        engine,
        facts,
        plan,
        init,
        train,
        generated,
        eval,
        test,
    })
}

/// Refuses a run without a step.
fn check_steps(workload: &Workload, plan: &Plan, samples: u64) -> Result<(), TrainError> {
    let batch = workload.train.batch_size;
    if samples == 0 {
        return Err(DataError::Invalid("the training split holds no sample".into()).into());
    }
    if plan.batches_per_epoch(samples) > 0 {
        return Ok(());
    }
    let what = format!(
        "the training split holds {samples} samples, fewer than train.batch_size, {batch}, and train.drop_last leaves them out; give a smaller batch, or remove drop_last"
    );
    Err(DataError::Invalid(what).into())
}

/// The splits that will be judged, which can be.
fn check_splits(
    workload: &Workload,
    eval: Box<dyn Source>,
    test: Option<Box<dyn Source>>,
    stop: &AtomicBool,
) -> Result<(EvalSplit, Option<EvalSplit>), TrainError> {
    const EVALUATION: &str = "evaluation";
    let batch = workload.eval.batch_size;
    let keep = workload.eval.cache.unwrap_or(EvalCache::Auto);
    let checked = |source, name: &str| {
        let mut split = EvalSplit::new(source, batch, keep);
        if let Some(samples) = workload.eval.samples.filter(|_| name == EVALUATION) {
            split.limit(samples)?;
        }
        match split.check(name, stop) {
            Ok(()) => Ok(split),
            Err(EvalError::Interrupted) => Err(TrainError::Interrupted),
            Err(e) => Err(e.at_step(0)),
        }
    };
    let eval = match workload.eval.every {
        EvalEvery::Never => EvalSplit::new(eval, batch, keep),
        _ => checked(eval, EVALUATION)?,
    };
    Ok((eval, test.map(|test| checked(test, "test")).transpose()?))
}
