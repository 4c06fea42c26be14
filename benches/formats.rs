//! How fast files feed the loader: samples a second of `Source::fill`, in batches of 2048, from
//! files in the page cache.
//!
//! `FORMATS_DIR=/tmp/formats cargo bench --bench formats` keeps the files there, for
//! `scripts/formats-peers.sh`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    batch::Batch,
    data::{
        Source,
        format::{CHUNK, Format, create, planted::PlantedReader},
        rows::Rows,
        source,
    },
    workload::{
        Bin40Config, DenseTransform, GroupShuffle, ParquetConfig, PlantedConfig, RecordShuffle,
    },
};
use std::{
    hint::black_box,
    path::{Path, PathBuf},
};

const SAMPLES: u64 = 1 << 19;
const BATCH: usize = 2048;
/// Tables are capped so that the labels' truth is made quickly; the files hold four bytes an id
/// whatever its size.
const MAX_ROWS: usize = 1_000_000;

fn write(path: &Path, format: Format) {
    use dlrm_bench::data::format::Reader;
    let config = PlantedConfig {
        max_rows: Some(MAX_ROWS),
        train_samples: SAMPLES,
        eval_samples: 10_000,
        ..PlantedConfig::of("criteo_kaggle")
    };
    let mut reader = PlantedReader::new(source::planted::open(&config).unwrap().train, 0, SAMPLES);
    let mut writer = create(path, format, reader.layout()).unwrap();
    let mut rows = Rows::new(reader.layout());
    loop {
        reader.read(CHUNK, &mut rows).unwrap();
        if rows.is_empty() {
            return writer.finish().unwrap();
        }
        writer.write(&rows).unwrap();
    }
}

fn fill(c: &mut Criterion, name: &str, mut source: Box<dyn Source>) {
    let mut batch = Batch::with_capacity(source.schema(), BATCH);
    let mut group = c.benchmark_group("fill");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut at = 0;
    group.bench_function(name, |b| {
        b.iter(|| {
            source.fill(at / SAMPLES, at % SAMPLES, BATCH, &mut batch).unwrap();
            at += BATCH as u64;
            black_box(&batch);
        });
    });
    group.finish();
}

fn formats(c: &mut Criterion) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("FORMATS_DIR").map_or(temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&dir).unwrap();
    let settings = |threads| source::OpenSettings {
        batch_size: BATCH,
        seed: 1,
        threads,
        shards: None,
        draw: source::DrawOrder::default(),
    };
    let (bin, parquet) = (dir.join("a.bin"), dir.join("a.parquet"));
    write(&bin, Format::Bin40);
    write(&parquet, Format::Parquet);
    for (name, shuffle) in
        [("bin40", RecordShuffle::None), ("bin40, batches shuffled", RecordShuffle::Batch)]
    {
        let config = Bin40Config {
            train: vec![bin.clone()],
            eval: bin.clone(),
            test: None,
            tables: Some(vec![MAX_ROWS; 26]),
            max_ind_range: None,
            dense_transform: DenseTransform::Log1pClamp0,
            shuffle,
            buffer: None,
        };
        fill(c, name, source::bin40::open(&config, &settings(1)).unwrap().train);
    }
    for (name, shuffle, threads) in [
        ("parquet", GroupShuffle::None, 1),
        ("parquet, 2 threads", GroupShuffle::None, 2),
        ("parquet, row groups shuffled, 2 threads", GroupShuffle::RowGroup, 2),
    ] {
        let config = ParquetConfig {
            train: vec![parquet.clone()],
            eval: vec![parquet.clone()],
            test: Vec::new(),
            label: None,
            dense: Vec::new(),
            categorical: Vec::new(),
            ignore: Vec::new(),
            tables: Some(vec![MAX_ROWS; 26]),
            hotness: None,
            id_stride: 0,
            max_ind_range: None,
            dense_transform: DenseTransform::Log1pClamp0,
            shuffle,
            buffer: None,
            ..ParquetConfig::default()
        };
        fill(c, name, source::parquet::open(&config, &settings(threads)).unwrap().train);
    }
}

criterion_group!(benches, formats);
criterion_main!(benches);
