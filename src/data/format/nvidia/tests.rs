use super::*;
use crate::data::{
    DataError,
    format::{
        Format, Writer,
        columns::Columns,
        testing::{Kind, arbitrary, fuzz_cases, part, python, read_all, same, write_all},
    },
    rows::{Hotness, Numbers, Rows},
};
use half::f16;
use proptest::prelude::*;
use std::fs;

fn sample(n: u32) -> (Layout, Rows) {
    let layout = Layout::numbered(2, Numbers::Float32, [Hotness::One; 3]);
    let mut rows = Rows::new(&layout);
    for i in 0..n {
        rows.labels.push((i % 2) as f32);
        rows.dense.extend([f64::from(i) / 4.0, -1.5]);
        rows.ids[0].push([i % 7]);
        rows.ids[1].push([i * 100]);
        rows.ids[2].push([i + 70_000]);
    }
    (layout, rows)
}

/// What is in the files of values that are missing or have too many digits.
fn stored(rows: &Rows) -> Rows {
    let mut out = rows.clone();
    out.dense.iter_mut().for_each(|x| *x = if x.is_nan() { 0.0 } else { f16::from_f64(*x).into() });
    for bags in &mut out.ids {
        let ids: Vec<u32> =
            (0..rows.len()).map(|i| bags.bag(i).first().copied().unwrap_or(0)).collect();
        bags.clear();
        ids.into_iter().for_each(|id| bags.push([id]));
    }
    out
}

proptest! {
    #![proptest_config(fuzz_cases(32))]

    #[test]
    fn what_was_written_is_read(
        rows in arbitrary(Kind { numbers: Numbers::Int32, many: false, missing: true, largest_id: i32::MAX as u32 - 2, criteo: false }),
        chunk in 1usize..40,
    ) {
        let (layout, mut rows) = rows;
        // f16 ends at 65504.
        rows.dense.iter_mut().for_each(|x| *x %= 60_000.0);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train");
        write_all(Format::Nvidia, &path, &layout, &rows, chunk).unwrap();
        let (read, back) = read_all(Format::Nvidia, &path, chunk + 3, &Columns::default()).unwrap();
        prop_assert_eq!((read.dense.len(), read.ids.len()), (layout.dense.len(), layout.ids.len()));
        prop_assert!(same(&back, &stored(&rows)));
        // A second split has the first one's types, and room for its ids.
        let half = part(&rows, &layout, 0, rows.len() / 2);
        let path = dir.path().join("test");
        write_all(Format::Nvidia, &path, &layout, &half, chunk).unwrap();
        let (_, back) = read_all(Format::Nvidia, &path, chunk, &Columns::default()).unwrap();
        prop_assert!(same(&back, &stored(&half)));
    }

    #[test]
    fn no_damage_makes_it_panic(
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in any::<prop::sample::Index>(),
        text in "[ -~\\n]{0,60}",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train");
        let (layout, rows) = sample(20);
        write_all(Format::Nvidia, &path, &layout, &rows, 9).unwrap();
        let all = files(&path, &layout);
        for (file, at, byte) in spoilt {
            let file = file.get(&all);
            let mut bytes = fs::read(file).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            fs::write(file, bytes).unwrap();
        }
        let spec = &all[all.len() - 1];
        let mut bytes = fs::read(spec).unwrap();
        if cut.index(3) == 0 {
            let at = cut.index(bytes.len());
            bytes.truncate(at);
            bytes.extend(text.as_bytes());
            fs::write(spec, bytes).unwrap();
        }
        if let Err(e) = read_all(Format::Nvidia, &path, 7, &Columns::default()) {
            prop_assert!(!e.to_string().contains('\n'), "{}", e);
        }
    }
}

/// The spec as PyYAML reads it has what NVIDIA's `check_feature_spec` asks for, files are what
/// numpy makes of the same values by the rules of split_dataset.py, and what those make of a spec
/// of theirs is read.
#[test]
fn nvidias_program_would_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, rows) = sample(50);
    for split in ["train", "test"] {
        write_all(Format::Nvidia, &dir.path().join(split), &layout, &rows, 8).unwrap();
    }
    let script = r#"
import os, sys, numpy as np, yaml
d = sys.argv[1]
spec = yaml.safe_load(open(d + "/feature_spec.yaml"))
assert sorted(spec) == ["channel_spec", "feature_spec", "metadata", "source_spec"], spec
channels, features = spec["channel_spec"], spec["feature_spec"]
assert sorted(spec["source_spec"]) == ["test", "train"] and sorted(channels) == ["categorical", "label", "numerical"]
assert channels["categorical"] == [f"cat_{k}.bin" for k in range(3)] and channels["numerical"] == ["num_0", "num_1"]
def category_type(size):
    return next(t for t in (np.int8, np.int16, np.int32) if size < np.iinfo(t).max)
assert [features[c]["cardinality"] for c in channels["categorical"]] == [7, 4901, 70050], features
for c in channels["categorical"]:
    assert features[c]["dtype"] == np.dtype(category_type(features[c]["cardinality"])), features
assert {features[c]["dtype"] for c in channels["numerical"]} == {"float16"} and features["label"]["dtype"] == "bool"
i = np.arange(50)
for split in ("train", "test"):
    columns = {}
    for chunk in spec["source_spec"][split]:
        assert chunk["type"] == "split_binary" and len(chunk["files"]) == 1
        of = np.dtype(features[chunk["features"][0]]["dtype"])
        columns[tuple(chunk["features"])] = np.fromfile(os.path.join(d, chunk["files"][0]), of)
    assert (columns[("label",)] == (i % 2 == 1)).all()
    dense = columns[("num_0", "num_1")].reshape(-1, 2)
    assert dense.dtype == np.float16 and (dense == np.stack([i / 4, np.full(50, -1.5)], 1).astype(np.float16)).all()
    for k, ids in enumerate((i % 7, i * 100, i + 70000)):
        assert (columns[(f"cat_{k}.bin",)] == ids).all()
# As their preprocessing writes a set, under other names.
os.makedirs(d + "/own/day")
own = {"channel_spec": {"categorical": ["b", "a"], "numerical": ["x"], "label": ["click"]}, "metadata": {},
    "feature_spec": {"a": {"dtype": "int16", "cardinality": 300}, "b": {"dtype": "uint8", "cardinality": 200},
        "x": {"dtype": "float16"}, "click": {"dtype": "bool"}},
    "source_spec": {"day": [{"type": "split_binary", "features": [c], "files": ["day/" + c]} for c in ("x", "click", "a", "b")]}}
yaml.dump(own, open(d + "/own/feature_spec.yaml", "w"))
(i[:3] / 3).astype(np.float16).tofile(d + "/own/day/x")
(i[:3] == 1).tofile(d + "/own/day/click")
(i[:3] + 297).astype(np.int16).tofile(d + "/own/day/a")
(i[:3] + 150).astype(np.uint8).tofile(d + "/own/day/b")
"#;
    if !python(&["numpy", "yaml"], script, &[dir.path()]) {
        return;
    }
    let (layout, rows) =
        read_all(Format::Nvidia, &dir.path().join("own/day"), 2, &Columns::default()).unwrap();
    assert_eq!(
        (layout.label.as_str(), &layout.dense[..], layout.numbers),
        ("click", &["x".to_owned()][..], Numbers::Float32)
    );
    assert_eq!(layout.ids.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(
        (&rows.labels[..], &rows.dense[..]),
        (&[0.0, 1.0, 0.0][..], &[0.0, 0.333_251_953_125, 0.666_503_906_25][..])
    );
    assert_eq!(
        (&rows.ids[0].indices[..], &rows.ids[1].indices[..]),
        (&[150, 151, 152][..], &[297, 298, 299][..])
    );
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train");
    let (layout, rows) = sample(10);
    let text = |r: Result<(), DataError>| {
        r.unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "D")
    };
    let open = |path: &Path| text(read_all(Format::Nvidia, path, 4, &Columns::default()).map(drop));
    assert_eq!(
        open(&path),
        "D/train: there is no feature_spec.yaml beside it; must be the folder of a split, such as data/train"
    );
    write_all(Format::Nvidia, &path, &layout, &rows, 4).unwrap();
    assert_eq!(
        open(&dir.path().join("val")),
        "D/feature_spec.yaml: there is no split val; the splits are train"
    );
    assert!(open(dir.path()).ends_with("holds several splits; name the folder of one: train"));

    let mut more = rows.clone();
    more.ids[0].indices[3] = 99;
    let write = |layout: &Layout, rows: &Rows| {
        text(write_all(Format::Nvidia, &dir.path().join("test"), layout, rows, 4))
    };
    assert_eq!(
        write(&layout, &more),
        "D/test: row 4: column C1 is 99; must be below 7, its cardinality by the other splits; write the one with the largest ids first"
    );
    let mut large = rows.clone();
    large.dense[2] = 7e4;
    assert!(
        write(&layout, &large)
            .contains("row 2: column I1 is 70000; must be at most 65504, since NVIDIA's")
    );
    let other = Layout::numbered(1, Numbers::Int32, [Hotness::One]);
    assert!(
        write(&other, &Rows::new(&other))
            .contains("have 2 dense and 3 categorical columns, but there are 1 and 1")
    );
    let many = Layout::numbered(2, Numbers::Int32, [Hotness::Any; 3]);
    assert!(write(&many, &Rows::new(&many)).contains("but C1 may hold others"));
    let known =
        |n| NvidiaWriter::with_cardinalities(&dir.path().join("x"), &layout, &[7, 9, n]).map(drop);
    assert!(text(known(1 << 31)).contains("2147483648 ids are too many"));
    let mut known =
        NvidiaWriter::with_cardinalities(&dir.path().join("a/x"), &layout, &[7, 901, 1_000_000])
            .unwrap();
    known.write(&rows).unwrap();
    Box::new(known).finish().unwrap();
    assert!(
        fs::read_to_string(dir.path().join("a/feature_spec.yaml")).unwrap().contains("1000000")
    );

    let spoil = |name: &str, bytes: &[u8]| {
        let file = path.join(name);
        let good = fs::read(&file).unwrap();
        fs::write(&file, bytes).unwrap();
        let error = open(&path);
        fs::write(&file, good).unwrap();
        error
    };
    assert_eq!(
        spoil("cat_1.bin", &[0; 18]),
        "D/train/cat_1.bin: 9 rows, but 10 in D/train/cat_0.bin; must be equal (is a file cut short?)"
    );
    assert_eq!(
        spoil("cat_1.bin", &[0; 19]),
        "D/train/cat_1.bin: 19 bytes are no whole number of rows of 2; is the file cut short?"
    );
    assert_eq!(
        spoil("cat_0.bin", &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0]),
        "D/train/cat_0.bin: row 4: column cat_0.bin is 9; must be below 7, its cardinality in feature_spec.yaml"
    );
    assert_eq!(
        spoil("cat_0.bin", &[0, 255, 0, 9, 0, 0, 0, 0, 0, 0]),
        "D/train/cat_0.bin: row 2: column cat_0.bin is -1; must be an id from 0 to 4294967295, or be taken modulo a \
         number (--max-ind-range N, in a workload data.max_ind_range)"
    );
    assert_eq!(
        spoil("label.bin", &[0, 0, 7, 0, 0, 0, 0, 0, 0, 0]),
        "D/train/label.bin: row 3: the label (column label) is 7; must be 0 or 1"
    );
    // What the spec does not name is told.
    let told = || {
        let reader = NvidiaReader::open(&path, crate::data::ids::ToId::default()).unwrap();
        super::super::Reader::told(&reader).to_vec()
    };
    assert_eq!(told(), [""; 0]);
    fs::write(path.join("cat_9.bin"), [0; 10]).unwrap();
    fs::write(path.join("notes.txt"), "x").unwrap();
    assert_eq!(told(), ["feature_spec.yaml does not name cat_9.bin, which is not read"]);
    fs::remove_file(path.join("cat_9.bin")).unwrap();
    let good = fs::read_to_string(dir.path().join(NAME)).unwrap();
    let spec = |text: &str| {
        fs::write(dir.path().join(NAME), text).unwrap();
        open(&path)
    };
    assert!(spec("a: [").contains("no feature spec of NVIDIA's: "));
    assert!(
        spec(&good.replace("float16", "complex"))
            .contains("column num_0 is of type \"complex\"; must be one of numpy's numbers")
    );
    assert!(
        spec(&good.replace("train/cat_1.bin", "../cat_1.bin"))
            .contains("does not lie beside the spec")
    );
    assert!(
        spec(&good.replace("split_binary", "csv"))
            .contains("split train: each entry must be of type split_binary")
    );
}

#[test]
fn splits_that_are_written_at_the_same_time_share_a_spec() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, rows) = sample(10);
    let open =
        |name: &str| read_all(Format::Nvidia, &dir.path().join(name), 9, &Columns::default());
    let begin = |name: &str, rows: &Rows| {
        let mut writer = NvidiaWriter::create(&dir.path().join(name), &layout).unwrap();
        writer.write(rows).unwrap();
        Box::new(writer)
    };
    let few = part(&rows, &layout, 0, 3);
    let (train, test, large) = (begin("train", &rows), begin("test", &few), begin("large", &rows));
    train.finish().unwrap();
    test.finish().unwrap();
    assert!(
        same(&open("train").unwrap().1, &stored(&rows))
            && same(&open("test").unwrap().1, &stored(&few))
    );
    // The first to end decides, here that of small ids.
    fs::remove_file(dir.path().join(NAME)).unwrap();
    let test = begin("test", &few);
    test.finish().unwrap();
    assert_eq!(
        large.finish().unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "D"),
        "D/large: column C1 holds 6; must be below 3, its cardinality by the other splits; write the one with the largest ids first"
    );
    let later = begin("later", &few);
    NvidiaWriter::with_cardinalities(&dir.path().join("other"), &layout, &[9, 9, 9])
        .map(Box::new)
        .unwrap()
        .finish()
        .unwrap();
    let said = later.finish().unwrap_err().to_string();
    assert!(
        said.ends_with("column C1 has 9 ids by the other splits, but had 3 when this one was begun; write it anew"),
        "{said}"
    );
    assert!(open("test").unwrap_err().to_string().contains("there is no split test"));
}

#[test]
fn a_split_is_refused_beside_others_of_other_types() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, rows) = sample(10);
    write_all(Format::Nvidia, &dir.path().join("train"), &layout, &rows, 9).unwrap();
    let spec = dir.path().join(NAME);
    let good = fs::read_to_string(&spec).unwrap();
    let write = |from: &str, to: &str| {
        fs::write(&spec, good.replacen(from, to, 1)).unwrap();
        let written = write_all(Format::Nvidia, &dir.path().join("test"), &layout, &rows, 9);
        written.map_err(|e| e.to_string().replace(dir.path().to_str().unwrap(), "D"))
    };
    for (from, to, column) in [
        ("float16", "int16", "num_0"),
        ("float16", "float32", "num_0"),
        ("bool", "int32", "label"),
        ("int8", "int32", "cat_0.bin"),
        ("int16", "uint16", "cat_1.bin"),
    ] {
        let want = format!(
            "D/{NAME}: column {column} is of type {to}, but is written as {from}; must be equal; use another folder"
        );
        assert_eq!(write(from, to).unwrap_err(), want);
    }
    write("float16", "float16").unwrap();
    let (_, back) =
        read_all(Format::Nvidia, &dir.path().join("test"), 9, &Columns::default()).unwrap();
    assert!(same(&back, &stored(&rows)));
}

#[cfg(unix)]
#[test]
fn a_split_whose_name_the_spec_cannot_hold_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let (layout, _) = sample(1);
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"\xfftrain"));
    let said = NvidiaWriter::create(&path, &layout).map(drop).unwrap_err().to_string();
    assert!(said.ends_with("feature_spec.yaml holds the names of splits; must be UTF-8"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
