//! Outputs of layers, looked at from outside.

use super::*;
use std::collections::BTreeMap;

/// All that layers gave, by name, of a batch.
fn seen(e: &mut dyn Engine, b: &Batch) -> BTreeMap<String, (usize, Vec<f32>)> {
    let mut all: BTreeMap<String, (usize, Vec<f32>)> = BTreeMap::new();
    let looked = e.look(b, &mut |layer| {
        let (cols, values) = all.entry(layer.name.to_owned()).or_default();
        *cols = layer.cols;
        values.extend_from_slice(layer.values);
        assert!(!layer.relu || layer.values.iter().all(|&v| v >= 0.0), "{}", layer.name);
    });
    assert!(looked.unwrap());
    all
}

/// The last output is the logits that predictions are made of; a batch in parts gives the same, and
/// parameters stay as they are.
fn check(config: &EngineConfig, make: &mut dyn FnMut(&EngineConfig) -> Box<dyn Engine>) {
    let b = batch(&config.model, 1, 21);
    let (mut whole, mut parts) =
        (make(config), make(&EngineConfig { micro_batch: Some(8), ..config.clone() }));
    let all = seen(&mut *whole, &b);
    for (name, (cols, values)) in &all {
        assert_eq!(values.len(), cols * 21, "{name}");
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
    }
    let mut predictions = vec![0.0; 21];
    whole.predict(&b, &mut predictions).unwrap();
    let last = match &config.model {
        ModelSpec::Dlrm(m) => crate::model::top_layer(m.top.len() - 1),
        ModelSpec::DeepFm(m) => format!("dnn.{}", m.hidden.len()),
    };
    let (cols, logits) = &all[&last];
    assert_eq!(*cols, 1);
    for (p, &z) in predictions.iter().zip(logits) {
        assert!((p - 1.0 / (1.0 + (-z).exp())).abs() < 1e-6, "{p} {z}");
    }
    // Statistics of a batch are those of its part.
    let by_batch = matches!(&config.model, ModelSpec::Dlrm(m) if m.quirks.batch_stats_in_eval);
    assert!(by_batch || all == seen(&mut *parts, &b), "{:?}", config.model);
    if let ModelSpec::Dlrm(m) = &config.model {
        let vectors = (0..m.tables.len()).map(|k| format!("emb_l.{k}"));
        assert!(vectors.chain(["interaction".to_owned()]).all(|name| all.contains_key(&name)));
    }
}

#[test]
fn layers_are_handed_out_as_they_are() {
    for model in models() {
        check(&config(model, OptimizerSpec::SGD, 2), &mut |config| Box::new(engine(config)));
    }
}

/// One-hot sums of rows are the rows.
#[test]
fn vectors_of_tables_are_their_rows() {
    let model = dlrm(Interaction::Cat, Pooling::Sum);
    let config = config(model, OptimizerSpec::SGD, 2);
    let mut e = engine(&config);
    let b = batch(&config.model, 1, 9);
    let all = seen(&mut e, &b);
    for (k, bags) in b.bags.iter().enumerate() {
        let table = e.params().iter().position(|p| p.name == format!("emb_l.{k}.weight")).unwrap();
        let mut rows = vec![0.0; e.params()[table].len()];
        e.read(table, &mut rows).unwrap();
        let (dim, vectors) = &all[&format!("emb_l.{k}")];
        for s in 0..9 {
            for d in 0..*dim {
                let want: f32 = bags.bag(s).iter().map(|&id| rows[id as usize * dim + d]).sum();
                assert!((vectors[s * dim + d] - want).abs() < 1e-6);
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_gpu_hands_out_what_it_keeps_in_16_bits() {
    for driver in crate::backend::cuda::testing::devices() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let model = dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::Sum);
            let mut config = config(model, OptimizerSpec::SGD, 2);
            config.precision = precision;
            config.loss_scale = scaling(precision);
            check(&config, &mut |config| Box::new(super::cuda::on(&driver, config)));
        }
    }
}
