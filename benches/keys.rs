//! Keys of tables that grow: slots of a batch's ids, by how many keys a table has. Beside them what a
//! resident table does with an id, which is nothing but to read its row's first number.
//!
//! Prints what the keys take of memory, too. 100 million keys take 4 GB here.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::embedding::hashed::{Changes, HashedColumn, HashedConfig, HashedTable};
use std::{hint::black_box, time::Instant};

const BATCH: usize = 2048;

/// Bytes of its own that the process has in memory, where the system says it.
fn own_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The finaliser of SplitMix64: a hash of a number.
fn hashed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Numbers of keys below `n`: all alike, or by Zipf's law with exponent 1, about.
fn drawn(n: u64, zipf: bool, count: usize) -> Vec<u64> {
    let unit = |k: u64| (hashed(k ^ 0xABCD) >> 11) as f64 / (1u64 << 53) as f64;
    let of = |u: f64| if zipf { (n as f64).powf(u) - 1.0 } else { u * n as f64 };
    (0..count as u64).map(|k| (of(unit(k)) as u64).min(n - 1)).collect()
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("slots of 2048 ids");
    group.throughput(Throughput::Elements(BATCH as u64));
    for n in [100_000u64, 1_000_000, 10_000_000, 100_000_000] {
        let before = own_memory();
        let column = HashedColumn {
            name: "C1".to_owned(),
            ids: n as usize,
            any_keys: true,
            resident: false,
            capacity: n as usize,
            rows: n as usize,
        };
        let mut table = HashedTable::new(HashedConfig::default(), &column);
        let (mut out, mut changes) = (Vec::new(), Changes::default());
        let began = Instant::now();
        for first in (0..n).step_by(BATCH) {
            let new = (first..n.min(first + BATCH as u64)).map(hashed);
            table.resolve(new, 1, &mut out, &mut changes).unwrap_or_else(|e| panic!("{e}"));
        }
        let rate = n as f64 / began.elapsed().as_secs_f64();
        if let (Some(before), Some(after)) = (before, own_memory()) {
            let each = after.saturating_sub(before) as f64 / n as f64;
            println!("{n} keys: {each:.1} bytes each, {rate:.0} new ones a second");
        }
        let mut resident = vec![0u64; 1 << 17];
        for (what, zipf) in [("uniform", false), ("zipf", true)] {
            // Ids of many batches, so that none is in the caches for having been asked for.
            let ids: Vec<u64> = drawn(n, zipf, BATCH << 8).into_iter().map(hashed).collect();
            let mut batches = ids.chunks_exact(BATCH).cycle();
            let mut step = 1;
            group.bench_function(BenchmarkId::new(format!("{what}, of a growing table"), n), |b| {
                b.iter(|| {
                    step += 1;
                    let batch = batches.next().unwrap_or_default().iter().copied();
                    table
                        .resolve(batch, step, &mut out, &mut changes)
                        .unwrap_or_else(|e| panic!("{e}"));
                    black_box(&out);
                });
            });
            let rows: Vec<u64> = drawn(n, zipf, BATCH << 8);
            let mut batches = rows.chunks_exact(BATCH).cycle();
            resident.resize(n as usize, 0);
            group.bench_function(BenchmarkId::new(format!("{what}, of a resident one"), n), |b| {
                b.iter(|| {
                    let batch = batches.next().unwrap_or_default();
                    batch.iter().for_each(|&row| resident[row as usize] += 1);
                    black_box(&resident);
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = keys
}
criterion_main!(benches);
