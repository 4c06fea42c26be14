//! `dlrm-bench init`: what it writes for one's own data, and that it trains as it is.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Output},
};

fn dlrm_bench(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).current_dir(dir).args(args).output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Writes `mine.toml` for `data`, and gives its text.
fn init(dir: &Path, data: &[&str]) -> String {
    let args = [&["init"], data, &["-o", "mine.toml", "--force"]].concat();
    let out = dlrm_bench(dir, &args);
    assert!(out.status.success(), "{data:?}: {}", stderr(&out));
    fs::read_to_string(dir.join("mine.toml")).unwrap()
}

/// Trains on `mine.toml` for some steps and evaluates.
fn trains(dir: &Path) {
    let args = ["run", "mine.toml", "--no-ceilings", "--no-plots", "--quiet"];
    let few = ["--set", "train.max_steps=5", "--set", "train.batch_size=16"];
    let out = dlrm_bench(dir, &[&args[..], &few].concat());
    let text = fs::read_to_string(dir.join("mine.toml")).unwrap();
    assert!(out.status.success(), "{}\n{text}", stderr(&out));
}

/// Why nothing is written for `data`: exit code and the one line.
fn refusal(dir: &Path, data: &[&str]) -> (Option<i32>, String) {
    let out = dlrm_bench(dir, &[&["init"], data, &["-o", "not.toml"]].concat());
    assert!(!dir.join("not.toml").exists() && out.stdout.is_empty());
    let line = stderr(&out);
    assert_eq!(line.lines().count(), 1, "{line}");
    (out.status.code(), line)
}

/// 600 purchases with a header: an index, text, few and many whole numbers, fractions, gaps.
fn purchases() -> String {
    let mut text =
        String::from(",age,children,\"city, state\",price,\"say \"\"x\"\"\",plan,session,bought\n");
    for i in 0..600u32 {
        let r = i.wrapping_mul(2_654_435_761) >> 16;
        let age = if i % 17 == 0 { String::new() } else { (18 + r % 60).to_string() };
        let city = ["\"Bonn, NRW\"", "Ulm", ""][(r % 3) as usize];
        let price = f64::from(r % 1000) / 8.0 - 20.0;
        let bought = if (r / 7) % 3 == 0 { "yes" } else { "no" };
        let (children, plan) = (r % 4, r % 5);
        writeln!(text, "{i},{age},{children},{city},{price},{},p{plan},s{i}x,{bought}", r % 2)
            .unwrap();
    }
    text
}

#[test]
fn text_with_a_header_is_described_and_trained_on_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("purchases.csv"), purchases()).unwrap();
    let text = init(dir.path(), &["purchases.csv", "--label", "bought"]);
    for said in [
        "name = \"mine\"",
        "hold_out = 1",
        "label = \"bought\"\npositive = [\"yes\"]",
        "dense = [\n    \"age\",    # whole numbers, 60 values, 18 to 77, 6.0% missing\n    \"price\",  # numbers, -20 to ",
        "dense_transform = \"standard\"",
        "\"children\",  ",
        "\"city, state\",",
        "\"say \\\"x\\\"\",",
        "ignore = [\n    \"\",",
        "it has no name, as an index",
        "\"session\",  # nearly each row has a value of its own",
        "kind = \"dlrm\"",
    ] {
        assert!(text.contains(said), "{said} of\n{text}");
    }
    let categorical = text.split("categorical = [").nth(1).unwrap().split(']').next().unwrap();
    assert_eq!(categorical.trim().lines().count(), 4, "{text}");
    trains(dir.path());

    // Without -o it is the workload that is printed, and nothing else.
    let out = dlrm_bench(dir.path(), &["init", "purchases.csv", "--label", "bought"]);
    let printed = String::from_utf8(out.stdout.clone()).unwrap();
    assert_eq!(printed.replace("name = \"purchases\"", "name = \"mine\""), text);
    assert!(stderr(&out).contains("label       bought, yes means 1, "), "{}", stderr(&out));

    // A file that is there stays.
    fs::write(dir.path().join("mine.toml"), "mine").unwrap();
    let out = dlrm_bench(dir.path(), &["init", "purchases.csv", "-o", "mine.toml"]);
    assert_eq!(out.status.code(), Some(64));
    assert_eq!(stderr(&out), "error: mine.toml is there already; --force writes over it\n");
    assert_eq!(fs::read_to_string(dir.path().join("mine.toml")).unwrap(), "mine");
}

#[test]
fn text_without_names_other_delimiters_models_and_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 1..301u32 {
        let r = i.wrapping_mul(2_654_435_761) >> 16;
        writeln!(text, "{}\t{}\tw{}\t{}", (r / 3) % 2, r % 977, r % 40, r % 6).unwrap();
    }
    fs::write(dir.path().join("log.tsv"), &text).unwrap();
    fs::write(
        dir.path().join("later.tsv"),
        text.lines().rev().take(80).fold(String::new(), |a, l| a + l + "\n"),
    )
    .unwrap();
    let written =
        init(dir.path(), &["log.tsv", "--eval", "later.tsv", "--model", "deepfm", "--hash", "64"]);
    for said in [
        "delimiter = \"\\t\"",
        "columns = [\"c1\", \"c2\", \"c3\", \"c4\"]",
        "label = \"c1\"",
        "eval = \"later.tsv\"",
        "hash_buckets = [64]",
        "kind = \"deepfm\"",
        "# No other column has two values.",
    ] {
        assert!(written.contains(said), "{said} of\n{written}");
    }
    assert!(!written.contains("hold_out") && !written.contains("positive"), "{written}");
    trains(dir.path());
    // No numbers: a DeepFM.
    let written = init(
        dir.path(),
        &["log.tsv", "--ignore", "c2", "--categorical", "c4", "--name", "odd.name"],
    );
    assert!(written.contains("# There are no numbers, which a DLRM needs"), "{written}");
    assert!(written.contains("name = \"odd.name\"") && !written.contains("dense = "), "{written}");
    trains(dir.path());
    // No categories: a DLRM of numbers alone.
    init(dir.path(), &["log.tsv", "--ignore", "c3,c4", "--dense", "c2"]);
    trains(dir.path());
    // The first line is a name's whatever it looks like, if that is said.
    let named = init(dir.path(), &["log.tsv", "--header", "yes", "--label", "1"]);
    assert!(named.contains("label = \"1\"") && !named.contains("columns"), "{named}");
}

/// Parquet of the program's own making, with lists, and with columns that it cannot train on.
#[test]
fn parquet_is_described_and_trained_on_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dlrm_bench(
        dir.path(),
        &[
            "data",
            "generate",
            "criteo_kaggle",
            "--max-rows",
            "500",
            "--samples",
            "500",
            "-o",
            "a.parquet",
        ],
    );
    assert!(out.status.success(), "{}", stderr(&out));
    fs::copy(dir.path().join("a.parquet"), dir.path().join("b.parquet")).unwrap();
    let text = init(dir.path(), &["a.parquet", "b.parquet"]);
    for said in [
        "source = \"parquet\"\n# 1000 samples.\ntrain = [\"a.parquet\", \"b.parquet\"]",
        "hold_out = 10",
        "label = \"label\"",
        "\"I13\",",
        "\"C26\",",
        "dense_transform = \"log1p_clamp0\"",
        "buffer = 1000",
        "a table has a row for each number",
    ] {
        assert!(text.to_lowercase().contains(&said.to_lowercase()), "{said} of\n{text}");
    }
    trains(dir.path());
    let python = std::env::var("DLRM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let write = "import pyarrow as pa, pyarrow.parquet as pq, datetime\n\
        n = 400\n\
        r = [(i * 2654435761 >> 16) % 1000 for i in range(n)]\n\
        pq.write_table(pa.table({'when': [datetime.date(2020, 1, 1 + i % 20) for i in r], 'text': [str(i % 9) for i in r],\n\
        'hash': [i * 9223372036854 + 2**60 for i in r], 'delta': [i % 50 - 25 for i in r],\n\
        'tags': [[i % 7, 20] if i % 3 else [] for i in r], 'paid': [None if i % 11 == 0 else i / 4 for i in r],\n\
        'shop': pa.array([i % 30 for i in r], pa.int32()), 'shop_id': [i % 30 for i in r], 'clicked': [i // 5 % 2 for i in r]}), 'odd.parquet')\n";
    match Command::new(python).current_dir(dir.path()).args(["-c", write]).output() {
        Ok(out) if out.status.success() => {}
        out => return eprintln!("skipped: pyarrow: {out:?}"),
    }
    let text = init(dir.path(), &["odd.parquet"]);
    for said in [
        "\"when\",",
        "dates = [\n    \"when\",  # dates, 20 values\n]",
        "# text, 9 values\n",
        "# Text is numbered by the training samples.",
        "max_ind_range = 1000000",
        "# hashes of 64 bits",
        "# lists of ids, ",
        "label = \"clicked\"",
    ] {
        assert!(text.contains(said), "{said} of\n{text}");
    }
    let dense = text.split("dense = [").nth(1).unwrap().split(']').next().unwrap();
    for name in ["delta", "paid", "shop"] {
        assert!(dense.contains(&format!("\"{name}\",")), "{text}");
    }
    assert!(!dense.contains("shop_id"), "{text}");
    trains(dir.path());
}

/// Files that say themselves which column is what: libsvm, and a folder of FuxiCTR's.
#[test]
fn libsvm_and_fuxictr_are_described_and_trained_on_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("set")).unwrap();
    let made = |args: &[&str]| {
        let out = dlrm_bench(dir.path(), &[&["data"], args].concat());
        assert!(out.status.success(), "{}", stderr(&out));
    };
    let few = ["--max-rows", "50", "--samples", "400", "--to", "fuxictr"];
    made(&[&["generate", "criteo_kaggle", "-o", "set/train.csv"], &few[..]].concat());
    made(&["convert", "set/train.csv", "-o", "a.libsvm"]);
    for copy in ["set/valid.csv", "set/test.csv"] {
        fs::copy(dir.path().join("set/train.csv"), dir.path().join(copy)).unwrap();
    }
    let text = init(dir.path(), &["a.libsvm"]);
    for said in [
        "source = \"libsvm\"\n# 400 samples.\ntrain = [\"a.libsvm\"]",
        "hold_out = 10",
        "#   dense I1: ",
        "#   categorical C26: ",
        "kind = \"dlrm\"",
        "buffer = 400",
    ] {
        assert!(text.contains(said), "{said} of\n{text}");
    }
    trains(dir.path());
    // Anybody's, without a description: one column of any number of ids.
    let lines = (0..300u32).map(|i| format!("{} {}:1 {}:1\n", i / 3 % 2, i % 40, 40 + i % 7));
    fs::write(dir.path().join("own.libsvm"), lines.collect::<String>().replace(" 0:", " 47:"))
        .unwrap();
    let text = init(dir.path(), &["own.libsvm", "--name", "own"]);
    assert!(text.contains("lists of ids, ") && text.contains("kind = \"deepfm\""), "{text}");
    trains(dir.path());
    let named = init(dir.path(), &["own.libsvm", "--dense", "1", "--categorical", "2,40"]);
    assert!(named.contains("dense = [\"1\"]\ncategorical = [\"2\", \"40\"]\n"), "{named}");
    trains(dir.path());
    let text = init(dir.path(), &["set"]);
    let files = "source = \"fuxictr\"\n# 400 samples.\ntrain = [\"set/train.csv\"]\neval = \"set/valid.csv\"\ntest = \"set/test.csv\"\n";
    assert!(text.contains(files) && !text.contains("hold_out"), "{text}");
    trains(dir.path());
    let (code, line) = refusal(dir.path(), &["set", "--hash", "5"]);
    assert!(code == Some(64) && line.contains("are about text; fuxictr holds numbers"), "{line}");
    fs::remove_file(dir.path().join("set/train.csv")).unwrap();
    let (code, line) = refusal(dir.path(), &["set"]);
    assert!(
        code == Some(64) && line.contains("set: holds a feature_map.json, but no train.parquet"),
        "{line}"
    );
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let many: String = (0..50).map(|i| format!("{i},{}.5\n", i * i)).collect();
    write("plain.csv", &format!("a,b\n{many}"));
    let (code, line) = refusal(dir.path(), &["plain.csv"]);
    assert_eq!(code, Some(64));
    assert_eq!(
        line,
        "error: plain.csv: no column looks like a label, which has two values in all rows; name it with --label NAME, one of \"a\", \"b\"\n"
    );
    let (_, line) = refusal(dir.path(), &["plain.csv", "--label", "a"]);
    assert!(line.contains("the label, column \"a\", has 50 values, not two; name those that mean 1 with --positive"), "{line}");
    let (code, line) = refusal(dir.path(), &["nowhere.csv"]);
    assert!(code == Some(65) && line.starts_with("error: nowhere.csv: "), "{line}");
    write("empty.csv", "a,label\n");
    let (code, line) = refusal(dir.path(), &["empty.csv"]);
    assert_eq!(
        (code, &*line),
        (Some(65), "error: empty.csv: holds no sample; must hold at least one\n")
    );
    write("sorted.csv", &format!("x,label\n{}{}", "1.5,0\n".repeat(4), "2.5,1\n"));
    let (code, line) = refusal(dir.path(), &["sorted.csv"]);
    assert!(code == Some(65) && line.contains("must hold both classes"), "{line}");
    write("short.csv", "x,label\n1.5,0\n2.5,1,7\n3.5,1\n1.5,0\n");
    let (code, line) = refusal(dir.path(), &["short.csv", "--eval", "short.csv"]);
    assert!(code == Some(65) && line.starts_with("error: short.csv:3: has 3 fields"), "{line}");
    let (code, line) = refusal(dir.path(), &["plain.csv", "sorted.csv"]);
    assert!(
        code == Some(65) && line.contains("sorted.csv: has other columns than plain.csv"),
        "{line}"
    );
    let (code, line) = refusal(dir.path(), &["sorted.csv", "--name", "a/b"]);
    assert!(code == Some(64) && line.starts_with("error: --name a/b: must be letters"), "{line}");
    write("day_0", &format!("1{}{}\n", "\t3".repeat(13), "\t0a1b2c3d".repeat(26)));
    let (code, line) = refusal(dir.path(), &["day_0"]);
    assert!(code == Some(64) && line.contains("is one of Criteo's logs"), "{line}");
    fs::write(dir.path().join("a.bin"), [0u8; 160]).unwrap();
    let (code, line) = refusal(dir.path(), &["a.bin"]);
    assert!(code == Some(64) && line.contains("data.source = \"bin40\""), "{line}");
}

/// Labels that take turns would all be alike where every tenth sample is held out.
#[test]
fn both_classes_are_held_out() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..400).map(|i| format!("{}.5,{}\n", i * i % 90, i % 2)).collect();
    fs::write(dir.path().join("turns.csv"), format!("x,label\n{text}")).unwrap();
    let written = init(dir.path(), &["turns.csv"]);
    assert!(written.contains("hold_out = 11\n"), "{written}");
    trains(dir.path());
}
