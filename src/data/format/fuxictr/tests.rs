use super::*;
use crate::data::{
    format::{
        Format,
        testing::{Kind, arbitrary, fuzz_cases, python, read_all, same, write_all, zeroed},
    },
    npy::Type,
    npz,
    rows::Numbers,
};
use proptest::prelude::*;
use std::fs;

/// The forms that this program was built with.
const FORMS: &[&str] = if cfg!(feature = "hdf5") {
    &["csv", "parquet", "npz", "h5"]
} else {
    &["csv", "parquet", "npz"]
};

proptest! {
    #![proptest_config(fuzz_cases(24))]

    #[test]
    fn what_was_written_is_read(
        rows in arbitrary(Kind { many: false, ..Kind::ANY }),
        hot in 2usize..5,
        chunk in 1usize..40,
    ) {
        let (mut layout, mut rows) = rows;
        let dir = tempfile::tempdir().unwrap();
        for form in FORMS {
            let path = dir.path().join(format!("train.{form}"));
            write_all(Format::FuxiCtr, &path, &layout, &rows, chunk).unwrap();
            let back = read_all(Format::FuxiCtr, &path, chunk + 1, &Columns::default()).unwrap();
            prop_assert!(back.0.ids == layout.ids && back.0.dense == layout.dense && same(&back.1, &zeroed(&rows)), "{}", form);
        }
        // And with several ids in each column.
        for (column, bags) in layout.ids.iter_mut().zip(&mut rows.ids) {
            column.hotness = Hotness::Fixed(hot);
            bags.clear();
            (0..rows.labels.len()).for_each(|i| bags.push((0..hot).map(|j| (i * j) as u32)));
        }
        fs::remove_file(dir.path().join(NAME)).unwrap();
        for form in &FORMS[2..] {
            let path = dir.path().join(format!("valid.{form}"));
            write_all(Format::FuxiCtr, &path, &layout, &rows, chunk).unwrap();
            let back = read_all(Format::FuxiCtr, &path, chunk + 1, &Columns::default()).unwrap();
            prop_assert!(back.0.ids == layout.ids && same(&back.1, &zeroed(&rows)), "{}", form);
        }
    }

    #[test]
    fn no_damage_makes_it_panic(
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        map: bool,
        text in "[ -~]{0,60}",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::numbered(1, Numbers::Int32, [Hotness::One; 2]);
        let mut rows = Rows::new(&layout);
        for i in 0..12 {
            rows.labels.push(0.0);
            rows.dense.push(1.0);
            rows.ids.iter_mut().for_each(|b| b.push([i]));
        }
        // A damaged h5 is libhdf5's to read, a library in C that may bring down all tests with it;
        // its map is ours.
        for form in FORMS.iter().filter(|form| map || **form != "h5") {
            let path = dir.path().join(format!("train.{form}"));
            write_all(Format::FuxiCtr, &path, &layout, &rows, 5).unwrap();
            let spoil = if map { dir.path().join(NAME) } else { path.clone() };
            let mut bytes = fs::read(&spoil).unwrap();
            for (at, byte) in &spoilt {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if cut.index(4) == 0 {
                let at = cut.index(bytes.len());
                bytes.truncate(at);
                bytes.extend(text.as_bytes());
            }
            fs::write(&spoil, bytes).unwrap();
            if let Err(e) = read_all(Format::FuxiCtr, &path, 5, &Columns::default()) {
                prop_assert!(!e.to_string().contains('\n'), "{}", e);
            }
            fs::remove_file(dir.path().join(NAME)).unwrap();
        }
    }
}

/// A map and files as FuxiCTR 2 writes them, and what it would read of ours.
#[test]
fn fuxictr_would_agree() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::numbered(1, Numbers::Float32, [Hotness::One]);
    layout
        .ids
        .push(crate::data::rows::IdColumn { name: "tags".into(), hotness: Hotness::Fixed(3) });
    let mut rows = Rows::new(&layout);
    for i in 0..5u32 {
        rows.labels.push((i % 2) as f32);
        rows.dense.push(f64::from(i) / 2.0);
        rows.ids[0].push([i + 1]);
        rows.ids[1].push([i, 7, 0]);
    }
    let ours = dir.path().join("ours");
    fs::create_dir(&ours).unwrap();
    write_all(Format::FuxiCtr, &ours.join("train.npz"), &layout, &rows, 2).unwrap();
    let mut more = rows.clone();
    more.ids[0].indices[0] = 99;
    write_all(Format::FuxiCtr, &ours.join("valid.npz"), &layout, &more, 2).unwrap();
    write_all(Format::FuxiCtr, &ours.join("test.npz"), &layout, &rows, 2).unwrap();
    let script = r#"
import json, os, sys, numpy as np, pandas as pd
d = sys.argv[1]
map = json.load(open(d + "/ours/feature_map.json"))
assert map["dataset_id"] == "ours" and map["labels"] == ["label"] and map["num_fields"] == 3 and map["input_length"] == 5, map
assert map["total_features"] == 1 + 100 + 8, map
features = {k: v for x in map["features"] for k, v in x.items()}
assert list(features) == ["I1", "C1", "tags"] and features["I1"]["type"] == "numeric"
assert features["C1"]["type"] == "categorical" and features["C1"]["vocab_size"] == 100
assert features["tags"]["type"] == "sequence" and features["tags"]["max_len"] == 3 and features["tags"]["vocab_size"] == 8
arrays = np.load(d + "/ours/train.npz")
assert arrays["C1"].tolist() == [1, 2, 3, 4, 5] and arrays["tags"].tolist() == [[i, 7, 0] for i in range(5)]
assert arrays["I1"].tolist() == [i / 2 for i in range(5)] and arrays["label"].tolist() == [0, 1, 0, 1, 0]
os.mkdir(d + "/theirs")
spec = lambda ids: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": ids}
json.dump({"dataset_id": "theirs", "num_fields": 3, "total_features": 110, "input_length": 3, "labels": ["Label"],
    "features": [{"user": spec(50)}, {"price": {"source": "", "type": "numeric"}}, {"item": spec(60)}, {"group": {"type": "meta"}}]},
    open(d + "/theirs/feature_map.json", "w"), indent=4)
frame = pd.DataFrame({"Label": [1.0, 0.0], "group": [5, 6], "item": [59, 3], "price": [0.5, 2.0], "user": [7, 49], "other": [0.1, 0.2]})
frame.to_parquet(d + "/theirs/train.parquet", index=False)
frame.to_csv(d + "/theirs/train.csv", index=False)
np.savez(d + "/theirs/train.npz", **{c: frame[c].to_numpy() for c in frame})
if len(sys.argv) > 2:
    import h5py
    with h5py.File(d + "/theirs/train.h5", "w") as file:
        for c in frame:
            file.create_dataset(c, data=frame[c].to_numpy())
"#;
    if !python(&["numpy", "pandas", "pyarrow"], script, &[dir.path()]) {
        return;
    }
    let mut forms = vec!["csv", "parquet", "npz"];
    if cfg!(feature = "hdf5") && python(&["h5py"], "", &[]) {
        fs::remove_dir_all(dir.path().join("theirs")).unwrap();
        python(&["h5py"], script, &[dir.path(), Path::new("h5")]);
        forms.push("h5");
    }
    let theirs = |form: &str| {
        read_all(
            Format::FuxiCtr,
            &dir.path().join(format!("theirs/train.{form}")),
            9,
            &Columns::default(),
        )
    };
    for form in forms {
        let (layout, rows) = theirs(form).unwrap();
        assert_eq!(
            (layout.label.as_str(), &layout.dense[..]),
            ("Label", &["price".to_owned()][..]),
            "{form}"
        );
        assert_eq!(
            layout.ids.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["user", "item"],
            "{form}"
        );
        assert_eq!(
            (&rows.labels[..], &rows.dense[..]),
            (&[1.0, 0.0][..], &[0.5, 2.0][..]),
            "{form}"
        );
        assert_eq!(
            (&rows.ids[0].indices[..], &rows.ids[1].indices[..]),
            (&[7, 49][..], &[59, 3][..]),
            "{form}"
        );
    }
    let map = dir.path().join("theirs/feature_map.json");
    let good = fs::read_to_string(&map).unwrap();
    let spoilt = |from: &str, to: &str| {
        fs::write(&map, good.replace(from, to)).unwrap();
        theirs("csv").unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "D")
    };
    assert_eq!(
        spoilt("50", "49"),
        "D/theirs/train.csv: row 2: column user is 49; must be below 49, its vocab_size in feature_map.json"
    );
    assert!(
        spoilt("numeric", "embedding")
            .contains("feature price is of type embedding; must be numeric")
    );
    assert!(
        spoilt("\"item\"", "\"items\"")
            .contains("there is no column items; the columns are Label, group, item")
    );
    assert!(
        spoilt("[", "{").starts_with("D/theirs/feature_map.json: no feature map of FuxiCTR's: ")
    );
    fs::remove_file(&map).unwrap();
    assert!(
        theirs("csv").unwrap_err().to_string().contains("there is no feature_map.json beside it")
    );
}

/// Sizes that a damaged file may claim.
#[test]
fn arrays_without_ids_or_without_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.npz");
    let member = |name: &str, width, n: usize| {
        let mut member = npz::Member::new(&path, name, Type::Int(4), width).unwrap();
        member.write(&vec![0; 4 * n]).unwrap();
        (member, 3)
    };
    let open = |width: u64| {
        let arrays = [member("label", None, 3), member("C1", Some(width), 3 * width as usize)];
        npz::pack(&path, npz::Packing::Stored, arrays).unwrap();
        read_all(Format::FuxiCtr, &path, 9, &Columns::default()).map_err(|e| e.to_string())
    };
    let spec =
        r#"{"labels": ["label"], "features": [{"C1": {"type": "sequence", "vocab_size": 5}}]}"#;
    fs::write(dir.path().join(NAME), spec).unwrap();
    assert_eq!(open(2).unwrap().1.ids[0].indices, [0; 6]);
    assert!(
        open(0)
            .unwrap_err()
            .ends_with("train.npz: column C1 has no ids a row; must have one or more")
    );
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::numbered(1, Numbers::Int32, [Hotness::One]);
    let create = |name: &str, layout: &Layout| {
        FuxiWriter::create(&dir.path().join(name), layout).map(drop).unwrap_err().to_string()
    };
    assert!(
        create("a.bin", &layout)
            .ends_with("FuxiCTR's files are csv, parquet, npz or h5; the name must end so")
    );
    let any = Layout::numbered(1, Numbers::Int32, [Hotness::Any]);
    assert!(
        create("a.npz", &any)
            .contains("npz holds a fixed number of ids a column, but C1 may hold any")
    );
    if cfg!(not(feature = "hdf5")) {
        assert!(
            create("a.h5", &layout).contains(
                "built without HDF5; build it with `cargo build --release --features hdf5`"
            )
        );
    }
    write_all(Format::FuxiCtr, &dir.path().join("a.csv"), &layout, &Rows::new(&layout), 1).unwrap();
    let other = Layout::numbered(2, Numbers::Int32, [Hotness::One]);
    assert!(
        create("b.csv", &other)
            .ends_with("has other columns than these samples; write them to another folder")
    );
}

/// A map of somebody else's, with all that FuxiCTR puts there.
const THEIRS: &str = r#"{
  "dataset_id": "theirs_x1",
  "num_fields": 4,
  "total_features": 31,
  "input_length": 6,
  "labels": ["label"],
  "features": [
    {"I1": {"source": "user", "type": "numeric", "normalizer": "StandardScaler"}},
    {"group": {"type": "meta", "remap": false}},
    {"C1": {"type": "categorical", "source": "", "padding_idx": 0, "oov_idx": 9, "vocab_size": 10, "pretrained_emb": "a.h5"}},
    {"C2": {"type": "categorical", "source": "", "padding_idx": 0, "oov_idx": 9, "vocab_size": 10, "share_embedding": "C1"}},
    {"tags": {"vocab_size": 10, "type": "sequence", "max_len": 3, "feature_encoder": null, "share": 0.5}}
  ],
  "default_emb_dim": 16
}
"#;

/// Their columns, and samples whose largest ids are these.
fn theirs(ids: [u32; 3]) -> (Layout, Rows) {
    let mut layout = Layout::numbered(1, Numbers::Float32, [Hotness::One; 2]);
    layout
        .ids
        .push(crate::data::rows::IdColumn { name: "tags".into(), hotness: Hotness::Fixed(3) });
    let mut rows = Rows::new(&layout);
    rows.labels.push(1.0);
    rows.dense.push(0.5);
    rows.ids[0].push([ids[0]]);
    rows.ids[1].push([ids[1]]);
    rows.ids[2].push([ids[2], 1, 0]);
    (layout, rows)
}

#[test]
fn a_map_of_others_only_gets_room_for_more_ids() {
    let dir = tempfile::tempdir().unwrap();
    let map = dir.path().join(NAME);
    let write = |ids: [u32; 3]| {
        fs::write(&map, THEIRS).unwrap();
        let (layout, rows) = theirs(ids);
        write_all(Format::FuxiCtr, &dir.path().join("test.npz"), &layout, &rows, 4).unwrap();
        let back = read_all(Format::FuxiCtr, &dir.path().join("test.npz"), 4, &Columns::default())
            .unwrap();
        assert!(same(&back.1, &rows));
        fs::read_to_string(&map).unwrap()
    };
    assert_eq!(write([9, 9, 9]), THEIRS);
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    let tags = THEIRS.replace(r#""vocab_size": 10, "type""#, r#""vocab_size": 21, "type""#);
    assert_eq!(plain(&write([0, 0, 20])), plain(&tags.replace(": 31", ": 42")));
    // Columns of one table grow together, whichever has the larger id.
    let both = THEIRS
        .replace(r#""oov_idx": 9, "vocab_size": 10"#, r#""oov_idx": 9, "vocab_size": 13"#)
        .replace(": 31", ": 37");
    assert_eq!(plain(&write([2, 12, 0])), plain(&both));
    assert_eq!(plain(&write([12, 11, 0])), plain(&both));

    let (mut layout, _) = theirs([0; 3]);
    let mut refused = |hotness: [Hotness; 3]| {
        layout.ids.iter_mut().zip(hotness).for_each(|(c, h)| c.hotness = h);
        let error = FuxiWriter::create(&dir.path().join("b.npz"), &layout)
            .map(drop)
            .unwrap_err()
            .to_string();
        error.replace(dir.path().to_str().unwrap(), "D")
    };
    assert_eq!(
        refused([Hotness::One; 3]),
        "D/feature_map.json: column tags is a sequence of 3 ids, but these samples hold one id; must be equal; use another folder"
    );
    assert!(
        refused([Hotness::One, Hotness::One, Hotness::Fixed(4)])
            .contains("tags is a sequence of 3 ids, but these samples hold 4 ids")
    );
    assert!(
        refused([Hotness::Fixed(2); 3])
            .contains("column C1 is categorical, of one id, but these samples hold 2 ids")
    );
    assert_eq!(plain(&fs::read_to_string(&map).unwrap()), plain(&both));
}

#[test]
fn the_order_of_features_of_version_1_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (map, mut layout) =
        (dir.path().join(NAME), Layout::numbered(0, Numbers::Int32, [Hotness::One; 2]));
    layout.ids.reverse();
    let text = r#"{"label_name": "label", "feature_specs": {"C2": {"type": "categorical", "vocab_size": 3, "index": 0},
        "C1": {"type": "categorical", "vocab_size": 3, "index": 1}}, "num_feature": 6}"#;
    fs::write(&map, text).unwrap();
    let mut rows = Rows::new(&layout);
    rows.labels.push(1.0);
    rows.ids[0].push([2]);
    rows.ids[1].push([7]);
    write_all(Format::FuxiCtr, &dir.path().join("a.csv"), &layout, &rows, 4).unwrap();
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(
        plain(&fs::read_to_string(&map).unwrap()),
        plain(&text.replace(r#"3, "index": 1"#, r#"8, "index": 1"#))
    );
}

#[test]
fn files_that_are_written_at_the_same_time_share_a_map() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One; 2]);
    let begin = |name: &str, ids: [u32; 2]| {
        let mut rows = Rows::new(&layout);
        rows.labels.push(1.0);
        rows.ids.iter_mut().zip(ids).for_each(|(bags, id)| bags.push([id]));
        let mut writer = FuxiWriter::create(&dir.path().join(name), &layout).unwrap();
        writer.write(&rows).unwrap();
        Box::new(writer)
    };
    let (train, test) = (begin("train.csv", [5, 70]), begin("test.csv", [60, 7]));
    train.finish().unwrap();
    test.finish().unwrap();
    for (name, ids) in [("train.csv", [5, 70]), ("test.csv", [60, 7])] {
        let rows =
            read_all(Format::FuxiCtr, &dir.path().join(name), 4, &Columns::default()).unwrap().1;
        assert_eq!((rows.ids[0].indices[0], rows.ids[1].indices[0]), (ids[0], ids[1]));
    }
    let late = begin("late.csv", [1, 1]);
    fs::write(dir.path().join(NAME), THEIRS).unwrap();
    assert!(
        late.finish()
            .unwrap_err()
            .to_string()
            .ends_with("has other columns than these samples; write them to another folder")
    );
    assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), THEIRS);
}
