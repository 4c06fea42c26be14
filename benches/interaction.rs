//! Dot interaction and FM pooling, forward and backward, at the shapes of the workloads.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    backend::cpu::{
        fm,
        gemm::{Rows, RowsMut},
        interaction::Dot,
    },
    host::{Isa, pool::Pool},
};
use std::hint::black_box;

const BATCH: usize = 2048;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 97) as f32 * 0.01 - 0.5).collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn dot(c: &mut Criterion) {
    let (pool, isa) = (Pool::new(threads()), Isa::best());
    let mut group = c.benchmark_group("dot");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (n, d) in [(27, 16), (27, 64), (27, 128), (9, 64)] {
        let mut dot = Dot::new(n, d, false, threads());
        let (t_len, r_len) = (n * d, dot.width());
        let (t, mut r, mut dt) =
            (numbers(BATCH * t_len), numbers(BATCH * r_len), numbers(BATCH * t_len));
        group.bench_function(format!("forward/{n}x{d}"), |b| {
            b.iter(|| {
                let out = RowsMut::new(black_box(&mut r), r_len);
                dot.forward(&pool, isa, BATCH, Rows::new(black_box(&t), t_len), r_len, out);
            });
        });
        group.bench_function(format!("backward/{n}x{d}"), |b| {
            b.iter(|| {
                let (t, r) = (Rows::new(black_box(&t), t_len), Rows::new(black_box(&r), r_len));
                dot.backward(&pool, isa, BATCH, t, r, RowsMut::new(&mut dt, t_len));
            });
        });
    }
}

fn fm(c: &mut Criterion) {
    let (pool, isa, batch, fields, dim) = (Pool::new(threads()), Isa::best(), 10_000, 39, 16);
    let (v, mut dv) = (numbers(batch * fields * dim), numbers(batch * fields * dim));
    let (linear, mut dlinear) = (numbers(batch * fields), numbers(batch * fields));
    let (mut logits, dlogits) = (numbers(batch), numbers(batch));
    let mut group = c.benchmark_group("fm");
    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function("forward/39x16", |b| {
        b.iter(|| {
            let (v, linear) =
                (Rows::new(black_box(&v), fields * dim), Rows::new(black_box(&linear), fields));
            fm::forward(&pool, isa, batch, (fields, dim), v, linear, RowsMut::new(&mut logits, 1));
        });
    });
    group.bench_function("backward/39x16", |b| {
        b.iter(|| {
            let (v, g) =
                (Rows::new(black_box(&v), fields * dim), Rows::new(black_box(&dlogits), 1));
            let (dv, dlinear) =
                (RowsMut::new(&mut dv, fields * dim), RowsMut::new(&mut dlinear, fields));
            fm::backward(&pool, isa, batch, (fields, dim), v, g, dv, dlinear);
        });
    });
}

criterion_group!(benches, dot, fm);
criterion_main!(benches);
