use super::*;
use crate::data::{
    format::{Writer, bin40::Bin40Writer},
    rows::Rows,
    source::config::DenseTransform,
};
use proptest::prelude::*;
use std::path::PathBuf;

fn train(batch_size: usize) -> OpenSettings {
    OpenSettings { batch_size, ..super::super::testing::settings() }
}

/// A file in which sample `i` has label `i % 2`, counts `i` and ids `i + k`.
fn file(dir: &Path, name: &str, n: usize) -> PathBuf {
    let (path, layout) = (dir.join(name), Layout::criteo(Numbers::Int32));
    let mut writer = Bin40Writer::create(&path, &layout).unwrap();
    let mut rows = Rows::new(&layout);
    for i in 0..n {
        rows.labels.push((i % 2) as f32);
        rows.dense.extend([i as f64; DENSE]);
        rows.ids.iter_mut().enumerate().for_each(|(k, b)| b.push([(i + k) as u32]));
    }
    writer.write(&rows).unwrap();
    Box::new(writer).finish().unwrap();
    path
}

fn config(train: PathBuf, eval: PathBuf) -> Bin40Config {
    Bin40Config {
        train: vec![train],
        eval,
        test: None,
        tables: None,
        max_ind_range: None,
        dense_transform: DenseTransform::Raw,
        shuffle: RecordShuffle::None,
        buffer: None,
    }
}

/// The first ids of a range.
fn samples(source: &mut dyn Source, epoch: u64, start: u64, n: usize) -> Vec<u32> {
    let mut batch = Batch::with_capacity(source.schema(), n);
    source.fill(epoch, start, n, &mut batch).unwrap();
    assert_eq!((batch.len, batch.labels.len(), batch.dense.len()), (n, n, 13 * n));
    assert!(batch.bags.iter().all(|b| b.is_one_hot()));
    for i in 0..n {
        let id = batch.bags[0].indices[i];
        assert_eq!(
            (batch.labels[i], batch.dense[13 * i], batch.bags[25].indices[i]),
            ((id % 2) as f32, id as f32, id + 25)
        );
    }
    batch.bags[0].indices.clone()
}

#[test]
fn tables_are_as_large_as_the_files_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let c = config(file(dir.path(), "train.bin", 10), file(dir.path(), "eval.bin", 3));
    let data = open(&c, &train(4)).unwrap();
    let rows = |d: &Dataset| d.train.schema().tables.iter().map(|t| t.rows).collect::<Vec<_>>();
    assert_eq!(rows(&data), (10..36).collect::<Vec<_>>());
    assert_eq!((data.train.len(), data.eval.len(), data.test.is_none()), (Some(10), Some(3), true));
    assert!(data.facts.notes.iter().any(|n| n.contains("largest ids")));
    let c = Bin40Config { max_ind_range: Some(20), test: Some(c.eval.clone()), ..c };
    let data = open(&c, &train(4)).unwrap();
    assert_eq!(rows(&data), (10..36).map(|r| r.min(20)).collect::<Vec<_>>());
    assert_eq!(data.test.unwrap().len(), Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Each range of each epoch holds what the whole epoch holds there; whole batches move, what is
    /// in them stays together.
    #[test]
    fn batches_are_shuffled_and_ranges_are_repeatable(
        n in 1usize..60,
        size in 1usize..12,
        shuffled: bool,
        asks in prop::collection::vec((0u64..3, 0usize..60, 0usize..60), 0..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "a.bin", n);
        let shuffle = if shuffled { RecordShuffle::Batch } else { RecordShuffle::None };
        let c = Bin40Config { shuffle, ..config(path.clone(), path) };
        let mut data = open(&c, &train(size)).unwrap();
        let wholes: Vec<Vec<u32>> = (0..3).map(|e| samples(&mut *data.train, e, 0, n)).collect();
        for (epoch, whole) in wholes.iter().enumerate() {
            let mut sorted = whole.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..n as u32).collect::<Vec<_>>());
            for (b, batch) in whole.chunks(size).enumerate() {
                prop_assert!(batch.windows(2).all(|w| w[1] == w[0] + 1) && (batch[0] as usize).is_multiple_of(size));
                prop_assert!(batch.len() == size || b == n / size);
            }
            prop_assert!(shuffled || whole[0] == 0 && epoch < 3);
        }
        if shuffled && n / size > 7 {
            prop_assert!(wholes[0] != wholes[1] || wholes[1] != wholes[2]);
        }
        for (epoch, start, m) in asks {
            let start = start.min(n);
            let m = m.min(n - start);
            prop_assert_eq!(&samples(&mut *data.train, epoch, start as u64, m)[..], &wholes[epoch as usize][start..start + m]);
            prop_assert_eq!(samples(&mut *data.eval, epoch, start as u64, m), (start as u32..(start + m) as u32).collect::<Vec<_>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Days one after another, each shuffled for itself or all together, then through a buffer or
    /// not; ranges are repeatable.
    #[test]
    fn samples_of_several_days_are_shuffled(
        days in prop::collection::vec(1usize..30, 1..4),
        total: bool,
        buffer in prop::option::of(1usize..40),
        asks in prop::collection::vec((0u64..3, 0usize..90, 0usize..60), 0..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let n: usize = days.iter().sum();
        let whole = file(dir.path(), "all.bin", n);
        let bytes = std::fs::read(&whole).unwrap();
        let mut ends = vec![0];
        for (d, len) in days.iter().enumerate() {
            let start = ends[d];
            std::fs::write(dir.path().join(format!("day_{d}.bin")), &bytes[start * RECORD..(start + len) * RECORD]).unwrap();
            ends.push(start + len);
        }
        let train_files = (0..days.len()).map(|d| dir.path().join(format!("day_{d}.bin"))).collect();
        let shuffle = if total { RecordShuffle::Total } else { RecordShuffle::Day };
        let c = Bin40Config { train: train_files, shuffle, buffer, ..config(whole.clone(), whole) };
        let mut data = open(&c, &train(5)).unwrap();
        let wholes: Vec<Vec<u32>> = (0..3).map(|e| samples(&mut *data.train, e, 0, n)).collect();
        for whole in &wholes {
            let mut sorted = whole.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..n as u32).collect::<Vec<_>>());
            if !total && buffer.is_none() {
                for day in ends.windows(2) {
                    prop_assert!(whole[day[0]..day[1]].iter().all(|&x| (day[0]..day[1]).contains(&(x as usize))));
                }
            }
        }
        prop_assert!(n < 30 || wholes[0] != wholes[1]);
        for (epoch, start, m) in asks {
            let start = start.min(n);
            let m = m.min(n - start);
            prop_assert_eq!(&samples(&mut *data.train, epoch, start as u64, m)[..], &wholes[epoch as usize][start..start + m]);
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good.bin", 10);
    let message = |c: &Bin40Config| {
        let mut data = match open(c, &train(4)) {
            Ok(data) => data,
            Err(e) => return e.to_string(),
        };
        let mut batch = Batch::with_capacity(data.train.schema(), 10);
        data.train.fill(0, 0, 10, &mut batch).unwrap_err().to_string()
    };
    let c = Bin40Config { tables: Some(vec![20; 26]), ..config(good.clone(), good.clone()) };
    let right = "row 10: column C12 is 20; must be below 20, the rows of its table (data.tables; data.max_ind_range takes ids modulo a \
                 number)";
    assert_eq!(message(&c), format!("{}: {right}", good.display()));
    let empty = dir.path().join("empty.bin");
    std::fs::write(&empty, b"").unwrap();
    let c = config(good.clone(), empty.clone());
    assert_eq!(
        message(&c),
        format!(
            "{}: the file is empty; must hold at least one record of 160 bytes",
            empty.display()
        )
    );
    let mut bytes = std::fs::read(&good).unwrap();
    bytes[3 * RECORD] = 2;
    bytes[5 * RECORD + 159] = 0xff;
    let bad = dir.path().join("bad.bin");
    std::fs::write(&bad, &bytes).unwrap();
    assert!(
        message(&config(bad.clone(), good.clone()))
            .contains("bad.bin: row 6: column C26 is -16777")
    );
    let c = Bin40Config { tables: Some(vec![99; 26]), ..config(bad.clone(), good.clone()) };
    assert!(message(&c).ends_with("bad.bin: row 4: the label (column label) is 2; must be 0 or 1"));
    bytes[3 * RECORD] = 1;
    bytes[4..8].copy_from_slice(&(-2i32).to_le_bytes());
    std::fs::write(&bad, &bytes).unwrap();
    let c = Bin40Config { dense_transform: DenseTransform::LogPlus2, ..c };
    assert!(
        message(&c).ends_with(
            "row 1: column I1 is -2; must be above -2 for dense_transform = \"log_plus2\""
        )
    );
    let c =
        Bin40Config { shuffle: RecordShuffle::Total, train: vec![good.clone(), bad.clone()], ..c };
    assert!(message(&c).ends_with(
        "bad.bin: row 1: column I1 is -2; must be above -2 for dense_transform = \"log_plus2\""
    ));
    std::fs::write(&bad, &bytes[..999]).unwrap();
    assert!(
        message(&config(bad, good)).contains("999 bytes are 6 records of 160 bytes and 39 more")
    );
}
