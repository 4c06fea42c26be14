//! Criteo's text to columns, and the whole recipe `facebook-kaggle`: lines a second of a made-up
//! log of a million. `CRITEO_LOG=FILE` keeps it, for scripts/criteo-peers.sh.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    batch::Batch,
    data::{
        Source,
        preprocess::{
            criteo::{Blocks, Line, parse},
            prepare::{self, Job, Recipe},
        },
        source::planted,
    },
    host::{Isa, pool::Pool},
    workload::{OnError, PlantedConfig},
};
use std::{
    fmt::Write, fs, hint::black_box, path::PathBuf, sync::atomic::AtomicBool, time::Duration,
};

const LINES: usize = 1_000_000;
/// Lines that are in memory at once while they are read.
const CHUNK: usize = 16 << 20;

/// A planted log with the cardinalities of Criteo Kaggle, written as Criteo's: some fields missing,
/// 250 bytes a line.
fn log() -> String {
    let config = PlantedConfig {
        train_samples: LINES as u64,
        eval_samples: 1000,
        ..PlantedConfig::of("criteo_kaggle")
    };
    let mut source: Box<dyn Source> = planted::open(&config).expect("a preset").train;
    let mut batch = Batch::with_capacity(source.schema(), 8192);
    let mut text = String::with_capacity(LINES * 260);
    let mut start = 0;
    while start < LINES {
        let n = 8192.min(LINES - start);
        source.fill(0, start as u64, n, &mut batch).expect("an endless log");
        for i in 0..n {
            let _ = write!(text, "{}", batch.labels[i]);
            for (k, &x) in batch.dense[i * 13..(i + 1) * 13].iter().enumerate() {
                // Widths as in the real log: one to five digits, one in eight missing.
                let number = (x.abs() * [3.0, 100.0, 30.0, 8.0, 9000.0][k % 5]) as i64;
                let _ =
                    if (i + k) % 8 == 0 { write!(text, "\t") } else { write!(text, "\t{number}") };
            }
            for (j, bags) in batch.bags.iter().enumerate() {
                let id = bags.indices[i].wrapping_mul(0x9e37_79b1).rotate_left(j as u32);
                let _ =
                    if (i + j) % 16 == 0 { write!(text, "\t") } else { write!(text, "\t{id:08x}") };
            }
            text.push('\n');
        }
        start += n;
    }
    text
}

/// The text in stretches of whole lines.
fn stretches(text: &str) -> Vec<&[u8]> {
    let (mut rest, mut all) = (text.as_bytes(), Vec::new());
    while rest.len() > CHUNK {
        let cut = CHUNK + rest[CHUNK..].iter().position(|&b| b == b'\n').map_or(0, |n| n + 1);
        let (head, tail) = rest.split_at(cut);
        all.push(head);
        rest = tail;
    }
    all.push(rest);
    all
}

fn criteo(c: &mut Criterion) {
    let text = log();
    println!("{} lines, {} bytes", LINES, text.len());
    let mut group = c.benchmark_group("criteo_parse");
    group.sample_size(10).throughput(Throughput::Elements(LINES as u64));
    group.bench_function("plain, 1 thread", |b| {
        let mut line = Line::default();
        b.iter(|| {
            text.lines()
                .for_each(|l| parse(l.as_bytes(), black_box(&mut line)).expect("a good line"))
        });
    });
    let stretches = stretches(&text);
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.available())
        {
            let mut blocks = Blocks::new(isa, OnError::Fail, threads);
            group.bench_function(BenchmarkId::new(isa.name(), threads), |b| {
                b.iter(|| {
                    for text in &stretches {
                        blocks.fill(&pool, text).expect("good lines");
                        black_box(&blocks);
                    }
                });
            });
        }
    }
    group.finish();
    let dir = tempfile::tempdir().expect("a folder");
    let raw =
        std::env::var_os("CRITEO_LOG").map_or_else(|| dir.path().join("train.txt"), PathBuf::from);
    fs::write(&raw, &text).expect("room for the log");
    let mut group = c.benchmark_group("facebook_kaggle");
    group.sample_size(10).throughput(Throughput::Elements(LINES as u64));
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            b.iter(|| {
                let output = dir.path().join("out");
                let job = Job {
                    recipe: Recipe::FacebookKaggle,
                    parameters: Recipe::FacebookKaggle.parameters(),
                    raw: vec![raw.clone()],
                    output: output.clone(),
                    memory: 2 << 30,
                    threads,
                    isa: Isa::best(),
                    checkpoint: Duration::from_secs(30),
                };
                black_box(
                    prepare::run(&job, &AtomicBool::new(false), &mut |_| ()).expect("a good log"),
                );
                fs::remove_dir_all(&output).expect("the output");
            });
        });
    }
}

criterion_group!(benches, criteo);
criterion_main!(benches);
