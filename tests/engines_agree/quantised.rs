//! Quantised models predict what the plain oracle predicts with the parameters that they kept.

use super::*;
use dlrm_bench::{
    backend::{Quantisation, QuantisedLayers},
    embedding::QuantisedRows,
    engine::{ModelBytes, quantised},
};

/// Every combination, but for nothing.
fn quantisations() -> impl Strategy<Value = Quantisation> {
    let rows = [None, Some(QuantisedRows::Int8), Some(QuantisedRows::Int4)];
    let layers = [None, Some(QuantisedLayers::Int8), Some(QuantisedLayers::Fp16)];
    (prop::sample::select(rows.to_vec()), prop::sample::select(layers.to_vec()))
        .prop_map(|(rows, layers)| Quantisation { rows, layers })
        .prop_filter("something", |q| !q.is_none())
}

/// The parameters, quantised.
fn kept(config: &EngineConfig, q: Quantisation, values: &[Vec<f32>]) -> Box<dyn Engine> {
    let mut engine = quantised(config, q).unwrap();
    values.iter().enumerate().for_each(|(i, values)| engine.write(i, values).unwrap());
    engine
}

fn predictions(engine: &mut dyn Engine, batch: &Batch) -> Vec<f32> {
    let mut out = vec![f32::NAN; batch.len];
    engine.predict(batch, &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(settings(96))]

    #[test]
    fn quantised_models_agree_with_what_they_kept(
        model in prop_oneof![3 => cases::dlrms(LARGE), 1 => cases::deepfms(LARGE)], q in quantisations(),
        n in 1..=LARGE.batch, part in prop::option::of(1..=LARGE.batch), one_hot in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut config = cases::config(model, BCE, OptimizerSpec::SGD, n);
        config.micro_batch = part;
        let batch = cases::batch(&config.model, n, one_hot, seed);
        let mut plain = candle(&config);
        let saved = parameters(&*plain);
        let mut engine = kept(&config, q, &saved);
        let got = predictions(&mut *engine, &batch);
        prop_assert!(got.iter().all(|p| (0.0..=1.0).contains(p)));
        // Bits depend neither on threads nor on what was predicted before.
        let other = EngineConfig { threads: 3, ..config.clone() };
        prop_assert_eq!(&got, &predictions(&mut *kept(&other, q, &saved), &batch));
        prop_assert_eq!(&got, &predictions(&mut *engine, &batch));

        let seen = parameters(&*engine);
        for (i, values) in seen.iter().enumerate() {
            let (kind, dim) = (plain.params()[i].kind, plain.params()[i].shape.last().copied());
            let changed = match kind {
                ParamKind::Table => q.of_rows(dim.unwrap_or(0)).is_some(),
                ParamKind::Weight => q.layers.is_some(),
                _ => false,
            };
            prop_assert!(changed || values == &saved[i], "{} has changed", plain.params()[i].name);
            plain.write(i, values).unwrap();
        }
        // Inputs of int8 layers are rounded too, which this oracle does not do: layers by themselves
        // are compared bit by bit.
        let most = if q.layers == Some(QuantisedLayers::Int8) { 0.25 } else { 2e-5 };
        for (got, want) in got.iter().zip(predictions(&mut *plain, &batch)) {
            prop_assert!((got - want).abs() <= most, "{:?}: {} {}", q, got, want);
        }

        let (before, after) = (ModelBytes::of(&config, Quantisation::default()), ModelBytes::of(&config, q));
        let bytes: usize = 4 * saved.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(before.tables + before.layers, bytes as u64);
        prop_assert!(after.tables <= before.tables);
        prop_assert!(q.rows.is_some() || after.tables == before.tables);
        prop_assert!(q.layers.is_some() || after.layers == before.layers);
    }
}

#[test]
fn quantised_models_do_not_train() {
    let mut runner = TestRunner::deterministic();
    let model = cases::dlrms(SMALL).new_tree(&mut runner).unwrap().current();
    let config = cases::config(model, BCE, OptimizerSpec::SGD, 4);
    let batch = cases::batch(&config.model, 4, true, 1);
    for q in [
        Quantisation { rows: Some(QuantisedRows::Int8), layers: None },
        Quantisation { rows: None, layers: Some(QuantisedLayers::Fp16) },
    ] {
        let mut engine = kept(&config, q, &parameters(&*fused(&config)));
        let errors = [
            engine.train_step(&batch, 0.1).unwrap_err().to_string(),
            engine.gradients(&batch).unwrap_err().to_string(),
        ];
        assert!(errors.iter().all(|e| e.contains("does not train")), "{errors:?}");
        assert!(predictions(&mut *engine, &batch).iter().all(|p| p.is_finite()));
    }
}
