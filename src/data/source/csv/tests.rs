//! Encoding, order and messages, on small files written here; and on Frappe and Adult where they
//! lie beside the checkout.

use super::*;
use crate::data::source::{
    config::{DenseTransform, HeldOut, IdKind, OnError},
    paths::Paths,
};
use std::path::PathBuf;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Files(dir)
    }

    fn config(&self) -> CsvConfig {
        CsvConfig {
            ids: IdKind::Rows,
            train: self.0.path().join("train.csv").into(),
            eval: self.0.path().join("eval.csv").into(),
            held_out: HeldOut::default(),
            test: Paths::default(),
            label: "y".into(),
            positive: vec![],
            dense: vec![],
            categorical: vec![],
            ignore: vec![],
            dates: None,
            date_features: None,
            missing: None,
            columns: None,
            dense_transform: DenseTransform::Raw,
            dense_min: vec![],
            dense_range: vec![],
            hash_buckets: None,
            missing_category: None,
            min_count: 1,
            delimiter: ',',
            comment: None,
            shuffle: false,
            on_error: OnError::Fail,
        }
    }
}

fn whole(source: &mut dyn Source, epoch: u64) -> Batch {
    let mut batch = Batch::default();
    batch.bags.resize_with(source.schema().tables.len(), Default::default);
    let n = source.len().unwrap() as usize;
    source.fill(epoch, 0, n, &mut batch).unwrap();
    batch
}

#[test]
fn ids_follow_sorted_values_of_the_training_file() {
    let files = Files::new(&[
        // CRLF, spaces, quotes, a blank line: none of it changes a value.
        ("train.csv", "a,y,b\r\n10, 1,x\r\n9,0, \"z\" \r\n\r\n9,1,y\r\n100,0,x\r\n"),
        // Columns are found by name; 11 and w are unknown.
        ("eval.csv", "y,b,a\n1,w,9\n0,z,11\n"),
    ]);
    let mut d = open(&files.config(), 1).unwrap();
    let tables: Vec<_> =
        d.train.schema().tables.iter().map(|t| (t.name.as_str(), t.rows)).collect();
    assert_eq!(tables, [("a", 4), ("b", 4)]);
    let train = whole(&mut *d.train, 0);
    assert_eq!(train.labels, [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(train.bags[0].indices, [2, 1, 1, 3]);
    assert_eq!(train.bags[1].indices, [1, 3, 2, 1]);
    assert!(train.bags.iter().all(|b| b.is_one_hot()));
    let eval = whole(&mut *d.eval, 0);
    assert_eq!((&eval.bags[0].indices[..], &eval.bags[1].indices[..]), (&[1, 0][..], &[0, 3][..]));
    assert_eq!(d.facts.base_rate, Some(0.5));
    assert!(d.facts.notes[1].contains("2 samples, 2 values"), "{:?}", d.facts.notes);
}

#[test]
fn rare_values_are_unknown_and_text_sorts_by_bytes() {
    let files = Files::new(&[
        ("train.csv", "y,a\n1,10\n0,9\n1,?\n0,9\n1,?\n"),
        ("eval.csv", "y,a\n1,?\n0,10\n"),
    ]);
    let mut d = open(&CsvConfig { min_count: 2, ..files.config() }, 1).unwrap();
    assert_eq!(d.train.schema().tables[0].rows, 3);
    assert_eq!(whole(&mut *d.train, 0).bags[0].indices, [0, 1, 2, 1, 2]);
    assert_eq!(whole(&mut *d.eval, 0).bags[0].indices, [2, 0]);
}

#[test]
fn dense_columns_are_scaled_by_the_training_file() {
    let files = Files::new(&[
        ("train.csv", "y,a,x\n1,k,2\n0,k,\n1,k,-5\n0,k,7\n"),
        ("eval.csv", "y,a,x\n1,k,19\n0,k,1\n"),
    ]);
    let dense = |transform| {
        let mut d = open(
            &CsvConfig { dense: vec!["x".into()], dense_transform: transform, ..files.config() },
            1,
        )
        .unwrap();
        assert_eq!(d.train.schema().tables.len(), 1);
        (whole(&mut *d.train, 0).dense, whole(&mut *d.eval, 0).dense)
    };
    assert_eq!(dense(DenseTransform::Raw), (vec![2.0, 0.0, -5.0, 7.0], vec![19.0, 1.0]));
    let ln = |x: f64| x.ln() as f32;
    assert_eq!(dense(DenseTransform::Log1pClamp0).0, [ln(3.0), 0.0, 0.0, ln(8.0)]);
    assert_eq!(
        dense(DenseTransform::MinMax),
        (vec![7.0 / 12.0, 5.0 / 12.0, 0.0, 1.0], vec![2.0, 0.5])
    );
    let (train, eval) = dense(DenseTransform::Standard);
    // mean 1, variance (1 + 1 + 36 + 36) / 4
    let std = 18.5f64.sqrt();
    assert_eq!(train, [1.0, -1.0, -6.0, 6.0].map(|x: f64| (x / std) as f32));
    assert_eq!(eval[0], (18.0 / std) as f32);
}

#[test]
fn each_epoch_has_an_order_of_its_own_that_the_seed_decides() {
    let text: String = (0..100).map(|i| format!("{},{i}\n", i % 2)).collect();
    let files =
        Files::new(&[("train.csv", &format!("y,a\n{text}")), ("eval.csv", "y,a\n1,1\n0,2\n")]);
    let order = |seed, epoch| {
        let mut d = open(&CsvConfig { shuffle: true, ..files.config() }, seed).unwrap();
        let batch = whole(&mut *d.train, epoch);
        assert!(
            batch.bags[0]
                .indices
                .iter()
                .zip(&batch.labels)
                .all(|(&id, &y)| (id - 1) % 2 == y as u32)
        );
        batch.bags[0].indices.clone()
    };
    let (a, b) = (order(7, 0), order(7, 1));
    assert_ne!(a, b);
    assert_ne!(a, order(8, 0));
    assert_eq!(a, order(7, 0));
    let mut sorted = b.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=100).collect::<Vec<u32>>());
    // The same on every platform and in every version.
    assert_eq!(&a[..6], FIRST_OF_SEED_7);
    // Going back to an earlier epoch gives the same samples.
    let mut d = open(&CsvConfig { shuffle: true, ..files.config() }, 7).unwrap();
    whole(&mut *d.train, 1);
    assert_eq!(whole(&mut *d.train, 0).bags[0].indices, a);
}

const FIRST_OF_SEED_7: [u32; 6] = [76, 55, 43, 48, 29, 1];

#[test]
fn every_first_place_is_equally_likely() {
    let mut counts = [[0u32; 5]; 5];
    for epoch in 0..5000 {
        let mut order = Order::new(3, 5);
        for (place, &s) in order.of_epoch(epoch).iter().enumerate() {
            counts[place][s as usize] += 1;
        }
    }
    // 1000 expected, standard deviation 28.
    assert!(counts.iter().flatten().all(|&c| c.abs_diff(1000) < 140), "{counts:?}");
}

/// What TensorFlow promises to keep (tensorflow/tensorflow: core/platform/fingerprint_test.cc, and
/// the example of BigQuery's FARM_FINGERPRINT), and two longer texts, as FarmHash's own test has them.
#[test]
fn fingerprints_are_the_published_ones() {
    for (text, fingerprint) in [
        ("Hello", 15_404_698_994_557_526_151),
        ("World", 18_308_117_990_299_812_472),
        ("1footrue", -1_541_654_101_129_638_711i64 as u64),
        ("2applefalse", 2_794_438_866_806_483_259),
        ("3true", -4_880_158_226_897_771_312i64 as u64),
        ("", 0x9ae1_6a3b_2f90_404f),
        ("lee@lmmrtech.com", 0x61be_c68d_b00f_a2ff),
    ] {
        assert_eq!(farmhash::fingerprint64(text.as_bytes()), fingerprint, "{text:?}");
    }
}

/// DeepRec's columns: no header, hashes, a space for what is missing, `(x - min) / range`.
#[test]
fn values_are_hashed_and_dense_columns_scaled_as_deeprec_does() {
    let files = Files::new(&[
        ("train.csv", "1,3,Hello,World\n0,,World,\n0,-1,,x\n"),
        ("eval.csv", "1,7,never seen,Hello\n0,1,Hello,\n"),
    ]);
    let config = CsvConfig {
        columns: Some(["clicked", "I1", "C1", "C2"].map(String::from).to_vec()),
        label: "clicked".into(),
        dense: vec!["I1".into()],
        dense_transform: DenseTransform::MinRange,
        dense_min: vec![-3.0],
        dense_range: vec![22_069.0],
        hash_buckets: Some(vec![1000, 7]),
        missing_category: Some(" ".into()),
        ..files.config()
    };
    let mut d = open(&config, 1).unwrap();
    let rows: Vec<_> = d.train.schema().tables.iter().map(|t| t.rows).collect();
    assert_eq!(rows, [1000, 7]);
    let id = |text: &str, buckets: u64| (farmhash::fingerprint64(text.as_bytes()) % buckets) as u32;
    let batch = whole(&mut *d.train, 0);
    assert_eq!(batch.bags[0].indices, [151, 472, id(" ", 1000)]);
    assert_eq!(batch.bags[1].indices, [id("World", 7), id(" ", 7), id("x", 7)]);
    assert_eq!(batch.dense, [6.0f32 / 22_069.0, 3.0 / 22_069.0, 2.0 / 22_069.0]);
    let batch = whole(&mut *d.eval, 0);
    assert_eq!(batch.bags[0].indices, [id("never seen", 1000), 151]);
    assert_eq!(batch.dense, [10.0f32 / 22_069.0, 4.0 / 22_069.0]);
    assert_eq!(d.facts.notes, ["train: 3 samples", "eval: 2 samples"]);

    let one = CsvConfig { hash_buckets: Some(vec![5]), missing_category: None, ..config.clone() };
    let batch = whole(&mut *open(&one, 1).unwrap().train, 0);
    assert_eq!(batch.bags[0].indices, [id("Hello", 5), id("World", 5), id("", 5)]);
    let three = CsvConfig { hash_buckets: Some(vec![5; 3]), ..config };
    let error = open(&three, 1).err().unwrap().to_string();
    assert_eq!(
        error,
        "data.hash_buckets has 3 entries; must have one for each of the 2 categorical columns, or one for all"
    );
}

#[test]
fn broken_lines_stop_with_their_place_or_are_counted() {
    let good = "y,a,x\n1,k,1\n0,k,2\n";
    let line = |bad: &str, on_error| {
        let files =
            Files::new(&[("train.csv", &format!("{good}{bad}\n1,k,3\n")), ("eval.csv", good)]);
        let config = CsvConfig {
            dense: vec!["x".into()],
            on_error,
            dense_transform: DenseTransform::LogPlus2,
            ..files.config()
        };
        open(&config, 1).map(|d| (d.facts.skipped_lines, d.train.len())).map_err(|e| {
            let text = e.to_string();
            assert!(!text.contains('\n'), "{text}");
            text.split_once("train.csv:4: ").map_or(text.clone(), |(_, what)| what.to_owned())
        })
    };
    for (bad, what) in [
        ("1,k", "has 2 fields; must have 3, one for each column"),
        ("1,k,2,3", "has 4 fields; must have 3, one for each column"),
        ("yes,k,1", "the label (column \"y\") is \"yes\"; must be 0 or 1, or name data.positive"),
        (",k,1", "the label (column \"y\") is empty"),
        ("1,k,?", "column \"x\" is \"?\"; must be a number"),
        ("1,k,inf", "column \"x\" is \"inf\"; must be a number"),
        ("1,k,-2", "column \"x\" is -2; must be above -2 for dense_transform = \"log_plus2\""),
        (
            "1,\"k,1",
            "the quote of field 2 is not closed on its line; close it, or double it if it is part of the text",
        ),
    ] {
        assert_eq!(line(bad, OnError::Fail).unwrap_err(), what);
        assert_eq!(line(bad, OnError::Skip).unwrap(), (1, Some(3)));
    }
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let good = "y,a\n1,k\n0,k\n";
    let error = |train: &str, eval: &str, change: fn(&mut CsvConfig)| {
        let files = Files::new(&[("train.csv", train), ("eval.csv", eval)]);
        let mut config = files.config();
        change(&mut config);
        open(&config, 1).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let same = |_: &mut CsvConfig| {};
    assert!(
        error("", good, same)
            .ends_with("train.csv: the file is empty; must start with a header line")
    );
    assert!(
        error("y,a\n", good, same)
            .ends_with("train.csv: the file holds no samples below its header")
    );
    assert!(
        error(good, "y,b\n1,k\n", same)
            .ends_with("eval.csv:1: no column \"a\" (data.categorical); the columns are y, b")
    );
    assert!(error("z,a\n", good, same).contains("train.csv:1: no column \"y\" (data.label)"));
    assert!(error("y,a,a\n", good, same).contains("names \"a\" twice"));
    assert!(
        error(good, "y,a\n1,k\n1,k\n", same)
            .contains("eval.csv: every label is 1; must hold both classes")
    );
    assert!(
        error(good, good, |c| c.positive = vec!["yes".into()])
            .contains("train.csv: every label is 0")
    );
    assert!(
        error(good, good, |c| c.ignore = vec!["q".into()])
            .contains("no column \"q\" (data.ignore)")
    );
    assert!(error(good, good, |c| c.ignore = vec!["a".into()]).contains("no column but the label"));
    assert!(
        error(good, good, |c| c.eval = "/nowhere/eval.csv".into())
            .starts_with("/nowhere/eval.csv: ")
    );
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")).join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
    }
    path.exists().then_some(path)
}

#[test]
fn frappe_has_the_published_columns() {
    let Some(dir) = shared("frappe_x1") else { return };
    let config = CsvConfig {
        train: dir.join("train.csv").into(),
        eval: dir.join("valid.csv").into(),
        test: dir.join("test.csv").into(),
        label: "label".into(),
        shuffle: true,
        ..Files::new(&[]).config()
    };
    let d = open(&config, 1).unwrap();
    let schema = d.train.schema();
    assert_eq!((schema.dense, schema.tables.len()), (0, 10));
    let lens = [d.train.len(), d.eval.len(), d.test.and_then(|t| t.len())];
    assert_eq!(lens, [Some(202_027), Some(57_722), Some(28_860)]);
}

#[test]
fn adult_reads_as_it_was_published() {
    let Some(dir) = shared("adult") else { return };
    let columns = "age workclass fnlwgt education education-num marital-status occupation relationship race sex capital-gain \
                   capital-loss hours-per-week native-country income";
    let config = CsvConfig {
        train: dir.join("adult.data").into(),
        eval: dir.join("adult.test").into(),
        label: "income".into(),
        positive: vec![">50K".into(), ">50K.".into()],
        dense: ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
            .map(String::from)
            .to_vec(),
        ignore: vec!["fnlwgt".into()],
        columns: Some(columns.split_whitespace().map(String::from).collect()),
        comment: Some('|'),
        dense_transform: DenseTransform::Standard,
        ..Files::new(&[]).config()
    };
    let d = open(&config, 1).unwrap();
    assert_eq!((d.train.len(), d.eval.len()), (Some(32_561), Some(16_281)));
    // adult.names: 23.93% of both files are >50K; the test file's own share is 3846 of 16281.
    assert_eq!(d.facts.base_rate, Some(3846.0 / 16281.0));
    let rows: Vec<usize> = d.train.schema().tables.iter().map(|t| t.rows).collect();
    // Values of adult.names, "?" where it occurs, and the unknown id.
    assert_eq!(rows, [10, 17, 8, 16, 7, 6, 3, 43]);
}

#[test]
fn the_last_of_so_many_samples_is_held_out_and_numbers_no_value() {
    let files = Files::new(&[("train.csv", "y,a,x\n1,a,1\n0,b,3\n1,c,900\n0,b,1\n1,a,3\n0,a,5\n")]);
    let config = CsvConfig {
        eval: Paths::default(),
        held_out: HeldOut { hold_out: Some(3), ..HeldOut::default() },
        dense: vec!["x".into()],
        dense_transform: DenseTransform::MinMax,
        ..files.config()
    };
    let mut d = open(&config, 1).unwrap();
    // Neither the value c nor the maximum of 900 is the training part's.
    let train = whole(&mut *d.train, 0);
    assert_eq!(
        (&train.labels[..], &train.bags[0].indices[..]),
        (&[1.0, 0.0, 0.0, 1.0][..], &[1, 2, 2, 1][..])
    );
    assert_eq!(train.dense, [0.0, 1.0, 0.0, 1.0]);
    let eval = whole(&mut *d.eval, 0);
    assert_eq!((&eval.labels[..], &eval.bags[0].indices[..]), (&[1.0, 0.0][..], &[0, 1][..]));
    assert_eq!(eval.dense, [449.5, 2.0]);
    let error = open(
        &CsvConfig { held_out: HeldOut { hold_out: Some(7), ..HeldOut::default() }, ..config },
        1,
    )
    .map(drop)
    .unwrap_err()
    .to_string();
    let right = "has 6 samples, of which data.hold_out = 7 leaves none for evaluation";
    assert!(error.ends_with(&format!("train.csv: {right}")), "{error}");
}

/// The example of docs/data-formats.md: its file, its keys, and what the samples are then.
#[test]
fn hashes_are_those_of_the_document() {
    let document = include_str!("../../../../docs/data-formats.md");
    let block = |fence: &str| {
        let after = document.split(&format!("\n```{fence}\n")).nth(1).unwrap();
        after.split("```").next().unwrap()
    };
    let files = Files::new(&[("train.csv", block("csv")), ("eval.csv", block("csv"))]);
    let rest = "\n[workload]\nname = \"w\"\n[model]\nkind = \"deepfm\"\ndim = 4\nhidden = [4]\n[train]\nbatch_size = 1\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.1\n";
    let path = |name: &str| files.0.path().join(name).display().to_string();
    let text = block("toml").replace("train.csv", &path("train.csv"));
    let text = text
        .replace("eval.csv", &path("eval.csv"))
        .replace("[data]\n", "[data]\nshuffle = false\n");
    let workload = crate::workload::parse::resolve(Path::new("w.toml"), text + rest, &[]);
    let batch = whole(&mut *workload.unwrap().workload.open_data().unwrap().train, 0);
    let rows: Vec<String> = (0..batch.len)
        .map(|i| {
            let id = |k: usize| batch.bags[k].indices[i];
            format!("| {} | {} | {} | {} |\n", batch.dense[i], id(0), id(1), batch.labels[i])
        })
        .collect();
    let table = format!("| price | city | shop | bought |\n|---|---|---|---|\n{}\n", rows.concat());
    assert!(document.contains(&table), "{table}");
}
