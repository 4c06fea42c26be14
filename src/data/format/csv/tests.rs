use super::*;
use crate::data::format::{
    Format,
    testing::{Kind, arbitrary, fuzz_cases, python, read_all, round_trip, same, write_all},
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(fuzz_cases(48))]

    #[test]
    fn what_was_written_is_read(
        floats in arbitrary(Kind { numbers: Numbers::Float32, many: false, ..Kind::ANY }),
        doubles in arbitrary(Kind { many: false, ..Kind::ANY }),
        criteo in arbitrary(Kind { largest_id: u32::MAX, ..Kind::CRITEO_INT32 }),
        packed: bool,
        chunk in 1usize..40,
    ) {
        for (mut layout, rows) in [floats, doubles] {
            let back = round_trip(Format::Csv, if packed { "a.csv.gz" } else { "a.csv" }, &layout, &rows, chunk, &Columns::default());
            layout.numbers = Numbers::Float64;
            prop_assert!(back.0 == layout, "{:?} {:?}", back.0, layout);
            let narrow = |r: &Rows| Rows { dense: r.dense.iter().map(|&x| f64::from(x as f32)).collect(), ..r.clone() };
            prop_assert!(same(&back.1, &rows) || same(&narrow(&back.1), &rows));
        }
        let (layout, rows) = criteo;
        let back = round_trip(Format::DeepRec, "train.csv", &layout, &rows, chunk, &Columns::default());
        prop_assert!(same(&back.1, &rows));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..500), "(label,I1,C1\n)?[01,\\n\"-9a-f.]{0,200}".prop_map(String::into_bytes)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, &bytes).unwrap();
        for format in [Format::Csv, Format::DeepRec] {
            let _ = read_all(format, &path, 7, &Columns::default());
        }
    }
}

#[test]
fn names_with_commas_and_quotes_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let names = ["a,b", " c", "d\"e", "\u{feff}f", "ü"];
    let layout = Layout {
        label: "y".into(),
        dense: vec![],
        numbers: Numbers::Float64,
        ids: names.map(|n| IdColumn { name: n.into(), hotness: Hotness::One }).to_vec(),
    };
    let mut rows = Rows::new(&layout);
    rows.labels.push(1.0);
    rows.ids.iter_mut().for_each(|b| b.push([7]));
    write_all(Format::Csv, &path, &layout, &rows, 1).unwrap();
    let back = read_all(Format::Csv, &path, 1, &Columns::default()).unwrap();
    assert!(back.0 == layout && same(&back.1, &rows), "{:?}", back.0);
}

#[test]
fn dense_columns_of_whole_numbers_stay_dense() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let layout = Layout {
        label: "label".into(),
        dense: ["price", "I1", "far"].map(String::from).to_vec(),
        numbers: Numbers::Float64,
        ids: vec![IdColumn { name: "user".into(), hotness: Hotness::One }],
    };
    let mut rows = Rows::new(&layout);
    rows.labels.push(1.0);
    rows.dense.extend([3.0, 4.0, -4.4e13]);
    rows.ids[0].push([7]);
    write_all(Format::Csv, &path, &layout, &rows, 1).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "label,price,I1,far,user\n1,3.0,4,-44000000000000.0,7\n");
    let back = read_all(Format::Csv, &path, 1, &Columns::default()).unwrap();
    assert!(back.0 == layout && same(&back.1, &rows), "{:?}", back.0);
}

#[test]
fn files_of_others_are_read_and_what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let read = |text: &[u8], columns: &Columns| {
        std::fs::write(&path, text).unwrap();
        read_all(Format::Csv, &path, 9, columns).map_err(|e| e.to_string())
    };
    let text = b"\xef\xbb\xbfclick,price,user,I9\r\n1,0.5,7,\r\n\r\n0, 2 ,\"8\",-3";
    let (layout, rows) = read(text, &Columns::default()).unwrap();
    assert_eq!(
        (layout.dense.join(" "), layout.ids[0].name.as_str(), rows.len()),
        ("price I9".into(), "user", 2)
    );
    assert_eq!(
        (rows.dense[0], rows.dense[1].is_nan(), &rows.dense[2..]),
        (0.5, true, &[2.0, -3.0][..])
    );
    assert_eq!((&rows.labels[..], &rows.ids[0].indices[..]), (&[1.0, 0.0][..], &[7, 8][..]));
    for (bad, what) in [
        ("1,2", "has 2 fields; must have 3, one for each column"),
        (
            "2,1,1",
            "column label is \"2\"; must be 0 or 1, since it is the label; --positive names other values that mean 1",
        ),
        (
            ",1,1",
            "column label is \"\"; must be 0 or 1, since it is the label; --positive names other values that mean 1",
        ),
        ("1,x,1", "column I1 is \"x\"; must be a finite number or nothing"),
        ("1,inf,1", "column I1 is \"inf\"; must be a finite number or nothing"),
        (
            "1,1,-1",
            "column C1 is -1; must be an id from 0 to 4294967295, or be taken modulo a number (--max-ind-range N, in a workload \
             data.max_ind_range)",
        ),
        (
            "1,1,68fd1e64",
            "column C1 is \"68fd1e64\"; must be a whole number below 2^32 (an id) or nothing",
        ),
        (
            "1,\"1,1",
            "the quote of field 2 is not closed on its line; close it, or double it if it is part of the text",
        ),
    ] {
        let error = read(format!("label,I1,C1\n0,1,1\n{bad}\n").as_bytes(), &Columns::default())
            .unwrap_err();
        assert_eq!(error, format!("{}:3: {what}", path.display()));
    }
    assert!(
        read(b"", &Columns::default())
            .unwrap_err()
            .ends_with("the file is empty; must start with a header line")
    );
    assert!(
        read(b"y,a,a\n", &Columns::default())
            .unwrap_err()
            .ends_with(":1: the header names a twice, the second time as column 3")
    );
    std::fs::write(&path, "1,2\n").unwrap();
    let error = read_all(Format::DeepRec, &path, 9, &Columns::default()).unwrap_err().to_string();
    assert!(error.ends_with(":1: has 2 fields; must have 40, one for each column"), "{error}");
}

/// A column of ids does not become one of numbers by one that is too large, and none of a sign.
#[test]
fn only_fractions_make_a_column_dense() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_all(Format::Csv, &path, 9, &Columns::default()).map_err(|e| e.to_string())
    };
    for id in ["5000000000", "4294967296", "-5000000000", "-1", "99999999999999999999999"] {
        let error = read(&format!("label,user\n1,{id}\n")).unwrap_err();
        let start = format!("{}:2: column user is {}", path.display(), &id[..5.min(id.len())]);
        let right = "; must be an id from 0 to 4294967295";
        assert!(error.starts_with(&start) || id.len() > 20, "{error}");
        assert!(error.contains(right), "{error}");
    }
    let right = "a whole number below 2^32 (an id) or nothing (name dense columns with --dense)";
    let error = read("label,user\n1,+7\n").unwrap_err();
    assert_eq!(error, format!("{}:2: column user is \"+7\"; must be {right}", path.display()));
    for x in ["0.5", "-1.0", "1e3", ".5", "5.", "1E-7"] {
        let (layout, rows) = read(&format!("label,x,user\n1,{x},4294967295\n0,7,\n")).unwrap();
        assert_eq!((layout.dense.join(" "), rows.dense[0]), ("x".into(), x.parse().unwrap()));
    }
    // A word for nothing makes no column dense, and is missing in each.
    let (layout, rows) = read("label,x\n1,nan\n0,NULL\n").unwrap();
    assert_eq!((layout.dense.len(), rows.ids[0].indices.len()), (0, 0));
    for x in ["inf", "-inf"] {
        assert!(
            read(&format!("label,x\n1,{x}\n"))
                .unwrap_err()
                .ends_with("; must be a finite number or nothing")
        );
    }
}

#[test]
fn what_is_written_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
    std::fs::write(&path, "label,I1\n-0,1\n-0.0,-0\n1.0,2\n").unwrap();
    let (layout, mut rows) = read_all(Format::Csv, &path, 9, &Columns::default()).unwrap();
    write_all(Format::Csv, &to, &layout, &rows, 2).unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "label,I1\n0,1\n0,-0\n1,2\n");
    let write = |layout: &Layout, rows: &Rows| {
        write_all(Format::Csv, &to, layout, rows, 2).unwrap_err().to_string()
    };
    rows.dense[2] = f64::INFINITY;
    let what = "row 3: column I1 is inf; must be finite, since csv holds no other number";
    assert_eq!(write(&layout, &rows), format!("{}: {what}", to.display()));
    let wide = Layout::numbered(300_000, Numbers::Float64, []);
    let mut rows = Rows::new(&wide);
    rows.labels.push(0.0);
    rows.dense.resize(300_000, 0.125);
    let error = write(&wide, &rows);
    assert!(
        error.contains(
            "; must be at most 1048576, since no longer one is read; parquet has no lines"
        ),
        "{error}"
    );
}

/// What pandas makes of a data frame, missing values included, and what it reads of ours.
#[test]
fn pandas_and_we_read_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
import sys, pandas as pd
d = sys.argv[1]
f = pd.DataFrame({"label": [1, 0, 1], "price": [0.1, None, 1e-7], "user": pd.array([4294967295, None, 3], "UInt32")})
f.to_csv(d + "/a.csv", index=False)
"#;
    if !python(&["pandas"], script, &[dir.path()]) {
        return;
    }
    let (layout, rows) =
        read_all(Format::Csv, &dir.path().join("a.csv"), 2, &Columns::default()).unwrap();
    assert_eq!((rows.dense[0], rows.dense[1].is_nan(), rows.dense[2]), (0.1, true, 1e-7));
    assert_eq!((rows.ids[0].bag(0), rows.ids[0].bag(1)), (&[u32::MAX][..], &[][..]));
    write_all(Format::Csv, &dir.path().join("b.csv"), &layout, &rows, 2).unwrap();
    let script = r#"
import sys, pandas as pd
d = sys.argv[1]
a, b = (pd.read_csv(d + name, dtype={"user": "UInt32"}) for name in ("/a.csv", "/b.csv"))
pd.testing.assert_frame_equal(a, b, check_exact=True)
"#;
    python(&["pandas"], script, &[dir.path()]);
}
