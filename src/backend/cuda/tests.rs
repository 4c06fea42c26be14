//! Every operation on a GPU, emulated where there is none, against the CPU's, on odd shapes.

use super::{
    Cuda, CudaConfig,
    check::{
        POOLINGS,
        cases::{Case, Dense, DotCase, LinearCase, OneEach, RowsCase, TablesCase},
        compare, courses, rules, speed,
    },
    testing::devices,
};
use crate::{
    backend::{Backend, DotShape, Precision, TablesShape, cpu::gemm::LinearShape},
    embedding::RowKind,
    model::Pooling,
    optim::OptimizerSpec,
};
use proptest::prelude::*;

/// Runs a case on every device.
fn check(case: &impl Case) {
    for driver in devices() {
        let verdict = compare(&driver, case).unwrap();
        assert!(verdict.passes(), "{verdict:?} {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layers(batch in 1usize..150, input in 1usize..40, output in 1usize..30, thin: bool, gap in 0usize..3, relu: bool, p in 0usize..3, seed in 0u64..100) {
        let shape = LinearShape { batch, input, output: if thin { 1 } else { output } };
        let precision = Precision::ALL[p];
        check(&LinearCase { shape, gap, relu, precision, seed });
    }

    #[test]
    fn interactions(features in 1usize..40, dim in 1usize..70, itself: bool, batch in 1usize..5, gap in 0usize..4) {
        check(&DotCase { shape: DotShape { features, dim, itself }, batch, gap });
    }

    #[test]
    fn rows(rows in 2usize..200, cols in 1usize..40, dim in 1usize..40, gap in 0usize..3) {
        check(&RowsCase { rows, cols, dim, gap });
    }

    #[test]
    fn tables(
        sizes in proptest::collection::vec(1usize..300, 1..5), dim in 1usize..40, kind in 0usize..4, pooling in 0usize..4,
        rule in 0usize..5, batch in 1usize..200, hotness in 0usize..4, l2: bool, gap in 0usize..3
    ) {
        let case = TablesCase {
            rows: sizes, dim, kind: RowKind::ALL[kind], pooling: POOLINGS[pooling], rule: rules()[rule], batch, hotness,
            l2: if l2 { 0.01 } else { 0.0 }, gap
        };
        check(&case);
    }
}

/// Rows of all widths that kernels tell apart, more occurrences than a tile of the sort holds.
#[test]
fn wide_rows_and_many_occurrences() {
    for (rows, dim, batch, hotness, rule) in [
        (vec![3, 70_000, 1], 128, 400, 3, 0),
        (vec![90_000, 2], 16, 1700, 3, 1),
        (vec![40, 9], 200, 60, 2, 2),
        (vec![13], 1024, 40, 1, 4),
        (vec![300_000], 1, 50, 2, 0),
    ] {
        let case = TablesCase {
            rows,
            dim,
            kind: RowKind::Fp32,
            pooling: Pooling::Sum,
            rule: rules()[rule],
            batch,
            hotness,
            l2: 0.0,
            gap: 4,
        };
        check(&case);
    }
}

/// Where nothing is summed in another order there is not a bit's difference: one occurrence a row, every rule but the row-wise one.
#[test]
fn single_occurrences_have_the_bits_of_the_cpu() {
    for (r, rule) in rules().into_iter().enumerate().filter(|&(r, _)| r != 2) {
        for kind in RowKind::ALL {
            let case = OneEach(TablesCase {
                rows: vec![5, 9],
                dim: 130,
                kind,
                pooling: Pooling::Sum,
                rule,
                batch: 5,
                hotness: 0,
                l2: if r == 3 { 0.01 } else { 0.0 },
                gap: 0,
            });
            check(&case);
        }
    }
}

#[test]
fn dense_updates_have_the_bits_of_the_cpu() {
    rules().into_iter().for_each(|rule| check(&Dense(rule)));
}

#[test]
fn a_training_takes_the_course_that_it_takes_on_the_cpu() {
    courses().for_each(|case| check(&case));
}

#[test]
fn operations_on_tables_are_measured() {
    for driver in devices() {
        let mut speeds = Vec::new();
        speed::tables(&driver, 8, &mut speeds).unwrap();
        assert!(speeds.len() == 8 && speeds.iter().all(|s| s.seconds > 0.0 && s.work > 0.0));
    }
}

#[test]
fn memory_that_is_not_there_is_refused_by_name() {
    for driver in devices() {
        let config = CudaConfig { threads: 1, pin_threads: false, precision: Precision::Fp32, dot: None, graphs: false };
        let mut cuda = Cuda::on(driver, &config).unwrap();
        let error = cuda.zeros(usize::MAX / 8, "activations").unwrap_err().to_string();
        assert!(error.contains("activations on the GPU"), "{error}");
        let rule = OptimizerSpec::Sgd;
        let wide = TablesShape { rows: &[1], dim: 1025, kind: RowKind::Fp32, first: 0, pooling: Pooling::Sum, rule };
        assert!(cuda.tables(&wide).unwrap_err().to_string().contains("1024"));
    }
}
