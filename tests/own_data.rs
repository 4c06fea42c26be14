//! One's own data as people have them, through the binary: text over several lines, dates, words for
//! what is missing, many files, and splits that are made here.

use std::{
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn dlrm_bench(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).current_dir(dir).args(args).output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The end of a workload whose `[data]` is `data`.
fn workload(data: &str) -> String {
    format!(
        "[workload]\nname = \"own\"\n[data]\n{data}\n[model]\nkind = \"deepfm\"\ndim = 2\nhidden = [4]\n\
         [train]\nbatch_size = 16\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.01\n[eval]\nbatch_size = 64\n"
    )
}

/// Trains for an epoch on `data` and gives what was said and the record.
fn run(dir: &Path, data: &str) -> (String, serde_json::Value) {
    let (out, record) = try_run(dir, data, &[]);
    assert!(out.status.success(), "{}", stderr(&out));
    (stderr(&out), record)
}

fn try_run(dir: &Path, data: &str, more: &[&str]) -> (Output, serde_json::Value) {
    fs::write(dir.join("own.toml"), workload(data)).unwrap();
    let results = tempfile::tempdir().unwrap();
    let place = results.path().display().to_string();
    let args = ["run", "own.toml", "--no-plots", "--no-ceilings", "--results", &place];
    let out = dlrm_bench(dir, &[&args, more].concat());
    let record = find(results.path(), "run.json").map_or(serde_json::Value::Null, |path| {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    });
    (out, record)
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(dir)
        .ok()?
        .filter_map(|e| {
            let path = e.ok()?.path();
            if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
        })
        .next()
}

/// The one line of a refusal, and its exit code.
fn refusal(dir: &Path, data: &str) -> (Option<i32>, String) {
    let (out, _) = try_run(dir, data, &["--quiet"]);
    let text = stderr(&out);
    assert_eq!(text.lines().count(), 1, "{text}");
    (out.status.code(), text)
}

/// Samples of both splits as a record has them.
fn samples(record: &serde_json::Value) -> [u64; 2] {
    ["train_samples", "eval_samples"].map(|key| record["facts"][key].as_u64().unwrap())
}

/// What the record says of the column `name`.
fn column<'a>(record: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let columns = record["data"]["columns"].as_array().unwrap();
    columns.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {columns:?}"))
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    match name.ends_with(".gz") {
        false => fs::write(dir.join(name), text).unwrap(),
        true => {
            let file = fs::File::create(dir.join(name)).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap();
        }
    }
}

const HEADER: &str = "bought,when,age,city,note\n";

/// `n` purchases from number `first` on: both classes in turns of three, a date an hour each, every
/// tenth age "NA", a note of two lines in every fourth.
fn purchases(first: usize, n: usize) -> String {
    let mut text = String::new();
    for i in first..first + n {
        let (day, hour) = (1 + i / 24 % 28, i % 24);
        let age = if i % 10 == 9 { "NA".to_owned() } else { (20 + i % 40).to_string() };
        let note = if i % 4 == 3 { "\"two,\nlines\"" } else { "one" };
        let bought = if i % 3 == 0 { "yes" } else { "no" };
        writeln!(text, "{bought},2024-01-{day:02} {hour:02}:30,{age},c{},{note}", i % 7).unwrap();
    }
    text
}

const KEYS: &str = "source = \"csv\"\nlabel = \"bought\"\npositive = \"yes\"\ndense = \"age\"\ndates = \"when\"\ndense_transform = \"standard\"\n";

#[test]
fn text_of_several_lines_dates_and_gaps_are_understood_and_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "train.csv", &(HEADER.to_owned() + &purchases(0, 240)));
    write(
        dir.path(),
        "eval.csv",
        &(HEADER.to_owned() + &purchases(0, 60) + "yes,,NA,elsewhere,one\n"),
    );
    let (said, record) =
        run(dir.path(), &format!("{KEYS}train = \"train.csv\"\neval = \"eval.csv\"\n"));
    assert_eq!(samples(&record), [240, 61]);
    for (name, role, distinct, missing, rows, unseen) in [
        ("age", "dense", 36, 0.1, None, None),
        ("when.days_since_epoch", "dense", 10, 0.0, None, None),
        ("city", "categorical", 7, 0.0, Some(8), Some(1)),
        ("note", "categorical", 2, 0.0, Some(3), Some(0)),
        ("when.hour_of_day", "categorical", 24, 0.0, Some(25), Some(1)),
        ("when.day_of_week", "categorical", 7, 0.0, Some(8), Some(1)),
    ] {
        let c = column(&record, name);
        assert_eq!(
            (c["role"].as_str(), c["distinct"].as_u64()),
            (Some(role), Some(distinct)),
            "{name}"
        );
        assert_eq!((c["rows"].as_u64(), c["unseen"].as_u64()), (rows, unseen), "{name}");
        assert!((c["missing"].as_f64().unwrap() - missing).abs() < 1e-9, "{c}");
    }
    let line = said.lines().find(|l| l.starts_with("age ")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["age", "dense", "36", "10.0%", "-", "-"]
    );
    assert!(said.contains("values for evaluation that training does not hold"), "{said}");
    assert!(said.lines().filter(|l| l.contains("categorical")).all(|l| l.chars().count() <= 80));
    // Nothing of it with --quiet.
    let data = format!("{KEYS}train = \"train.csv\"\neval = \"eval.csv\"\n");
    let (out, _) = try_run(dir.path(), &data, &["--quiet"]);
    assert_eq!(stderr(&out), "");
    // Two features, and words of one's own: "NA" is then no number any more.
    let some = format!(
        "{data}date_features = [\"month_of_year\", \"days_since_epoch\"]\nmissing = [\"c3\"]\n"
    );
    let (code, line) = refusal(dir.path(), &some);
    assert_eq!(
        (code, &*line),
        (Some(65), "error: train.csv:13: column \"age\" is \"NA\"; must be a number\n")
    );
    let some = some.replace("[\"c3\"]", "[\"c3\", \"na\"]");
    let (_, record) = run(dir.path(), &some);
    assert_eq!(column(&record, "city")["distinct"], 6);
    assert!((column(&record, "city")["missing"].as_f64().unwrap() - 34.0 / 240.0).abs() < 1e-9);
    let names: Vec<&str> = record["data"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["age", "when.days_since_epoch", "city", "note", "when.month_of_year"]);
}

#[test]
fn what_is_wrong_is_named_by_the_line_it_begins_at() {
    let dir = tempfile::tempdir().unwrap();
    let good = purchases(0, 24);
    let lines = good.lines().count();
    for (bad, what) in [
        ("yes,2024-01-01,x,c1,\"a\nb\"", "column \"age\" is \"x\"; must be a number"),
        (
            "yes,2024-01-01,2024-01-02,c1,one",
            "column \"age\" is \"2024-01-02\"; must be a number; a date is a column of data.dates",
        ),
        ("yes,1/2/24,7,c1,one", "column \"when\" is \"1/2/24\"; must be a date, as 2024-01-31, "),
        (
            "yes,2024-01-01,7,c1,\"open",
            "the quote of field 5 is not closed on its line; close it, or double it",
        ),
    ] {
        let text = format!(
            "{HEADER}{good}{bad}\n{}",
            purchases(24, 24).replace('"', "").replace(",\nlines", " lines")
        );
        write(dir.path(), "train.csv.gz", &text);
        let data = format!("{KEYS}train = \"train.csv.gz\"\neval = \"train.csv.gz\"\n");
        let (code, line) = refusal(dir.path(), &data);
        let right = format!("error: train.csv.gz:{}: {what}", lines + 2);
        assert!(code == Some(65) && line.starts_with(&right), "{line}");
        // One record is lost and no other, and using one file twice is warned of.
        let (said, record) = run(dir.path(), &format!("{data}on_error = \"skip\"\n"));
        assert_eq!(samples(&record), [48, 48], "{bad}");
        assert!(
            said.contains("warning: train.csv.gz is for evaluation and trained on, so"),
            "{said}"
        );
    }
}

#[test]
fn folders_and_patterns_are_read_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    for (name, first) in [("days/day_2.csv", 40), ("days/day_10.csv.gz", 80), ("days/day_1.csv", 0)]
    {
        write(dir.path(), name, &(HEADER.to_owned() + &purchases(first, 40)));
    }
    write(dir.path(), "days/notes.md", "none");
    write(dir.path(), "whole.csv", &(HEADER.to_owned() + &purchases(0, 120)));
    let curve = |train: &str| {
        let data = format!("{KEYS}train = {train}\nhold_out = 5\nshuffle = false\n");
        let (_, record) = run(dir.path(), &data);
        assert_eq!(samples(&record), [96, 24], "{train}");
        assert_eq!(
            record["data"]["split"],
            "of each 5 samples the last one is held out for evaluation"
        );
        (
            record["outcome"]["last_eval"]["quality"]["auc"].clone(),
            record["outcome"]["last_eval"]["quality"]["logloss"].clone(),
        )
    };
    let whole = curve("\"whole.csv\"");
    assert!(whole.1.as_f64().is_some(), "{whole:?}");
    for train in
        ["\"days\"", "\"days/day_*\"", "[\"days/day_1.csv\", \"days/day_[2]*\", \"days/day_10.*\"]"]
    {
        assert_eq!(curve(train), whole, "{train}");
    }
    let (code, line) =
        refusal(dir.path(), &format!("{KEYS}train = \"days/week_*\"\nhold_out = 5\n"));
    assert_eq!(
        (code, &*line),
        (Some(65), "error: days/week_*: matches no file; must match at least one\n")
    );
}

#[test]
fn splits_are_made_by_hashes_or_by_a_column_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let all = purchases(0, 600);
    write(dir.path(), "train.csv", &(HEADER.to_owned() + &all));
    let share = |keys: &str| run(dir.path(), &format!("{KEYS}train = \"train.csv\"\n{keys}"));
    let (said, record) = share("eval_share = 0.2\n");
    let [train, eval] = samples(&record);
    // Five deviations of a binomial of 600 and 0.2 are 49.
    assert!(train + eval == 600 && eval.abs_diff(120) < 49, "{eval}");
    let split = record["data"]["split"].as_str().unwrap();
    assert!(
        split.starts_with("a share of 0.2 of the rows is held out") && said.contains(split),
        "{said}"
    );
    // Backwards: the same rows.
    let mut records: Vec<&str> = Vec::new();
    let mut rest = &all[..];
    while let Some(end) = rest[1..].find("\nyes,").into_iter().chain(rest[1..].find("\nno,")).min()
    {
        records.push(&rest[..end + 2]);
        rest = &rest[end + 2..];
    }
    records.push(rest);
    assert_eq!(records.len(), 600);
    records.reverse();
    write(dir.path(), "train.csv", &(HEADER.to_owned() + &records.concat()));
    assert_eq!(samples(&share("eval_share = 0.2\n").1), [train, eval]);
    // By the date, which is no category then; an hour each, in whatever order.
    let (_, record) = share("eval_share = 0.25\nsplit_by = \"when\"\nignore = [\"note\"]\n");
    assert_eq!(samples(&record), [450, 150]);
    let split = record["data"]["split"].as_str().unwrap();
    // 600 hours are 25 days: the last 150 begin at hour 450, on the 19th at 18.
    assert!(split.starts_with("rows whose when is 2024-01-19 18:30:00 or later"), "{split}");
    assert_eq!(column(&record, "when.days_since_epoch")["distinct"], 19);
    for (keys, code, what) in [
        (
            "eval_share = 0.2\nhold_out = 3\n",
            64,
            "data.eval_share is given, but data.hold_out is, too",
        ),
        (
            "hold_out = 3\nsplit_by = \"when\"\n",
            64,
            "data.split_by is given without data.eval_share",
        ),
        ("eval_share = 1.0\n", 64, "data.eval_share is 1; must be above 0 and below 1"),
        (
            "eval_share = 0.2\neval = \"train.csv\"\n",
            64,
            "data.eval is named, but data.eval_share is given, too",
        ),
        (
            "",
            64,
            "data.eval missing; must be a path as a string, or give data.eval_share or data.hold_out",
        ),
        (
            "eval_share = 0.2\nsplit_by = \"city\"\n",
            65,
            "column \"city\" (data.split_by) is missing or neither a number nor a date",
        ),
        (
            "eval_share = 0.2\nsplit_by = \"day\"\n",
            65,
            "no column \"day\" (data.split_by); the columns are",
        ),
    ] {
        let (found, line) = refusal(dir.path(), &format!("{KEYS}train = \"train.csv\"\n{keys}"));
        let line = line.replace(": ", " ");
        assert!(found == Some(code) && line.contains(what), "{keys}: {line}");
    }
}

/// Writes purchases `numbers` to a parquet file, in two row groups: what was bought, the city and a
/// moment and a day as parquet has them, a price. Every fifth city and every eighth moment is null.
fn parquet(path: &Path, numbers: &[i64]) {
    use parquet::{
        data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type},
        file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };
    let schema = parse_message_type(
        "message m { required binary bought (UTF8); optional binary city (UTF8);
         optional int64 when (TIMESTAMP_MILLIS); required int32 day (DATE);
         required double price; }",
    );
    let file = fs::File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, schema.unwrap().into(), Default::default()).unwrap();
    for part in numbers.chunks(numbers.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let there = |every: i64| part.iter().map(|i| i16::from(i % every != 0)).collect::<Vec<_>>();
        let some = |every: i64| part.iter().filter(move |&i| i % every != 0);
        let text = |t: String| ByteArray::from(t.into_bytes());
        macro_rules! column {
            ($kind:ty, $values:expr, $levels:expr) => {
                let mut column = group.next_column().unwrap().unwrap();
                let values: Vec<_> = $values.collect();
                column.typed::<$kind>().write_batch(&values, $levels, None).unwrap();
                column.close().unwrap();
            };
        }
        let bought = |i: &i64| text(if i % 3 == 0 { "yes" } else { "no" }.to_owned());
        column!(ByteArrayType, part.iter().map(bought), None);
        column!(ByteArrayType, some(5).map(|i| text(format!("c{}", i % 7))), Some(&there(5)[..]));
        column!(Int64Type, some(8).map(|i| 1_704_067_200_000 + 3_600_000 * i), Some(&there(8)[..]));
        column!(Int32Type, part.iter().map(|i| 19_723 + (i / 24) as i32), None);
        column!(DoubleType, part.iter().map(|i| *i as f64 / 100.0), None);
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Days of the month after those that were trained on, in files of their own: 16 training days, and
/// nine days more, of 24 rows each.
fn days_that_are_new(dir: &Path) {
    let all: Vec<i64> = (0..600).collect();
    parquet(&dir.join("first.parquet"), &all[..384]);
    parquet(&dir.join("last.parquet"), &all[384..]);
    let keys = "source = \"parquet\"\ntrain = \"first.parquet\"\neval = \"last.parquet\"\nlabel = \"bought\"\npositive = \"yes\"\nignore = [\"when\", \"city\"]\ndates = \"day\"\ndate_features = \"day_of_month\"\n";
    let (said, record) = run(dir, keys);
    let day = column(&record, "day.day_of_month");
    assert_eq!((day["distinct"].as_u64(), day["unseen"].as_u64()), (Some(16), Some(216)));
    assert!(
        said.contains("unseen: 216 values for evaluation that training does not hold"),
        "{said}"
    );
}

#[test]
fn parquet_has_text_dates_and_splits_too() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Vec<i64> = (0..600).collect();
    parquet(&dir.path().join("train.parquet"), &numbers);
    let keys = "source = \"parquet\"\ntrain = \"train.parquet\"\nlabel = \"bought\"\npositive = \"yes\"\ndates = [\"when\", \"day\"]\ndate_features = [\"hour_of_day\", \"day_of_week\"]\n";
    let (said, record) = run(dir.path(), &format!("{keys}eval_share = 0.2\n"));
    let [train, eval] = samples(&record);
    assert!(train + eval == 600 && eval.abs_diff(120) < 49, "{eval}");
    let shown = |name: &str| {
        let c = column(&record, name);
        let number = |key: &str| c[key].as_u64();
        (number("distinct"), c["missing"].as_f64(), number("rows"), number("unseen"))
    };
    assert_eq!(shown("price"), (Some(train), Some(0.0), None, None));
    let near = |share: Option<f64>, of: f64| share.is_some_and(|x| (x - of).abs() < 0.05);
    // Seven cities, and null as the empty text, which has a row.
    let (distinct, missing, rows, unseen) = shown("city");
    assert_eq!((distinct, rows, unseen), (Some(7), Some(9), Some(0)));
    assert!(near(missing, 0.2), "{missing:?}");
    let (distinct, missing, rows, unseen) = shown("when.hour_of_day");
    assert_eq!((distinct, rows, unseen), (Some(21), Some(25), Some(0)));
    assert!(near(missing, 0.125), "{missing:?}");
    assert_eq!(shown("day.day_of_week"), (Some(7), Some(0.0), Some(8), Some(0)));
    assert!(said.contains("split: a share of 0.2"), "{said}");
    // The same rows in another order, and of another file.
    let quality = |record: &serde_json::Value| record["outcome"]["last_eval"]["quality"].clone();
    let back: Vec<i64> = numbers.iter().rev().copied().collect();
    parquet(&dir.path().join("back.parquet"), &back);
    let (_, other) =
        run(dir.path(), &format!("{}eval_share = 0.2\n", keys.replace("train.par", "back.par")));
    assert_eq!(samples(&other), [train, eval]);
    assert_ne!(quality(&other), quality(&record), "trained in another order");
    // Threads do not matter.
    let data = format!("{keys}eval_share = 0.2\nbuffer = 50\n");
    let one = try_run(dir.path(), &data, &["--threads", "1"]).1;
    let three = try_run(dir.path(), &data, &["--threads", "3"]).1;
    assert_eq!((quality(&one), samples(&one)), (quality(&three), samples(&three)));
    // By a day; a null has no place.
    let (_, record) = run(dir.path(), &format!("{keys}eval_share = 0.25\nsplit_by = \"day\"\n"));
    // 600 hours are 25 days; 6 of them are 144 of 600, 7 are 168.
    assert_eq!(samples(&record), [456, 144]);
    let split = record["data"]["split"].as_str().unwrap();
    assert!(split.starts_with("rows whose day is 2024-01-20 or later"), "{split}");
    days_that_are_new(dir.path());
    // Hashed, rare values, and what is refused.
    let (_, record) = run(
        dir.path(),
        &format!("{keys}hold_out = 5\nhash_buckets = 16\nmissing_category = \"none\"\n"),
    );
    let city = column(&record, "city");
    assert_eq!((city["rows"].as_u64(), city["distinct"].as_u64()), (Some(16), Some(7)));
    let (_, record) = run(dir.path(), &format!("{keys}hold_out = 5\nmin_count = 70\n"));
    let city = column(&record, "city");
    // Only null is frequent enough.
    assert_eq!((city["distinct"].as_u64(), city["rows"].as_u64()), (Some(7), Some(2)));
    assert!(city["unseen"].as_u64() > Some(100), "{city}");
    for (keys, what) in [
        (
            format!("{keys}eval_share = 0.2\nsplit_by = \"when\"\n"),
            "train.parquet: row 1: column \"when\" (data.split_by) is missing or neither",
        ),
        (
            format!("{keys}hold_out = 5\nhash_buckets = [4, 5]\n"),
            "data.hash_buckets has 2 entries; must have one for each of the 1 categorical columns of text",
        ),
        (
            format!("{keys}hold_out = 5\nignore = \"city\"\nmin_count = 2\n"),
            "data.min_count is about categorical columns of text, and the files have none; remove it",
        ),
        (
            format!("{}hold_out = 5\n", keys.replace(", \"day\"", "")),
            "column day is of type DATE, stored as INT32; must be numbers, or lists of them for ids (--dates, in a workload data.dates, makes features of dates)",
        ),
        (
            format!("{}hold_out = 5\nignore = \"day\"\n", keys.replace("\"day\"", "\"price\"")),
            "column price holds no dates; must be of type DATE or TIMESTAMP, text or whole numbers",
        ),
        (
            format!("{}hold_out = 5\n", keys.replace("positive = \"yes\"\n", "")),
            "the label (column bought) is text; --positive, in a workload data.positive, names",
        ),
    ] {
        let (code, line) = refusal(dir.path(), &keys);
        assert!(code == Some(65) && line.contains(what), "{line}");
    }
    let args = ["data", "inspect", "train.parquet", "--label", "bought", "--positive", "yes"];
    let out = dlrm_bench(dir.path(), &[&args[..], &["--ignore", "city,when,day"]].concat());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && text.contains("600 rows, 33.33% of labels are 1"),
        "{}{text}",
        stderr(&out)
    );
    let args = ["init", "train.parquet", "--label", "bought", "-o", "mine.toml"];
    let written = dlrm_bench(dir.path(), &args);
    assert!(written.status.success(), "{}", stderr(&written));
    let args = ["run", "mine.toml", "--no-plots", "--no-ceilings", "--quiet", "--results", "kept"];
    let few = ["--set", "train.max_steps=3", "--set", "checkpoint.best=true"];
    let out = dlrm_bench(dir.path(), &[&args[..], &few].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    // Labels that are all alike are the data's fault.
    let alike: Vec<i64> = numbers.iter().filter(|i| *i % 3 == 1).copied().collect();
    parquet(&dir.path().join("alike.parquet"), &alike);
    let saved = find(&dir.path().join("kept"), "run.json").unwrap();
    let saved = saved.parent().unwrap().display().to_string();
    let other = ["--set", "data.hold_out=", "--set", "data.eval=alike.parquet"];
    let out = dlrm_bench(dir.path(), &[&["eval", &saved], &other[..]].concat());
    assert_eq!(out.status.code(), Some(65), "{}", stderr(&out));
    assert!(stderr(&out).contains("all 200 labels are 0; AUC needs"), "{}", stderr(&out));
    // The key that stands in the way is named.
    let out = dlrm_bench(dir.path(), &["eval", &saved, "--set", "data.eval=alike.parquet"]);
    assert_eq!(out.status.code(), Some(64));
    assert!(stderr(&out).contains("(--set data.hold_out= takes that one out)"), "{}", stderr(&out));
}

/// Files that are trained on through their readers.
#[test]
fn shares_are_held_out_of_files_of_other_formats() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> =
        (0..400).map(|i| format!("{} {}:1 {}:1\n", i / 3 % 2, 1 + i % 39, 40 + i)).collect();
    write(dir.path(), "a.libsvm", &lines.concat());
    write(dir.path(), "b.libsvm", &lines.iter().rev().map(String::as_str).collect::<String>());
    let share = |file: &str| {
        let data = format!("source = \"libsvm\"\ntrain = \"{file}\"\neval_share = 0.2\n");
        let (said, record) = run(dir.path(), &data);
        assert!(said.contains("split: a share of 0.2"), "{said}");
        let columns = record["data"]["columns"].as_array().unwrap();
        let counted = |c: &serde_json::Value| c["distinct"].is_u64() && c["missing"].is_f64();
        assert!(!columns.is_empty() && columns.iter().all(counted), "{columns:?}");
        samples(&record)
    };
    let [train, eval] = share("a.libsvm");
    // Five deviations of a binomial of 400 and 0.2 are 40.
    assert!(train + eval == 400 && eval.abs_diff(80) < 40, "{eval}");
    assert_eq!(share("b.libsvm"), [train, eval]);
    let data = "source = \"libsvm\"\ntrain = \"a.libsvm\"\neval = \"a.libsvm\"\n";
    let (said, _) = run(dir.path(), data);
    assert!(said.contains("warning: a.libsvm is for evaluation and trained on"), "{said}");
    let (code, line) = refusal(dir.path(), &format!("{data}split_by = \"x\"\n"));
    assert!(code == Some(64) && line.contains("data.split_by"), "{line}");
}

#[test]
fn inspect_and_convert_take_words_for_the_label_and_for_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.csv", "bought,age,city\nyes,30,1\nno,?,2\n\"no\",-,\nmaybe,41,1\n");
    let words =
        ["--label", "bought", "--dense", "age", "--positive", "yes,maybe", "--missing", "?,-"];
    let out = dlrm_bench(dir.path(), &[&["data", "inspect", "a.csv"], &words[..]].concat());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(said.contains("4 rows, 50.00% of labels are 1"), "{said}");
    let age = said.lines().find(|l| l.starts_with("age ")).unwrap();
    assert_eq!(age.split_whitespace().nth(1), Some("50.0%"), "{said}");
    let out = dlrm_bench(
        dir.path(),
        &[&["data", "convert", "a.csv", "-o", "a.libsvm"], &words[..]].concat(),
    );
    assert!(out.status.success(), "{}", stderr(&out));
    let out = dlrm_bench(dir.path(), &["data", "inspect", "a.libsvm", "--positive", "1"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(
        stderr(&out).contains("labels of libsvm are the numbers 0 and 1; name none"),
        "{}",
        stderr(&out)
    );
    let out = dlrm_bench(dir.path(), &["data", "inspect", "a.csv", "--label", "bought"]);
    assert!(stderr(&out).contains("a.csv:2: column bought is \"yes\"; must be 0 or 1, since it is the label; --positive names"), "{}", stderr(&out));
}

/// What `data inspect --format json` finds.
fn inspect(dir: &Path, args: &[&str]) -> serde_json::Value {
    let out = dlrm_bench(dir, &[&["data", "inspect", "--format", "json"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Kind, rows without a value, and different values of a column that was looked at.
fn facts(found: &serde_json::Value, name: &str) -> (String, u64, u64) {
    let columns = found["columns"].as_array().unwrap();
    let c = columns.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {found}"));
    let number = |key: &str| c[key].as_u64().unwrap();
    (c["kind"].as_str().unwrap().to_owned(), number("missing"), number("distinct"))
}

/// Text, dates and labels in words, of parquet and of the same rows as csv.
#[test]
fn inspect_and_convert_read_text_and_dates_as_training_does() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Vec<i64> = (0..400).collect();
    parquet(&dir.path().join("a.parquet"), &numbers);
    let mut csv = "bought,city,when,day,price\n".to_owned();
    for i in &numbers {
        let seconds = 1_704_067_200 + 3600 * i;
        let city = if i % 5 == 0 { String::new() } else { format!("c{}", i % 7) };
        let when = if i % 8 == 0 { String::new() } else { seconds.to_string() };
        let bought = if i % 3 == 0 { "yes" } else { "no" };
        let (day, price) = (20_240_101 + i / 24, *i as f64 / 100.0);
        writeln!(csv, "{bought},{city},{when},{day},{price:.2}").unwrap();
    }
    write(dir.path(), "a.csv", &csv);
    let label = ["--label", "bought", "--positive", "yes"];
    let dates = ["--dates", "when,day", "--date-features", "hour_of_day,days_since_epoch"];
    let of = |name: &'static str| [&[name], &label[..], &dates[..]].concat();
    let fewer = numbers.iter().filter(|i| *i % 7 == 3 && *i % 5 != 0).count() as u64;
    for name in ["a.parquet", "a.csv"] {
        let found = inspect(dir.path(), &of(name));
        assert_eq!((found["rows"].as_u64(), found["positives"].as_u64()), (Some(400), Some(134)));
        assert_eq!(facts(&found, "city"), ("text".into(), 80, 7), "{name}");
        assert_eq!(facts(&found, "when.hour_of_day"), ("categorical".into(), 50, 21), "{name}");
        assert_eq!(facts(&found, "when.days_since_epoch"), ("dense".into(), 50, 17), "{name}");
        assert_eq!(facts(&found, "day.hour_of_day"), ("categorical".into(), 0, 1), "{name}");
        assert_eq!(facts(&found, "price"), ("dense".into(), 0, 400), "{name}");
        // A word of one's own.
        let found = inspect(dir.path(), &[&of(name)[..], &["--missing", "C3,x"]].concat());
        assert_eq!(facts(&found, "city"), ("text".into(), 80 + fewer, 6), "{name}");
        let out = dlrm_bench(dir.path(), &[&["data", "inspect"], &of(name)[..]].concat());
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let rows = |start: &str| text.lines().rfind(|l| l.starts_with(start)).unwrap().to_owned();
        let city: Vec<String> =
            rows("city ").split_whitespace().skip(1).map(str::to_owned).collect();
        assert_eq!(city, ["-", "c1", "c2"], "{text}");
        let plot = [&["data", "inspect", "--column", "city"], &of(name)[..]].concat();
        let out = dlrm_bench(dir.path(), &plot);
        assert!(stderr(&out).contains("column city holds text, which has no order"), "{name}");
    }
    // Dates by their type, without a word.
    let found = inspect(dir.path(), &[&["a.parquet"], &label[..]].concat());
    assert_eq!(facts(&found, "day.day_of_month"), ("categorical".into(), 0, 17));
    assert_eq!(facts(&found, "when.day_of_week"), ("categorical".into(), 50, 7));
    converted(dir.path(), &of, &numbers);
}

/// Converts both files, to files that hold the same.
fn converted(dir: &Path, of: &dyn Fn(&'static str) -> Vec<&'static str>, numbers: &[i64]) {
    let convert = |name: &'static str, more: &[&str], to: &str| {
        let out =
            dlrm_bench(dir, &[&["data", "convert"], &of(name)[..], &["-o", to], more].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        stderr(&out)
    };
    let said = convert("a.parquet", &[], "of_parquet.csv");
    assert!(said.contains("text of city is numbered by the values of this file alone"), "{said}");
    convert("a.csv", &[], "of_csv.csv");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("of_parquet.csv"), read("of_csv.csv"));
    let lines: Vec<String> = read("of_csv.csv").lines().map(str::to_owned).collect();
    let header = "bought,price,when.days_since_epoch,day.days_since_epoch,city,when.hour_of_day,day.hour_of_day";
    assert_eq!((lines[0].as_str(), lines.len()), (header, numbers.len() + 1));
    // c0 is 1; an hour is one more than it is.
    assert_eq!(lines[1 + 27], "1,0.27,19724.0,19724.0,7,4,1");
    assert_eq!(lines[1 + 40], "0,0.4,,19724.0,,,1");
    // Hashes are those of training, whatever else is in the file.
    for (name, to) in [("a.parquet", "h.parquet"), ("a.csv", "h2.parquet")] {
        let said = convert(name, &["--hash", "1000"], to);
        assert!(!said.contains("numbered"), "{said}");
        let found = inspect(dir, &[to, "--label", "bought"]);
        assert_eq!(facts(&found, "city"), ("categorical".into(), 80, 7));
        let column = found["columns"].as_array().unwrap().iter().find(|c| c["name"] == "city");
        let largest = ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]
            .map(|text| farmhash::fingerprint64(text.as_bytes()) % 1000);
        assert_eq!(column.unwrap()["max"].as_f64(), largest.iter().max().map(|&x| x as f64));
    }
    for (args, what) in [
        (&["a.parquet"][..], "no column is called label, clicked, click, y; name the label"),
        (&["a.parquet", "--label", "bought"], "the label (column bought) is text; --positive"),
        (&["of_csv.csv", "--label", "bought", "--hash", "9"], "has no categorical column of text"),
        (
            &["h.parquet", "--label", "bought", "--missing", "NA"],
            "words for what is missing are named (--missing, in a workload data.missing), but no column is text",
        ),
        (
            &["of_csv.csv", "--label", "bought", "--text", "bought"],
            "column bought is named as text",
        ),
        (
            &["of_csv.csv", "--label", "bought", "--text", "x"],
            "there is no column x; the columns are",
        ),
        (&["h.parquet", "--label", "bought", "--text", "city"], "name none"),
        (
            &["a.csv", "--label", "bought", "--positive", "yes", "--dates", "city"],
            "a.csv:3: column city is \"c1\"; must be a date",
        ),
    ] {
        let out = dlrm_bench(dir, &[&["data", "convert", "-o", "none.libsvm"], args].concat());
        let text = stderr(&out);
        assert!(!out.status.success() && text.contains(what), "{args:?}: {text}");
        assert!(!dir.join("none.libsvm").exists());
    }
    late_text(dir);
}

/// Text that comes after the lines that are looked at.
fn late_text(dir: &Path) {
    let mut csv = "y,code\n".to_owned();
    (0..150).for_each(|i| writeln!(csv, "{},{i}", i % 2).unwrap());
    write(dir, "late.csv", &(csv + "1,AB-7\n"));
    let out = dlrm_bench(dir, &["data", "inspect", "late.csv"]);
    let what = "late.csv:152: column code is \"AB-7\"; must be a whole number below 2^32 (an id) or nothing (the first lines hold no text; --text takes it as such)";
    assert!(stderr(&out).contains(what), "{}", stderr(&out));
    let found = inspect(dir, &["late.csv", "--text", "code"]);
    assert_eq!(facts(&found, "code"), ("text".into(), 0, 151));
}

/// The commands of docs/own-data.md, one after the other, on a smaller file of its shape.
#[cfg(unix)]
#[test]
fn the_story_of_the_document_can_be_walked() {
    let document = include_str!("../docs/own-data.md");
    let dir = tempfile::tempdir().unwrap();
    let mut text =
        document.split("```csv\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    for i in 0..1500u32 {
        let r = i.wrapping_mul(2_654_435_761) >> 16;
        let age = if r % 20 == 0 { "NA".to_owned() } else { (18 + r % 60).to_string() };
        let city = ["\"Bonn, NRW\"", "Ulm", ""][(r % 3) as usize];
        let comment = ["fine", "\"too dear,\nbut well\"", "null"][(r / 5 % 3) as usize];
        let bought = if (r / 7 + r % 3) % 3 == 0 { "yes" } else { "no" };
        let (day, hour, minute) = (1 + i / 60, i / 3 % 24, i % 3 * 20);
        writeln!(
            text,
            "2024-01-{day:02} {hour:02}:{minute:02},{age},{city},{}.5,{comment},{bought}",
            r % 90
        )
        .unwrap();
    }
    write(dir.path(), "purchases.csv", &text);
    let binary =
        Path::new(env!("CARGO_BIN_EXE_dlrm-bench")).parent().unwrap().display().to_string();
    let path = format!("{binary}:{}", std::env::var("PATH").unwrap());
    let mut commands = 0;
    for block in document.split("```sh\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            // Pictures and the machine's ceilings are none of the story's.
            let more = if line.contains(" run ") && !line.contains("--explain") {
                " --no-plots --no-ceilings"
            } else {
                ""
            };
            let out = Command::new("sh")
                .args(["-c", &format!("{line}{more}")])
                .current_dir(dir.path())
                .env("PATH", &path)
                .output()
                .unwrap();
            assert!(out.status.success(), "{line}: {}", stderr(&out));
            commands += 1;
        }
    }
    assert_eq!(commands, 10);
    let workload = fs::read_to_string(dir.path().join("mine.toml")).unwrap();
    for said in [
        "label = \"bought\"\npositive = [\"yes\"]",
        "\"hour_of_day\"",
        "dates = [\n    \"when\",",
        "\"age\",",
        "\"city\",",
    ] {
        assert!(workload.contains(said), "{said} of\n{workload}");
    }
    let scores = fs::read_to_string(dir.path().join("scores.csv")).unwrap();
    assert!((140..170).contains(&scores.lines().count()), "{}", scores.lines().count());
    let record = find(&dir.path().join("kept"), "run.json").unwrap();
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let split = record["data"]["split"].as_str().unwrap();
    assert!(split.starts_with("rows whose when is 2024-01-23"), "{split}");
}
