//! Records made of runs by hand.

use super::{judge::Converges, *};
use crate::results::tree::{Ending, Rates, Run, System, own};

fn run(seed: u64, epochs: f64) -> Run {
    Run {
        path: format!("r/{seed}"),
        argument: String::new(),
        name: format!("run-{seed}"),
        started: None,
        grade: None,
        system: System { name: "s".into(), ..System::default() },
        workload: "w".into(),
        task: Task {
            benchmark: "dlrm".into(),
            data: BTreeMap::from([("data.max_rows".into(), "10".into())]),
            model: BTreeMap::new(),
            target: Some(0.75),
            accuracy: None,
        },
        engine: Some("fused".into()),
        program: None,
        precision: Some("fp32".into()),
        batch: Some(2048),
        seed: Some(seed),
        settings: BTreeMap::from([
            ("optimizer.kind".into(), "\"sgd\"".into()),
            ("engine.threads".into(), "2".into()),
        ]),
        ending: Ending::Converged,
        seconds: Some(60.0),
        samples: Some(1e6 * epochs),
        epochs: Some(epochs),
        auc: Some(0.76),
        auc_binned_1000: None,
        accuracy: None,
        gstep: None,
        loss: None,
        throughput: Rates::default(),
        floor_share: None,
        joules: None,
        scaling_factor: None,
        evaluations: Vec::new(),
        warnings: Vec::new(),
        identity: Default::default(),
        key: String::new(),
    }
}

fn runs(epochs: &[f64]) -> Vec<Run> {
    epochs.iter().zip(1..).map(|(&e, seed)| run(seed, e)).collect()
}

/// Mean 0.5 without the ends, standard deviation of all 0.02.
fn record() -> ReferenceRecord {
    ReferenceRecord::from_runs(&runs(&[0.47, 0.48, 0.49, 0.5, 0.5, 0.5, 0.5, 0.51, 0.52, 0.53]))
        .unwrap()
}

#[test]
fn faster_like_and_slower_are_told_apart_for_any_number_of_runs() {
    let record = record();
    let judged = |epochs: &[f64]| record.judge(&runs(epochs)).unwrap();
    // t(0.95, 8 + 3 - 2) = 1.833113; sqrt(1/8 + 1/3); the spread is 0.0167332 with n = 10.
    let stdev = (28e-4f64 / 10.0).sqrt();
    let verdict = judged(&[0.5; 5]);
    assert_eq!((verdict.converges, verdict.runs, verdict.epochs), (Converges::Like, 5, Some(0.5)));
    let margin = 1.833_112_93 * stdev * (1.0f64 / 8.0 + 1.0 / 3.0).sqrt();
    assert!(
        (verdict.slowest - 0.5 - margin).abs() < 1e-8
            && (0.5 - verdict.fastest - margin).abs() < 1e-8,
        "{verdict:?}"
    );
    assert_eq!(judged(&[0.53; 5]).converges, Converges::Slower);
    assert_eq!(judged(&[0.47; 5]).converges, Converges::Faster);
    // One run may differ by more than a mean of five.
    assert_eq!(judged(&[0.53]).converges, Converges::Like);
    assert_eq!(judged(&[0.56]).converges, Converges::Slower);
    assert_eq!(judged(&[0.44, 0.45]).converges, Converges::Faster);
    let t = judged(&[0.53; 5]).t.unwrap();
    assert!((t - 0.03 / (stdev * (1.0f64 / 8.0 + 1.0 / 3.0).sqrt())).abs() < 1e-8);
    assert_eq!(
        judged(&[0.5]).sentence(),
        "converges like the reference: 0.500 epochs, the reference 0.500; 0.466 to 0.534 would be no difference beyond chance (t = 0.0)"
    );
}

#[test]
fn missed_targets_count_and_other_tasks_are_refused() {
    let record = record();
    let mut all = runs(&[0.5, 0.5, 0.5, 0.5]);
    all[0].ending = Ending::NotConverged;
    assert_eq!(record.judge(&all).unwrap().converges, Converges::Like);
    all[1].ending = Ending::NotConverged;
    let verdict = record.judge(&all).unwrap();
    assert_eq!((verdict.converges, verdict.epochs), (Converges::Not, None));
    assert!(
        verdict.sentence().starts_with("does not converge, the reference does: in 0.500 epochs; ")
    );
    all[1].task.data.insert("data.max_rows".into(), "11".into());
    assert_eq!(
        record.judge(&all).unwrap_err(),
        "the record is of other data: data.max_rows 11, not 10"
    );
    let mut big = runs(&[0.5]);
    big[0].batch = Some(4096);
    assert!(
        record
            .judge(&big)
            .unwrap_err()
            .starts_with("batch size 4096 is above that of every reference point, 2048 at most")
    );
    big[0].ending = Ending::Unfinished;
    assert_eq!(record.judge(&big).unwrap_err(), "no run came to its end");
}

#[test]
fn what_is_no_reference_is_refused_with_the_reason() {
    let error = |runs: &[Run]| ReferenceRecord::from_runs(runs).unwrap_err();
    assert_eq!(error(&[]), "no runs to make a record of");
    assert_eq!(
        error(&runs(&[0.5, 0.5])),
        "2 runs at batch size 2048; a reference needs at least 3, with different seeds"
    );
    let mut all = runs(&[0.5; 4]);
    all[2].seed = Some(1);
    assert_eq!(error(&all), "r/1 and r/3 have one seed; runs of a reference are to be independent");
    let mut all = runs(&[0.5; 4]);
    all[1].settings.insert("engine.threads".into(), "1".into());
    assert!(ReferenceRecord::from_runs(&all).is_ok(), "how it was computed may differ");
    all[1].settings.insert("optimizer.kind".into(), "\"adam\"".into());
    assert_eq!(
        error(&all),
        "r/1 and r/2 have one batch size but differ in optimizer.kind \"adam\", not \"sgd\""
    );
    let mut all = runs(&[0.5; 4]);
    all[3].ending = Ending::NotConverged;
    assert_eq!(error(&all), "r/4 did not reach its target; a reference is made of runs that did");
    let mut all = runs(&[0.5; 4]);
    all[3].task.target = Some(0.8);
    assert!(error(&all).starts_with("r/1 and r/4 are of different tasks: other target"));
}

#[test]
fn a_record_comes_back_from_its_file_and_a_wrong_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    let record = record();
    record.write(&path).unwrap();
    assert_eq!(ReferenceRecord::read(&path).unwrap(), record);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 12, "a line a run");
    for (wrong, expected) in [
        (
            "{}".to_owned(),
            "not a convergence record: missing field `schema_version` at line 1 column 2",
        ),
        (
            text.replace("\"schema_version\":1", "\"schema_version\":9"),
            "schema_version is 9, but this program reads 1",
        ),
        (
            text.replace("\"epochs\":0.5,", "\"epochs\":-1.0,"),
            "the reference point at batch size 2048 has a run of -1 epochs; epochs must be above 0",
        ),
    ] {
        fs::write(&path, wrong).unwrap();
        assert_eq!(
            ReferenceRecord::read(&path).unwrap_err().to_string(),
            format!("{}: {expected}", path.display())
        );
    }
}

#[test]
fn records_that_the_program_carries_can_be_read() {
    for (name, _) in SHIPPED {
        let record = ReferenceRecord::shipped(name).unwrap();
        assert_eq!(record.workload, *name);
        // The workload that is shipped, or its twin, is the one that the record is of.
        let twin = name.strip_suffix("-planted");
        let workload = twin.unwrap_or(name);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("workloads/{workload}.toml"));
        let workload = crate::workload::load(&path, &[]).unwrap();
        if twin.is_some() && workload.instead.is_none() {
            eprintln!("skipped: {name}: the data of its workload are here");
            continue;
        }
        let workload = workload.workload;
        assert_eq!(workload.workload.name, *name);
        let mut settings = own::parse(&workload.to_toml()).unwrap();
        assert_eq!(
            own::fixed(&mut settings),
            (record.task.data.clone(), record.task.model.clone()),
            "{name}"
        );
        let point = record
            .points
            .iter()
            .find(|p| p.batch_size == workload.train.batch_size as u64)
            .unwrap();
        assert!(point.settings.iter().all(|(k, v)| settings.get(k) == Some(v)), "{name}");
        assert!(record.points.iter().all(|p| p.runs.len() >= if twin.is_some() { 3 } else { 5 }
            && p.runs.iter().all(|r| !r.auc.is_empty() && !r.loss.is_empty())));
    }
    assert_eq!(ReferenceRecord::shipped("no such workload"), None);
}
