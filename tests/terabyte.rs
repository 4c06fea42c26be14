//! Workloads whose data are not there, through the binary: the command that the tool is named for,
//! `dlrm-bench run terabyte`, without a log.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const VARIABLES: [&str; 2] = ["CRITEO_1TB", "CRITEO_KAGGLE"];

/// In a folder that holds nothing, without the variables that workloads name.
fn dlrm_bench(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    for name in VARIABLES.into_iter().chain(["DLRM_BENCH_MEMORY_LIMIT"]) {
        command.env_remove(name);
    }
    command.envs(env.iter().copied()).current_dir(dir).args(args).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A few steps with small tables and small layers.
const SMALL: [&str; 17] = [
    "--no-ceilings",
    "--quiet",
    "--threads",
    "1",
    "--set",
    "data.otherwise.max_rows=1000",
    "--set",
    "data.otherwise.eval_samples=3000",
    "--set",
    "model.bottom=[16, 64]",
    "--set",
    "model.top=[16, 1]",
    "--set",
    "train.max_steps=2",
    "--set",
    "train.batch_size=64",
    "--no-plots",
];

fn small(name: &str) -> Vec<&str> {
    let mut args = vec!["run", name];
    args.extend(SMALL.iter().map(|&arg| match (name, arg) {
        ("kaggle", "model.bottom=[16, 64]") => "model.bottom=[16, 16]",
        _ => arg,
    }));
    args
}

/// The folders of runs below `results`.
fn runs(results: &Path) -> Vec<PathBuf> {
    let mut folders = vec![results.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with("run.json") => found.push(folder.clone()),
                false => {}
            }
        }
    }
    found
}

#[test]
fn without_the_log_it_trains_on_planted_data_and_everything_says_so() {
    for (name, variable, preset) in
        [("terabyte", VARIABLES[0], "criteo_terabyte"), ("kaggle", VARIABLES[1], "criteo_kaggle")]
    {
        let dir = tempfile::tempdir().unwrap();
        let output = dlrm_bench(dir.path(), &[], &small(name));
        let (_, err) = texts(&output);
        // Two steps do not reach the target.
        assert_eq!(output.status.code(), Some(1), "{err}");
        let line = format!(
            "{variable} is not set: training on planted data (preset {preset}) instead of the data of {name}, tables of at most 1,000 rows: "
        );
        assert!(err.starts_with(&line) && err.lines().count() == 1, "{err}");

        let results = dir.path().join("results");
        let [run] = &runs(&results)[..] else { panic!("one run") };
        let planted = format!("{name}-planted");
        assert_eq!(run.parent().unwrap().file_name().unwrap().to_str(), Some(&*planted));
        let read = |file: &str| fs::read_to_string(run.join(file)).unwrap();
        let (record, log, kept) = (read("run.json"), read("result_0.txt"), read("workload.toml"));
        let json: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(json["workload"]["name"], planted.as_str());
        assert_eq!(
            json["workload"]["description"],
            format!("{name} on planted data, since {variable} is not set")
        );
        assert_eq!(json["workload"]["source"]["name"], name);
        assert!(json["data"]["notes"][0].as_str().unwrap().starts_with(&line), "{record}");
        for key in ["train_samples", "eval_samples"] {
            let of_key = log.lines().find(|l| l.contains(&format!("\"{key}\""))).unwrap();
            assert!(of_key.contains("\"data\": \"planted\""), "{of_key}");
        }
        assert!(kept.contains(&format!("\nwithout = [\"{variable}\"]\n")), "{kept}");
        assert!(kept.contains("source = \"planted\"\n") && kept.contains("max_rows = 1000\n"));
        assert!(!kept.contains("fit_memory") && !kept.contains("otherwise"), "{kept}");

        let compared = dlrm_bench(dir.path(), &[], &["compare", "results"]);
        let report = dlrm_bench(dir.path(), &[], &["report", "results", "-o", "page.html"]);
        let (told, err) = texts(&compared);
        assert!(compared.status.success() && told.contains(&planted), "{told}{err}");
        assert!(report.status.success(), "{}", texts(&report).1);
        let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
        assert!(page.contains(&planted));
        for (what, text) in [("record", record), ("log", log), ("compare", told), ("page", page)] {
            assert!(!text.contains("Criteo 1TB") && !text.contains("Criteo Kaggle"), "{what}");
        }

        // What is kept runs again, whatever is set.
        let again = run.join("workload.toml");
        let env = [(variable, "/somewhere")];
        let again = dlrm_bench(
            dir.path(),
            &env,
            &["run", again.to_str().unwrap(), "--quiet", "--no-plots", "--no-ceilings"],
        );
        let (_, err) = texts(&again);
        assert_eq!((again.status.code(), err.as_str()), (Some(1), ""));
        let [a, b] = &runs(&results)[..] else { panic!("two runs") };
        let hash = |run: &Path| {
            let record = fs::read_to_string(run.join("run.json")).unwrap();
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            record["workload"]["sha256"].clone()
        };
        assert_eq!(hash(a), hash(b));
    }
}

#[test]
fn strictly_it_is_refused_and_so_are_logs_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    for more in [&[][..], &["--explain"], &["--loader-only"]] {
        let args = [&["run", "terabyte", "--strict-data"], more].concat();
        let output = dlrm_bench(dir.path(), &[], &args);
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(64), ""), "{err}");
        assert!(
            err.starts_with("error: terabyte:")
                && err.contains("needs the environment variable CRITEO_1TB, which is not set"),
            "{err}"
        );
    }
    // A folder that is empty is no reason to take other data.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let env = [("CRITEO_1TB", empty.to_str().unwrap())];
    let output = dlrm_bench(dir.path(), &env, &["run", "terabyte", "--no-ceilings"]);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(65), "{err}");
    assert!(!err.contains("planted") && err.contains("empty"), "{err}");
    assert!(!dir.path().join("results").exists() || runs(&dir.path().join("results")).is_empty());
}

/// What a machine has memory for decides where rows are, not how many there are.
#[test]
fn rows_are_cached_where_they_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let explain = |limit: &str| {
        let env = [("DLRM_BENCH_MEMORY_LIMIT", limit)];
        let output = dlrm_bench(dir.path(), &env, &["run", "terabyte", "--explain"]);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{err}");
        assert!(out.contains("max_rows = 10000000 "), "{out}");
        assert!(out.contains(&format!("#   {}", err.trim_end())), "{out}");
        (out, err)
    };
    let (out, err) = explain("100000000000");
    assert!(err.contains("; all rows in memory: ") && !out.contains("store = "), "{err}{out}");
    for limit in ["10000000000", "3000000000"] {
        let (out, err) = explain(limit);
        assert!(err.contains("(embedding.store = \"cached\"), since all would take "), "{err}");
        for line in ["store = \"cached\"", "cache = \""] {
            let line = out.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{out}"));
            assert!(line.ends_with("# embedding.store = \"auto\""), "{line}");
        }
        assert!(out.contains("# Cache of rows") && out.contains("of ids expected to hit"), "{out}");
    }
    // What is kept says what was run, and the record why.
    let mut args = small("terabyte");
    args.extend(["--set", "data.otherwise.max_rows=200000"]);
    args.extend(["--set", "eval.batch_size=64", "--set", "embedding.path=."]);
    let env = [("DLRM_BENCH_MEMORY_LIMIT", "150000000")];
    let output = dlrm_bench(dir.path(), &env, &args);
    let (out, err) = texts(&output);
    assert!(out.contains("throughput"), "{out}{err}");
    let [run] = &runs(&dir.path().join("results"))[..] else { panic!("one run") };
    let read = |file: &str| fs::read_to_string(run.join(file)).unwrap();
    let kept = read("workload.toml");
    assert!(kept.contains("store = \"cached\"\n") && kept.contains("cache = \""), "{kept}");
    let record: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
    let note = record["data"]["notes"][0].as_str().unwrap();
    assert!(note.contains("rows in a file and "), "{note}");
    assert!(!record["outcome"]["tables"].as_array().unwrap().is_empty());
}

/// `--explain` of the capped workload: the cap, and where it comes from.
#[test]
fn tables_are_capped_to_the_memory_that_is_free() {
    let dir = tempfile::tempdir().unwrap();
    for (limit, told, cap) in [
        ("4000000000", "tables of at most 1,000,000 rows: ", "max_rows = 1000000 "),
        ("1200000000", "tables of at most 100,000 rows: ", "max_rows = 100000 "),
    ] {
        let env = [("DLRM_BENCH_MEMORY_LIMIT", limit)];
        let args = ["run", "terabyte", "--explain", "--set", "embedding.store=resident"];
        let output = dlrm_bench(dir.path(), &env, &args);
        let (out, err) = texts(&output);
        assert!(output.status.success() && err.contains(told), "{err}");
        let line = out.lines().find(|l| l.starts_with(cap)).unwrap_or_else(|| panic!("{out}"));
        assert!(line.ends_with("# data.fit_memory"), "{line}");
        assert!(!out.contains("fit_memory = "), "{out}");
        assert!(out.contains(&format!("#   {}", err.trim_end())), "{out}");
    }
    // All runs of a series have one cap.
    let mut args = small("terabyte");
    args.extend(["--runs", "2"]);
    let output = dlrm_bench(dir.path(), &[], &args);
    let (out, err) = texts(&output);
    assert_eq!(err.matches("is not set").count(), 1, "{out}{err}");
    assert!(out.contains("runs        2"), "{out}{err}");
}

#[test]
fn overrides_without_effect_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |env: &[(&str, &str)], set: &str| {
        let output = dlrm_bench(dir.path(), env, &["run", "terabyte", "--explain", "--set", set]);
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(64), ""), "{err}");
        err
    };
    assert_eq!(
        refusal(&[], "data.seed=3"),
        "error: --set data.seed: has no effect, since CRITEO_1TB is not set, so that [data.otherwise] is taken; use --set data.otherwise.seed\n"
    );
    assert_eq!(
        refusal(&[("CRITEO_1TB", "/there")], "data.otherwise.seed=3"),
        "error: --set data.otherwise.seed: has no effect, since CRITEO_1TB is set, so that [data] is taken\n"
    );
    assert!(refusal(&[], "data.otherwise.max_row=3").contains("did you mean max_rows?"));
    assert!(refusal(&[], "loader.otherwise.shards=3").contains("[loader] has no table otherwise"));
}
