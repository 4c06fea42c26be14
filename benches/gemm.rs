//! Matrix products of fully connected layers at the shapes of the workloads, beside the `gemm`
//! crate on the same data.
//!
//! The passes include what a layer needs with them (bias and ReLU, the mask of the previous ReLU,
//! the bias gradient); the crate's calls are the bare products in f32.
//! `DLRM_BENCH_ISA=avx512bf16|avx512|avx2|portable` picks our instruction set. Names are
//! `pass/batch x in x out/who`; for example `cargo bench --bench gemm -- 'forward/2048'` runs one
//! pass at one batch.

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    backend::{
        Precision,
        cpu::gemm::{After, Gate, Gemm, LinearShape, Onto, Rows, RowsMut},
    },
    host::{Isa, pool::Pool},
};
use std::time::Duration;

/// Bottom and top MLPs of DeepRec's and facebook's Kaggle models, of MLPerf's DLRM, and OneFlow's
/// DeepFM: inputs and widths.
const MLPS: [&[usize]; 5] = [
    &[13, 512, 256, 64, 16],
    &[367, 512, 256, 1],
    &[13, 512, 256, 128],
    &[479, 1024, 1024, 512, 256, 1],
    &[624, 1000, 1000, 1000, 1000, 1000, 1],
];

/// The layers of the MLPs, each once.
fn layers() -> Vec<(usize, usize)> {
    let mut layers = Vec::new();
    for layer in MLPS.iter().flat_map(|widths| widths.windows(2)).map(|pair| (pair[0], pair[1])) {
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    layers
}

/// Matrices of one layer.
struct Layer {
    s: LinearShape,
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    dz: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

impl Layer {
    fn new(s: LinearShape) -> Self {
        let mut state = 1u32;
        let mut values = |n: usize| -> Vec<f32> {
            let mut value = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..n).map(|_| value()).collect()
        };
        Layer {
            s,
            x: values(s.batch * s.input),
            w: values(s.output * s.input),
            b: values(s.output),
            dz: values(s.batch * s.output),
            y: vec![0.0; s.batch * s.output],
            dx: vec![0.0; s.batch * s.input],
            dw: vec![0.0; s.output * s.input],
            db: vec![0.0; s.output],
        }
    }
}

/// `dst [m, n] = lhs [m, k] * rhs [k, n]` by the crate; operands with (column stride, row stride).
fn by_crate(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    lhs: &[f32],
    (lhs_cs, lhs_rs): (usize, usize),
    rhs: &[f32],
    (rhs_cs, rhs_rs): (usize, usize),
    threads: usize,
) {
    assert!(dst.len() == m * n && lhs.len() == m * k && rhs.len() == k * n);
    let parallelism =
        if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    let (dst, lhs, rhs) = (dst.as_mut_ptr(), lhs.as_ptr(), rhs.as_ptr());
    let s = |stride: usize| stride as isize;
    // SAFETY: the matrices are dense, of the sizes asserted above.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            s(n),
            false,
            lhs,
            s(lhs_cs),
            s(lhs_rs),
            rhs,
            s(rhs_cs),
            s(rhs_rs),
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A pass, by our kernels and by the crate.
type Pass = (&'static str, fn(&mut Layer, &mut Gemm, &Pool), fn(&mut Layer, usize));

const PASSES: [Pass; 3] = [
    (
        "forward",
        |l, gemm, pool| {
            let (x, y) = (Rows::new(&l.x, l.s.input), RowsMut::new(&mut l.y, l.s.output));
            gemm.linear_forward(
                pool,
                l.s,
                x,
                &l.w,
                Some(&l.b),
                After { relu: true, dropout: None },
                y,
            );
        },
        |l, threads| {
            let LinearShape { batch, input, output } = l.s;
            by_crate((batch, output, input), &mut l.y, &l.x, (1, input), &l.w, (input, 1), threads);
        },
    ),
    (
        "data_gradient",
        |l, gemm, pool| {
            let (dz, dx) = (Rows::new(&l.dz, l.s.output), RowsMut::new(&mut l.dx, l.s.input));
            let gate = Gate { activation: Rows::new(&l.x, l.s.input), factor: 1.0 };
            gemm.linear_backward_data(pool, l.s, dz, &l.w, Onto::Gate(gate), dx);
        },
        |l, threads| {
            let LinearShape { batch, input, output } = l.s;
            by_crate(
                (batch, input, output),
                &mut l.dx,
                &l.dz,
                (1, output),
                &l.w,
                (1, input),
                threads,
            );
        },
    ),
    (
        "weight_gradient",
        |l, gemm, pool| {
            let (dz, x) = (Rows::new(&l.dz, l.s.output), Rows::new(&l.x, l.s.input));
            gemm.linear_backward_weight(pool, l.s, dz, x, &mut l.dw, Some(&mut l.db));
        },
        |l, threads| {
            let LinearShape { batch, input, output } = l.s;
            by_crate(
                (output, input, batch),
                &mut l.dw,
                &l.dz,
                (output, 1),
                &l.x,
                (1, input),
                threads,
            );
        },
    ),
];

fn products(c: &mut Criterion) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool::new(threads);
    let isa = Isa::detect().unwrap_or_else(|error| panic!("{error}"));
    for (name, ours, theirs) in PASSES {
        for batch in [2048, 128] {
            for (input, output) in layers() {
                let s = LinearShape { batch, input, output };
                let mut layer = Layer::new(s);
                let mut group = c.benchmark_group(format!("{name}/{batch}x{input}x{output}"));
                group
                    .sample_size(20)
                    .warm_up_time(Duration::from_millis(100))
                    .measurement_time(Duration::from_millis(400));
                group.throughput(Throughput::Elements((2 * batch * input * output) as u64));
                for precision in Precision::ALL {
                    let mut gemm =
                        Gemm::new(isa, precision, threads, &[s]).expect("the layer fits memory");
                    let run =
                        |b: &mut Bencher, _: &()| b.iter(|| ours(&mut layer, &mut gemm, &pool));
                    group.bench_with_input(
                        BenchmarkId::new(isa.name(), precision.name()),
                        &(),
                        run,
                    );
                }
                group.bench_with_input(BenchmarkId::from_parameter("crate"), &(), |b, ()| {
                    b.iter(|| theirs(&mut layer, threads))
                });
                group.finish();
            }
        }
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
