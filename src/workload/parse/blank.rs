//! A workload before anything has been read.

use super::words::Words;
use crate::{
    backend::{Device, Precision},
    checkpoint::CheckpointConfig,
    embedding::{RowKind, StoreConfig},
    model::LossSpec,
    optim::{LossScaleSpec, OptimizerConfig},
    workload::*,
};

/// A workload to read into. Every value is overwritten or stands for "off".
pub(super) fn workload() -> Workload {
    Workload {
        workload: About {
            name: String::new(),
            description: String::new(),
            quirks: Vec::new(),
            without: None,
        },
        data: first(),
        loader: LoaderSection::default(),
        model: first(),
        engine: EngineSection {
            kind: first(),
            device: Device::Cpu,
            threads: 0,
            pin_threads: false,
            precision: Precision::Fp32,
            fp32_interaction: false,
            embedding_rows: RowKind::Fp32,
            loss_scale: LossScaleSpec::Off,
        },
        embedding: StoreConfig::Resident,
        comm: CommSection::default(),
        train: TrainSection {
            batch_size: 0,
            micro_batches: 1,
            epochs: 0,
            max_steps: None,
            drop_last: false,
            seed: 0,
            loss: LossSpec { kind: first(), clamp: 0.0, of_probability: false },
            start_from: None,
        },
        optimizer: OptimizerConfig { rule: first(), learning_rate: 0.0, clip_norm: None },
        schedule: first(),
        eval: EvalSection {
            every: EvalEvery::Epochs(1.0),
            batch_size: 0,
            patience: None,
            min_delta: 0.0,
            monitor: first(),
            restore_best: false,
            samples: None,
            cache: None,
            at_end: None,
        },
        target: TargetSection { auc: None, accuracy: None, share_of_best: None },
        checkpoint: CheckpointConfig::default(),
        mlperf: MlperfSection {
            benchmark: String::new(),
            round: None,
            division: String::new(),
            org: String::new(),
            platform: None,
            status: String::new(),
        },
    }
}

/// The first variant of an enum.
fn first<T: Words>() -> T {
    T::variants().swap_remove(0).1
}
