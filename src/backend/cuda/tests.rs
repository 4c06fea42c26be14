//! Every operation on a GPU, emulated where there is none, against the CPU's, on odd shapes.

use super::{
    Cuda, CudaConfig,
    check::{
        LARGE, POOLINGS, PRECISIONS, Trials, Verdict,
        cases::{Case, Dense, LinearCase, OneEach, RowsCase, TablesCase},
        compare, ends,
        operand_cases::{DotCase, MultiplyAddCase, NetworkCase, PooledCase, ProductsCase},
        operations, speed, step_controls,
    },
    memory::Floats,
    testing::{devices, in_turn},
};
use crate::{
    backend::{
        After, Backend, DotShape, Dropout, Linear, Precision, ProductShape, TablesShape, Window,
        cpu::gemm::LinearShape,
    },
    embedding::RowKind,
    model::Pooling,
    optim::OptimizerSpec,
};
use proptest::prelude::*;
use std::rc::Rc;

mod links;
mod races;
mod refusals;

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
    fn layers(
        batch in 1usize..150, input in 1usize..40, output in 1usize..30, thin: bool, gap in 0usize..3, bias: bool, relu: bool, p in 0usize..4,
        seed in 0u64..100
    ) {
        let shape = LinearShape { batch, input, output: if thin { 1 } else { output } };
        let precision = PRECISIONS[p];
        check(&LinearCase { shape, gap, bias, relu, precision, seed });
    }

    #[test]
    fn interactions(
        features in 1usize..70, dim in 1usize..70, eights: bool, self_interaction: bool, batch in 1usize..8, gap in 0usize..4, p in 0usize..4
    ) {
        let (dim, gap) = if eights { (dim.next_multiple_of(8), 8 * gap) } else { (dim, gap) };
        check(&DotCase { shape: DotShape { features, dim, self_interaction }, precision: PRECISIONS[p], batch, gap });
    }

    #[test]
    fn layers_with_operands_between_them(
        batch in 1usize..60, widths in proptest::array::uniform4(1usize..30), wide in 0usize..16, p in 0usize..4, seed in 0u64..100
    ) {
        // Bits of a ReLU are left where a width is a multiple of 128 or little less.
        let width = |k: usize| if wide >> k & 1 == 1 { 128 - widths[k] % 4 * 5 } else { widths[k] };
        check(&NetworkCase { batch, widths: [0, 1, 2, 3].map(width), precision: PRECISIONS[p], seed });
    }

    #[test]
    fn pooled_vectors_for_products(
        rows in proptest::collection::vec(1usize..100, 1..4), dim in 1usize..40, batch in 1usize..80, hotness in 1usize..4, half: bool
    ) {
        let precision = if half { Precision::Fp16 } else { Precision::Bf16 };
        check(&PooledCase { precision, rows, dim, batch, hotness });
    }

    #[test]
    fn products_and_sums(rows in 1usize..200, cols in 1usize..300, gap in 0usize..5, p in 0usize..4) {
        check(&MultiplyAddCase { precision: PRECISIONS[p], rows, cols, gap });
    }

    #[test]
    fn products_a_sample(
        left in 1usize..20, inner in 1usize..40, right in 1usize..20, cols in 1usize..40, batch in 1usize..20, gap in 0usize..4,
        p in 0usize..4
    ) {
        let shape = ProductShape { left, inner, right };
        check(&ProductsCase { precision: PRECISIONS[p], shape, cols, batch, gap });
    }

    #[test]
    fn rows(rows in 2usize..200, cols in 1usize..40, dim in 1usize..40, gap in 0usize..3) {
        check(&RowsCase { rows, cols, dim, gap });
    }

    #[test]
    fn tables(
        sizes in proptest::collection::vec(1usize..300, 1..5), dim in 1usize..40, kind in 0usize..4, pooling in 0usize..4,
        rule in 0..OptimizerSpec::examples().len(), batch in 1usize..200, hotness in 0usize..4, l2: bool, gap in 0usize..3
    ) {
        let case = TablesCase {
            rows: sizes, dim, kind: RowKind::ALL[kind], pooling: POOLINGS[pooling], rule: OptimizerSpec::examples()[rule], batch, hotness,
            l2: if l2 { 0.01 } else { 0.0 }, gap
        };
        check(&case);
    }
}

/// Rows of all widths that kernels tell apart, more occurrences than a tile of the sort holds. Each
/// case on one of the emulated devices, all on a GPU.
#[test]
fn wide_rows_and_many_occurrences() {
    let cases = [
        (vec![3, 70_000, 1], 128, 400, 3, 0),
        (vec![90_000, 2], 16, 1700, 3, 1),
        (vec![40, 9], 200, 60, 2, 2),
        (vec![13], 1024, 40, 1, 4),
        (vec![300_000], 1, 50, 2, 0),
    ];
    for (i, (rows, dim, batch, hotness, rule)) in cases.into_iter().enumerate() {
        let case = TablesCase {
            rows,
            dim,
            kind: RowKind::Fp32,
            pooling: Pooling::Sum,
            rule: OptimizerSpec::examples()[rule],
            batch,
            hotness,
            l2: 0.0,
            gap: 4,
        };
        for (d, driver) in devices().into_iter().enumerate().filter(|(d, _)| in_turn(*d, i, 2)) {
            let verdict = compare(&driver, &case).unwrap();
            assert!(verdict.passes(), "device {d}: {verdict:?} {case:?}");
        }
    }
}

/// Where nothing is summed in another order there is not a bit's difference: one occurrence a row,
/// every rule but the row-wise one.
#[test]
fn single_occurrences_have_the_bits_of_the_cpu() {
    for (r, rule) in OptimizerSpec::examples().into_iter().enumerate().filter(|&(r, _)| r != 2) {
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
    OptimizerSpec::examples().into_iter().for_each(|rule| check(&Dense(rule)));
}

/// A product leaves bits of its ReLU for the gradient's, where the library can; nothing that is
/// written later is taken for what they speak of.
#[test]
fn bits_of_a_relu_are_those_of_what_is_in_the_buffer() {
    let devices = devices();
    for (d, driver) in devices.iter().enumerate() {
        let config = CudaConfig {
            threads: 1,
            pin_threads: false,
            precision: Precision::Bf16,
            graphs: false,
        };
        let mut cuda = Cuda::on(Rc::clone(driver), &config).unwrap();
        let layer = Linear { weight: 0, bias: Some(8 * 128), inputs: 8, outputs: 128 };
        let params = cuda.zeros(9 * 128, "a layer").unwrap();
        let (x, mut y) =
            (cuda.operands(3 * 8, "input").unwrap(), cuda.operands(3 * 128, "output").unwrap());
        let (wide, narrow) = (Window::whole(128), Window { at: 0, stride: 128, cols: 64 });
        let after = |relu, dropout| After { relu, dropout };
        let forward = |cuda: &mut Cuda, y: &mut Floats, rows, after| {
            cuda.linear_forward(
                Window::whole(8).of(&x, rows),
                &params,
                layer,
                after,
                wide.of_mut(y, rows),
            )
            .unwrap();
        };
        forward(&mut cuda, &mut y, 2, after(true, None));
        // The first device is the emulated one with ends of products, the second the one without.
        let left = wide.of(&y, 2).mask();
        assert!(d > 1 || left.is_some() == (d == 0), "device {d}");
        assert!(
            narrow.of(&y, 2).mask().is_none()
                && wide.of(&y, 3).mask().is_none()
                && wide.of(&x, 0).mask().is_none()
        );
        cuda.write(&mut y, 5, &[1.0]).unwrap();
        assert!(wide.of(&y, 2).mask().is_none(), "written to");
        forward(&mut cuda, &mut y, 2, after(true, None));
        assert_eq!(wide.of(&y, 2).mask(), left, "there again, and in the same place");
        forward(&mut cuda, &mut y, 2, after(false, None));
        assert!(wide.of(&y, 2).mask().is_none(), "without a ReLU");
        let mut plain = cuda.zeros(3 * 128, "output").unwrap();
        forward(
            &mut cuda,
            &mut plain,
            2,
            after(true, Some(Dropout { layer: 0, p: 0.5, first: 0 })),
        );
        assert!(wide.of(&plain, 2).mask().is_none(), "with a dropout");
    }
}

#[test]
fn ends_that_a_library_lacks_are_named() {
    for (d, driver) in devices().iter().enumerate() {
        let ends = ends(driver, 2).unwrap();
        // The first device is the emulated one with ends of products, the second the one without.
        assert!(
            ends.len() == 48 && (d > 1 || ends.iter().all(|e| e.there == (d == 0))),
            "{ends:?}"
        );
    }
}

#[test]
fn steps_are_controlled_as_on_the_cpu() {
    step_controls().for_each(|case| check(&case));
}

#[test]
fn operations_on_tables_are_measured() {
    for driver in devices() {
        let mut speeds = Vec::new();
        for precision in [Precision::Fp32, Precision::Bf16] {
            speed::tables(&driver, precision, 8, &mut speeds).unwrap();
            speed::interaction(&driver, precision, 8, &mut speeds).unwrap();
        }
        assert!(speeds.len() == 14 && speeds.iter().all(|s| s.seconds > 0.0 && s.work > 0.0));
    }
}

/// Cases that a GPU is asked for as they stand, on every device: none is met there for the first
/// time.
fn all_operations(chosen: fn(usize) -> bool, least: usize) {
    for driver in devices() {
        let mut cases = 0;
        let mut tell = |verdict: Verdict| {
            assert!(verdict.passes(), "{verdict:?}");
            cases += 1;
        };
        operations(&mut Trials { driver: &driver, chosen, tell: &mut tell }).unwrap();
        assert!(cases >= least, "{cases} cases");
    }
}

const HEAVY: usize = 20_000_000;

#[test]
#[ignore = "takes minutes: --ignored"]
fn every_case_for_a_gpu_passes_here() {
    all_operations(|work| work <= HEAVY, 228);
}

#[test]
#[ignore = "takes minutes: --ignored"]
fn every_heavy_case_for_a_gpu_passes_here() {
    all_operations(|work| work > HEAVY, 20);
}

#[test]
#[ignore = "takes minutes: --ignored"]
fn every_speed_for_a_gpu_is_measured_here() {
    for driver in devices() {
        let speeds = speed::speeds(&driver, 2).unwrap();
        assert!(
            speeds.len() == 27 && speeds.iter().all(|s| s.seconds > 0.0 && s.work > 0.0),
            "{speeds:?}"
        );
    }
}

#[test]
fn interactions_may_take_much_shared_memory() {
    for (shape, precision) in LARGE.into_iter().flat_map(|s| PRECISIONS.map(|p| (s, p))) {
        check(&DotCase { shape, precision, batch: 3, gap: 1 });
    }
}

#[test]
fn memory_that_is_not_there_is_refused_by_name() {
    for driver in devices() {
        let config = CudaConfig {
            threads: 1,
            pin_threads: false,
            precision: Precision::Fp32,
            graphs: false,
        };
        let mut cuda = Cuda::on(driver, &config).unwrap();
        let error = cuda.zeros(usize::MAX / 8, "activations").unwrap_err().to_string();
        assert!(error.contains("activations on the GPU"), "{error}");
        let rule = OptimizerSpec::SGD;
        let wide = TablesShape {
            rows: &[1],
            dim: 1025,
            column: 0,
            kind: RowKind::Fp32,
            first: 0,
            pooling: Pooling::Sum,
            rule,
        };
        assert!(cuda.tables(&wide).unwrap_err().to_string().contains("1024"));
    }
}
