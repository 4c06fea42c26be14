use super::*;
use crate::data::source::config::{HeldOut, IdKind};
use crate::data::{
    rows::Numbers,
    source::{config::DenseTransform, testing::settings},
};
use proptest::prelude::*;

/// Samples of which label, dense value and ids tell the number.
fn write(path: &Path, format: Format, numbers: std::ops::Range<u32>, hotness: Hotness) {
    let layout = Layout::numbered(1, Numbers::Float32, [Hotness::One, hotness]);
    let mut rows = Rows::new(&layout);
    for i in numbers {
        rows.labels.push((i % 2) as f32);
        rows.dense.push(f64::from(i));
        rows.ids[0].push([i]);
        rows.ids[1].push(match hotness {
            Hotness::Any => vec![7; (i % 3) as usize],
            Hotness::One => vec![i % 5],
            Hotness::Fixed(_) => vec![i % 5, 9],
        });
    }
    let mut writer = format::create(path, format, &layout).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
}

fn config(format: Format, train: &[PathBuf]) -> FilesConfig {
    FilesConfig {
        ids: IdKind::Rows,
        format,
        train: train.to_vec(),
        eval: train[..1].to_vec(),
        held_out: HeldOut::default(),
        test: Vec::new(),
        label: None,
        dense: Vec::new(),
        categorical: Vec::new(),
        ignore: Vec::new(),
        tables: None,
        hotness: None,
        max_ind_range: None,
        dense_transform: DenseTransform::Raw,
        buffer: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever a batch begins, in whatever order they are asked for, over the borders of files.
    #[test]
    fn any_range_is_what_the_files_hold(
        ranges in prop::collection::vec((0u64..3, 0u64..60, 1usize..40), 1..12),
        any: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (format, hotness, ending) = match any {
            true => (Format::LibSvm, Hotness::Any, "libsvm"),
            false => (Format::HugeCtr, Hotness::Fixed(2), "raw"),
        };
        let paths = ["a", "b"].map(|n| dir.path().join(format!("{n}.{ending}")));
        write(&paths[0], format, 0..25, hotness);
        write(&paths[1], format, 25..60, hotness);
        let mut data = open(&config(format, &paths), &settings()).unwrap();
        prop_assert_eq!((data.train.len(), data.eval.len()), (Some(60), Some(25)));
        let tables: Vec<(usize, usize)> =
            data.train.schema().tables.iter().map(|t| (t.rows, t.max_hotness)).collect();
        prop_assert_eq!(tables, [(60, 1), (if any { 8 } else { 10 }, 2)]);
        let mut batch = Batch::with_capacity(data.train.schema(), 40);
        for (epoch, start, n) in ranges {
            let n = n.min((60 - start) as usize);
            data.train.fill(epoch, start, n, &mut batch).unwrap();
            let want: Vec<u32> = (start as u32..start as u32 + n as u32).collect();
            prop_assert_eq!(&batch.bags[0].indices, &want);
            prop_assert_eq!(batch.len, n);
            prop_assert_eq!(batch.dense.len(), n);
            for (i, &number) in want.iter().enumerate() {
                prop_assert_eq!((batch.labels[i], batch.dense[i]), ((number % 2) as f32, number as f32));
                let bag: Vec<u32> =
                    if any { vec![7; (number % 3) as usize] } else { vec![number % 5, 9] };
                prop_assert_eq!(batch.bags[1].bag(i), &bag[..]);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("a.raw"), Format::HugeCtr, 0..20, Hotness::Fixed(2));
    write(&at("one.raw"), Format::HugeCtr, 0..20, Hotness::One);
    write(&at("empty.raw"), Format::HugeCtr, 0..0, Hotness::Fixed(2));
    let whole = config(Format::HugeCtr, &[at("a.raw")]);
    let said = |c: &FilesConfig| {
        let mut data = match open(c, &settings()) {
            Ok(data) => data,
            Err(e) => return e.to_string(),
        };
        let mut batch = Batch::with_capacity(data.train.schema(), 20);
        data.train.fill(0, 0, 20, &mut batch).unwrap_err().to_string()
    };
    let tables = |tables: &[usize], hotness: &[usize]| FilesConfig {
        tables: Some(tables.to_vec()),
        hotness: Some(hotness.to_vec()),
        ..whole.clone()
    };
    assert!(said(&tables(&[9], &[1])).contains("data.tables has 1 entries; must have 2, one for"));
    assert!(
        said(&tables(&[9, 99], &[1, 2]))
            .contains("a.raw: row 10: column C1 is 9; must be below 9, the rows of its table")
    );
    assert!(
        said(&tables(&[20, 99], &[1, 1]))
            .contains("row 1: column C2 holds 2 ids; must be at most 1 (data.hotness)")
    );
    let other = config(Format::HugeCtr, &[at("a.raw"), at("one.raw")]);
    assert!(said(&other).contains("one.raw: has other columns than the first training file"));
    let empty = config(Format::HugeCtr, &[at("a.raw"), at("empty.raw")]);
    assert!(said(&empty).contains("empty.raw: there are no rows; must be at least one"));
    let twice = config(Format::HugeCtr, &[at("a.raw"), at("a.raw")]);
    assert!(said(&twice).contains("is named twice"));
    let reduced = FilesConfig { max_ind_range: Some(6), ..whole };
    let data = open(&reduced, &settings()).unwrap();
    assert_eq!(data.train.schema().tables.iter().map(|t| t.rows).collect::<Vec<_>>(), [6, 5]);
}
