//! Embedding bags and sparse updates at the shapes of the workloads.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    backend::{
        Update,
        cpu::{
            bags,
            gemm::{Rows, RowsMut},
            groups::Groups,
            sparse_update::{BagGradient, SparseUpdate},
        },
    },
    batch::{Bags, CheckedBags},
    embedding::{RowKind, TableSet},
    host::{Isa, pool::Pool},
    model::Pooling,
    optim::{Adagrad, Adam, AdamForm, AdamRows, OptimizerSpec, RowwiseAdagrad, rules::Step},
};
use std::hint::black_box;

const BATCH: usize = 2048;

/// Tables of equal size, and `hotness` ids a bag, uniform over the rows.
struct Shape {
    name: &'static str,
    tables: usize,
    rows: usize,
    dim: usize,
    hotness: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "26x10k x16", tables: 26, rows: 10_000, dim: 16, hotness: 1 },
    Shape { name: "26x200k x16", tables: 26, rows: 200_000, dim: 16, hotness: 1 },
    Shape { name: "8x500k x64, 20 hot", tables: 8, rows: 500_000, dim: 64, hotness: 20 },
];

fn bags_of(shape: &Shape) -> Vec<Bags> {
    let mut state = 1u64;
    let mut id = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * shape.rows as u128) >> 64) as u32
    };
    (0..shape.tables)
        .map(|_| {
            let mut bags = Bags::default();
            bags.clear();
            (0..BATCH)
                .for_each(|_| bags.push((0..shape.hotness).map(|_| id()).collect::<Vec<_>>()));
            bags
        })
        .collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn rules() -> [(&'static str, OptimizerSpec); 4] {
    let eps = 1e-8;
    [
        ("sgd", OptimizerSpec::SGD),
        (
            "adagrad",
            OptimizerSpec::Adagrad(Adagrad { eps, initial_accumulator: 0.1, lr_decay: 0.0 }),
        ),
        (
            "rowwise_adagrad",
            OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps, initial_accumulator: 0.1 }),
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
    ]
}

fn embedding(c: &mut Criterion) {
    let (pool, isa) = (Pool::new(threads()), Isa::best());
    for shape in &SHAPES {
        let (rows, hotness) = (vec![shape.rows; shape.tables], vec![shape.hotness; shape.tables]);
        let bags = bags_of(shape);
        let checked = CheckedBags::new(&bags, BATCH, &rows, &hotness).expect("ids of the tables");
        let stride = (shape.tables + 1) * shape.dim;
        let mut out = vec![0.01; BATCH * stride];
        let mut groups = Groups::new(&rows, &hotness, BATCH, threads());
        let mut sparse = SparseUpdate::new(shape.dim, shape.tables, threads());
        let mut group = c.benchmark_group(shape.name);
        group.throughput(Throughput::Elements((BATCH * shape.tables * shape.hotness) as u64));
        group.bench_function("sort", |b| b.iter(|| groups.sort(&pool, black_box(checked))));
        groups.sort(&pool, checked);
        let in_16_bits = [RowKind::Bf16, RowKind::Fp16, RowKind::Bf16Split]
            .map(|kind| (kind, "sgd", OptimizerSpec::SGD));
        for (kind, name, rule) in
            rules().into_iter().map(|(name, rule)| (RowKind::Fp32, name, rule)).chain(in_16_bits)
        {
            let mut set = TableSet::new(kind, &rows, shape.dim, Pooling::Sum, &rule)
                .expect("memory for the tables");
            set.tables.iter_mut().for_each(|t| t.edit(1 << 20, |_, part| part.fill(0.5)));
            if name == "sgd" {
                group.bench_function(BenchmarkId::new("forward", kind.name()), |b| {
                    b.iter(|| {
                        let out = RowsMut::new(&mut out[shape.dim..], stride);
                        bags::forward(&pool, isa, &set, black_box(checked), out);
                    });
                });
            }
            let update = Update { step: Step::new(&rule, 1e-9, 1), scale: 1.0, noise: (1, 1) };
            let gradient =
                BagGradient { bags: &bags, pooled: Rows::new(&out[shape.dim..], stride), l2: 0.0 };
            group.bench_function(BenchmarkId::new(format!("update {}", kind.name()), name), |b| {
                b.iter(|| sparse.update(&pool, isa, &mut set, &groups, gradient, &update));
            });
        }
    }
}

criterion_group!(benches, embedding);
criterion_main!(benches);
