//! Rows of the row file, read at random by io_uring and by threads: what it takes, and what it takes
//! of the processors. The file is in the system's cache unless it is larger than memory, so this is
//! the work about a read and not the disk.

use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use dlrm_bench::embedding::{
    RowKind,
    cached::{CachedColumn, CachedSpec, Field, ReadBy, Reads, Record, RowStore},
};
use std::{hint::black_box, time::Duration};

/// 64 numbers of f32 and a header: 268 bytes a record, 268 MB in all.
const ROWS: usize = 1_000_000;
const DIM: usize = 64;
/// Rows of a batch that are read.
const BATCH: usize = 1447;
/// Clock ticks of the kernel a second, in which it tells what a process takes.
const TICK: Duration = Duration::from_millis(10);

/// The time of the processors that all threads take, the kernel's part too.
struct Processors;

impl Measurement for Processors {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        taken()
    }

    fn end(&self, began: Duration) -> Duration {
        taken() - began
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        static WALL: WallTime = WallTime;
        WALL.formatter()
    }
}

/// Fields 14 and 15 of /proc/self/stat (proc_pid_stat(5)); nothing where there is none.
fn taken() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    TICK * ticks.map(|n| n.parse::<u32>().unwrap_or(0)).sum::<u32>()
}

/// Rows that are in the file, all but those of the last batches.
fn filled(folder: &std::path::Path, reads: Reads) -> RowStore {
    let column = CachedColumn { name: "C".into(), rows: ROWS, slots: 2 * BATCH };
    let (disk, folder) = (1 << 30, folder.to_owned());
    let spec = CachedSpec { cache: 0, host: None, disk, columns: vec![column], folder, reads };
    let record = Record::new(vec![Field { width: DIM, kind: RowKind::Fp32 }]);
    let mut store = RowStore::new(&spec, record).expect("a file");
    let ids: Vec<u32> = (0..ROWS as u32).collect();
    ids.chunks(BATCH).for_each(|ids| read(&mut store, ids, true));
    store
}

/// One batch: what goes is kept, what comes is read.
fn read(store: &mut RowStore, ids: &[u32], trains: bool) {
    let mut resolved = store.begin(trains).expect("no other batch");
    assert!(store.resolve(&mut resolved, 0, ids));
    for gone in resolved.evicted(0).to_vec() {
        store.keep(0, gone.row, &mut |_, out| out.fill(gone.row as u8)).expect("written");
    }
    store.fetch(&mut resolved).expect("places");
    let mut bytes = Vec::new();
    for n in 0..resolved.inserts(0).len() {
        black_box(store.fetched(&resolved, 0, n, &mut bytes).expect("read"));
    }
    store.arrived(&mut resolved);
    if trains {
        store.dirty(&resolved);
    }
    store.release(resolved);
}

fn random_rows<M: Measurement>(c: &mut Criterion<M>, what: &str) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut group = c.benchmark_group(what);
    group.throughput(Throughput::Elements(BATCH as u64));
    for reads in [Reads::Ring, Reads::Threads] {
        let mut store = filled(folder.path(), reads);
        let mut state = 1u64;
        let mut ids = vec![0; BATCH];
        group.bench_function(ReadBy::here(reads).to_string(), |b| {
            b.iter(|| {
                for id in &mut ids {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    *id = ((u128::from(state) * ROWS as u128) >> 64) as u32;
                }
                read(&mut store, &ids, false);
            });
        });
    }
}

fn seconds(c: &mut Criterion) {
    random_rows(c, "seconds of a batch");
}

fn processors(c: &mut Criterion<Processors>) {
    random_rows(c, "processor seconds of a batch");
}

criterion_group!(of_time, seconds);
criterion_group! {
    name = of_processors;
    config = Criterion::default().with_measurement(Processors);
    targets = processors
}
criterion_main!(of_time, of_processors);
