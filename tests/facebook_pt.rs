//! Models that facebookresearch/dlrm has saved predict here what they predict there, and go on to learn
//! the same. The files, and what the original made of them, are in ../shared/reference/facebook_pt.

use dlrm_bench::{
    backend::{Device, Precision, Quantisation, QuantisedLayers},
    batch::{Bags, Batch},
    checkpoint::Loaded,
    embedding::{QuantisedRows, RowKind},
    engine::{self, Engine, EngineConfig, EngineKind},
    model::{
        DlrmQuirks, DlrmSpec, EmbeddingInit, Interaction, LossKind, LossSpec, MlpInit, ModelSpec,
        Pooling, Trick,
        init::{InitSource, Initializer},
    },
    optim::{LossScaleSpec, OptimizerConfig, OptimizerSpec},
};
use std::{collections::HashMap, path::Path};

#[path = "support/npz.rs"]
#[allow(dead_code)]
mod npz;

const FILES: &str = "../shared/reference/facebook_pt";
const ROWS: [usize; 4] = [40, 7, 3, 1];

/// That of the original's command (stores-README.txt beside the files).
fn config() -> EngineConfig {
    let model = ModelSpec::Dlrm(DlrmSpec {
        dense: 13,
        dense_pad_to: 1,
        tables: ROWS.to_vec(),
        dim: 16,
        bottom: vec![8, 16],
        top: vec![8, 4, 1],
        interaction: Interaction::Dot { self_interaction: false, pad_to: 1 },
        pooling: Pooling::Sum,
        trick: Trick::None,
        mlp_init: MlpInit::Facebook,
        embedding_init: EmbeddingInit::UniformSqrtInvRows,
        batch_norm: false,
        quirks: DlrmQuirks::default(),
    });
    EngineConfig {
        model,
        loss: LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false },
        optimizer: OptimizerConfig {
            rule: OptimizerSpec::SGD,
            learning_rate: 0.1,
            clip_norm: None,
        },
        max_batch: 8,
        hashed: None,
        cached: None,
        stand_for: Vec::new(),
        micro_batch: None,
        last_part_only: false,
        ranks: 1,
        sum_order: Default::default(),
        split_rows: false,
        replicate_small: false,
        tables_by_ranks: false,
        max_hotness: vec![3; 4],
        threads: 1,
        pin_threads: false,
        precision: Precision::Fp32,
        fp32_interaction: false,
        loss_scale: LossScaleSpec::Off,
        embedding_rows: RowKind::Fp32,
        seed: 1,
    }
}

fn model(kind: EngineKind, file: &str) -> Box<dyn Engine> {
    let config = config();
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 1 });
    let mut engine = engine::build(kind, Device::Cpu, &config, &mut init).unwrap();
    let loaded = Loaded::file(&Path::new(FILES).join(file)).unwrap();
    let params = engine.params().to_vec();
    // Beside them there may be the optimizer's state.
    assert!(loaded.tensors.names().count() >= params.len());
    for (i, param) in params.iter().enumerate() {
        let view = loaded.tensors.get(&param.name).unwrap_or_else(|| panic!("{}", param.name));
        assert_eq!(view.shape, param.shape, "{}", param.name);
        engine.write_with(i, &mut |first, part| view.copy(first, part)).unwrap();
    }
    engine
}

fn floats(of: &HashMap<String, npz::Array>, name: &str) -> Vec<f32> {
    of[name].values.iter().map(|&v| v as f32).collect()
}

fn batch(of: &HashMap<String, npz::Array>) -> Batch {
    let mut b = Batch { bags: vec![Bags::default(); ROWS.len()], ..Batch::default() };
    b.clear();
    b.len = 8;
    b.dense = floats(of, "dense");
    b.labels = floats(of, "labels");
    for (k, bags) in b.bags.iter_mut().enumerate() {
        let ids = &of[&format!("indices_{k}")].values;
        let starts = &of[&format!("offsets_{k}")].values;
        for (s, &start) in starts.iter().enumerate() {
            let end = starts.get(s + 1).map_or(ids.len(), |&e| e as usize);
            bags.push(ids[start as usize..end].iter().map(|&id| id as u32).collect::<Vec<_>>());
        }
    }
    b
}

#[test]
fn saved_models_predict_what_they_predicted() {
    let expected = Path::new(FILES).join("facebook_expected.npz");
    if !expected.exists() {
        eprintln!("skipped: {} is missing", expected.display());
        return;
    }
    let expected = npz::read(&expected);
    let batch = batch(&expected);
    for kind in EngineKind::ALL {
        for rule in ["sgd", "adagrad", "rwsadagrad"] {
            let mut engine = model(kind, &format!("facebook_{rule}.pt"));
            let mut out = [0.0; 8];
            engine.predict(&batch, &mut out).unwrap();
            let want = floats(&expected, &format!("{rule}_pred"));
            for (got, want) in out.iter().zip(&want) {
                assert!((got - want).abs() <= 2e-7, "{kind:?} {rule}: {got} {want}");
            }
        }
        let mut engine = model(kind, "facebook_sgd.pt");
        let loss = engine.train_step(&batch, 0.1).unwrap();
        let want = expected["sgd_loss"].values[0] as f32;
        assert!((loss - want).abs() <= 2e-7, "{kind:?}: {loss} {want}");
        for name in ["emb_l.0.weight", "bot_l.0.weight", "top_l.4.weight"] {
            let i = engine.params().iter().position(|p| p.name == name).unwrap();
            let mut got = vec![0.0; engine.params()[i].len()];
            engine.read(i, &mut got).unwrap();
            for (got, want) in got.iter().zip(floats(&expected, &format!("sgd_after_{name}"))) {
                assert!((got - want).abs() <= 1e-7, "{kind:?} {name}: {got} {want}");
            }
        }
    }
}

/// What the original predicts with `--quantize-emb-with-bit` and `--quantize-mlp-with-bit`.
#[test]
fn quantised_models_predict_what_they_predicted() {
    let expected = Path::new(FILES).join("facebook_expected.npz");
    if !expected.exists() {
        eprintln!("skipped: {} is missing", expected.display());
        return;
    }
    let expected = npz::read(&expected);
    let (batch, config) = (batch(&expected), config());
    let loaded = Loaded::file(&Path::new(FILES).join("facebook_sgd.pt")).unwrap();
    let (int8, int4) = (Some(QuantisedRows::Int8), Some(QuantisedRows::Int4));
    let (mlp8, mlp16) = (Some(QuantisedLayers::Int8), Some(QuantisedLayers::Fp16));
    for (name, rows, layers) in [
        ("emb8", int8, None),
        ("emb4", int4, None),
        ("mlp8", None, mlp8),
        ("mlp16", None, mlp16),
        ("mlp8_emb8", int8, mlp8),
        ("mlp16_emb8", int8, mlp16),
    ] {
        let mut engine = engine::quantised(&config, Quantisation { rows, layers }).unwrap();
        for (i, param) in engine.params().to_vec().iter().enumerate() {
            let view = loaded.tensors.get(&param.name).unwrap();
            engine.write_with(i, &mut |first, part| view.copy(first, part)).unwrap();
        }
        let mut out = [0.0; 8];
        engine.predict(&batch, &mut out).unwrap();
        let (want, plain) =
            (floats(&expected, &format!("sgd_pred_{name}")), floats(&expected, "sgd_pred"));
        let off = out.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let moved = plain.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= 2e-7, "{name}: off by {off}, where quantising moves by {moved}");
    }
}
