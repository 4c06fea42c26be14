//! Kernels on an emulated device that looks for races and runs blocks and threads in many orders:
//! planted faults are found, and ours have none.

use super::*;
use crate::backend::{
    Result,
    cuda::{
        check::data,
        driver::{Launch, Memory, Source, arg, bytes_of, bytes_of_mut, emulated::Emulated},
    },
};

/// Kernels with a fault each, and the same without.
static FAULTS: Source = Source {
    name: "faults",
    parts: &[include_str!("../common/common.cuh"), include_str!("../driver/emulated_faults.cu")],
};

const THREADS: usize = 64;

/// What a kernel of [`FAULTS`] leaves of some numbers, in `blocks` blocks.
fn run(kernel: &'static str, blocks: usize, seed: u64) -> Option<Result<Vec<u32>>> {
    let driver = Emulated::watched(false, seed)?;
    let numbers: Vec<u32> = (0..1024).map(|k| (1.0 / (k + 1) as f32).to_bits()).collect();
    let place = || Memory::zeros(&driver, 4 * numbers.len(), "a test").unwrap();
    let (from, to) = (place(), place());
    driver.to_device(from.at(), bytes_of(&numbers)).unwrap();
    let shape = Launch {
        grid: [blocks as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 4 * THREADS as u32,
    };
    // SAFETY: the kernels take these places, and stay within 1024 numbers.
    unsafe { driver.launch(&FAULTS, kernel, shape, &[arg(&from.at()), arg(&to.at())]) }.unwrap();
    let mut left = vec![0u32; numbers.len()];
    Some(driver.to_host(to.at(), bytes_of_mut(&mut left)).map(|()| left))
}

const SEEDS: std::ops::Range<u64> = 1..6;

/// Kernel, blocks, and what the report of its fault must say.
const FAULTY: [(&str, usize, &str); 8] = [
    ("tree_sum_without_barriers", 3, "shared memory"),
    ("turned_without_a_barrier", 3, "shared memory at offset"),
    ("lasts_overtaken", 1, "shared memory"),
    ("neighbours_by_an_exchange", 3, "shared memory"),
    ("neighbours_of_another_half", 3, "shared memory"),
    ("added_by_blocks_at_once", 3, "global memory"),
    ("written_by_all_blocks", 3, "global memory"),
    ("counted_and_read", 1, "global memory"),
];

#[test]
fn planted_races_are_found_in_every_order() {
    for (kernel, blocks, place) in FAULTY {
        for seed in SEEDS {
            let Some(left) = run(kernel, blocks, seed) else { return };
            let said = left.expect_err(kernel).to_string();
            assert!(
                said.contains(&format!("kernel {kernel}: thread ")) && said.contains(place),
                "{said}"
            );
        }
    }
}

/// The same kernels without their faults are let pass, and leave the same in every order.
#[test]
fn what_is_in_order_is_no_race() {
    for (kernel, blocks) in [
        ("tree_sum", 3),
        ("turned", 3),
        ("lasts", 1),
        ("neighbours", 3),
        ("added", 3),
        ("halves", 3),
    ] {
        let all: Option<Vec<Vec<u32>>> =
            SEEDS.map(|seed| run(kernel, blocks, seed).map(Result::unwrap)).collect();
        let Some(all) = all else { return };
        assert!(all[0].iter().any(|&x| x != 0), "{kernel} did something");
        assert!(all.iter().all(|left| *left == all[0]), "{kernel}");
    }
}

/// A sum in the order in which threads come is no race, but another at every run: orders differ
/// enough to show it.
#[test]
fn an_unordered_sum_comes_out_in_several_ways() {
    let sums: Option<std::collections::BTreeSet<u32>> =
        (1..20).map(|seed| run("sum_as_they_come", 1, seed).map(|left| left.unwrap()[0])).collect();
    let Some(sums) = sums else { return };
    assert!(sums.len() > 3, "{sums:?}");
}

/// Runs a case on devices that watch. Its second run has other orders than its first, and must
/// leave the same bits.
fn watched(case: &impl Case, bare: bool, seed: u64) {
    let Some(driver) = Emulated::watched(bare, seed) else { return };
    let verdict = compare(&driver, case).unwrap_or_else(|e| panic!("{e} {case:?}"));
    assert!(verdict.passes(), "{verdict:?} {case:?}");
}

/// A small case of every operation.
#[test]
fn no_operation_has_a_race() {
    let mut seeds = 1..;
    let devices = [(Precision::Fp32, false), (Precision::Bf16, false), (Precision::Bf16, true)];
    for (precision, bare) in devices {
        let mut on = |case: &dyn Fn(bool, u64)| case(bare, seeds.next().unwrap());
        let shape = LinearShape { batch: 70, input: 9, output: 33 };
        let linear = LinearCase { shape, gap: 1, bias: true, relu: true, precision, seed: 1 };
        on(&|b, s| watched(&linear, b, s));
        let thin = LinearCase { shape: LinearShape { output: 1, ..shape }, ..linear };
        on(&|b, s| watched(&thin, b, s));
        let network = NetworkCase { batch: 20, widths: [13, 128, 16, 3], precision, seed: 2 };
        on(&|b, s| watched(&network, b, s));
        for (features, dim, gap) in [(27, 16, 8), (9, 33, 1)] {
            let shape = DotShape { features, dim, self_interaction: features == 9 };
            let dot = DotCase { shape, precision, batch: 3, gap };
            on(&|b, s| watched(&dot, b, s));
        }
        let sums = MultiplyAddCase { precision, rows: 40, cols: 129, gap: 3 };
        on(&|b, s| watched(&sums, b, s));
        let shape = ProductShape { left: 7, inner: 16, right: 9 };
        let products = ProductsCase { precision, shape, cols: 3, batch: 5, gap: 1 };
        on(&|b, s| watched(&products, b, s));
    }
    let pooled =
        PooledCase { precision: Precision::Bf16, rows: vec![3, 90], dim: 9, batch: 70, hotness: 2 };
    watched(&pooled, false, 3);
    watched(&RowsCase { rows: 130, cols: 17, dim: 10, gap: 1 }, false, 4);
    step_controls().step_by(5).for_each(|case| watched(&case, false, 5));
}

/// Rows that are met often, in more occurrences than a tile of the sort has; every rule.
#[test]
fn no_update_has_a_race() {
    for (r, rule) in OptimizerSpec::examples().into_iter().enumerate() {
        let case = TablesCase {
            rows: vec![3, 700, 40],
            dim: [16, 33, 1, 130][r % 4],
            kind: RowKind::ALL[r % 4],
            pooling: POOLINGS[r % 4],
            rule,
            batch: if r == 0 { 900 } else { 30 },
            hotness: 3,
            l2: if r % 2 == 1 { 0.01 } else { 0.0 },
            gap: 4,
        };
        watched(&case, r % 2 == 1, r as u64 + 1);
        if r < 2 {
            watched(&Dense(rule), false, r as u64 + 1);
        }
    }
}

#[test]
fn neither_judging_nor_made_samples_have_a_race() {
    let Some(driver) = Emulated::watched(false, 7) else { return };
    let n = 1500;
    let predictions: Vec<f32> = (0..n).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let labels: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
    let counts = data::counted(&driver, &predictions, &labels, 600).unwrap();
    assert_eq!(counts, crate::metrics::counts(&predictions, &labels));
    data::samples(&driver, 20, &mut |verdict| assert!(verdict.passes(), "{verdict:?}")).unwrap();
}

/// Work of a case that is watched in seconds.
const LIGHT: usize = 2_000_000;

#[test]
#[ignore = "takes minutes: --ignored"]
fn every_case_for_a_gpu_is_free_of_races() {
    let Some(driver) = Emulated::watched(false, 1) else { return };
    let mut cases = 0;
    let mut tell = |verdict: Verdict| {
        assert!(verdict.passes(), "{verdict:?}");
        cases += 1;
    };
    operations(&mut Trials { driver: &driver, chosen: |work| work <= LIGHT, tell: &mut tell })
        .unwrap();
    assert!(cases >= 150, "{cases} cases");
}
