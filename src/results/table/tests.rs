//! Rows, groups, ratios.

use super::*;
use crate::results::tree::{Ending, Rates};

fn run(system: &str, seed: u64, minutes: f64, ending: Ending) -> Run {
    Run {
        path: format!("r/{system}/{seed}"),
        argument: "r".into(),
        name: format!("run-{seed}"),
        started: None,
        grade: None,
        system: System { name: system.into(), ..System::default() },
        workload: "w".into(),
        task: Task {
            benchmark: "dlrm".into(),
            data: BTreeMap::from([("data.max_rows".into(), "10".into())]),
            model: BTreeMap::from([("model.dim".into(), "16".into())]),
            target: Some(0.75),
            accuracy: None,
        },
        engine: Some("fused".into()),
        program: None,
        precision: Some("fp32".into()),
        batch: Some(2048),
        seed: Some(seed),
        settings: BTreeMap::from([("optimizer.kind".into(), "\"sgd\"".into())]),
        ending,
        seconds: Some(60.0 * minutes),
        samples: Some(6000.0),
        epochs: Some(minutes / 10.0),
        auc: Some(0.76),
        auc_binned_1000: None,
        accuracy: None,
        gstep: None,
        loss: Some(0.5),
        throughput: Rates {
            end_to_end: Some(100.0 / minutes),
            training: Some(200.0 / minutes),
            steady: None,
            logged: None,
        },
        floor_share: None,
        joules: None,
        scaling_factor: None,
        evaluations: Vec::new(),
        warnings: Vec::new(),
        identity: Default::default(),
        key: system.into(),
    }
}

fn runs(system: &str, minutes: &[f64]) -> Vec<Run> {
    minutes.iter().zip(1..).map(|(&m, seed)| run(system, seed, m, Ending::Converged)).collect()
}

fn labels(c: &Comparison) -> Vec<Vec<&str>> {
    c.groups.iter().map(|g| g.rows.iter().map(|r| r.label.as_str()).collect()).collect()
}

#[test]
fn energy_is_scored_like_time_where_all_runs_know_it() {
    let mut all = runs("a", &[1.0, 2.0, 3.0, 4.0]);
    for (run, joules) in all.iter_mut().zip([50.0, 10.0, 30.0, 20.0]) {
        run.joules = Some(joules);
    }
    let score = |runs: &[Run]| {
        build(runs.to_vec(), &Options::default()).unwrap().groups[0].rows[0].joules_to_target
    };
    assert_eq!(score(&all), Some(25.0));
    all[2].joules = None;
    assert_eq!(score(&all), None);
    all[2].ending = Ending::NotConverged;
    assert_eq!(score(&all), Some(35.0));
}

#[test]
fn a_row_has_mlperf_s_score_and_means_with_intervals() {
    let c = build(runs("a", &[1.0, 2.0, 4.0, 9.0]), &Options::default()).unwrap();
    let row = &c.groups[0].rows[0];
    assert_eq!((row.runs, row.converged, row.seconds_to_target), (4, 4, Some(180.0)));
    assert!((row.epochs_to_target.unwrap() - 0.3).abs() < 1e-12);
    let e = row.end_to_end.unwrap();
    assert!(
        (e.mean - (100.0 + 50.0 + 25.0 + 100.0 / 9.0) / 4.0).abs() < 1e-9
            && e.low < Some(e.mean)
            && e.runs == 4
    );
    assert_eq!((row.ratio, row.steady), (None, None));
}

#[test]
fn missed_targets_count_and_unfinished_runs_do_not() {
    let mut all = runs("a", &[1.0, 2.0, 3.0]);
    all.push(run("a", 4, 1.0, Ending::NotConverged));
    all.push(run("a", 5, 0.1, Ending::Unfinished));
    let c = build(all.clone(), &Options::default()).unwrap();
    let row = &c.groups[0].rows[0];
    assert_eq!(
        (row.runs, row.converged, row.unfinished, row.seconds_to_target),
        (4, 3, 1, Some(150.0))
    );
    assert_eq!(row.notes, ["1 unfinished run left out"]);
    all.push(run("a", 6, 1.0, Ending::NotConverged));
    let c = build(all, &Options::default()).unwrap();
    let row = &c.groups[0].rows[0];
    assert_eq!(row.seconds_to_target, None);
    assert_eq!(row.notes[1], "2 of 5 runs did not reach the target: no score");
    // Without a target there is nothing to score, and nothing to complain of.
    let c = build(vec![run("a", 1, 1.0, Ending::Finished)], &Options::default()).unwrap();
    assert_eq!((c.groups[0].rows[0].seconds_to_target, c.groups[0].rows[0].notes.len()), (None, 0));
}

#[test]
fn ratios_refer_to_the_best_or_to_the_baseline() {
    let all = [runs("slow", &[4.0]), runs("fast", &[1.0]), runs("mid", &[2.0])].concat();
    let ratios = |options: &Options| -> Vec<(String, f64)> {
        let c = build(all.clone(), options).unwrap();
        c.groups[0].rows.iter().map(|r| (r.label.clone(), r.ratio.unwrap())).collect()
    };
    let named =
        |r: &[(&str, f64)]| r.iter().map(|(n, x)| ((*n).to_owned(), *x)).collect::<Vec<_>>();
    assert_eq!(ratios(&Options::default()), named(&[("fast", 1.0), ("mid", 0.5), ("slow", 0.25)]));
    let options = Options {
        baseline: Some("mid".into()),
        sort: Field::Figure(Figure::Time),
        ..Options::default()
    };
    assert_eq!(ratios(&options), named(&[("fast", 2.0), ("mid", 1.0), ("slow", 0.5)]));
    let wrong = |name: &str| {
        build(all.clone(), &Options { baseline: Some(name.into()), ..Options::default() })
            .unwrap_err()
    };
    assert_eq!(
        wrong("nobody"),
        r#"--baseline nobody is none of the rows; must be one of "slow", "fast", "mid""#
    );
    assert_eq!(
        wrong("fused"),
        r#"--baseline fused may be several rows; must be one of "fast", "mid", "slow""#
    );
}

#[test]
fn other_tasks_are_set_apart_with_the_reason() {
    let mut other = runs("big", &[1.0]);
    other[0].task.data.insert("data.max_rows".into(), "1000".into());
    let mut wide = runs("wide", &[1.0]);
    wide[0].task.model.insert("model.dim".into(), "64".into());
    let mut easy = runs("easy", &[1.0]);
    easy[0].task.target = Some(0.7);
    let all = [other, wide, easy, runs("a", &[1.0]), runs("b", &[2.0])].concat();
    let c = build(all.clone(), &Options::default()).unwrap();
    assert_eq!(labels(&c), [vec!["a", "b"], vec!["big"], vec!["wide"], vec!["easy"]]);
    let why: Vec<Option<&str>> = c.groups.iter().map(|g| g.apart.as_deref()).collect();
    assert_eq!(
        why,
        [
            None,
            Some("other data: data.max_rows 1000, not 10"),
            Some("other model: model.dim 64, not 16"),
            Some("other target: AUC 0.70000, not AUC 0.75000")
        ]
    );
    assert!(c.groups[1..].iter().all(|g| g.rows[0].ratio.is_none()));
    // The group of the baseline comes first; a baseline ranks nothing in other groups.
    let c = build(all, &Options { baseline: Some("wide".into()), ..Options::default() }).unwrap();
    assert_eq!(labels(&c)[0], ["wide"]);
    assert!(c.groups[1].rows.iter().all(|r| r.ratio.is_none()));
}

#[test]
fn differing_settings_are_rows_of_their_own_with_names_that_tell_them_apart() {
    let mut candle = runs("a", &[2.0, 2.0]);
    for r in &mut candle {
        (r.engine, r.key) = (Some("candle".into()), "a candle".into());
        r.path += "-candle";
        r.settings.insert("optimizer.kind".into(), "\"adam\"".into());
    }
    let all = [runs("a", &[1.0, 1.0]), candle].concat();
    let c = build(all.clone(), &Options::default()).unwrap();
    assert_eq!(labels(&c), [["a fused", "a candle"]]);
    assert_eq!(
        c.groups[0].rows[1].differences.as_deref(),
        Some("optimizer.kind \"adam\", not \"sgd\"")
    );
    let c = build(all.clone(), &Options { rows: Rows::Run, ..Options::default() }).unwrap();
    assert_eq!(labels(&c)[0].len(), 4);
    let c = build(
        all.clone(),
        &Options { group_by: Some(Field::Fact(Fact::Engine)), ..Options::default() },
    )
    .unwrap();
    assert_eq!(labels(&c), [["a fused"], ["a candle"]]);
    assert_eq!(c.groups[1].apart.as_deref(), Some("grouped by itself: candle"));
    let prices = vec![("a candle".to_owned(), 30.0)];
    let c = build(all, &Options { price_per_hour: prices, ..Options::default() }).unwrap();
    assert_eq!(c.groups[0].rows.iter().map(|r| r.cost).collect::<Vec<_>>(), [None, Some(1.0)]);
}

#[test]
fn filters_keep_what_they_name() {
    let mut all = [runs("Alpha", &[1.0]), runs("beta", &[2.0])].concat();
    all[1].batch = Some(4096);
    let kept = |all: &[Run], filter: &str| -> Vec<String> {
        let filter: Filter = filter.parse().unwrap();
        all.iter().filter(|r| filter.keeps(r)).map(|r| r.system.name.clone()).collect()
    };
    assert_eq!(kept(&all, "system=alpha"), ["Alpha"]);
    assert_eq!(kept(&all, "system!=ALP"), ["beta"]);
    assert_eq!(kept(&all, "alp"), ["Alpha"]);
    assert_eq!(kept(&all, "system=a"), ["Alpha", "beta"]);
    assert_eq!(kept(&all, "system=a*"), ["Alpha"]);
    assert_eq!(kept(&all, "batch=4096"), ["beta"]);
    assert_eq!(kept(&all, "batch=409"), Vec::<String>::new());
    assert_eq!(kept(&all, "ending=converged").len(), 2);
    all[0].settings.insert("engine.threads".into(), "2".into());
    all[1].settings.insert("engine.threads".into(), "16".into());
    // A number is meant as a whole, a word need not be.
    assert_eq!(kept(&all, "engine.threads=2"), ["Alpha"]);
    assert_eq!(kept(&all, "engine.threads=1"), Vec::<String>::new());
    assert_eq!(kept(&all, "engine.threads=1*"), ["beta"]);
    assert_eq!(kept(&all, "optimizer.kind=sg").len(), 2);
    assert_eq!(kept(&all, "train.batch_size!=4096"), ["Alpha"]);
    let error = |f: &str| f.parse::<Filter>().unwrap_err();
    assert_eq!(error("system="), "no text to look for; must be KEY=TEXT, KEY!=TEXT or TEXT");
    assert_eq!(error("steady=3"), "steady is measured; a filter takes what was run");
    let nothing = Options { filters: vec!["system=x".parse().unwrap()], ..Options::default() };
    assert_eq!(build(all.clone(), &nothing).unwrap_err(), "none of the 2 runs passes the filters");
    assert_eq!(build(Vec::new(), &Options::default()).unwrap_err(), "no results to compare");
}

#[test]
fn any_key_is_a_column_to_sort_and_group_by() {
    let mut all = Vec::new();
    for threads in ["16", "2", "1"] {
        let mut of = runs(&format!("s{threads}"), &[1.0]);
        of[0].settings.insert("engine.threads".into(), threads.into());
        of[0].task.model.insert("model.top".into(), "[64, 1]".into());
        all.extend(of);
    }
    let by = |options: Options| build(all.clone(), &options).unwrap();
    let key = |name: &str| name.parse::<Field>().unwrap();
    let sorted = by(Options { sort: key("engine.threads"), ..Options::default() });
    assert_eq!(labels(&sorted), [["s1", "s2", "s16"]]);
    let grouped = by(Options { group_by: Some(key("engine.threads")), ..Options::default() });
    assert_eq!(labels(&grouped), [["s1"], ["s2"], ["s16"]]);
    assert_eq!(grouped.groups[2].by.as_deref(), Some("engine.threads 16"));
    let row = &sorted.groups[0].rows[1];
    for (name, value) in [
        ("engine.threads", Some("2")),
        ("model.top", Some("[64, 1]")),
        ("optimizer.kind", Some("sgd")),
        ("train.batch_size", Some("2048")),
        ("target.auc", Some("0.75")),
        ("model.hidden", None),
        ("system", Some("s2")),
    ] {
        assert_eq!(key(name).text(row).as_deref(), value, "{name}");
    }
    let error = |name: &str| {
        build(all.clone(), &Options { columns: vec![key(name)], ..Options::default() }).unwrap_err()
    };
    assert_eq!(
        error("engine.thread"),
        "--columns: no column \"engine.thread\"; did you mean engine.threads?"
    );
    assert_eq!(error("threads"), "--columns: no column \"threads\"; did you mean engine.threads?");
    assert_eq!(error("sytem"), "--columns: no column \"sytem\"; did you mean system?");
    assert!(error("colour").contains("must be one of throughput, steady"));
    let figure = Options { group_by: Some(key("auc")), ..Options::default() };
    assert!(build(all.clone(), &figure).unwrap_err().starts_with("--group-by: takes what was run"));
}

#[test]
fn json_reads_back() {
    let c = build(runs("a", &[1.0, 2.0]), &Options::default()).unwrap();
    let text = serde_json::to_string(&c).unwrap();
    let back: Comparison = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}
