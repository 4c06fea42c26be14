use super::*;
use crate::data::{
    format::{
        Format, Reader, Writer,
        columns::Columns,
        testing::{
            Kind, arbitrary, drain, fuzz_cases, part, python, read_all, round_trip, same, write_all,
        },
    },
    rows::{Hotness, Layout, Numbers, Rows},
};
use parquet::{
    basic::{ConvertedType, Repetition, Type as Physical},
    data_type::{FloatType, Int32Type, Int64Type},
    file::writer::SerializedFileWriter,
    schema::types::Type,
};
use proptest::prelude::*;
use std::{fs::File, path::Path, sync::Arc};

proptest! {
    #![proptest_config(fuzz_cases(48))]

    #[test]
    fn what_was_written_is_read(
        kind in prop::sample::select(vec![Numbers::Int32, Numbers::Float32, Numbers::Float64]),
        rows in arbitrary(Kind::ANY),
        ints in arbitrary(Kind { numbers: Numbers::Int32, ..Kind::ANY }),
        floats in arbitrary(Kind { numbers: Numbers::Float32, ..Kind::ANY }),
        chunk in 1usize..40,
    ) {
        let (layout, rows) = match kind {
            Numbers::Int32 => ints,
            Numbers::Float32 => floats,
            Numbers::Float64 => rows,
        };
        let (mut back_layout, back) = round_trip(Format::Parquet, "a.parquet", &layout, &rows, chunk, &Columns::default());
        if layout.dense.is_empty() {
            back_layout.numbers = layout.numbers;
        }
        prop_assert_eq!(back_layout, layout);
        prop_assert!(same(&back, &rows), "{:?} {:?}", back, rows);
    }
}

/// A file of several row groups, written by hand in small ones.
fn groups(path: &Path, n: usize, of: usize) -> (Layout, Rows) {
    let layout = Layout::numbered(2, Numbers::Int32, [Hotness::One, Hotness::Any]);
    let mut rows = Rows::new(&layout);
    let mut writer = ParquetWriter::create(path, &layout).unwrap();
    for i in 0..n {
        let mut one = Rows::new(&layout);
        one.labels.push((i % 2) as f32);
        one.dense.extend([i as f64, if i % 3 == 0 { f64::NAN } else { -(i as f64) }]);
        one.ids[0].push([i as u32]);
        one.ids[1].push((0..i as u32 % 4).map(|k| k * 10));
        writer.write(&one).unwrap();
        if i % of == of - 1 {
            writer.spill().unwrap();
        }
        rows.labels.extend(&one.labels);
        rows.dense.extend(&one.dense);
        rows.ids.iter_mut().zip(&one.ids).for_each(|(all, b)| all.push(b.bag(0).iter().copied()));
    }
    Box::new(writer).finish().unwrap();
    (layout, rows)
}

#[test]
fn any_part_of_any_row_group_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let (layout, all) = groups(&path, 50, 7);
    let mut table = Table::open(&path, &Columns::default(), 0).unwrap();
    assert_eq!(table.groups().collect::<Vec<_>>(), [7, 7, 7, 7, 7, 7, 7, 1]);
    assert_eq!((table.len(), table.largest_id(0), table.start(2)), (50, Some(49), 14));
    for (group, row, n) in
        [(3, 21, 7), (0, 2, 3), (0, 5, 2), (7, 49, 1), (0, 0, 1), (0, 4, 1), (2, 15, 0), (2, 16, 4)]
    {
        let mut rows = Rows::new(&layout);
        table.append(group, row as u64, n, &mut rows).unwrap();
        assert!(same(&rows, &part(&all, &layout, row, n)), "{group} {row} {n}");
    }
    let mut reader = ParquetReader::open(&path, &Columns::default()).unwrap();
    assert_eq!(reader.len(), Some(50));
    assert!(same(&drain(&mut reader, 13).unwrap(), &all));
}

#[test]
fn ids_that_are_numbered_through_start_at_0_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One; 3]);
    let mut rows = Rows::new(&layout);
    rows.labels.push(0.0);
    rows.ids.iter_mut().zip([5, 105, 203]).for_each(|(b, id)| b.push([id]));
    write_all(Format::Parquet, &path, &layout, &rows, 1).unwrap();
    let mut table = Table::open(&path, &Columns::default(), 100).unwrap();
    let mut back = Rows::new(&layout);
    table.append(0, 0, 1, &mut back).unwrap();
    assert_eq!((0..3).map(|k| back.id(k, 0)).collect::<Vec<_>>(), [5, 5, 3]);
    assert_eq!(table.largest_id(2), Some(3));
    let mut table = Table::open(&path, &Columns::default(), 104).unwrap();
    let error = table.append(0, 0, 1, &mut Rows::new(&layout)).unwrap_err().to_string();
    assert!(error.contains("row 1: column C3 is -5; must be an id from 0"), "{error}");
}

#[test]
fn files_that_do_not_fit_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let (_, _) = groups(&path, 20, 7);
    let good = std::fs::read(&path).unwrap();
    let open = |columns: Columns| {
        read_all(Format::Parquet, &path, 9, &columns).map(drop).unwrap_err().to_string()
    };
    let named = |label: &str, dense: &[&str], categorical: &[&str]| Columns {
        label: Some(label.into()),
        dense: dense.iter().map(|s| s.to_string()).collect(),
        categorical: categorical.iter().map(|s| s.to_string()).collect(),
        ignore: Vec::new(),
        ..Columns::default()
    };
    assert!(
        open(named("y", &[], &[]))
            .ends_with("there is no column y; the columns are label, I1, I2, C1, C2")
    );
    assert!(
        open(named("label", &["C2"], &[]))
            .ends_with("column C2 holds lists; only categorical columns may")
    );
    assert!(
        open(named("I2", &[], &[]))
            .ends_with("row 1: the label (column I2) is missing; must be 0 or 1")
    );
    assert!(
        open(named("C1", &[], &["I2"]))
            .ends_with("row 3: the label (column C1) is 2; must be 0 or 1")
    );
    assert!(
        open(named("label", &[], &["I2"]))
            .contains("row 2: column I2 is -1; must be an id from 0 to")
    );

    for (bytes, what) in [
        (&b""[..], "the file is empty; must be a parquet file"),
        (b"PAR1, not", "no parquet file: "),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert!(open(Columns::default()).contains(what));
    }
    std::fs::write(&path, &good[..good.len() - 20]).unwrap();
    assert!(open(Columns::default()).contains("no parquet file: "));
    let twice =
        Layout { dense: vec!["x".into(), "x".into()], ..Layout::numbered(2, Numbers::Int32, []) };
    assert!(
        ParquetWriter::create(&path, &twice)
            .err()
            .unwrap()
            .to_string()
            .contains("two columns are called x")
    );
}

proptest! {
    #![proptest_config(fuzz_cases(256))]

    #[test]
    fn no_damage_makes_it_panic(cut in any::<prop::sample::Index>(), bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), junk: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        groups(&path, 20, 7);
        let mut all = std::fs::read(&path).unwrap();
        for (at, byte) in bytes {
            let at = at.index(all.len());
            all[at] = byte;
        }
        if cut.index(5) == 0 {
            all.truncate(cut.index(all.len()));
            all.extend(junk);
        }
        std::fs::write(&path, &all).unwrap();
        if let Err(e) = read_all(Format::Parquet, &path, 9, &Columns::default()) {
            prop_assert!(!e.to_string().contains('\n'), "{}", e);
        }
    }
}

/// Files by pyarrow, pandas' way of writing: nulls, lists, unsigned and narrow integers, floats as
/// labels, dictionary and plain pages of both versions, and a codec that is not read.
#[test]
fn files_by_pyarrow_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
import sys, pyarrow as pa, pyarrow.parquet as pq
n = 1000
cols = {
    "label": pa.array([float(i % 2) for i in range(n)], pa.float32()),
    "I1": pa.array([None if i % 10 == 0 else i - 5 for i in range(n)], pa.int64()),
    "price": pa.array([None if i % 7 == 0 else i / 4 for i in range(n)], pa.float64()),
    "C1": pa.array([4294967295 - i for i in range(n)], pa.uint32()),
    "C2": pa.array([None if i % 3 == 0 else i % 100 for i in range(n)], pa.int8()),
    "C3": pa.array([None if i % 11 == 0 else [i] * (i % 4) for i in range(n)], pa.list_(pa.int64())),
    "C4": pa.array([float(i) for i in range(n)], pa.float64()),
    "user": pa.array(["u%d" % i for i in range(n)]),
}
table = pa.table(cols)
for name, options in [("v1", dict(row_group_size=300)), ("v2", dict(data_page_version="2.0", use_dictionary=False, compression="gzip")),
                      ("lz4", dict(compression="lz4", version="1.0")), ("none", dict(compression="none", data_page_size=100)),
                      ("zstd", dict(compression="zstd"))]:
    pq.write_table(table, "%s/%s.parquet" % (sys.argv[1], name), **options)
"#;
    if !python(&["pyarrow"], script, &[dir.path()]) {
        return;
    }
    let columns = Columns {
        categorical: ["C1", "C2", "C3", "C4"].map(String::from).to_vec(),
        ignore: vec!["user".into()],
        ..Columns::default()
    };
    for name in ["v1", "v2", "lz4", "none", "zstd"] {
        let path = dir.path().join(name).with_extension("parquet");
        let (layout, rows) = read_all(Format::Parquet, &path, 77, &columns).unwrap();
        assert_eq!(
            (layout.dense.join(" "), layout.numbers, rows.len()),
            ("I1 price".into(), Numbers::Float64, 1000)
        );
        for i in 0..1000usize {
            let x = |null: bool, x: f64| if null { f64::NAN } else { x };
            let want = [x(i % 10 == 0, i as f64 - 5.0), x(i % 7 == 0, i as f64 / 4.0)];
            assert!(
                rows.dense_row(i)
                    .iter()
                    .zip(want)
                    .all(|(&a, b)| a == b || a.is_nan() && b.is_nan()),
                "{name} {i}"
            );
            assert_eq!(
                (rows.labels[i], rows.id(0, i), rows.id(3, i)),
                ((i % 2) as f32, u32::MAX - i as u32, i as u32)
            );
            let some =
                |null: bool, id: u32, times: usize| if null { vec![] } else { vec![id; times] };
            assert_eq!(rows.ids[1].bag(i), some(i % 3 == 0, i as u32 % 100, 1), "{name} {i}");
            assert_eq!(rows.ids[2].bag(i), some(i % 11 == 0, i as u32, i % 4), "{name} {i}");
        }
    }
    let open = |name: &str, columns: &Columns| {
        read_all(Format::Parquet, &dir.path().join(name), 77, columns)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let text = open("v1.parquet", &Columns { ignore: vec!["price".into()], ..Columns::default() });
    assert!(
        text.ends_with(
            "column user is of type BYTE_ARRAY; must be numbers, or lists of them for ids (text is trained on as it is with data.source = \"parquet\", and is no number in other formats)"
        ),
        "{text}"
    );
}

/// A file of one column of whole numbers beside the label, of the given types, with nulls where
/// there is nothing.
fn whole_numbers(
    path: &Path,
    physical: Physical,
    converted: ConvertedType,
    values: &[Option<i64>],
) {
    let column = |name: &'static str, of| {
        Type::primitive_type_builder(name, of).with_repetition(Repetition::OPTIONAL)
    };
    let mut fields = vec![column("label", Physical::INT32).build().unwrap()];
    let (precision, scale) = if converted == ConvertedType::DECIMAL { (7, 2) } else { (-1, -1) };
    let x = column("x", physical)
        .with_converted_type(converted)
        .with_precision(precision)
        .with_scale(scale);
    fields.push(x.build().unwrap());
    let fields = fields.into_iter().map(Arc::new).collect();
    let schema = Type::group_type_builder("schema").with_fields(fields).build().unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut file = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut labels = group.next_column().unwrap().unwrap();
    let n = values.len();
    labels.typed::<Int32Type>().write_batch(&vec![1; n], Some(&vec![1; n]), None).unwrap();
    labels.close().unwrap();
    let defs: Vec<i16> = values.iter().map(|x| i16::from(x.is_some())).collect();
    let there: Vec<i64> = values.iter().flatten().copied().collect();
    let narrow: Vec<i32> = there.iter().map(|&x| x as i32).collect();
    let mut column = group.next_column().unwrap().unwrap();
    match physical {
        Physical::INT32 => {
            column.typed::<Int32Type>().write_batch(&narrow, Some(&defs), None).unwrap()
        }
        _ => column.typed::<Int64Type>().write_batch(&there, Some(&defs), None).unwrap(),
    };
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
}

#[test]
fn numbers_that_stand_for_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let read = |dense: bool| {
        let columns =
            Columns { dense: if dense { vec!["x".into()] } else { vec![] }, ..Columns::default() };
        let said = |e: crate::data::DataError| e.to_string().replace(path.to_str().unwrap(), "a");
        read_all(Format::Parquet, &path, 9, &columns).map(|(_, rows)| rows).map_err(said)
    };
    for (physical, converted, shown) in [
        (Physical::INT32, ConvertedType::DECIMAL, "DECIMAL, stored as INT32"),
        (Physical::INT64, ConvertedType::DECIMAL, "DECIMAL, stored as INT64"),
        (Physical::INT32, ConvertedType::DATE, "DATE, stored as INT32"),
        (Physical::INT32, ConvertedType::TIME_MILLIS, "TIME_MILLIS, stored as INT32"),
        (Physical::INT64, ConvertedType::TIMESTAMP_MICROS, "TIMESTAMP_MICROS, stored as INT64"),
    ] {
        whole_numbers(&path, physical, converted, &[Some(125)]);
        for dense in [true, false] {
            let error = read(dense).unwrap_err();
            let dates = shown.starts_with("DATE") || shown.starts_with("TIMESTAMP");
            let advice = match dates {
                true => " (--dates, in a workload data.dates, makes features of dates)",
                false => "",
            };
            let right = "must be numbers, or lists of them for ids";
            assert_eq!(error, format!("a: column x is of type {shown}; {right}{advice}"));
        }
    }
    for (physical, converted) in [
        (Physical::INT32, ConvertedType::NONE),
        (Physical::INT32, ConvertedType::INT_8),
        (Physical::INT32, ConvertedType::UINT_16),
        (Physical::INT64, ConvertedType::INT_64),
        (Physical::INT64, ConvertedType::UINT_64),
    ] {
        whole_numbers(&path, physical, converted, &[Some(125), None]);
        assert_eq!(read(true).unwrap().dense[0], 125.0);
        assert_eq!(read(false).unwrap().ids[0].indices, [125]);
    }
}

#[test]
fn whole_numbers_of_64_bits_are_exact_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let read = |columns: &Columns| {
        let said = |e: crate::data::DataError| e.to_string().replace(path.to_str().unwrap(), "a");
        read_all(Format::Parquet, &path, 9, columns).map(|(_, rows)| rows).map_err(said)
    };
    let dense = Columns { dense: vec!["x".into()], ..Columns::default() };
    let exact = 1i64 << 53;
    for x in [exact, -exact] {
        whole_numbers(&path, Physical::INT64, ConvertedType::NONE, &[None, Some(x)]);
        assert_eq!(read(&dense).unwrap().dense[1], x as f64);
    }
    let large = i64::MIN + 5;
    for (x, converted, shown) in [
        (exact + 1, ConvertedType::NONE, "9007199254740993"),
        (-exact - 1, ConvertedType::INT_64, "-9007199254740993"),
        (i64::MIN, ConvertedType::NONE, "-9223372036854775808"),
        (large, ConvertedType::UINT_64, "9223372036854775813"),
    ] {
        whole_numbers(&path, Physical::INT64, converted, &[Some(1), None, Some(x), None]);
        assert_eq!(
            read(&dense).unwrap_err(),
            format!(
                "a: row 3: column x is {shown}; must be at most 2^53 in magnitude as a dense value; hashes are ids (--categorical x, \
             --max-ind-range N; in a workload data.categorical, data.max_ind_range)"
            )
        );
        let error = read(&Columns::default()).unwrap_err();
        assert_eq!(
            error,
            format!(
                "a: row 3: column x is {shown}; must be an id from 0 to 4294967295, or be taken modulo a number (--max-ind-range N, in a \
             workload data.max_ind_range)"
            )
        );
    }
    assert_eq!(Table::open(&path, &Columns::default(), 0).unwrap().largest_id(0), None);
}

/// Hashes are numbers without a sign, whatever the type of their column is; what has been counted
/// from an offset on is not below it.
#[test]
fn hashes_are_taken_modulo_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns =
        Columns { categorical: vec!["x".into()], range: Some(1000), ..Columns::default() };
    let ids = |columns: &Columns, stride: u32| -> Result<Vec<u32>, String> {
        let mut table = Table::open(&path, columns, stride).unwrap();
        let mut rows = Rows::new(table.layout());
        let n = table.len() as usize;
        table.append(0, 0, n, &mut rows).map_err(|e| e.to_string())?;
        Ok(rows.ids[rows.ids.len() - 1].indices.clone())
    };
    // 2^64 - 1, 2^63 and 2^32 - 1 end in 615, 808 and 295.
    for converted in [ConvertedType::NONE, ConvertedType::UINT_64] {
        whole_numbers(
            &path,
            Physical::INT64,
            converted,
            &[Some(-1), Some(i64::MIN), None, Some(1_234_567), Some(5_000_000_042)],
        );
        assert_eq!(ids(&columns, 0).unwrap(), [615, 808, 567, 42]);
        // Such a column is categorical by what it holds.
        assert_eq!(
            ids(&Columns { range: Some(1000), ..Columns::default() }, 0).unwrap(),
            [615, 808, 567, 42]
        );
        // The quick way of ids that fit.
        whole_numbers(
            &path,
            Physical::INT64,
            converted,
            &[Some(4_000_000_001), Some(999), Some(1000)],
        );
        assert_eq!(ids(&columns, 0).unwrap(), [1, 999, 0]);
        // An offset comes off before.
        let second = Columns { categorical: vec!["x".into(), "y".into()], ..columns.clone() };
        two_columns(&path, converted, [7, 1000 + 40_000_001]);
        assert_eq!(ids(&second, 40_000_001).unwrap(), [0]);
        two_columns(&path, converted, [7, 40_000_000]);
        let error = ids(&second, 40_000_001).unwrap_err();
        assert!(
            error.contains("row 1: column y is -1; must be an id from 0 to 4294967295"),
            "{error}"
        );
    }
    for converted in [ConvertedType::NONE, ConvertedType::UINT_32] {
        whole_numbers(&path, Physical::INT32, converted, &[Some(-1), None, Some(1001)]);
        assert_eq!(ids(&columns, 0).unwrap(), [295, 1]);
    }
    let table = |x: &[Option<i64>], columns: &Columns| {
        whole_numbers(&path, Physical::INT64, ConvertedType::NONE, x);
        Table::open(&path, columns, 0).unwrap().largest_id(0)
    };
    assert_eq!(table(&[Some(3), Some(400)], &columns), Some(400));
    assert_eq!(table(&[Some(3), Some(4000)], &columns), Some(999));
    assert_eq!(table(&[Some(-3), Some(4)], &columns), Some(999));
}

/// A row of the columns `x` and `y`.
fn two_columns(path: &Path, converted: ConvertedType, values: [i64; 2]) {
    let field = |name, physical, converted| {
        let plain =
            Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        Arc::new(plain.with_converted_type(converted).build().unwrap())
    };
    let fields = vec![
        field("label", Physical::FLOAT, ConvertedType::NONE),
        field("x", Physical::INT64, converted),
        field("y", Physical::INT64, converted),
    ];
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
    let mut file =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Default::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<FloatType>().write_batch(&[1.0], None, None).unwrap();
    column.close().unwrap();
    for value in values {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[value], None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
}

/// A struct is a column of several leaves, which have one name.
#[test]
fn a_struct_is_left_out_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let leaf = |name: &'static str| {
        Arc::new(Type::primitive_type_builder(name, Physical::INT32).build().unwrap())
    };
    let both = Type::group_type_builder("s")
        .with_repetition(Repetition::OPTIONAL)
        .with_fields(vec![leaf("a"), leaf("b")]);
    let fields = vec![leaf("label"), Arc::new(both.build().unwrap()), leaf("C1")];
    let schema = Type::group_type_builder("schema").with_fields(fields).build().unwrap();
    let file = std::fs::File::create(dir.path().join("a.parquet")).unwrap();
    let mut file = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    // The level of a value that is there: one for each level of its path that need not be.
    for (values, level) in [([0, 1, 1], 1), ([7, 7, 7], 2), ([8, 8, 8], 2), ([4, 5, 6], 1)] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&values, Some(&[level; 3]), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    let read =
        |columns: &Columns| read_all(Format::Parquet, &dir.path().join("a.parquet"), 9, columns);
    assert!(
        read(&Columns::default())
            .unwrap_err()
            .to_string()
            .contains("column s is nested; must be numbers")
    );
    let (layout, rows) = read(&Columns { ignore: vec!["s".into()], ..Columns::default() }).unwrap();
    assert_eq!(
        (layout.dense.len(), layout.ids.len(), &rows.ids[0].indices[..]),
        (0, 1, &[4, 5, 6][..])
    );
}

/// What is written, pyarrow reads.
#[test]
fn pyarrow_reads_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    groups(&path, 20, 7);
    let script = r#"
import sys, pyarrow.parquet as pq
f = pq.ParquetFile(sys.argv[1])
assert f.num_row_groups == 3, f.num_row_groups
t = f.read()
assert str(t.schema.field("label").type) == "float" and str(t.schema.field("I1").type) == "int32", t.schema
assert str(t.schema.field("C1").type) == "int64" and str(t.schema.field("C2").type).startswith("list<"), t.schema
rows = t.to_pylist()
for i, r in enumerate(rows):
    want = {"label": float(i % 2), "I1": i, "I2": None if i % 3 == 0 else -i, "C1": i, "C2": [k * 10 for k in range(i % 4)]}
    assert r == want, (r, want)
assert len(rows) == 20
"#;
    python(&["pyarrow"], script, &[&path]);
}
