//! What a device counts against what the CPU counts: integers, so they are the same or wrong.

use super::*;
use crate::{
    backend::cuda::{check::data::counted, testing::devices},
    metrics,
};
use proptest::prelude::*;

fn check(predictions: &[f32], labels: &[f32], batch: usize) {
    let want = metrics::counts(predictions, labels);
    for driver in devices() {
        let got = counted(&driver, predictions, labels, batch).unwrap();
        assert_eq!(got, want, "{} samples in batches of {batch}", labels.len());
    }
}

/// Room that has held more before.
#[test]
fn predictions_of_an_earlier_evaluation_are_forgotten() {
    for driver in devices() {
        let mut scores = Scores::new(&driver, 40).unwrap();
        let values: Vec<f32> = (0..40).map(|i| i as f32 / 40.0).collect();
        let labels: Vec<f32> = (0..40).map(|i| (i % 3 == 0) as u8 as f32).collect();
        let places = [&values, &labels].map(|v| {
            let memory = Memory::zeros(&driver, 4 * v.len(), "a test").unwrap();
            driver.to_device(memory.at(), bytes_of(v)).unwrap();
            memory
        });
        for n in [40, 33, 7] {
            scores.clear().unwrap();
            scores.add(places[0].at(), places[1].at(), n).unwrap();
            assert_eq!(scores.count().unwrap(), metrics::counts(&values[..n], &labels[..n]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_predictions_count_as_on_the_cpu(
        samples in prop::collection::vec((0f32..=1.0, any::<bool>()), 1..300), steps in 1u32..40, tied: bool, batch in 1usize..100,
    ) {
        let tie = |p: f32| if tied { (p * steps as f32).round() / steps as f32 } else { p };
        let predictions: Vec<f32> = samples.iter().map(|s| tie(s.0)).collect();
        let labels: Vec<f32> = samples.iter().map(|s| f32::from(u8::from(s.1))).collect();
        check(&predictions, &labels, batch);
    }
}

/// More than a few tiles of the sort; ties that reach over tiles.
#[test]
fn many_predictions_count_as_on_the_cpu() {
    let n = 3 * radix::TILE + 77;
    let scattered = |i: usize| (i as u32).wrapping_mul(0x9E37_79B9);
    let labels: Vec<f32> = (0..n).map(|i| f32::from(u8::from(scattered(i + n) % 5 == 0))).collect();
    let distinct: Vec<f32> = (0..n).map(|i| scattered(i) as f32 / u32::MAX as f32).collect();
    let few: Vec<f32> = distinct.iter().map(|p| (p * 2.0).floor() / 2.0).collect();
    for predictions in [distinct, few, vec![0.25; n], vec![0.0; n], vec![1.0; n]] {
        check(&predictions, &labels, 1000);
    }
}

#[test]
fn the_first_fault_is_named() {
    let good = || (vec![0.5f32; 70], vec![1.0f32; 70]);
    let (mut nan, labels) = good();
    (nan[33], nan[40]) = (f32::NAN, 2.0);
    check(&nan, &labels, 16);
    let (mut large, mut labels) = good();
    (large[50], large[40], labels[3]) = (f32::INFINITY, 1.5, 0.5);
    check(&large, &labels, 16);
    check(&good().0, &labels, 16);
    let (mut zero, labels) = good();
    zero[1] = -0.0;
    check(&zero, &labels, 16);
    for driver in devices() {
        assert_eq!(counted(&driver, &[], &[], 1).unwrap(), Err(MetricsError::Empty));
    }
}
