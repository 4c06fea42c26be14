//! What stands between the matrix products: dropout, batch normalisation, masks, losses, the dense
//! update. Elements a second, at DeepFM's shape (10,000 samples, 1,000 wide) and with the dense
//! parameters of its MLP and of MLPerf's DLRM.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    backend::cpu::{
        batch_norm::{self, NormShape, Running},
        dense_update,
        dropout::{self, Dropout, DropoutBits, MaskKey},
        elementwise,
        gemm::{Rows, RowsMut},
        loss,
    },
    host::{Isa, pool::Pool},
    model::{LossKind, LossSpec},
    optim::{Adagrad, Adam, AdamForm, AdamRows, OptimizerSpec, rules::Step},
};
use std::hint::black_box;

const ROWS: usize = 10_000;
const COLS: usize = 1_000;
/// Floats from row to row: whole cache lines.
const STRIDE: usize = 1_008;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 97) as f32 * 0.01 - 0.5).collect()
}

fn setup() -> (Pool, Isa) {
    (Pool::new(std::thread::available_parallelism().map_or(1, usize::from)), Isa::best())
}

fn activations(c: &mut Criterion) {
    let (pool, isa) = setup();
    let (x, mut y) = (numbers(ROWS * STRIDE), numbers(ROWS * STRIDE));
    let mut group = c.benchmark_group("activations");
    group.throughput(Throughput::Elements((ROWS * COLS) as u64));
    let dropout = Dropout { key: MaskKey { seed: 1, step: 1, layer: 0 }, p: 0.2, first: 0 };
    let mut bits = DropoutBits::new(ROWS, COLS);
    group.bench_function("dropout, bits drawn", |b| {
        b.iter(|| bits.draw(&pool, isa, ROWS, COLS, black_box(dropout)).factor);
    });
    group.bench_function("dropout, applied", |b| {
        b.iter(|| {
            dropout::apply(&pool, isa, ROWS, COLS, black_box(dropout), RowsMut::new(&mut y, STRIDE))
        });
    });
    group.bench_function("relu backward", |b| {
        b.iter(|| {
            elementwise::relu_backward(
                &pool,
                isa,
                ROWS,
                COLS,
                Rows::new(black_box(&x), STRIDE),
                RowsMut::new(&mut y, STRIDE),
            );
        });
    });
    group.bench_function("all finite", |b| {
        b.iter(|| {
            elementwise::all_finite(&pool, isa, ROWS, COLS, Rows::new(black_box(&x), STRIDE))
        });
    });
}

fn norm(c: &mut Criterion) {
    let (pool, isa) = setup();
    let (rows, cols, eps, momentum) = (ROWS, COLS, 1e-5, 0.1);
    let s = NormShape { rows, cols, eps, momentum, unbiased: true, relu: true };
    let (z, mut y) = (numbers(ROWS * STRIDE), numbers(ROWS * STRIDE));
    let (scale, shift) = (vec![1.0; COLS], vec![0.0; COLS]);
    let (mut mean, mut var) = (vec![0.0; COLS], vec![1.0; COLS]);
    let (mut d_scale, mut d_shift) = (vec![0.0; COLS], vec![0.0; COLS]);
    let mut stats = vec![0.0; 2 * COLS];
    let mut scratch = vec![0.0; NormShape::scratch(ROWS, COLS)];
    let mut group = c.benchmark_group("batch norm");
    group.throughput(Throughput::Elements((ROWS * COLS) as u64));
    group.bench_function("forward", |b| {
        b.iter(|| {
            let z = Rows::new(black_box(&z), STRIDE);
            let mut running = Running { mean: &mut mean, var: &mut var };
            batch_norm::statistics(&pool, isa, s, z, &mut running, &mut stats, &mut scratch, None)
                .unwrap();
            batch_norm::normalise(
                &pool,
                isa,
                s,
                z,
                &stats,
                &scale,
                &shift,
                RowsMut::new(&mut y, STRIDE),
            );
        });
    });
    group.bench_function("backward", |b| {
        b.iter(|| {
            let (z, g) = (Rows::new(black_box(&z), STRIDE), RowsMut::new(&mut y, STRIDE));
            batch_norm::backward(
                &pool,
                isa,
                s,
                z,
                &stats,
                &scale,
                g,
                &mut d_scale,
                &mut d_shift,
                &mut scratch,
                None,
            )
            .unwrap();
        });
    });
}

fn losses(c: &mut Criterion) {
    let (logits, mut out) = (numbers(ROWS), vec![0.0; ROWS]);
    let labels: Vec<f32> = (0..ROWS).map(|i| (i % 3 == 0) as u8 as f32).collect();
    let mut group = c.benchmark_group("loss");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, kind) in [
        ("bce", LossKind::Bce),
        ("wbce", LossKind::Wbce { weights: [0.2, 0.8] }),
        ("mse", LossKind::Mse),
    ] {
        let spec = LossSpec { kind, clamp: 0.0, of_probability: false };
        group.bench_function(name, |b| {
            b.iter(|| {
                loss::forward_backward(&spec, black_box(&logits), &labels, labels.len(), &mut out)
            })
        });
    }
    group.bench_function("probabilities", |b| {
        b.iter(|| loss::probabilities(black_box(&logits), &mut out))
    });
}

fn update(c: &mut Criterion) {
    let (pool, isa) = setup();
    let eps = 1e-8;
    let rules = [
        ("sgd", OptimizerSpec::SGD),
        (
            "adagrad",
            OptimizerSpec::Adagrad(Adagrad { eps, initial_accumulator: 0.1, lr_decay: 0.0 }),
        ),
        (
            "adam",
            OptimizerSpec::Adam(Adam {
                beta1: 0.9,
                beta2: 0.999,
                eps,
                form: AdamForm::Torch,
                rows: AdamRows::Lazy,
            }),
        ),
    ];
    let mut group = c.benchmark_group("dense update");
    for (model, n) in [("deepfm", 4_634_001), ("mlperf", 2_369_000)] {
        group.throughput(Throughput::Elements(n as u64));
        let (mut p, g, mut s0, mut s1) = (numbers(n), numbers(n), vec![0.1; n], vec![0.1; n]);
        for (name, rule) in &rules {
            let step = Step::new(rule, 1e-9, 1);
            group.bench_function(BenchmarkId::new(*name, model), |b| {
                b.iter(|| {
                    dense_update::update(
                        &pool,
                        isa,
                        black_box(&step),
                        1.0,
                        &mut p,
                        &g,
                        &mut s0,
                        &mut s1,
                    )
                });
            });
        }
        let mut partials = Vec::new();
        group.bench_function(BenchmarkId::new("sum of squares", model), |b| {
            b.iter(|| dense_update::sum_squares(&pool, isa, black_box(&g), &mut partials));
        });
    }
}

criterion_group!(benches, activations, norm, losses, update);
criterion_main!(benches);
