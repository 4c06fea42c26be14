use super::*;
use crate::data::format::{
    Format,
    sidecar::beside,
    testing::{Kind, arbitrary, fuzz_cases, read_all, same, write_all, zeroed},
};
use proptest::prelude::*;
use std::fs;

/// What comes back: dense values that are missing are 0, the ids of a sample are in order.
fn sorted(rows: &Rows) -> Rows {
    let mut out = Rows { dense: zeroed(rows).dense, ..rows.clone() };
    for bags in &mut out.ids {
        for b in 0..rows.len() {
            let range = bags.offsets[b] as usize..bags.offsets[b + 1] as usize;
            bags.indices[range].sort_unstable();
        }
    }
    out
}

proptest! {
    #![proptest_config(fuzz_cases(48))]

    #[test]
    fn what_was_written_is_read(rows in arbitrary(Kind::ANY), chunk in 1usize..40, fm: bool, packed: bool) {
        let (layout, rows) = rows;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(if packed { "a.gz" } else { "a" });
        let format = if fm { Format::LibFm } else { Format::LibSvm };
        write_all(format, &path, &layout, &rows, chunk).unwrap();
        let back = read_all(format, &path, chunk + 1, &Columns::default()).unwrap();
        prop_assert!(back.0 == layout && same(&back.1, &sorted(&rows)));
    }

    #[test]
    fn no_text_makes_it_panic(text in "([-+ #:.0-9e\\n]|[0-9]{1,3}:1|\\PC){0,80}", bytes in prop::collection::vec(any::<u8>(), 0..30), described in "[ -~]{0,60}", sidecar in 0..3) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [text.as_bytes(), &bytes].concat()).unwrap();
        match sidecar {
            0 => {}
            1 => fs::write(beside(&path), described).unwrap(),
            _ => fs::write(beside(&path), r#"{"label":"y","dense":["d"],"categorical":[{"name":"a","rows":5},{"name":"b","many":true,"rows":20}]}"#).unwrap(),
        }
        for format in [Format::LibSvm, Format::LibFm] {
            if let Err(e) = read_all(format, &path, 7, &Columns::default()) {
                prop_assert!(!e.to_string().contains('\n'), "{}", e);
            }
        }
    }
}

/// Lines as the manuals of both programs have them, and Frappe's (one index a field, all with 1).
#[test]
fn files_of_others_are_read_with_and_without_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.libsvm");
    fs::write(&path, "\u{feff}+1 1:0.5 3:1 7:1 # one\r\n\n-1 2:-2 8:2\n0 1:3e2\n").unwrap();
    let read = |format, columns: &Columns| {
        read_all(format, &path, 2, columns)
            .map_err(|e| e.to_string().replace(path.to_str().unwrap(), "a"))
    };
    let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let columns =
        Columns { dense: list(&["2", "1"]), categorical: list(&["7", "3"]), ..Columns::default() };
    let (layout, rows) = read(Format::LibSvm, &columns).unwrap();
    assert_eq!(
        (&layout.dense, layout.ids[0].name.as_str(), layout.ids[1].name.as_str()),
        (&list(&["2", "1"]), "7", "3")
    );
    assert_eq!(
        (&rows.labels[..], &rows.dense[..]),
        (&[1.0, 0.0, 0.0][..], &[0.0, 0.5, -2.0, 0.0, 0.0, 300.0][..])
    );
    assert_eq!(
        (rows.ids[0].bag(0), rows.ids[0].bag(1), rows.ids[0].bag(2)),
        (&[0][..], &[1, 1][..], &[][..])
    );
    assert_eq!((rows.ids[1].bag(0), rows.ids[1].bag(1)), (&[0][..], &[][..]));
    assert_eq!(
        read(Format::LibSvm, &Columns::default()).unwrap_err(),
        "a:1: index 1 of column features has value 0.5; must be 1, or how often the sample holds the id (name dense columns with --dense)"
    );
    fs::write(&path, "1 0:1 451:1 5041:1\n-1 3:1\n").unwrap();
    let (layout, rows) = read(Format::LibFm, &Columns::default()).unwrap();
    assert_eq!(
        (layout.ids.len(), layout.ids[0].hotness, rows.ids[0].bag(0)),
        (1, Hotness::Any, &[0, 451, 5041][..])
    );
    assert_eq!(
        read(Format::LibSvm, &Columns::default()).unwrap_err(),
        "a:1: there is index 0; libsvm counts from 1"
    );
    for (text, error) in [
        ("1 5", "a:1: there is \"5\"; must be index:value"),
        ("1 5:1\n2 5:1", "a:2: the label is \"2\"; must be 0 or 1, or -1 or 1"),
        ("1 qid:3 5:1", "a:1: there is \"qid:3\"; must be index:value"),
        ("1 5:nan", "a:1: there is \"5:nan\"; must be index:value"),
        (
            "1 5000000000:1",
            "a:1: there is index 5000000000; must be at most 4294967295, by the columns",
        ),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(read(Format::LibFm, &Columns::default()).unwrap_err(), error);
    }
    let named = |dense: &[&str], ids: &[&str]| {
        read(
            Format::LibSvm,
            &Columns { dense: list(dense), categorical: list(ids), ..Columns::default() },
        )
        .unwrap_err()
    };
    assert_eq!(named(&["I1"], &[]), "a: column I1 is no index; must be 1 or more");
    assert_eq!(named(&["3"], &["4", "3"]), "a: index 3 has two roles; name each once");
    let label = Columns { label: Some("1".into()), ..Columns::default() };
    assert!(
        read(Format::LibSvm, &label)
            .unwrap_err()
            .contains("only --dense and --categorical take indices")
    );
    fs::write(&path, "1 1:1 2:1 3:1\n").unwrap();
    fs::write(
        beside(&path),
        r#"{"label":"y","dense":["d"],"categorical":[{"name":"a","rows":2}]}"#,
    )
    .unwrap();
    assert_eq!(
        read(Format::LibSvm, &Columns::default()).unwrap_err(),
        "a:1: column a has 2 ids; must have at most 1"
    );
    fs::write(&path, "1 1:1 4:1\n").unwrap();
    assert_eq!(
        read(Format::LibSvm, &Columns::default()).unwrap_err(),
        "a:1: there is index 4; must be at most 3, by the columns"
    );
}

/// Two columns by hand.
#[test]
fn a_line_has_the_columns_one_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::numbered(2, Numbers::Int32, [Hotness::One]);
    layout.ids.push(IdColumn { name: "tags".into(), hotness: Hotness::Any });
    let mut rows = Rows::new(&layout);
    for (y, dense, id, tags) in
        [(1.0, [f64::NAN, 7.0], Some(4), &[2, 0, 2][..]), (0.0, [-1.0, 0.0], None, &[])]
    {
        rows.labels.push(y);
        rows.dense.extend(dense);
        rows.ids[0].push(id);
        rows.ids[1].push(tags.iter().copied());
    }
    let path = dir.path().join("a.libsvm");
    write_all(Format::LibSvm, &path, &layout, &rows, 1).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1 2:7 7:1 8:1 10:2\n0 1:-1\n");
    write_all(Format::LibFm, &path, &layout, &rows, 1).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1 1:7 6:1 7:1 9:2\n0 0:-1\n");
}

#[test]
fn a_line_cannot_stand_for_any_number_of_ids_nor_say_a_value_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.libsvm");
    let read = |text: &str, dense: &[&str]| {
        fs::write(&path, text).unwrap();
        let columns =
            Columns { dense: dense.iter().map(|s| s.to_string()).collect(), ..Columns::default() };
        read_all(Format::LibSvm, &path, 9000, &columns)
            .map_err(|e| e.to_string().replace(path.to_str().unwrap(), "a"))
    };
    assert_eq!(
        read("1 1:2 2:1 1:3\n", &["1"]).unwrap_err(),
        "a:1: index 1, which is dense column 1, is there twice; must be there once"
    );
    assert!(read("1 1:0 1:0\n", &["1"]).is_err());
    let many: String = (1..=16).map(|i| format!(" {i}:65536")).collect();
    let (_, rows) = read(&format!("1{many}\n").repeat(3), &["99"]).unwrap();
    assert_eq!((rows.len(), rows.ids[0].bag(1).len()), (3, 1 << 20));
    assert_eq!(
        read(&format!("1 3:1\n1{many} 17:1\n"), &[]).unwrap_err(),
        "a:2: there are more than 1048576 ids; must be at most as many a sample"
    );
    // A few lines of it are passed on together.
    fs::write(&path, format!("1{many}\n").repeat(9)).unwrap();
    let mut reader = LibSvmReader::open(&path, Base::LibSvm, &Columns::default()).unwrap();
    let mut rows = Rows::new(reader.layout());
    for n in [4, 4, 1, 0] {
        reader.read(9000, &mut rows).unwrap();
        assert_eq!(rows.len(), n);
    }
    let layout = Layout::numbered(1, Numbers::Float64, [Hotness::One]);
    let mut rows = Rows::new(&layout);
    rows.labels.push(0.0);
    rows.dense.push(f64::NEG_INFINITY);
    rows.ids[0].push([0]);
    let error = write_all(Format::LibFm, &path, &layout, &rows, 1).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "row 1: column I1 is -inf; must be finite, since libfm holds no other number"
        ),
        "{error}"
    );
}

/// With keys of 64 bits an index is one, whole; without them what is beyond 32 bits is refused.
#[test]
fn indices_may_be_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.libfm");
    let large = u64::MAX - 5;
    fs::write(&path, format!("1 0:0.5 7:1 {large}:2 4294967303:1\n0 4294967296:1\n")).unwrap();
    let named = |keys| Columns {
        dense: vec!["0".into()],
        categorical: vec!["7".into()],
        keys,
        ..Columns::default()
    };
    let (_, rows) = read_all(Format::LibFm, &path, 3, &named(true)).unwrap();
    let keys = |b| rows.ids[0].bag_keys(b).collect::<Vec<u64>>();
    assert_eq!(keys(0), [0, large - 7, large - 7, 1 << 32]);
    assert_eq!(keys(1), [(1 << 32) - 7]);
    let error = read_all(Format::LibFm, &path, 3, &named(false)).unwrap_err().to_string();
    assert!(error.contains(&format!("there is index {large}; must be at most")), "{error}");
}
