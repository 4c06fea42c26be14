use super::*;
use crate::data::{
    format::{Writer, parquet::ParquetWriter},
    rows::{IdColumn, Numbers, Rows},
    source::config::{DenseTransform, HeldOut},
};
use proptest::prelude::*;
use std::path::Path;

/// Batches of 4, read by `threads` threads.
fn settings(threads: usize) -> OpenSettings {
    OpenSettings { batch_size: 4, threads, ..super::super::testing::settings() }
}

fn layout() -> Layout {
    let mut layout = Layout::numbered(1, Numbers::Int32, [Hotness::One]);
    layout.ids.push(IdColumn { name: "tags".into(), hotness: Hotness::Any });
    layout
}

/// Samples `from..to`: label `i % 2`, count `i`, id `i`, tags `i % 3` times `i`; every fifth count
/// and every seventh id is missing.
fn file(path: &Path, from: usize, to: usize, group: usize) {
    let layout = layout();
    let mut writer = ParquetWriter::create(path, &layout).unwrap();
    for start in (from..to).step_by(group) {
        let mut rows = Rows::new(&layout);
        for i in start..(start + group).min(to) {
            rows.labels.push((i % 2) as f32);
            rows.dense.push(if i % 5 == 0 { f64::NAN } else { i as f64 });
            rows.ids[0].push((i % 7 != 0).then_some(i as u32));
            rows.ids[1].push(vec![i as u32; i % 3]);
        }
        writer.write(&rows).unwrap();
        writer.spill().unwrap();
    }
    Box::new(writer).finish().unwrap();
}

fn config(train: &Path, eval: &Path) -> ParquetConfig {
    ParquetConfig {
        train: vec![train.to_owned()],
        eval: vec![eval.to_owned()],
        held_out: HeldOut::default(),
        test: Vec::new(),
        label: None,
        dense: Vec::new(),
        categorical: Vec::new(),
        ignore: Vec::new(),
        tables: None,
        hotness: None,
        id_stride: 0,
        max_ind_range: None,
        dense_transform: DenseTransform::Raw,
        shuffle: GroupShuffle::None,
        buffer: None,
        ..ParquetConfig::default()
    }
}

/// The numbers of the samples in a range, told by the labels and all columns together.
fn samples(source: &mut dyn Source, epoch: u64, start: u64, n: usize) -> Vec<usize> {
    let mut batch = Batch::with_capacity(source.schema(), n);
    source.fill(epoch, start, n, &mut batch).unwrap();
    assert_eq!((batch.len, batch.labels.len(), batch.dense.len()), (n, n, n));
    assert!(batch.bags[0].is_one_hot());
    let number = |i: usize| -> usize {
        let (x, id, tags) =
            (batch.dense[i] as usize, batch.bags[0].indices[i] as usize, batch.bags[1].bag(i));
        let number = x.max(id).max(tags.first().map_or(0, |&t| t as usize));
        assert_eq!((batch.labels[i], tags.len()), ((number % 2) as f32, number % 3));
        assert_eq!(x, if number.is_multiple_of(5) { 0 } else { number });
        assert_eq!(id, if number.is_multiple_of(7) { 0 } else { number });
        number
    };
    (0..n).map(number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Row groups move, what is in them stays together, and each range of each epoch holds what the
    /// whole epoch holds there. Sample 0 and 105 would not be told apart, so that there are fewer.
    #[test]
    fn row_groups_are_shuffled_and_ranges_are_repeatable(
        cut in 1usize..40,
        more in 1usize..40,
        group in 1usize..12,
        shuffled: bool,
        threads in 1usize..5,
        asks in prop::collection::vec((0u64..3, 0usize..80, 0usize..80), 0..8),
    ) {
        let (dir, n) = (tempfile::tempdir().unwrap(), cut + more);
        let eval = dir.path().join("eval.parquet");
        std::fs::create_dir(dir.path().join("train")).unwrap();
        file(&dir.path().join("train/part-0.parquet"), 0, cut, group);
        file(&dir.path().join("train/part-1.parquet"), cut, n, group);
        std::fs::write(dir.path().join("train/_SUCCESS.parquet"), b"").unwrap();
        file(&eval, 0, n, 100);
        let shuffle = if shuffled { GroupShuffle::RowGroup } else { GroupShuffle::None };
        let c = ParquetConfig { shuffle, ..config(&dir.path().join("train"), &eval) };
        let mut data = open(&c, &settings(threads)).unwrap();
        prop_assert_eq!(data.train.len(), Some(n as u64));
        let wholes: Vec<Vec<usize>> = (0..3).map(|e| samples(&mut *data.train, e, 0, n)).collect();
        for whole in &wholes {
            let mut sorted = whole.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &(0..n).collect::<Vec<_>>());
            prop_assert!(shuffled || *whole == sorted);
            // A step other than one forward leads from the end of a group to the start of one.
            for w in whole.windows(2).filter(|w| w[1] != w[0] + 1) {
                let start = |i: usize| if i < cut { i.is_multiple_of(group) } else { (i - cut).is_multiple_of(group) };
                prop_assert!(start(w[1]) && (w[0] + 1 == n || start(w[0] + 1)));
            }
        }
        for (epoch, start, m) in asks {
            let start = start.min(n);
            let m = m.min(n - start);
            prop_assert_eq!(&samples(&mut *data.train, epoch, start as u64, m)[..], &wholes[epoch as usize][start..start + m]);
            prop_assert_eq!(samples(&mut *data.eval, epoch, start as u64, m), (start..start + m).collect::<Vec<_>>());
        }
    }
}

#[test]
fn tables_are_as_large_as_the_files_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    file(&path, 0, 20, 6);
    let sizes = |c: &ParquetConfig| {
        let data = open(c, &settings(1)).unwrap();
        data.train.schema().tables.iter().map(|t| (t.rows, t.max_hotness)).collect::<Vec<_>>()
    };
    let c = config(&path, &path);
    assert_eq!(sizes(&c), [(20, 1), (20, 2)]);
    assert_eq!(sizes(&ParquetConfig { max_ind_range: Some(15), ..c.clone() }), [(15, 1), (15, 2)]);
    let given = ParquetConfig { tables: Some(vec![50, 60]), hotness: Some(vec![1, 4]), ..c };
    assert_eq!(sizes(&given), [(50, 1), (60, 4)]);
}

/// A range comes before the sizes of the tables, and the same samples have the same rows of them
/// whether the files have statistics or not.
#[test]
fn a_range_takes_ids_before_they_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    file(&path, 0, 20, 6);
    let c = ParquetConfig { max_ind_range: Some(6), ..config(&path, &path) };
    let mut data = open(&c, &settings(2)).unwrap();
    let mut batch = Batch::with_capacity(data.train.schema(), 20);
    data.train.fill(0, 0, 20, &mut batch).unwrap();
    let want: Vec<u32> = (0..20).map(|i| if i % 7 == 0 { 0 } else { i % 6 }).collect();
    assert_eq!(batch.bags[0].indices, want);
    let small = ParquetConfig { tables: Some(vec![5, 6]), ..c };
    let mut data = open(&small, &settings(2)).unwrap();
    let error = data.train.fill(0, 0, 20, &mut batch).unwrap_err().to_string();
    assert!(
        error.contains("row 6: column C1 is 5; must be below 5, the rows of its table"),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    file(&path, 0, 20, 6);
    let c = config(&path, &path);
    let said = |c: &ParquetConfig, threads| {
        let mut data = match open(c, &settings(threads)) {
            Ok(data) => data,
            Err(e) => return e.to_string(),
        };
        let mut batch = Batch::with_capacity(data.train.schema(), 20);
        data.train.fill(0, 0, 20, &mut batch).unwrap_err().to_string()
    };
    let message = |c: &ParquetConfig| {
        let one = said(c, 1);
        assert!((2..5).all(|threads| said(c, threads) == one));
        one
    };
    let tables = |tables: &[usize], hotness: &[usize]| ParquetConfig {
        tables: Some(tables.to_vec()),
        hotness: Some(hotness.to_vec()),
        ..c.clone()
    };
    assert!(message(&tables(&[9], &[1, 2])).contains(
        "data.tables has 1 entries; must have 2, one for each categorical column (C1, tags)"
    ));
    assert!(
        message(&tables(&[9, 99], &[1, 2]))
            .contains("a.parquet: row 10: column C1 is 9; must be below 9, the rows of its table")
    );
    assert!(
        message(&tables(&[99, 99], &[1, 1]))
            .contains("row 3: column tags holds 2 ids; must be at most 1 (data.hotness)")
    );
    let missing = ParquetConfig { dense: vec!["price".into()], ..c.clone() };
    assert!(
        message(&missing).contains("there is no column price; the columns are label, I1, C1, tags")
    );
    let log = ParquetConfig { label: Some("I1".into()), ..c.clone() };
    assert!(message(&log).contains("row 1: the label (column I1) is missing"));
    assert!(
        message(&config(&dir.path().join("none.parquet"), &path))
            .contains("none.parquet: No such file")
    );
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(message(&config(&empty, &path)).contains("no file in this folder ends in .parquet"));
    let none = dir.path().join("rowless.parquet");
    file(&none, 0, 0, 1);
    assert!(
        message(&config(&path, &none))
            .contains("rowless.parquet: there are no rows; must be at least one")
    );
}

#[test]
fn samples_are_held_out_of_all_training_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    file(&path("a.parquet"), 0, 7, 3);
    file(&path("b.parquet"), 7, 40, 10);
    let c = ParquetConfig {
        train: vec![path("a.parquet"), path("b.parquet")],
        eval: Vec::new(),
        held_out: HeldOut { hold_out: Some(4), ..HeldOut::default() },
        ..config(&path("a.parquet"), &path("a.parquet"))
    };
    let mut data = open(&c, &settings(2)).unwrap();
    let (held_out, kept): (Vec<usize>, Vec<usize>) = (0..40).partition(|i| i % 4 == 3);
    assert_eq!(samples(&mut *data.train, 0, 0, 30), kept);
    assert_eq!(samples(&mut *data.eval, 0, 0, 10), held_out);
    assert_eq!(samples(&mut *data.train, 1, 5, 12), kept[5..17]);
    assert_eq!(data.facts.notes[0], "train: 30 samples, eval: 10 samples");
    // A buffer shuffles what is trained on.
    let mut data = open(&ParquetConfig { buffer: Some(100), ..c.clone() }, &settings(1)).unwrap();
    let mut shuffled = samples(&mut *data.train, 0, 0, 30);
    assert_ne!(shuffled, kept);
    shuffled.sort_unstable();
    assert_eq!(shuffled, kept);
    let error = open(
        &ParquetConfig { held_out: HeldOut { hold_out: Some(41), ..HeldOut::default() }, ..c },
        &settings(1),
    )
    .map(drop);
    assert_eq!(
        error.unwrap_err().to_string(),
        "data.train: has 40 samples, of which data.hold_out = 41 leaves none for evaluation"
    );
}
