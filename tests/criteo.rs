//! Raw Criteo logs: equal to what facebook's program makes of them, and clear about what is broken.

#[path = "support/npz.rs"]
mod npz;

use dlrm_bench::{
    batch::Batch,
    data::{
        DataError, Dataset, Source,
        preprocess::criteo::{self, DENSE, Samples, TABLES},
        source::criteo_tsv,
    },
    random::numpy::RandomState,
    workload::{CriteoSet, CriteoShuffle, CriteoTsvConfig, OnError},
};
use proptest::prelude::*;
use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
};

fn config(set: CriteoSet, paths: &[PathBuf]) -> CriteoTsvConfig {
    CriteoTsvConfig {
        set,
        paths: paths.to_vec(),
        max_ind_range: None,
        sub_sample_rate: 0.0,
        shuffle: CriteoShuffle::None,
        on_error: OnError::Fail,
        seed: 123,
    }
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")).join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn read(config: &CriteoTsvConfig) -> Result<Samples, DataError> {
    criteo::read(config, &mut RandomState::new(config.seed))
}

/// All samples of a split in order: (integers as ln(x + 1), ids, label).
fn collect(source: &mut dyn Source) -> Vec<(Vec<f32>, Vec<u32>, f32)> {
    let n = source.len().unwrap() as usize;
    let mut batch = Batch::with_capacity(source.schema(), n);
    let mut all = Vec::new();
    for start in (0..n).step_by(7) {
        source.fill(0, start as u64, 7.min(n - start), &mut batch).unwrap();
        assert!(batch.bags.iter().all(|b| b.is_one_hot()));
        for i in 0..batch.len {
            let ids = batch.bags.iter().map(|b| b.indices[i]).collect();
            all.push((batch.dense[i * DENSE..(i + 1) * DENSE].to_vec(), ids, batch.labels[i]));
        }
    }
    all
}

#[test]
fn kaggle_lines_equal_what_facebook_wrote() {
    let (Some(raw), Some(processed)) = (
        shared("data/criteo_sample/kaggle_8000.txt"),
        shared("reference/facebook/kaggle_8000_processed.npz"),
    ) else {
        return;
    };
    let ours = read(&config(CriteoSet::Kaggle, &[raw])).unwrap();
    let theirs = npz::read(&processed);
    assert_eq!(theirs["X_int"].shape, [8000, DENSE]);
    assert_eq!(theirs["X_cat"].shape, [8000, TABLES]);
    let as_f64 = |x: &mut dyn Iterator<Item = f64>| x.collect::<Vec<_>>();
    assert!(
        as_f64(&mut ours.dense.iter().flatten().map(|&x| f64::from(x))) == theirs["X_int"].values
    );
    assert!(
        as_f64(&mut ours.ids.iter().flatten().map(|&x| f64::from(x))) == theirs["X_cat"].values
    );
    assert!(as_f64(&mut ours.labels.iter().map(|&x| f64::from(x))) == theirs["y"].values);
    assert_eq!(as_f64(&mut ours.rows.iter().map(|&x| x as f64)), theirs["counts"].values);
    let sizes: Vec<_> = ours.days.iter().map(|d| d.len()).collect();
    assert_eq!(sizes, [1143, 1143, 1143, 1143, 1143, 1143, 1142]);
}

/// One line in the log's format.
fn line(label: u8, dense: i32, id: u32) -> String {
    let mut text = label.to_string();
    (0..DENSE as i32)
        .for_each(|k| text += &if k == 3 { "\t".into() } else { format!("\t{}", dense + k) });
    (0..TABLES as u32).for_each(|k| {
        text += &if k == 5 { "\t".into() } else { format!("\t{:08x}", id.rotate_left(k)) }
    });
    text
}

/// What the original's loops make of (label, dense, id) lines, written the obvious way.
#[allow(clippy::type_complexity)]
fn obvious(
    days: &[Vec<(u8, i32, u32)>],
    range: Option<u32>,
    rate: f64,
    numpy: &mut RandomState,
) -> Vec<Vec<(Vec<f32>, Vec<u32>, f32)>> {
    let mut numbers = vec![HashMap::new(); TABLES];
    let encode = |&(label, dense, id): &(u8, i32, u32), numbers: &mut Vec<HashMap<u32, u32>>| {
        let x = (0..DENSE as i32)
            .map(|k| if k == 3 { 0.0 } else { ((dense + k).max(0) as f32 + 1.0).ln() })
            .collect();
        let raw = (0..TABLES as u32)
            .map(|k| if k == 5 { 0 } else { id.rotate_left(k) })
            .map(|v| range.map_or(v, |m| v % m));
        let ids = raw.zip(numbers).map(|(v, map)| {
            let next = map.len() as u32;
            *map.entry(v).or_insert(next)
        });
        (x, ids.collect(), f32::from(label))
    };
    days.iter()
        .map(|day| {
            let draws: Vec<f64> =
                day.iter().map(|_| if rate == 0.0 { 1.0 } else { numpy.random_sample() }).collect();
            day.iter()
                .zip(draws)
                .filter(|(l, u)| !(l.0 == 0 && *u < rate))
                .map(|(l, _)| encode(l, &mut numbers))
                .collect()
        })
        .collect()
}

fn close(a: &[(Vec<f32>, Vec<u32>, f32)], b: &[(Vec<f32>, Vec<u32>, f32)]) -> bool {
    let near = |x: &[f32], y: &[f32]| {
        x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 2.0 * f32::EPSILON * y.abs())
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(&a.0, &b.0) && a.1 == b.1 && a.2 == b.2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Days, slices, numbering, modulo, sub-sampling, the three shuffles, the splits and the state
    /// of the generator, against the obvious loops.
    #[test]
    fn equals_the_obvious_loops(
        mut lines in prop::collection::vec((0u8..2, -3i32..50, 0u32..40), 28..120),
        terabyte: bool,
        range in prop::option::of(1u32..30),
        rate in prop_oneof![Just(0.0), Just(0.4)],
        shuffle in prop_oneof![Just(CriteoShuffle::Total), Just(CriteoShuffle::Day), Just(CriteoShuffle::None)],
    ) {
        // So that sub-sampling leaves no split empty.
        lines.iter_mut().for_each(|l| l.0 |= u8::from(l.1 % 3 == 0));
        (lines[0].0, lines.last_mut().unwrap().0) = (1, 1);
        let n = lines.len();
        let sizes: Vec<usize> =
            if terabyte { vec![n / 2, n / 4, n - n / 2 - n / 4] } else { (0..7).map(|d| n / 7 + usize::from(d < n % 7)).collect() };
        let mut rest = &lines[..];
        let days: Vec<Vec<_>> = sizes.iter().map(|&s| { let (day, r) = rest.split_at(s); rest = r; day.to_vec() }).collect();
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<Vec<_>> = if terabyte { days.clone() } else { vec![lines.clone()] };
        let paths: Vec<PathBuf> = files.iter().enumerate().map(|(d, file)| {
            let text: Vec<String> = file.iter().map(|&(y, x, id)| line(y, x, id)).collect();
            let path = folder.path().join(format!("day_{d}"));
            std::fs::write(&path, text.join("\n")).unwrap();
            path
        }).collect();

        let mut numpy = RandomState::new(5);
        let encoded = obvious(&days, range, rate, &mut numpy);
        let (last, training) = encoded.split_last().unwrap();
        let mut train: Vec<_> = training.concat();
        let mut permute = |numpy: &mut RandomState| match shuffle {
            CriteoShuffle::None => {}
            CriteoShuffle::Total => numpy.shuffle(&mut train),
            CriteoShuffle::Day => {
                let mut at = 0;
                for day in training {
                    numpy.shuffle(&mut train[at..at + day.len()]);
                    at += day.len();
                }
            }
        };
        permute(&mut numpy);
        let expected = train.clone();
        let mut permute_again = numpy.clone();
        // Only the draws of the second shuffle matter.
        match shuffle {
            CriteoShuffle::None => {}
            CriteoShuffle::Total => permute_again.shuffle(&mut train),
            CriteoShuffle::Day => training.iter().for_each(|d| permute_again.shuffle(&mut vec![0; d.len()])),
        }
        let set = if terabyte { CriteoSet::Terabyte } else { CriteoSet::Kaggle };
        let c = CriteoTsvConfig { max_ind_range: range, sub_sample_rate: rate, shuffle, seed: 5, ..config(set, &paths) };
        prop_assume!(!last.is_empty() && !expected.is_empty());
        let mut data = criteo_tsv::open(&c).unwrap();
        let middle = last.len().div_ceil(2);
        prop_assert!(close(&collect(&mut *data.train), &expected));
        prop_assert!(close(&collect(&mut *data.eval), &last[..middle]));
        match &mut data.test {
            Some(test) => prop_assert!(close(&collect(&mut **test), &last[middle..])),
            None => prop_assert_eq!(middle, last.len()),
        }
        let base_rate = last[..middle].iter().map(|l| f64::from(l.2)).sum::<f64>() / middle as f64;
        prop_assert_eq!(data.facts.base_rate, Some(base_rate));
        prop_assert_eq!(data.numpy.unwrap().random_sample(), permute_again.random_sample());
        let rows = range.unwrap_or(u32::MAX) as usize;
        prop_assert!(data.train.schema().tables.iter().all(|t| t.rows <= rows));
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn good_lines(n: u32) -> Vec<String> {
    (0..n).map(|i| line((i % 3 == 0).into(), i as i32, i % 11)).collect()
}

#[test]
fn gzip_of_one_or_more_members_reads_as_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let text = good_lines(50).join("\n") + "\n";
    let (head, tail) = text.as_bytes().split_at(3000);
    let plain = write(folder.path(), "plain", text.as_bytes());
    let crlf = write(folder.path(), "crlf", text.replace('\n', "\r\n").as_bytes());
    let one = write(folder.path(), "one.gz", &gzip(text.as_bytes()));
    let two = write(folder.path(), "two.gz", &[gzip(head), gzip(tail)].concat());
    let expected = read(&config(CriteoSet::Kaggle, &[plain])).unwrap();
    assert_eq!(expected.labels.len(), 50);
    for path in [crlf, one, two] {
        let got = read(&config(CriteoSet::Kaggle, &[path])).unwrap();
        assert!(
            got.dense == expected.dense && got.ids == expected.ids && got.labels == expected.labels
        );
    }
}

/// Each broken line: refused with file, line and what is wrong, or skipped and counted.
#[test]
fn broken_lines_are_named_or_counted() {
    let ok = line(1, 5, 9);
    let with = |column: usize, value: &str| {
        let mut fields: Vec<&str> = ok.split('\t').collect();
        fields[column] = value;
        fields.join("\t").into_bytes()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "1 columns; 40 are right"),
        (
            ok.rsplit_once('\t').unwrap().0.into(),
            "39 columns; 40 are right (label, 13 integers, 26 hexadecimal ids, separated by tabs); is this a test file without labels?",
        ),
        (format!("{ok}\t1").into(), "41 columns; 40 are right"),
        (ok.replace('\t', ",").into(), "1 columns; 40 are right"),
        (with(0, "2"), "column 1 (label) is \"2\"; 0 or 1 is right"),
        (with(0, ""), "column 1 (label) is \"\""),
        (with(2, "1.5"), "column 3 (I2) is \"1.5\"; an integer of 32 bits or nothing is right"),
        (with(13, "-"), "column 14 (I13) is \"-\""),
        (with(13, "2147483648"), "column 14 (I13) is \"2147483648\""),
        (
            with(14, "68fd1e6g"),
            "column 15 (C1) is \"68fd1e6g\"; up to 8 hexadecimal digits or nothing are right",
        ),
        (with(39, "168fd1e64"), "column 40 (C26) is \"168fd1e64\""),
        (with(20, &"x".repeat(500)), "column 21 (C7) is \"xxxxxxxxxxxxxxxxxxxxxxxx\"...;"),
        ([&with(20, "12"), &b"\xff\xfe"[..]].concat(), "is not UTF-8 text"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (broken, what) in cases {
        let lines = good_lines(30);
        let text = [
            lines[..16].join("\n").as_bytes(),
            b"\n",
            &broken,
            b"\n",
            lines[16..].join("\n").as_bytes(),
        ]
        .concat();
        let path = write(folder.path(), "train.txt", &text);
        let mut c = config(CriteoSet::Kaggle, std::slice::from_ref(&path));
        let error = criteo_tsv::open(&c).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("{}:17: ", path.display())) && error.contains(what),
            "{error}\n{what}"
        );
        assert!(!error.contains('\n') && error.len() < path.as_os_str().len() + 200, "{error}");
        c.on_error = OnError::Skip;
        let Dataset { facts, mut train, .. } = criteo_tsv::open(&c).unwrap();
        assert_eq!(facts.skipped_lines, 1);
        let whole = write(folder.path(), "whole.txt", lines.join("\n").as_bytes());
        assert!(
            collect(&mut *train)
                == collect(
                    &mut *criteo_tsv::open(&config(CriteoSet::Kaggle, &[whole])).unwrap().train
                )
        );
    }
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = good_lines(200).join("\n");
    let packed = gzip(text.as_bytes());
    let mut damaged = packed.clone();
    damaged[packed.len() / 2] ^= 0x55;
    let cut = write(folder.path(), "cut.gz", &packed[..packed.len() - 20]);
    let damaged = write(folder.path(), "damaged.gz", &damaged);
    let empty = write(folder.path(), "empty", b"");
    let few = write(folder.path(), "few", good_lines(5).join("\n").as_bytes());
    let negatives = write(
        folder.path(),
        "negatives",
        (0..20).map(|i| line(0, i, 1) + "\n").collect::<String>().as_bytes(),
    );
    let missing = folder.path().join("missing");
    let kaggle = |path: &PathBuf| config(CriteoSet::Kaggle, std::slice::from_ref(path));
    let cases = [
        (kaggle(&cut), "cut.gz:", "the gzip data end early; the file is not complete"),
        (
            CriteoTsvConfig { on_error: OnError::Skip, ..kaggle(&cut) },
            "cut.gz:",
            "the gzip data end early",
        ),
        (kaggle(&damaged), "damaged.gz:", ""),
        (kaggle(&missing), "missing: ", "No such file"),
        (
            kaggle(&empty),
            "empty: ",
            "0 samples are too few: 0 in the training days and 0 in the last one",
        ),
        (
            kaggle(&few),
            "few: ",
            "5 samples are too few: 5 in the training days and 0 in the last one",
        ),
        (
            CriteoTsvConfig { sub_sample_rate: 0.99999, ..kaggle(&negatives) },
            "",
            "0 samples are too few",
        ),
        (
            CriteoTsvConfig { sub_sample_rate: 1.0, ..kaggle(&negatives) },
            "",
            "from 0 to less than 1 is right",
        ),
        (
            config(CriteoSet::Kaggle, &[few.clone(), few.clone()]),
            "",
            "the Kaggle log is one file, but 2 are named",
        ),
        (config(CriteoSet::Terabyte, &[few]), "", "needs 2 days or more"),
    ];
    for (c, place, what) in cases {
        let error = criteo_tsv::open(&c).err().unwrap().to_string();
        assert!(
            error.contains(place) && error.contains(what) && !error.contains('\n'),
            "{error}\n{place} {what}"
        );
    }
}
