//! Every id, dense value and label made on a device against the CPU's, bit by bit.

use super::*;
use crate::{
    backend::cuda::{
        check::data::{made, wanted},
        testing::devices,
    },
    batch::Batch,
    data::source::{config::PlantedConfig, planted},
};
use proptest::prelude::*;

fn config(preset: &str, seed: u64) -> PlantedConfig {
    PlantedConfig {
        train_samples: 12_345_678_901,
        eval_samples: 2000,
        seed,
        ..PlantedConfig::of(preset)
    }
}

/// Some stretches of both splits on every device.
fn check(config: &PlantedConfig, gap: usize, stretches: &[(u64, u64, usize)]) {
    let mut data = planted::open(config).unwrap();
    let dense = data.train.schema().dense;
    for driver in devices() {
        for source in [&mut data.train, &mut data.eval] {
            let generated = source.generated_split().unwrap();
            let log = Planted::new(&driver, &generated.log).unwrap();
            for &(epoch, start, n) in stretches {
                let mut batch = Batch::with_capacity(source.schema(), n);
                source.fill(epoch, start, n, &mut batch).unwrap();
                let got =
                    made(&driver, &log, generated.span(epoch, start, n), dense + gap).unwrap();
                let want = wanted(&batch, dense, dense + gap);
                for (part, (got, want)) in ["dense", "labels", "first ids", "ids", "offsets"]
                    .iter()
                    .zip(got.iter().zip(&want))
                {
                    assert!(
                        got == want,
                        "{part} of {n} samples from {start} of epoch {epoch}: {config:?}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_log_has_the_bits_of_the_cpu(
        tables in prop::collection::vec((1u32..32, 0u32..u32::MAX, 1usize..4, 0.0..3.0f64), 0..6), one_hot: bool,
        dense in 1usize..6, gap in 0usize..4, seed: u64, epoch in 0u64..5, start: u64, n in 1usize..300,
    ) {
        // Small tables as often as large ones, up to 2^31 rows.
        let rows = |bits: u32, x: u32| ((x >> (32 - bits)) as usize).clamp(1, 1 << 31);
        let config = PlantedConfig {
            tables: tables.iter().map(|t| rows(t.0, t.1)).collect(),
            hotness: tables.iter().map(|t| if one_hot { 1 } else { t.2 }).collect(),
            exponents: tables.iter().map(|t| t.3).collect(),
            dense: Some(dense),
            positive_rate: Some(0.4),
            ..config("custom", seed)
        };
        check(&config, gap, &[(epoch, start, n), (0, 0, 1)]);
    }
}

#[test]
fn presets_have_the_bits_of_the_cpu() {
    let far = [(0, 0, 300), (1, 77, 129), (0, (1 << 32) - 5, 40), (3, u64::MAX - 20, 64)];
    check(&config("criteo_terabyte", 1), 3, &far);
    check(&PlantedConfig { max_rows: Some(100_000), ..config("criteo_kaggle", 1 << 40) }, 0, &far);
}

/// More draws than one would look at: some hundred of them need the exact test, some a second
/// attempt.
#[test]
fn long_stretches_of_steep_and_flat_distributions_have_the_bits_of_the_cpu() {
    let config = PlantedConfig {
        tables: vec![10_000_000, 50, 2_000_000_000, 1],
        hotness: vec![7, 2, 1, 40],
        exponents: vec![0.2, 4.0, 1.0, 0.0],
        dense: Some(0),
        ..config("custom", 3)
    };
    check(&config, 1, &[(0, 5, 5000)]);
}
