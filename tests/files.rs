//! Every file is taken for what it is: what programs of others write by default is read, what is no
//! feature is left out and told, text and parquet mean the same by the same numbers, and where
//! something is missing, there twice, or passed over, an error says so. Through the binary.

use parquet::{
    basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel},
    data_type::{BoolType, DoubleType, Int32Type, Int64Type},
    file::{
        metadata::KeyValue,
        properties::{WriterProperties, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

fn dlrm(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).current_dir(dir).args(args).output().unwrap()
}

fn good(dir: &Path, args: &[&str]) -> Output {
    let out = dlrm(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// The one line on standard error of a command that ends with `code`, notes left out.
fn refused(dir: &Path, args: &[&str], code: i32) -> String {
    let out = dlrm(dir, args);
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
    let lines: Vec<&str> = err.lines().filter(|l| !l.starts_with("note: ")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    lines[0].to_owned()
}

/// What `inspect` finds, as JSON.
fn inspect(dir: &Path, args: &[&str]) -> Value {
    let all = [&["data", "inspect"], args, &["--format", "json"]].concat();
    serde_json::from_slice(&good(dir, &all).stdout).unwrap()
}

/// The columns alone, which say nothing of the file they lie in.
fn columns(dir: &Path, args: &[&str]) -> Value {
    let found = inspect(dir, args);
    serde_json::json!([found["rows"], found["positives"], found["columns"]])
}

fn names(found: &Value) -> Vec<&str> {
    found["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

/// A case that users have reported; `None` where the folder beside the checkout is missing.
fn case(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// A column of a parquet file; `None` is null.
enum Values {
    I32(Vec<Option<i32>>),
    I64(Vec<Option<i64>>),
    F64(Vec<Option<f64>>),
    Bool(Vec<Option<bool>>),
}

fn some<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    values.iter().map(|&x| Some(x)).collect()
}

/// Writes nullable columns, as pandas and others do.
fn parquet(path: &Path, properties: WriterProperties, columns: &[(&str, Values)]) {
    let field = |(name, values): &(&str, Values)| {
        let kind = match values {
            Values::I32(_) => "int32",
            Values::I64(_) => "int64",
            Values::F64(_) => "double",
            Values::Bool(_) => "boolean",
        };
        format!("optional {kind} {name};")
    };
    let fields: String = columns.iter().map(field).collect();
    let schema = parse_message_type(&format!("message m {{ {fields} }}")).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut file = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = file.next_row_group().unwrap();
    macro_rules! put {
        ($values:expr, $of:ty, $to:ty) => {{
            let defs: Vec<i16> = $values.iter().map(|x| i16::from(x.is_some())).collect();
            let values: Vec<$to> = $values.iter().flatten().copied().collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<$of>().write_batch(&values, Some(&defs), None).unwrap();
            column.close().unwrap();
        }};
    }
    for (_, values) in columns {
        match values {
            Values::I32(v) => put!(v, Int32Type, i32),
            Values::I64(v) => put!(v, Int64Type, i64),
            Values::F64(v) => put!(v, DoubleType, f64),
            Values::Bool(v) => put!(v, BoolType, bool),
        }
    }
    group.close().unwrap();
    file.close().unwrap();
}

fn plain() -> WriterProperties {
    WriterProperties::builder().build()
}

/// A workload that trains on `data`.
fn workload(dir: &Path, data: &str) {
    let text = format!(
        "[workload]\nname = \"w\"\n[data]\n{data}\n[model]\nkind = \"deepfm\"\ndim = 2\nhidden = [4]\n\
         [train]\nbatch_size = 4\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.01\n[eval]\nbatch_size = 4\n"
    );
    fs::write(dir.join("w.toml"), text).unwrap();
}

/// The tables that a workload trains, and their rows.
fn tables(dir: &Path) -> Vec<(String, u64)> {
    let out = good(dir, &["data", "profile", "w.toml", "--samples", "4", "--json"]);
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    let table = |t: &Value| (t["table"].as_str().unwrap().to_owned(), t["rows"].as_u64().unwrap());
    found["tables"].as_array().unwrap().iter().map(table).collect()
}

#[test]
fn every_codec_and_page_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let n = 3000;
    let labels: Vec<i64> = (0..n).map(|i| i % 2).collect();
    let ids: Vec<i64> = (0..n).map(|i| i * i % 97).collect();
    let prices: Vec<f64> = (0..n).map(|i| i as f64 / 4.0).collect();
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ];
    let mut first = None;
    for codec in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for dictionary in [true, false] {
                let properties = WriterProperties::builder()
                    .set_compression(codec)
                    .set_writer_version(version)
                    .set_dictionary_enabled(dictionary)
                    .build();
                let columns_of = [
                    ("label", Values::I64(some(&labels))),
                    ("price", Values::F64(some(&prices))),
                    ("shop", Values::I64(some(&ids))),
                ];
                parquet(&dir.path().join("a.parquet"), properties, &columns_of);
                let found = columns(dir.path(), &["a.parquet"]);
                assert_eq!((&found[0], &found[1]), (&Value::from(n), &Value::from(n / 2)));
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{codec:?}");
            }
        }
    }
    let Some(case) = case("01-polars") else { return };
    for name in ["train.parquet", "brotli.parquet", "snappy.parquet"] {
        let found = inspect(&case, &[name]);
        assert_eq!((&found["rows"], &found["positives"]), (&500.into(), &264.into()), "{name}");
    }
}

#[test]
fn text_is_unpacked_or_its_packing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), "label,C1\n1,3\n0,4\n").unwrap();
    let want = columns(dir.path(), &["a.csv"]);
    for name in ["b.csv.gz", "b.csv.zst", "b.libsvm.zst"] {
        good(dir.path(), &["data", "convert", "a.csv", "-o", name]);
        assert_eq!(columns(dir.path(), &[name])[0], want[0], "{name}");
    }
    assert_eq!(columns(dir.path(), &["b.csv.zst"]), want);
    let zst = fs::read(dir.path().join("b.csv.zst")).unwrap();
    assert_eq!(zst[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    fs::write(dir.path().join("cut.csv.zst"), &zst[..zst.len() - 4]).unwrap();
    let said = refused(dir.path(), &["data", "inspect", "cut.csv.zst"], 65);
    assert!(said.contains("the zstd data end early"), "{said}");
    for (start, what) in [
        (&b"BZh91AY"[..], "is packed by bzip2"),
        (b"\xfd7zXZ\0", "is packed by xz"),
        (b"PK\x03\x04rest", "is a zip archive"),
        (b"\xff\xfel\0a\0", "is text of UTF-16; must be UTF-8"),
    ] {
        fs::write(dir.path().join("c.csv"), start).unwrap();
        let said = refused(dir.path(), &["data", "inspect", "c.csv"], 65);
        assert!(said.contains(what), "{said}");
        let log = ["data", "preprocess", "facebook-kaggle", "c.csv", "-o", "out"];
        let said = refused(dir.path(), &log, 65);
        assert!(said.contains(what), "{said}");
    }
    fs::write(dir.path().join("log"), &zst).unwrap();
    let log = ["data", "preprocess", "facebook-kaggle", "log", "-o", "out"];
    assert!(refused(dir.path(), &log, 65).contains("is packed by zstd; must be plain text"));
}

#[test]
fn indices_of_rows_are_no_features() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let lines = |first: &str| {
        let row = |i: u32| format!("{},{},{}\n", i + 5, i % 2, i * 7 % 4);
        format!("{first},label,C1\n") + &(0..6).map(row).collect::<String>()
    };
    for (name, first, why) in [
        ("nameless", "", "column \"\" is left out, since it is no feature: it has no name"),
        ("quoted", "\"\"", "column \"\" is left out"),
        ("pandas", "Unnamed: 0", "column Unnamed: 0 is left out"),
        ("stored", "__index_level_0__", "an index of rows that pandas has stored"),
        ("reset", "index", "column index is left out, since it is no feature: its values count"),
        ("polars", "row_nr", "its values count the rows (name it to keep it)"),
    ] {
        let file = format!("{name}.csv");
        fs::write(at(&file), lines(first)).unwrap();
        let found = inspect(dir.path(), &[&file]);
        assert_eq!(names(&found), ["C1"], "{name}");
        assert!(found["notes"][0].as_str().unwrap().contains(why), "{}", found["notes"]);
        let out = good(dir.path(), &["data", "convert", &file, "-o", &format!("{name}.libfm")]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.starts_with(&format!("note: {file}: ")) && said.contains(why), "{said}");
        // The training source, too; the csv's ids are numbered anew, and 0 is for the unknown.
        workload(
            dir.path(),
            &format!("source = \"csv\"\ntrain = \"{file}\"\neval = \"{file}\"\nlabel = \"label\""),
        );
        assert_eq!(tables(dir.path()), [("C1".to_owned(), 5)], "{name}");
    }
    // Whoever names it has it, and one that does not count is a feature.
    assert_eq!(names(&inspect(dir.path(), &["reset.csv", "--categorical", "index"])), ["index"]);
    fs::write(at("own.csv"), "index,label\n4,1\n4,0\n9,1\n").unwrap();
    let found = inspect(dir.path(), &["own.csv"]);
    assert_eq!((names(&found), found["notes"].as_array().unwrap().len()), (vec!["index"], 0));

    // Parquet: by its own metadata, whatever the column is called.
    let pandas = r#"{"index_columns": ["user"], "columns": []}"#;
    let metadata = vec![KeyValue::new("pandas".to_owned(), pandas.to_owned())];
    let stored = WriterProperties::builder().set_key_value_metadata(Some(metadata)).build();
    let of = |first: &'static str, start: i64| {
        let count: Vec<i64> = (start..start + 6).collect();
        [
            (first, Values::I64(some(&count))),
            ("label", Values::I64(some(&[0, 1, 0, 1, 1, 0]))),
            ("C1", Values::I64(some(&[0, 3, 2, 1, 0, 3]))),
        ]
    };
    parquet(&at("user.parquet"), stored, &of("user", 9));
    parquet(&at("plain.parquet"), plain(), &of("user", 9));
    parquet(&at("counts.parquet"), plain(), &of("row_id", 0));
    parquet(&at("level.parquet"), plain(), &of("__index_level_0__", 0));
    assert_eq!(names(&inspect(dir.path(), &["plain.parquet"])), ["user", "C1"]);
    for name in ["user.parquet", "counts.parquet", "level.parquet"] {
        let found = inspect(dir.path(), &[name]);
        assert_eq!((names(&found), found["notes"].as_array().unwrap().len()), (vec!["C1"], 1));
        let data = format!("source = \"parquet\"\ntrain = \"{name}\"\neval = \"{name}\"");
        workload(dir.path(), &data);
        assert_eq!(tables(dir.path()), [("C1".to_owned(), 4)], "{name}");
    }
    if let Some(case) = case("05-pandas-index") {
        let found = inspect(&case, &["train.parquet"]);
        assert_eq!(found["columns"].as_array().unwrap().len(), 3);
        assert!(found["notes"][0].as_str().unwrap().contains("pandas has stored"));
    }
}

#[test]
fn text_and_parquet_mean_the_same_by_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Whole fractions, one missing; truth values; NaN as polars writes it; numbers in quotes.
    let text = "label,C1,C2,price\nfalse,3.0,True,0.5\nTrue,7.0,false,NaN\n0,,\"true\",2.0\n1,12.0,null,\n1,3e0,True,\"3.5\"\n";
    fs::write(at("a.csv"), text).unwrap();
    let of = [
        ("label", Values::Bool(some(&[false, true, false, true, true]))),
        ("C1", Values::F64(vec![Some(3.0), Some(7.0), Some(f64::NAN), Some(12.0), Some(3.0)])),
        ("C2", Values::Bool(vec![Some(true), Some(false), Some(true), None, Some(true)])),
        ("price", Values::F64(vec![Some(0.5), Some(f64::NAN), Some(2.0), None, Some(3.5)])),
    ];
    parquet(&at("a.parquet"), plain(), &of);
    let chosen = ["--categorical", "C1,C2"];
    let found = ["a.csv", "a.parquet"].map(|f| columns(dir.path(), &[&[f], &chosen[..]].concat()));
    assert_eq!(found[0], found[1]);
    let c1 = &found[0][2][1];
    assert_eq!((&c1["name"], &c1["missing"], &c1["max"]), (&"C1".into(), &1.into(), &12.0.into()));
    assert_eq!(found[0][2][0]["missing"], 2);
    if let Some(case) = case("07-csv-float-ids") {
        let found = ["a.csv", "a.parquet"].map(|f| columns(&case, &[&[f], &chosen[..]].concat()));
        assert_eq!(found[0], found[1]);
    }

    // What is no id is refused alike, and taken modulo a number alike.
    for (id, said) in [(-7, "-7"), (1 << 33, "8589934592"), (i64::MIN, "-9223372036854775808")] {
        fs::write(at("b.csv"), format!("label,C1\n1,2\n0,{id}\n")).unwrap();
        let of = [("label", Values::I64(some(&[1, 0]))), ("C1", Values::I64(some(&[2, id])))];
        parquet(&at("b.parquet"), plain(), &of);
        let right = format!(
            "column C1 is {said}; must be an id from 0 to 4294967295, or be taken modulo a number \
             (--max-ind-range N, in a workload data.max_ind_range)"
        );
        for (file, place) in [("b.csv", "b.csv:3"), ("b.parquet", "b.parquet: row 2")] {
            let error = refused(dir.path(), &["data", "inspect", file], 65);
            assert_eq!(error, format!("error: {place}: {right}"));
        }
        let found =
            ["b.csv", "b.parquet"].map(|f| columns(dir.path(), &[f, "--max-ind-range", "1000"]));
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0][2][0]["max"], (id as u64 % 1000).max(2) as f64);
    }
    let of_c = ["c.csv", "--categorical", "C1"];
    fs::write(at("c.csv"), "label,C1\n1,2\n0,0.5\n").unwrap();
    let error = refused(dir.path(), &[&["data", "inspect"], &of_c[..]].concat(), 65);
    assert!(error.contains("\"0.5\"; must be a whole number"), "{error}");
    // What is no number is text, and a number beside it a text as well.
    fs::write(at("c.csv"), "label,C1\n1,2\n0,x\n").unwrap();
    let found = columns(dir.path(), &of_c);
    assert_eq!(found[2][0]["distinct"], 2, "{found}");
}

#[test]
fn ids_that_wrap_are_reduced_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut bytes = Vec::new();
    for row in 0..4i32 {
        let ids = (0..26).map(|k| if row == 2 && k == 4 { -1 } else { row });
        let all = [row % 2].into_iter().chain([1; 13]).chain(ids);
        bytes.extend(all.flat_map(i32::to_le_bytes));
    }
    fs::write(at("a.bin"), &bytes).unwrap();
    let said = refused(dir.path(), &["data", "inspect", "a.bin"], 65);
    assert!(said.contains("row 3: column C5 is -1; must be an id from 0 to"), "{said}");
    // The bits without a sign: 2^32 - 1.
    let found = columns(dir.path(), &["a.bin", "--max-ind-range", "100"]);
    assert_eq!(found[2][13 + 4]["max"], f64::from(u32::MAX % 100));
    let data = "source = \"bin40\"\ntrain = \"a.bin\"\neval = \"a.bin\"";
    workload(dir.path(), data);
    let profile = ["data", "profile", "w.toml", "--samples", "4"];
    let said = refused(dir.path(), &profile, 65);
    assert!(
        said.contains("row 3: column C5 is -1") && said.contains("data.max_ind_range"),
        "{said}"
    );
    workload(dir.path(), &format!("{data}\nmax_ind_range = 100"));
    assert_eq!(tables(dir.path())[4], ("C5".to_owned(), 100));
    // The other columns keep their few rows.
    assert_eq!(tables(dir.path())[5], ("C6".to_owned(), 4));

    // numpy's arrays, of any width.
    let array = |kind: &str, ids: &[u8], rows: usize| npy(kind, &[rows], ids);
    for (kind, ids, modulo) in [
        ("<i8", (-1i64).to_le_bytes().to_vec(), u64::MAX % 1000),
        ("<i4", (-1i32).to_le_bytes().to_vec(), u64::from(u32::MAX) % 1000),
        ("<u8", u64::MAX.to_le_bytes().to_vec(), u64::MAX % 1000),
        ("<f8", 4_294_967_296f64.to_le_bytes().to_vec(), (1 << 32) % 1000),
    ] {
        fs::write(at("d_labels.npy"), array("<i4", &1i32.to_le_bytes(), 1)).unwrap();
        fs::write(at("d_dense.npy"), npy("<f4", &[1, 1], &1f32.to_le_bytes())).unwrap();
        fs::write(at("d_sparse.npy"), npy(kind, &[1, 1], &ids)).unwrap();
        let said = refused(dir.path(), &["data", "inspect", "d_dense.npy"], 65);
        assert!(
            said.contains("row 1: column C1 is ") && said.contains("--max-ind-range"),
            "{said}"
        );
        let found = columns(dir.path(), &["d_dense.npy", "--max-ind-range", "1000"]);
        assert_eq!(found[2][1]["max"], modulo as f64, "{kind}");
    }
    // libsvm's indices beyond 32 bits.
    fs::write(at("a.libsvm"), "1 8589934593:1\n").unwrap();
    assert!(refused(dir.path(), &["data", "inspect", "a.libsvm"], 65).contains("8589934593"));
    let found = columns(dir.path(), &["a.libsvm", "--max-ind-range", "1000"]);
    assert_eq!(found[2][0]["max"], ((1u64 << 33) % 1000) as f64);
    // A description beside a file holds with a range, too.
    fs::write(at("b.csv"), "label,I1,C1\n1,2,70\n0,3,71\n").unwrap();
    for name in ["b.libsvm", "b.npy"] {
        good(dir.path(), &["data", "convert", "b.csv", "-o", name]);
        let found = columns(dir.path(), &[name, "--max-ind-range", "10"]);
        assert_eq!(
            (&found[2][0]["name"], &found[2][1]["max"]),
            (&"I1".into(), &1.0.into()),
            "{name}"
        );
    }
    // Modulo nothing is nothing.
    let zero = dlrm(dir.path(), &["data", "inspect", "a.bin", "--max-ind-range", "0"]);
    assert_eq!(zero.status.code(), Some(64));
    workload(dir.path(), &format!("{data}\nmax_ind_range = 0"));
    assert!(refused(dir.path(), &profile, 64).contains("data.max_ind_range"));
}

/// An array of numpy's.
fn npy(kind: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    fortran(kind, shape, bytes, "False")
}

fn fortran(kind: &str, shape: &[usize], bytes: &[u8], order: &str) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let text = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({sizes}), }}");
    let text = format!("{text:<117}\n");
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), bytes].concat()
}

/// An archive of arrays.
fn npz(path: &Path, arrays: &[(String, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let how =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in arrays {
        zip.start_file(format!("{name}.npy"), how).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn archives_hold_every_table_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("d_labels.npy"), npy("<i4", &[2, 1], &[0; 8])).unwrap();
    fs::write(at("d_dense.npy"), npy("<f4", &[2, 1], &[0; 8])).unwrap();
    let put = |names: &[&str]| {
        let array = |(k, name): (usize, &&str)| {
            let ids: Vec<u8> = [k as i32, 7].iter().flat_map(|x| x.to_le_bytes()).collect();
            (name.to_string(), npy("<i4", &[2, 1], &ids))
        };
        let arrays: Vec<_> = names.iter().enumerate().map(array).collect();
        npz(&at("d_sparse_multi_hot.npz"), &arrays);
    };
    // In the order of the tables, whatever that of the archive is.
    for names in [
        &["0", "1", "2"][..],
        &["00", "01", "02"],
        &["arr_0", "arr_1", "arr_2"],
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
    ] {
        put(names);
        let found = columns(dir.path(), &["d_dense.npy"]);
        let ids = found[2].as_array().unwrap();
        assert_eq!(ids.len(), 1 + names.len(), "{names:?}");
        assert_eq!(ids[1 + 2]["min"], 2.0, "{names:?}");
    }
    for (names, what) in [
        (&["0", "2"][..], "there is no array 1, though others up to 2 are there"),
        (&["1", "2"], "there is no array 0"),
        (&["0", "1", "01"], "array 1 is there twice"),
        (&["0", "1", "dense"], "there is an array dense; must be one a table"),
        (&[], "there is no array"),
    ] {
        put(names);
        let said = refused(dir.path(), &["data", "inspect", "d_dense.npy"], 65);
        assert!(said.contains(what), "{said}");
    }
    let Some(case) = case("13-torchrec-gap") else { return };
    for (set, tables) in [("whole", 26), ("arr", 26), ("padded", 26)] {
        let found = inspect(&case, &[&format!("{set}_dense.npy")]);
        let ids =
            found["columns"].as_array().unwrap().iter().filter(|c| c["kind"] == "categorical");
        assert_eq!(ids.count(), tables, "{set}");
    }
    assert!(
        refused(&case, &["data", "inspect", "gap_dense.npy"], 65).contains("there is no array")
    );
}

/// What stands column by column in an archive has to be unpacked whole; not before its rows are
/// compared.
#[test]
fn rows_are_compared_before_anything_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    let arrays = [
        ("X_int".to_owned(), npy("<i4", &[2, 1], &[0; 8])),
        ("X_cat".to_owned(), fortran("<i4", &[3, 2], &[0xab; 24], "True")),
        ("y".to_owned(), npy("<i4", &[2], &[0; 8])),
    ];
    npz(&path, &arrays);
    // Whoever unpacks it meets the damage first.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(24).position(|w| w == [0xab; 24]).unwrap();
    bytes[at] = 0;
    fs::write(&path, bytes).unwrap();
    let said = refused(dir.path(), &["data", "inspect", "a.npz"], 65);
    assert!(said.contains("X_cat has 3 rows and y has 2; must be equal"), "{said}");
}

#[test]
fn two_columns_of_one_name_are_refused_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let ids = || Values::I64(some(&[1, 2]));
    let of = [("label", Values::I64(some(&[0, 1]))), ("a", ids()), ("b", ids()), ("a", ids())];
    parquet(&at("dup.parquet"), plain(), &of);
    let twice = "two columns are called a; each must have a name of its own";
    for args in [
        &["data", "inspect", "dup.parquet"][..],
        &["data", "inspect", "dup.parquet", "--categorical", "b"],
        &["data", "convert", "dup.parquet", "-o", "out.csv"],
        &["data", "profile", "dup.parquet"],
    ] {
        let said = refused(dir.path(), args, 65);
        assert!(said.ends_with(twice), "{said}");
    }
    assert!(!at("out.csv").exists());
    workload(dir.path(), "source = \"parquet\"\ntrain = \"dup.parquet\"\neval = \"dup.parquet\"");
    assert!(refused(dir.path(), &["data", "profile", "w.toml"], 65).ends_with(twice));
    fs::write(at("dup.csv"), "label,a,b,a\n1,2,3,4\n").unwrap();
    assert!(refused(dir.path(), &["data", "inspect", "dup.csv"], 65).contains("names a twice"));
    // Descriptions beside files.
    let described = r#"{"label": "y", "dense": ["a"], "categorical": [{"name": "a", "rows": 9}]}"#;
    for (name, bytes) in [
        ("a.libsvm", b"1 1:2 3:1\n".to_vec()),
        ("a.raw", [1f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect()),
        ("a.npy", npy("<f8", &[1, 3], &[0; 24])),
    ] {
        fs::write(at(name), bytes).unwrap();
        fs::write(at(&format!("{name}.columns.json")), described).unwrap();
        let from = if name == "a.raw" { &["--from", "hugectr"][..] } else { &[] };
        let said = refused(dir.path(), &[&["data", "inspect", name], from].concat(), 65);
        assert!(said.ends_with(twice), "{said}");
    }
    if let Some(case) = case("54-shapes") {
        let out = at("dup_out.csv").display().to_string();
        let said = refused(&case, &["data", "convert", "dup.parquet", "-o", &out], 65);
        assert!(said.contains("two columns are called"), "{said}");
    }
}

#[test]
fn no_sample_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    parquet(
        &at("rows.parquet"),
        plain(),
        &[("label", Values::I32(vec![])), ("a", Values::I64(vec![]))],
    );
    fs::write(at("header.csv"), "label,a\n").unwrap();
    fs::write(at("comment.libsvm"), "# nothing\n\n").unwrap();
    fs::write(at("n_labels.npy"), npy("<i4", &[0, 1], &[])).unwrap();
    fs::write(at("n_dense.npy"), npy("<f4", &[0, 1], &[])).unwrap();
    fs::write(at("n_sparse.npy"), npy("<i4", &[0, 1], &[])).unwrap();
    for name in ["rows.parquet", "header.csv", "comment.libsvm", "n_dense.npy"] {
        let none = format!("error: {name}: holds no sample; must hold at least one");
        assert_eq!(refused(dir.path(), &["data", "inspect", name], 65), none);
        assert_eq!(refused(dir.path(), &["data", "convert", name, "-o", "out.parquet"], 65), none);
        let said = refused(dir.path(), &["data", "profile", name], 65);
        assert!(said.contains("no sample holds an id"), "{said}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|f| !f.to_string_lossy().contains("out")), "{left:?}");

    // Lines that end in carriage returns alone are one line, a header.
    fs::write(at("mac.csv"), "label,price,shop\r1,0.5,3\r0,1.5,4\r").unwrap();
    for args in
        [&["data", "inspect", "mac.csv"][..], &["data", "convert", "mac.csv", "-o", "o.csv"]]
    {
        let said = refused(dir.path(), args, 65);
        assert!(said.contains("mac.csv:1: its lines end in carriage returns alone"), "{said}");
    }
    workload(
        dir.path(),
        "source = \"csv\"\ntrain = \"mac.csv\"\neval = \"mac.csv\"\nlabel = \"label\"",
    );
    assert!(refused(dir.path(), &["data", "profile", "w.toml"], 65).contains("carriage returns"));
    fs::write(at("mixed.csv"), "label,shop\n1,3\r0,4\n").unwrap();
    let said = refused(dir.path(), &["data", "inspect", "mixed.csv"], 65);
    assert!(said.contains("a carriage return within the line"), "{said}");
    if let Some(case) = case("09-excel") {
        let out = at("o.parquet").display().to_string();
        refused(&case, &["data", "convert", "cr.csv", "-o", &out], 65);
        assert!(!at("o.parquet").exists());
    }

    // Logs of which nothing is left, and manifests that tell of nothing.
    fs::write(at("log.txt"), "nothing of a log\n").unwrap();
    let log = [
        "data",
        "preprocess",
        "facebook-kaggle",
        "log.txt",
        "-o",
        "made",
        "--on-error",
        "skip",
        "-q",
    ];
    refused(dir.path(), &log, 65);
    let manifest = |files: &str, samples: u64| {
        let text = format!(
            r#"{{"format": 1, "made_by": "x", "recipe": "x", "parameters": {{}}, "inputs": [], "splits": [{{"name": "train", "file": "train.bin", "samples": {samples}}}],
             "label_rate": 0.5, "skipped_lines": 0, "dropped_samples": 0, "columns": [], "files": [{files}]}}"#
        );
        fs::create_dir_all(at("kept")).unwrap();
        fs::write(at("kept/manifest.json"), text).unwrap();
    };
    let file = |name: &str| {
        fs::write(at("kept").join(name), "").unwrap();
        let hash = blake3::hash(b"").to_hex();
        format!(r#"{{"name": "{name}", "bytes": 0, "blake3": "{hash}"}}"#)
    };
    manifest("", 5);
    let said = refused(dir.path(), &["data", "verify", "kept"], 65);
    assert!(said.contains("tells of no files, so there is nothing to check"), "{said}");
    manifest(&file("train.bin"), 0);
    assert!(refused(dir.path(), &["data", "verify", "kept"], 65).contains("tells of no samples"));
    manifest(&file("test.bin"), 5);
    let out = dlrm(dir.path(), &["data", "verify", "kept", "-q"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&out.stdout)
            .contains("train.bin: is part train, but manifest.json names no file of it")
    );
    manifest(&file("train.bin"), 5);
    good(dir.path(), &["data", "verify", "kept"]);
}

#[test]
fn parts_of_a_data_set_are_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, ids: &[i64]| {
        let path = dir.path().join("set").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let labels = some(&ids.iter().map(|i| i % 2).collect::<Vec<_>>());
        parquet(&path, plain(), &[("label", Values::I64(labels)), ("C1", Values::I64(some(ids)))]);
    };
    put("part-0.parquet", &[1, 2, 9]);
    put("part-1.PARQUET", &[3, 4]);
    put("part-2.pq", &[5, 6]);
    fs::write(dir.path().join("set/_SUCCESS"), "").unwrap();
    fs::write(dir.path().join("set/README.md"), "what this is").unwrap();
    let rows = || columns(dir.path(), &["set"])[0].as_u64().unwrap();
    assert_eq!(rows(), 7);
    workload(dir.path(), "source = \"parquet\"\ntrain = \"set\"\neval = \"set\"");
    assert_eq!(tables(dir.path()), [("C1".to_owned(), 10)]);
    for (name, what) in [
        ("day=2/part-0.parquet", "is a folder, whose files are not read with those beside it"),
        ("part-3.parquet.gz", "does not end in .parquet (is it packed, or half written?)"),
        ("part-3.parquet.tmp", "does not end in .parquet"),
        ("more.csv", "is of another format than the parquet files beside it"),
        ("train.npz", "is of another format"),
    ] {
        let path = dir.path().join("set").join(name);
        put(name, &[1]);
        for args in [&["data", "inspect", "set"][..], &["data", "profile", "w.toml"]] {
            let said = refused(dir.path(), args, 65);
            assert!(said.contains(what) && said.contains("would be passed over"), "{said}");
        }
        fs::remove_file(path).unwrap();
        let _ = fs::remove_dir(dir.path().join("set/day=2"));
    }
    // A number that is missing is told.
    put("part-3.parquet", &[1]);
    put("part-5.parquet", &[1]);
    let found = inspect(dir.path(), &["set"]);
    let said = found["notes"][0].as_str().unwrap();
    assert_eq!(said, "between part-3 and part-5 number 4 is missing");
    // The same file twice, by whatever name.
    for twice in
        [r#"["set/part-0.parquet", "./set/part-0.parquet"]"#, r#"["set", "set/part-3.parquet"]"#]
    {
        workload(dir.path(), &format!("source = \"parquet\"\ntrain = {twice}\neval = \"set\""));
        let said = refused(dir.path(), &["data", "profile", "w.toml"], 65);
        assert!(said.contains("is named twice; name each file once"), "{said}");
    }
    if let Some(case) = case("10-folder") {
        assert_eq!(inspect(&case, &["caps"])["rows"], 60);
    }
}

#[test]
fn numbers_that_json_cannot_hold_are_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let dense: Vec<u8> =
        [f32::NEG_INFINITY, 2.0, f32::INFINITY, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(at("d_labels.npy"), npy("<i4", &[2, 1], &[0; 8])).unwrap();
    fs::write(at("d_dense.npy"), npy("<f4", &[2, 2], &dense)).unwrap();
    fs::write(at("d_sparse.npy"), npy("<i4", &[2, 1], &[0; 8])).unwrap();
    let found = inspect(dir.path(), &["d_dense.npy"]);
    let [first, second, _] = &found["columns"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!(
        (&first["min"], &first["max"], &first["mean"]),
        (&"-inf".into(), &"inf".into(), &"nan".into())
    );
    assert_eq!(
        (&second["min"], &second["max"], &second["mean"]),
        (&2.0.into(), &3.0.into(), &2.5.into())
    );
    let Some(case) = case("15-torchrec-inf") else { return };
    let out = good(&case, &["data", "inspect", "day_0_dense.npy", "--format", "json"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("\"-inf\""));
}

#[test]
fn whole_numbers_of_hugectr_are_told_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = |label: &dyn Fn(i32) -> i32| -> Vec<u8> {
        let row = |i: i32| {
            let dense = (0..13).map(move |k| if k == 2 { -1 } else { i * 3 + k });
            [label(i)].into_iter().chain(dense).chain((0..26).map(move |k| i + k))
        };
        (0..20).flat_map(row).flat_map(i32::to_le_bytes).collect()
    };
    for (name, label) in [("a", &(|i: i32| i % 2) as &dyn Fn(i32) -> i32), ("b", &|_| 0)] {
        let raw = format!("{name}.raw");
        fs::write(at(&raw), file(label)).unwrap();
        let args = ["data", "inspect", &raw, "--from", "hugectr"];
        let said = refused(dir.path(), &args, 65);
        let right = format!("{raw}.columns.json must say so: {{\"float_label_dense\": false}}");
        assert!(
            said.contains("label and dense are whole numbers here") && said.contains(&right),
            "{said}"
        );
        fs::write(at(&format!("{raw}.columns.json")), "{\"float_label_dense\": false}").unwrap();
        let found = columns(dir.path(), &args[2..]);
        assert_eq!((&found[0], &found[1]), (&20.into(), &i64::from(10 * label(1)).into()));
        assert_eq!((&found[2][0]["max"], &found[2][2]["min"]), (&57.0.into(), &(-1.0).into()));
    }
    // Fractions stay fractions, zeros and missing ones among them.
    let row =
        |i: u8| [f32::from(i % 2)].into_iter().chain([0.0, -f32::NAN, 1e-20, 0.5]).chain([0.0; 35]);
    fs::write(at("c.raw"), (0..20).flat_map(row).flat_map(f32::to_le_bytes).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(columns(dir.path(), &["c.raw", "--from", "hugectr"])[1], 10);
    let Some(case) = case("19-hugectr") else { return };
    assert_eq!(inspect(&case, &["floats.raw", "--from", "hugectr"])["rows"], 60);
    for name in ["ints.raw", "ints_label0.raw"] {
        let said = refused(&case, &["data", "inspect", name, "--from", "hugectr"], 65);
        assert!(said.contains("label and dense are whole numbers here"), "{said}");
    }
}
