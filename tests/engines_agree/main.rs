//! The engines agree with the formulas, and with each other.

mod cases;
mod plain;

use cases::SMALL;
use dlrm_bench::{
    data::Batch,
    engine::{CandleEngine, Engine, EngineConfig},
    model::{ModelSpec, ParamKind, Pooling},
    optim::OptimizerSpec,
};
use proptest::{prelude::*, strategy::ValueTree};

fn candle(config: &EngineConfig) -> Box<dyn Engine> {
    let mut engine = CandleEngine::new(config, &mut cases::initializer(config)).unwrap();
    cases::shake(&mut engine);
    Box::new(engine)
}

fn parameters(engine: &dyn Engine) -> Vec<Vec<f32>> {
    let read = |(i, spec): (usize, &dlrm_bench::model::ParamSpec)| {
        let mut out = vec![0.0; spec.len()];
        engine.read(i, &mut out).unwrap();
        out
    };
    engine.params().iter().enumerate().map(read).collect()
}

fn norm(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn widen(x: &[Vec<f32>]) -> Vec<Vec<f64>> {
    x.iter().map(|x| x.iter().map(|&x| x.into()).collect()).collect()
}

/// The distance of two sets of gradients: the worst `||a - b|| / (||b|| + ||all b|| / 100 + 1/1000)` over the parameters, in 2-norms. The
/// second term is for gradients that cancel to nothing, as a bias's before batch normalisation does, the third for models
/// that have nothing to learn from the batch: there `p - y` in f32 is rounding.
fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> (f64, usize) {
    let all = norm(b.iter().flatten().copied());
    let one = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        assert_eq!(a.len(), b.len());
        let off = norm(a.iter().zip(b).map(|(a, b)| a - b));
        if off == 0.0 { 0.0 } else { off / (norm(b.iter().copied()) + all / 100.0 + 1e-3) }
    };
    let worst = a.iter().zip(b).map(one).enumerate().max_by(|x, y| x.1.total_cmp(&y.1));
    worst.map_or((0.0, 0), |(i, d)| (d, i))
}

/// Loss and gradients of `engine` against plain f64. Batch normalisation over a few samples that differ little is badly conditioned: it
/// divides f32's roundings by a small deviation.
fn check_against_plain(engine: &mut dyn Engine, config: &EngineConfig, batch: &Batch) -> Result<(), TestCaseError> {
    let (loss_tolerance, tolerance) = match &config.model {
        ModelSpec::DeepFm(m) if m.batch_norm => (1e-4, 3e-2),
        _ => (1e-5, 1e-4),
    };
    let params = widen(&parameters(engine));
    let (loss, grads) = engine.gradients(batch).unwrap();
    let fixed = matches!(&config.model, ModelSpec::Dlrm(m) if m.pooling != Pooling::WeightedLearned);
    let trained = |i: usize| match engine.params()[i].kind {
        ParamKind::RunningMean | ParamKind::RunningVar => false,
        ParamKind::RowWeight => !fixed,
        _ => true,
    };
    let want = plain::loss(config, &params, batch);
    prop_assert!((f64::from(loss) - want).abs() <= loss_tolerance * want.abs() + 1e-7, "loss {loss}, plain {want}");
    let Some(want) = plain::gradients(config, &params, batch, trained) else { return Err(TestCaseError::reject("at a kink")) };
    let (d, i) = distance(&widen(&grads), &want);
    prop_assert!(d <= tolerance, "gradient of {}: {d:e}\n{:?}\n{:?}", engine.params()[i].name, grads[i], want[i]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn candle_dlrm_follows_the_formulas(
        model in cases::dlrms(SMALL), loss in cases::losses(), n in 1..=SMALL.batch, one_hot in any::<bool>(), seed in any::<u64>(),
    ) {
        let config = cases::config(model, loss, OptimizerSpec::Sgd, n);
        let batch = cases::batch(&config.model, n, one_hot, seed);
        check_against_plain(&mut *candle(&config), &config, &batch)?;
    }

    #[test]
    fn candle_deepfm_follows_the_formulas(
        model in cases::deepfms(SMALL), loss in cases::losses(), n in 1..=SMALL.batch, one_hot in any::<bool>(), seed in any::<u64>(),
    ) {
        let config = cases::config(model, loss, OptimizerSpec::Sgd, n);
        let batch = cases::batch(&config.model, n, one_hot, seed);
        check_against_plain(&mut *candle(&config), &config, &batch)?;
    }
}

/// torch's ReLU has no gradient at 0, candle's own has: an all-zero input with zero biases tells them apart.
#[test]
fn no_gradient_passes_a_relu_at_zero() {
    let model = prop_model(cases::dlrms(SMALL));
    let ModelSpec::Dlrm(mut m) = model else { unreachable!() };
    m.pooling = Pooling::Sum;
    m.bottom = vec![3, m.dim];
    let config = cases::config(ModelSpec::Dlrm(m), cases::BCE, OptimizerSpec::Sgd, 2);
    let mut batch = cases::batch(&config.model, 2, true, 1);
    batch.dense.fill(0.0);
    let mut engine = candle(&config);
    for (i, spec) in engine.params().to_vec().iter().enumerate().filter(|(_, s)| s.name == "bot_l.0.bias") {
        engine.write(i, &vec![0.0; spec.len()]).unwrap();
        assert_eq!(engine.gradients(&batch).unwrap().1[i], vec![0.0; spec.len()]);
    }
}

#[test]
fn batches_that_do_not_fit_are_refused_by_name() {
    let config = cases::config(prop_model(cases::dlrms(SMALL)), cases::BCE, OptimizerSpec::Sgd, 3);
    let good = cases::batch(&config.model, 3, false, 1);
    let mut engine = candle(&config);
    engine.train_step(&good, 0.1).unwrap();
    let mut refuse = |change: &dyn Fn(&mut Batch), message: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        for error in [engine.train_step(&bad, 0.1).unwrap_err(), engine.predict(&bad, &mut [0.0; 9]).unwrap_err()] {
            assert!(error.to_string().contains(message), "{error}");
        }
    };
    refuse(&|b| b.len = 0, "0 samples; the engine takes 1 to 3");
    refuse(&|b| b.len = 4, "4 samples; the engine takes 1 to 3");
    refuse(&|b| b.dense.truncate(1), "1 dense values");
    refuse(&|b| b.labels.truncate(1), "1 labels for 3 samples");
    refuse(&|b| b.bags.truncate(0), "0 categorical columns");
    refuse(&|b| b.bags[0].offsets[1] = 1000, "table 0: the 4 offsets do not cut");
    refuse(&|b| b.bags[0].push([0]), "table 0: the 5 offsets do not cut");
    refuse(
        &|b| {
            b.bags[0].clear();
            [0, 1, 99_999].into_iter().for_each(|id| b.bags[0].push((id == 99_999).then_some(id)));
        },
        "table 0, sample 2: id 99999 in a table of",
    );
}

/// Some value of a strategy, always the same.
fn prop_model(strategy: impl Strategy<Value = ModelSpec>) -> ModelSpec {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    strategy.new_tree(&mut runner).unwrap().current()
}
