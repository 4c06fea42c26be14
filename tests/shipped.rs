//! Workloads that the program carries within itself, through the binary in a folder that holds
//! nothing.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn dlrm_bench(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).current_dir(dir).args(args).output().unwrap()
}

fn stdout(dir: &Path, args: &[&str]) -> String {
    let output = dlrm_bench(dir, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = dlrm_bench(dir, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(output.stdout.is_empty() && error.lines().count() == 1, "{error}");
    error
}

/// A run of some steps with small tables.
const SHORT: [&str; 9] = [
    "--no-ceilings",
    "--no-plots",
    "--quiet",
    "--set",
    "data.max_rows=1000",
    "--set",
    "data.eval_samples=3000",
    "--set",
    "train.max_steps=3",
];

#[test]
fn a_name_runs_where_there_is_no_file_and_the_record_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["run", "quickstart"], &SHORT[..]].concat();
    let output = dlrm_bench(dir.path(), &args);
    // Three steps do not reach the target.
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let record = record(&dir.path().join("results"));
    let source = &record["workload"]["source"];
    assert_eq!((&source["name"], &source["shipped"]), (&"quickstart".into(), &true.into()));
    assert_eq!(source["sha256"].as_str().unwrap().len(), 64);

    // A file of that name wins; its text is another one.
    let text = stdout(dir.path(), &["workloads", "show", "quickstart"]);
    fs::write(
        dir.path().join("quickstart"),
        text.replace("dim = 16", "dim = 8").replace("[64, 16]", "[8]"),
    )
    .unwrap();
    let explained = stdout(dir.path(), &["run", "quickstart", "--explain"]);
    assert!(explained.contains("\ndim = 8 "), "{explained}");
    fs::remove_dir_all(dir.path().join("results")).unwrap();
    assert_eq!(dlrm_bench(dir.path(), &args).status.code(), Some(1));
    let own = self::record(&dir.path().join("results"));
    assert_eq!(own["workload"]["source"]["shipped"], false);
    assert_ne!(own["workload"]["source"]["sha256"], source["sha256"]);

    // A folder of that name is no workload.
    fs::remove_file(dir.path().join("quickstart")).unwrap();
    fs::create_dir(dir.path().join("quickstart")).unwrap();
    assert!(stdout(dir.path(), &["run", "quickstart", "--explain"]).contains("\ndim = 16 "));
}

/// The one record below `results`.
fn record(results: &Path) -> serde_json::Value {
    let mut folders = vec![results.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with("run.json") => found.push(path),
                false => {}
            }
        }
    }
    let [one] = &found[..] else { panic!("{found:?}") };
    serde_json::from_str(&fs::read_to_string(one).unwrap()).unwrap()
}

#[test]
fn names_are_listed_shown_and_told_where_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let list = stdout(dir.path(), &["workloads"]);
    let line = list.lines().find(|l| l.starts_with("terabyte ")).unwrap();
    assert!(line.contains("DLRM") && line.len() <= 80, "{line}");
    let other = list.lines().find(|l| l.starts_with("facebook-terabyte ")).unwrap();
    assert!(other.ends_with("  the same as terabyte"), "{other}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/terabyte.toml");
    for name in ["terabyte", "facebook-terabyte"] {
        let shown = stdout(dir.path(), &["workloads", "show", name]);
        assert_eq!(shown, fs::read_to_string(&file).unwrap());
    }
    assert_eq!(
        refusal(dir.path(), &["workloads", "show", "terabite"]),
        "error: no workload of the program is called \"terabite\"; did you mean terabyte?\n"
    );
    assert_eq!(
        refusal(dir.path(), &["run", "quikstart"]),
        "error: quikstart: no such file, and no workload of the program is called \"quikstart\"; did you mean quickstart?\n"
    );
    let gate = refusal(dir.path(), &["gate", "something-else", "--set-b", "train.seed=2"]);
    assert!(gate.contains("dlrm-bench workloads lists their names"), "{gate}");
}

/// Facebook's scripts, where there is no data: sizes, rates and losses as their flags have them.
#[test]
fn scripts_of_facebooks_are_trained_as_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let explain = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(dir.path())
            .env_remove("CRITEO_1TB")
            .env_remove("CRITEO_KAGGLE")
            .args(["run", name, "--explain"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let v1 = explain("mlperf-v1");
    for said in
        ["\ndim = 128 ", "\nlearning_rate = 1.0 ", "\nshare_of_best = 0.5 ", "\nmax_rows = "]
    {
        assert!(v1.contains(said), "{said} of {v1}");
    }
    assert!(!v1.contains("\nauc = "), "{v1}");
    let random = explain("facebook-random");
    for said in ["\nindices_per_lookup = 100 ", "\nloss = \"mse\" ", "\nevery = \"never\" "] {
        assert!(random.contains(said), "{said} of {random}");
    }
    let set = [
        "data.tables=[100, 100]",
        "data.samples=64",
        "train.batch_size=32",
        "model.bottom=[8, 64]",
        "model.top=[8, 1]",
    ];
    let set: Vec<String> = set.iter().map(|s| format!("--set={s}")).collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let run = ["run", "facebook-random", "--no-ceilings", "--no-plots", "--quiet"];
    stdout(dir.path(), &[&run[..], &set].concat());
    let record = record(&dir.path().join("results"));
    assert_eq!(record["outcome"]["steps"], 2);
    let name = "facebook-kaggle";
    let output = dlrm_bench(dir.path(), &["run", name, "--explain"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_commands_take_names_too() {
    let dir = tempfile::tempdir().unwrap();
    let profile = stdout(
        dir.path(),
        &[
            "data",
            "profile",
            "quickstart",
            "--samples",
            "2000",
            "--table",
            "C1",
            "--set",
            "data.eval_samples=2000",
        ],
    );
    assert!(profile.contains("C1"), "{profile}");
    let output = dlrm_bench(
        dir.path(),
        &[
            "gate",
            "quickstart",
            "--record",
            "b.json",
            "--budget",
            "1s",
            "--set",
            "data.max_rows=1000",
            "--set",
            "data.eval_samples=2000",
            "--quality-steps",
            "0",
            "--quiet",
        ],
    );
    let error = String::from_utf8_lossy(&output.stderr);
    // A second may be too short for a baseline, but the workload was found and run.
    assert!(matches!(output.status.code(), Some(0 | 5)), "{error}");
}

/// Each workload whose data may be missing trains on planted data instead, to a target of its own
/// unless it is for its rate alone, and reads with its data at hand.
#[test]
fn every_shipped_workload_reads_with_and_without_its_data() {
    let place = tempfile::tempdir().unwrap();
    let mut planted = 0;
    for line in stdout(place.path(), &["workloads"]).lines() {
        let name = line.split(' ').next().unwrap();
        let text = stdout(place.path(), &["workloads", "show", name]);
        let command = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
            command.current_dir(place.path()).args(["run", name]).args(args);
            command
        };
        let variables = ["CRITEO_KAGGLE", "CRITEO_1TB", "FRAPPE", "ADULT", "DEEPREC_DATA"];
        let with = command(&["--explain"]).envs(variables.map(|v| (v, "/somewhere"))).output();
        let with = with.unwrap();
        assert!(with.status.success(), "{name}: {}", String::from_utf8_lossy(&with.stderr));
        // Other names of one that is listed too are tried under its own.
        let own = text.contains(&format!("\nname = \"{name}\"\n"));
        if !own || !text.contains("[data.otherwise]") {
            continue;
        }
        planted += 1;
        let results = place.path().join(name);
        let small = ["data.otherwise.max_rows=50", "data.otherwise.eval_samples=400"];
        let short = ["train.max_steps=2", "train.batch_size=32"];
        let mut run = command(&["--quiet", "--no-plots", "--no-ceilings", "--results"]);
        run.arg(&results);
        small.iter().chain(&short).for_each(|set| {
            run.args(["--set", set]);
        });
        let out = run.output().unwrap();
        let rate_alone = text.contains("every = \"never\"");
        // Two steps reach no target.
        let code = if rate_alone { 0 } else { 1 };
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{name}: {said}");
        let record = record(&results);
        assert_eq!(record["workload"]["name"], format!("{name}-planted"), "{name}");
        assert_eq!(rate_alone, record["facts"]["target_auc"].is_null(), "{name}");
    }
    assert!(planted >= 10, "{planted}");
}
