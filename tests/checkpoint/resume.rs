//! Interruptions, refusals, and what people are told.

use super::*;

/// Names of the checkpoints in a run's folder, which end with their steps.
fn saved(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("step-")).collect()
}

/// Begins a run and interrupts it when its second checkpoint is there; the run's folder.
fn interrupted(bench: &Bench, more: &[&str]) -> PathBuf {
    let child = bench.command("results", more).spawn().unwrap();
    let began = Instant::now();
    while !bench.runs("results").iter().any(|run| saved(run).len() >= 2) {
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoints after a minute");
        sleep(Duration::from_millis(2));
    }
    signal::send(&child, libc::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130, "{}", text(&output));
    bench.only("results")
}

fn resume(bench: &Bench, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(bench.dir.path()).arg("run").args(args);
    command.args(["--no-ceilings", "--no-plots"]).stdin(Stdio::null()).output().unwrap()
}

const LONG: (&str, &str) = ("epochs = 3", "epochs = 12");

#[test]
fn an_interrupted_run_goes_on_in_its_folder() {
    let bench = Bench::new(&replace(DLRM, &[LONG, ("every_steps = 150", "every_steps = 50")]));
    let run = interrupted(&bench, &[]);
    let before = record::read(&run.join("run.json")).unwrap().outcome.unwrap();
    assert_eq!(format!("{:?}", before.reason), "Interrupted");
    let step = newest(&run).manifest.step;
    assert_eq!(step, before.steps, "the last step is saved");
    // The rest is cut short.
    let folder = run.to_str().unwrap();
    let limited = resume(&bench, &["--resume", folder, "--set", "train.max_steps=900"]);
    assert!(
        code(&limited) == 64 && text(&limited).contains("as it was begun"),
        "{}",
        text(&limited)
    );
    let output = resume(&bench, &["--resume", folder]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("going on after step "), "{}", text(&output));
    assert!(text(&output).contains("resumed"), "{}", text(&output));
    let record = record::read(&run.join("run.json")).unwrap();
    let outcome = record.outcome.unwrap();
    assert_eq!((outcome.resumed_at, outcome.steps), (vec![step], 12 * 469));
    assert!(outcome.checkpoint_seconds > 0.0 && outcome.seconds > before.seconds);
    let log = fs::read_to_string(run.join("result_0.txt")).unwrap();
    assert_eq!(log.matches("\"run_stop\"").count(), 1);
    assert_eq!(log.matches("\"init_start\"").count(), 1);
    let again = resume(&bench, &["--resume", folder]);
    assert!(
        code(&again) == 64 && text(&again).contains("it has done all its steps"),
        "{}",
        text(&again)
    );
    // Without a folder there is nothing to go on with, so a new run begins.
    let new = bench.run("results", &["--resume", "--set", "train.max_steps=100"]);
    assert_eq!(code(&new), 0, "{}", text(&new));
    assert!(text(&new).contains("a new one begins"), "{}", text(&new));
    assert_eq!(bench.runs("results").len(), 2);
}

/// What an interrupted run has left is not told of a run that goes on, and is killed then.
#[test]
fn a_run_that_goes_on_has_no_old_record() {
    let bench = Bench::new(&replace(DLRM, &[("epochs = 3", "epochs = 4000")]));
    let run = interrupted(&bench, &[]);
    assert!(run.join("run.json").exists() && run.join("metrics.parquet").exists());
    let before = saved(&run).into_iter().max();
    let mut child = bench.command("results", &["--resume", "--quiet"]).spawn().unwrap();
    let began = Instant::now();
    while saved(&run).into_iter().max() <= before {
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!run.join("run.json").exists() && !run.join("metrics.parquet").exists());
    let found = tree::read(&[run.display().to_string()]);
    assert_eq!(found.runs[0].ending, tree::Ending::Unfinished);
}

#[test]
fn an_evaluation_that_was_interrupted_is_done_again() {
    let long = [
        ("eval_samples = 300", "eval_samples = 600000"),
        ("every_steps = 150", "every_steps = 10"),
        ("epochs = 3", "max_steps = 20"),
    ];
    let bench = Bench::new(&replace(DLRM, &long));
    let whole = bench.run("whole", &["--quiet"]);
    assert_eq!(code(&whole), 0, "{}", text(&whole));
    // In the first evaluation, then in the second one, which ends the run.
    for at in [1, 2] {
        let child = bench.command("results", &["--resume", "--quiet"]).spawn().unwrap();
        let began = Instant::now();
        let starts = |run: &PathBuf| {
            let log = fs::read_to_string(run.join("result_0.txt")).unwrap_or_default();
            log.matches("\"eval_start\"").count()
        };
        while bench.runs("results").first().map_or(0, starts) < at {
            assert!(began.elapsed() < Duration::from_secs(60), "no evaluation after a minute");
            sleep(Duration::from_millis(1));
        }
        signal::send(&child, libc::SIGTERM);
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 130, "{}", text(&output));
        let progress = newest(&bench.only("results")).progress;
        assert_eq!(
            (&progress["steps"], progress["evaluation_due"].is_null()),
            (&Value::from(10 * at), false)
        );
    }
    let output = bench.run("results", &["--resume", "--quiet"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert_eq!(trace(&bench.only("results")), trace(&bench.only("whole")));
}

/// As if it was killed when all was done but the record.
#[test]
fn a_run_that_was_over_ends_as_it_would_have() {
    for (end, reason) in [
        ("[target]\nshare_of_best = 0.3\n", "Target"),
        ("patience = 2\nmin_delta = 0.5\n", "Patience"),
        ("", "Budget"),
    ] {
        let bench = Bench::new(&replace(DLRM, &[("[checkpoint]", &format!("{end}[checkpoint]"))]));
        let output = bench.run("results", &["--quiet"]);
        assert_eq!(code(&output), 0, "{}", text(&output));
        let run = bench.only("results");
        let before = trace(&run);
        assert!(before.reason.starts_with(reason), "{before:?}");
        fs::remove_file(run.join("run.json")).unwrap();
        let again = bench.run("results", &["--resume", "--quiet"]);
        assert_eq!(code(&again), 0, "{}", text(&again));
        assert_eq!(trace(&bench.only("results")), before);
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_used() {
    let bench =
        Bench::new(&replace(DLRM, &[LONG, ("every_steps = 100", "every_steps = 50\nkeep = 3")]));
    let run = interrupted(&bench, &[]);
    let last = newest(&run).path;
    let file = last.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let before = newest(&run).manifest.step;
    let output = bench.run("results", &["--resume", "--json", "--set", "train.epochs=12"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("model.safetensors was changed") && said.contains("the one before"),
        "{said}"
    );
    let resumed = said.lines().find(|l| l.contains("\"resumed\"")).unwrap();
    let resumed: Value = serde_json::from_str(resumed).unwrap();
    assert_eq!(resumed["from"]["step"], before);
    assert!(said.contains("\"event\":\"checkpoint\""), "{said}");
}

#[test]
fn one_process_at_a_time_has_a_run() {
    let bench = Bench::new(&replace(DLRM, &[("epochs = 3", "epochs = 4000")]));
    let run = interrupted(&bench, &[]);
    let first = bench.command("results", &["--resume", "--quiet"]).spawn().unwrap();
    let began = Instant::now();
    while !run.join(".tmp-run.json.lock").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody has the run");
        sleep(Duration::from_millis(2));
    }
    let second = resume(&bench, &["--resume", run.to_str().unwrap(), "--quiet"]);
    assert!(text(&second).contains("another process is at work"), "{}", text(&second));
    assert_eq!(code(&second), 65);
    assert_eq!(text(&second).lines().count(), 1, "{}", text(&second));
    signal::send(&first, libc::SIGTERM);
    assert_eq!(code(&first.wait_with_output().unwrap()), 130);
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_no_run() {
    let bench = Bench::new(&replace(
        DLRM,
        &[
            ("epochs = 3", "max_steps = 250"),
            ("every_steps = 100", "every_steps = 100\ndir = \"taken/here\""),
        ],
    ));
    fs::write(bench.path("taken"), "a file").unwrap();
    let output = bench.run("results", &["--quiet"]);
    assert_eq!(code(&output), 74, "{}", text(&output));
    assert!(
        text(&output).contains("no checkpoint after step 100: taken/here"),
        "{}",
        text(&output)
    );
    let record = record::read(&bench.only("results").join("run.json")).unwrap();
    assert_eq!(record.outcome.unwrap().steps, 250);
    assert_eq!(record.lost.len(), 3, "{:?}", record.lost);
    assert!(
        record.lost[0].starts_with("the checkpoint after step 100: taken/here"),
        "{:?}",
        record.lost
    );
}

#[test]
fn what_cannot_go_on_is_said_in_a_line() {
    let plain = replace(
        DLRM,
        &[("[checkpoint]\nevery_steps = 100\n", ""), ("epochs = 3", "max_steps = 3")],
    );
    let bench = Bench::new(&plain);
    fs::create_dir(bench.path("empty")).unwrap();
    let none = bench.run("results", &["--resume"]);
    assert!(
        code(&none) == 64 && text(&none).contains("--set checkpoint.every_steps=1000"),
        "{}",
        text(&none)
    );
    for (args, told) in [
        (vec!["--resume", "empty"], "empty is no folder of a run"),
        (vec!["--resume"], "which run?"),
        (vec!["w.toml", "--resume", "empty"], "leave out the workload, or FOLDER"),
        (vec!["w.toml", "--resume", "--runs", "3"], "cannot be used with"),
        (vec!["w.toml", "--set", "checkpoint.keep=3"], "checkpoint.keep: has no effect"),
        (
            vec!["w.toml", "--set", "checkpoint.every_steps=0"],
            "checkpoint.every_steps: is 0; must be at least 1",
        ),
        (
            vec!["w.toml", "--set", "checkpoint.every_steps=5", "--set", "loader.queue=q"],
            "loader.queue",
        ),
        (
            vec![
                "w.toml",
                "--set",
                "checkpoint.best=true",
                "--set",
                "eval.every=never",
                "--set",
                "eval.every_steps=",
            ],
            "needs evaluations",
        ),
    ] {
        let output = resume(&bench, &args);
        assert!(code(&output) == 64 && text(&output).contains(told), "{args:?}: {}", text(&output));
    }
    let done = bench.run("results", &[]);
    assert_eq!(code(&done), 0, "{}", text(&done));
    let run = bench.only("results");
    fs::remove_file(run.join("run.json")).unwrap();
    let output = resume(&bench, &["--resume", run.to_str().unwrap()]);
    assert!(
        code(&output) == 64 && text(&output).contains("this run has no checkpoint"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_run_does_not_go_on_on_other_data() {
    let bench = Bench::new(&replace(DLRM, &[CSV, ("epochs = 3", "epochs = 3000")]));
    let run = interrupted(&bench, &[]);
    let (path, log) = (bench.path("train.csv"), run.join("result_0.txt"));
    let (rows_then, log_then) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    fs::write(&path, [&rows_then[..], rows(99_999, 1).as_bytes()].concat()).unwrap();
    let refused = bench.run("results", &["--resume"]);
    assert!(
        code(&refused) == 65 && text(&refused).contains("the data files are not those"),
        "{}",
        text(&refused)
    );
    assert_eq!(fs::read(&log).unwrap(), log_then, "nothing is lost");
    fs::write(&path, rows_then).unwrap();
    let mut child = bench.command("results", &["--resume", "--quiet"]).spawn().unwrap();
    assert!(!ends_within(&mut child, Duration::from_millis(600)), "it goes on");
    signal::send(&child, libc::SIGTERM);
    assert_eq!(code(&child.wait_with_output().unwrap()), 130);
}
