//! Random samples, and ways to pass them through a format, for tests.

use super::{CHUNK, Format, Reader, columns::Columns, create, open};
use crate::{
    data::{
        DataError,
        rows::{Hotness, IdColumn, Layout, Numbers, Rows},
    },
    random::philox::{Philox, Stream},
};
use proptest::prelude::*;
use std::path::Path;

/// What kind of samples a format can hold.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// 13 and 26 columns instead of any numbers of them.
    pub criteo: bool,
    pub numbers: Numbers,
    /// Columns may hold many ids.
    pub many: bool,
    /// Values may be missing.
    pub missing: bool,
    pub largest_id: u32,
}

impl Kind {
    pub const CRITEO_INT32: Kind = Kind {
        criteo: true,
        numbers: Numbers::Int32,
        many: false,
        missing: true,
        largest_id: i32::MAX as u32,
    };
    pub const ANY: Kind = Kind {
        criteo: false,
        numbers: Numbers::Float64,
        many: true,
        missing: true,
        largest_id: u32::MAX,
    };
}

/// Samples of a random layout.
pub fn arbitrary(kind: Kind) -> impl Strategy<Value = (Layout, Rows)> {
    let widths = if kind.criteo { (13usize..14, 26usize..27) } else { (0..5, 0..5) };
    let widths = widths.prop_filter("a column", |(d, t)| d + t > 0);
    (widths, 0usize..70, any::<u64>()).prop_map(move |((dense, tables), n, seed)| {
        let (words, mut at) = (Philox::new(seed, Stream::Order, 0), 0);
        let mut draw = move || {
            at += 1;
            words.block_u64(at)[0]
        };
        let hotness: Vec<Hotness> =
            (0..tables).map(|_| if kind.many && draw() % 4 == 0 { Hotness::Any } else { Hotness::One }).collect();
        let layout = Layout::numbered(dense, kind.numbers, hotness);
        let mut rows = Rows::new(&layout);
        for _ in 0..n {
            rows.labels.push((draw() % 2) as f32);
            for _ in 0..dense {
                let word = draw();
                rows.dense.push(match kind.numbers {
                    _ if kind.missing && word % 5 == 0 => f64::NAN,
                    Numbers::Int32 if word % 5 == 1 => f64::from((word >> 32) as u32 as i32),
                    Numbers::Int32 => f64::from((word >> 32) as u32 % 1000),
                    Numbers::Float32 => f64::from(((word >> 40) as f32 - 8e6) / 1e4),
                    Numbers::Float64 => (word >> 11) as f64 / 1e9 - 1e6,
                });
            }
            for (bags, IdColumn { hotness, .. }) in rows.ids.iter_mut().zip(&layout.ids) {
                let word = draw();
                let many = match hotness {
                    Hotness::One => usize::from(!(kind.missing && word % 5 == 0)),
                    Hotness::Fixed(n) => *n,
                    Hotness::Any => (word % 4) as usize,
                };
                let limit = u64::from(kind.largest_id) + 1;
                bags.push((0..many).map(|_| if draw() % 3 == 0 { draw() % limit } else { draw() % 50.min(limit) } as u32));
            }
        }
        (layout, rows)
    })
}

/// Writes samples in chunks.
pub fn write_all(
    format: Format,
    path: &Path,
    layout: &Layout,
    rows: &Rows,
    chunk: usize,
) -> Result<(), DataError> {
    let mut writer = create(path, format, layout)?;
    for start in (0..rows.len()).step_by(chunk) {
        writer.write(&part(rows, layout, start, chunk.min(rows.len() - start)))?;
    }
    writer.finish()
}

/// Reads all samples in chunks.
pub fn read_all(
    format: Format,
    path: &Path,
    chunk: usize,
    columns: &Columns,
) -> Result<(Layout, Rows), DataError> {
    let mut reader = open(path, format, columns)?;
    let rows = drain(&mut *reader, chunk)?;
    assert!(reader.len().is_none_or(|n| n == rows.len() as u64));
    Ok((reader.layout().clone(), rows))
}

/// The rows of a reader to its end.
pub fn drain(reader: &mut dyn Reader, chunk: usize) -> Result<Rows, DataError> {
    let layout = reader.layout().clone();
    let (mut all, mut next) = (Rows::new(&layout), Rows::new(&layout));
    loop {
        reader.read(chunk, &mut next)?;
        assert!(next.len() <= chunk && next.dense.len() == next.len() * layout.dense.len());
        if next.is_empty() {
            return Ok(all);
        }
        all.labels.extend_from_slice(&next.labels);
        all.dense.extend_from_slice(&next.dense);
        for (all, bags) in all.ids.iter_mut().zip(&next.ids) {
            assert_eq!(bags.offsets.len(), next.labels.len() + 1);
            (0..next.labels.len()).for_each(|i| all.push_keys(bags.bag_keys(i)));
        }
    }
}

/// Writes and reads again.
pub fn round_trip(
    format: Format,
    name: &str,
    layout: &Layout,
    rows: &Rows,
    chunk: usize,
    columns: &Columns,
) -> (Layout, Rows) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    write_all(format, &path, layout, rows, chunk).unwrap();
    read_all(format, &path, CHUNK.min(2 * chunk + 1), columns).unwrap()
}

/// Rows `start..start + n`.
pub fn part(rows: &Rows, layout: &Layout, start: usize, n: usize) -> Rows {
    let (mut out, d) = (Rows::new(layout), layout.dense.len());
    out.labels.extend_from_slice(&rows.labels[start..start + n]);
    out.dense.extend_from_slice(&rows.dense[start * d..(start + n) * d]);
    for (to, from) in out.ids.iter_mut().zip(&rows.ids) {
        (start..start + n).for_each(|i| to.push(from.bag(i).iter().copied()));
    }
    out
}

/// Whether all is the same, what is missing included.
pub fn same(a: &Rows, b: &Rows) -> bool {
    let number = |(x, y): (&f64, &f64)| x == y || x.is_nan() && y.is_nan();
    a.labels == b.labels
        && a.ids == b.ids
        && a.dense.len() == b.dense.len()
        && a.dense.iter().zip(&b.dense).all(number)
}

/// The same where a format has no word for what is missing.
pub fn zeroed(rows: &Rows) -> Rows {
    let mut out = rows.clone();
    out.dense.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = 0.0);
    for (to, from) in out.ids.iter_mut().zip(&rows.ids) {
        to.clear();
        (0..rows.len()).for_each(|i| match from.bag(i) {
            [] => to.push([0]),
            bag => to.push(bag.iter().copied()),
        });
    }
    out
}

/// So many cases, and as many times more as the environment variable `PROPTEST_CASES` is times 256,
/// proptest's own number: how all tests with random and damaged files are run for long
/// (CONTRIBUTING.md).
pub fn fuzz_cases(usual: u32) -> ProptestConfig {
    let factor = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|v| v.parse().ok())
        .map_or(1, |n: u32| n.div_ceil(256));
    ProptestConfig::with_cases(usual.saturating_mul(factor))
}

/// Runs `script` with Python (`DLRM_BENCH_PYTHON`, or `python3`), where that has the modules; says
/// so where it has not.
///
/// # Panics
/// If the script fails.
pub fn python(modules: &[&str], script: &str, args: &[&Path]) -> bool {
    let program = std::env::var("DLRM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = |code: &str, args: &[&Path]| {
        std::process::Command::new(&program).arg("-c").arg(code).args(args).output()
    };
    if !run(&format!("import {}", modules.join(", ")), &[]).is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {program} with {} is not there", modules.join(", "));
        return false;
    }
    let output = run(script, args).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}
