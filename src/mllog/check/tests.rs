//! What is said of broken logs. That the verdicts are MLPerf's is tested in tests/check.

use super::*;
use proptest::prelude::*;

fn findings(log: &str) -> Vec<String> {
    check(log.as_bytes(), None).findings.iter().map(ToString::to_string).collect()
}

fn line(key: &str, value: &str, metadata: &str) -> String {
    format!(
        ":::MLLOG {{\"time_ms\": 1700000000000, \"key\": \"{key}\", \"value\": {value}, \"metadata\": {{{metadata}}}}}\n"
    )
}

fn header(benchmark: &str, division: &str) -> String {
    line("submission_benchmark", &format!("\"{benchmark}\""), "")
        + &line("submission_division", &format!("\"{division}\""), "")
}

/// What is said of the line `key` after a header, which makes it line 3.
fn said(benchmark: &str, division: &str, key: &str, value: &str, metadata: &str) -> Vec<String> {
    let all = findings(&(header(benchmark, division) + &line(key, value, metadata)));
    all.iter().filter_map(|f| f.strip_prefix("3: error: ")).map(ToOwned::to_owned).collect()
}

fn dcnv2(key: &str, value: &str, metadata: &str) -> String {
    let mut said = said("dlrm_dcnv2", "closed", key, value, metadata);
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

#[test]
fn values_name_what_would_be_right() {
    assert_eq!(dcnv2("eval_samples", "100", ""), "eval_samples is 100; must be 89137319");
    assert_eq!(dcnv2("opt_name", "\"sgd\"", ""), "opt_name is \"sgd\"; must be \"adagrad\"");
    assert_eq!(
        dcnv2("opt_adagrad_epsilon", "1e-6", ""),
        "opt_adagrad_epsilon is 1e-6; must be 1e-8"
    );
    assert_eq!(
        dcnv2("opt_adagrad_epsilon", "9.99999993922529e-09", ""),
        "opt_adagrad_epsilon is 9.99999993922529e-9; must be 1e-8, in 64 bits: this is what 32 bits make of it"
    );
    assert_eq!(
        dcnv2("gradient_accumulation_steps", "null", ""),
        "gradient_accumulation_steps is null; must be a number above 0"
    );
    assert_eq!(
        dcnv2("eval_accuracy", "null", "\"epoch_num\": 1"),
        "eval_accuracy is null; must be a number"
    );
    assert_eq!(
        dcnv2("eval_accuracy", "0.9", "\"samples_count\": 1"),
        "eval_accuracy has no epoch_num in its metadata"
    );
    assert_eq!(
        dcnv2("micro_batch_size", "2.5", ""),
        "micro_batch_size is 2.5; must be a whole number"
    );
    assert_eq!(dcnv2("submission_org", "\"\"", ""), "submission_org is \"\"; must be something");
    let long = format!("\"{}\"", "é".repeat(100));
    assert_eq!(
        dcnv2("opt_name", &long, ""),
        format!("opt_name is \"{}...; must be \"adagrad\"", "é".repeat(59))
    );
    assert_eq!(
        said("dlrm", "closed", "sgd_opt_learning_rate_decay_poly_power", "1", "")[0][..],
        *"sgd_opt_learning_rate_decay_poly_power is 1; must be 2"
    );
}

#[test]
fn order_and_metadata_are_named() {
    assert_eq!(
        dcnv2("run_start", "null", ""),
        "run_start has no init_stop before it; must come after one"
    );
    assert_eq!(
        dcnv2("epoch_start", "null", ""),
        "epoch_start has no epoch_num or samples_count in its metadata"
    );
    let said_of_block = said("dlrm_dcnv2", "closed", "block_start", "null", "\"epoch_count\": 0");
    assert_eq!(
        said_of_block,
        [
            "block_start has no run_start before it; must come after one",
            "block_start has epoch_count in its metadata; must have first_epoch_num too",
            "block_start has epoch_count 0 in its metadata; must be a number above 0",
        ]
    );
    assert_eq!(
        said("deepfm", "open", "eval_accuracy", "1.5", "\"epoch_num\": 0"),
        [
            "eval_accuracy stands where no eval_start is open",
            "eval_accuracy is 1.5; must be a number from 0 to 1"
        ]
    );
    let late = line("init_start", "null", "")
        + &line("init_stop", "null", "").replace("1700000000000", "\"1700001800000\"");
    let all = findings(&(header("dlrm_dcnv2", "closed") + &late));
    assert!(
        all.contains(&"4: error: init_stop comes 30.0 minutes after the first init_start; must come within 30".into()),
        "{all:?}"
    );
    let all = findings(&(late + &header("dlrm_dcnv2", "open")));
    let expected = "2: error: init_stop has no submission_division before it, which says how long it may take; must come after one";
    assert!(all.contains(&expected.into()), "{all:?}");
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    let org = line("submission_org", "\"X\"", "");
    let all = findings(&(header("dlrm_dcnv2", "open") + &org + "other output\n" + &org));
    assert_eq!(
        all[0],
        "5: warning: submission_org is on lines 3, 5, with one value; must be there exactly once"
    );
    for missing in [
        "error: run_stop is missing; must be there exactly once",
        "error: cache_clear is missing; must be there at least once",
        "error: block_start and epoch_start are missing; one of them must be there",
        "error: eval_start and block_start are missing; one of them must be there",
    ] {
        assert!(all.contains(&missing.into()), "{missing} is not in {all:?}");
    }
    assert_eq!(all.iter().filter(|f| f.contains("epoch_start")).count(), 1, "{all:?}");
    let all = findings(&(header("dlrm_dcnv2", "open") + &org + &org.replace('X', "Y")));
    assert_eq!(
        all[0],
        "4: error: submission_org is on lines 3, 4, with values \"X\" and \"Y\"; must be there exactly once"
    );
    let tensor = line("weights_initialization", "null", "\"tensor\": \"embeddings\"");
    let all = findings(
        &(header("dlrm", "closed") + &tensor + &tensor + &tensor.replace("embeddings", "emb")),
    );
    let of_tensors: Vec<_> = all.iter().filter(|f| f.contains("tensor")).collect();
    assert_eq!(of_tensors.len(), 10, "{of_tensors:?}");
    assert_eq!(
        *of_tensors[0],
        "4: error: weights_initialization of tensor embeddings is on lines 3, 4; must be there exactly once"
    );
    assert!(of_tensors[1].starts_with(
        "5: error: weights_initialization of tensor \"emb\"; must be one of embeddings, bottom"
    ));
    assert_eq!(
        *of_tensors[9],
        "error: weights_initialization of tensor top_mlp_dense5 is missing; must be there exactly once"
    );
}

#[test]
fn a_missed_target_names_the_best() {
    let auc = |x: &str| line("eval_accuracy", x, "\"epoch_num\": 1");
    let target =
        |log: String| findings(&log).into_iter().find(|f| f.contains("target")).unwrap_or_default();
    let missed = target(header("dlrm_dcnv2", "closed") + &auc("0.79") + &auc("0.80274999"));
    assert_eq!(
        missed,
        "error: eval_accuracy never meets the target: the highest of 2 is 0.80274999; one must be from 0.80275 to 1"
    );
    assert!(
        target(header("dlrm_dcnv2", "closed") + &auc("0.8027499914169312"))
            .contains("32 bits make of the target")
    );
    assert_eq!(target(header("dlrm_dcnv2", "closed") + &auc("0.80275")), "");
    assert_eq!(target(header("dlrm_dcnv2", "open") + &auc("0.1")), "");
    assert!(target(header("dlrm", "open") + &auc("1.0")).ends_with("one must be below 1"));
}

#[test]
fn lines_that_are_no_events_are_named() {
    let all = findings(
        "x\n:::MLLOG {\"key\": \n0: :::MLLOG{\"key\": \"a\"}\n:::MLLOG {\"key\": \"a\", \"time_ms\": 1}\n",
    );
    assert_eq!(all[0], "2: error: broken JSON in column 17: EOF while parsing a value");
    assert_eq!(all[1], "3: note: no space after :::MLLOG; MLPerf's tools pass over such a line");
    assert_eq!(all[2], "4: error: a has no value; must be null if there is nothing to say");
    let all_of_key =
        findings(":::MLLOG {\"key\": \"a\\n\\u001bb\", \"time_ms\": 1, \"value\": 2}\n");
    assert_eq!(
        all_of_key[0],
        "1: error: a\\n\\u{1b}b has no metadata; must be an object, {} if there is nothing to say"
    );
    assert_eq!(
        all[3],
        "4: error: a has no metadata; must be an object, {} if there is nothing to say"
    );
}

#[test]
fn benchmarks_are_looked_up_by_round() {
    let said = |benchmark: &str, ruleset| {
        let verdict = check(header(benchmark, "open").as_bytes(), ruleset);
        (
            verdict.ruleset,
            verdict.findings.iter().find(|f| f.rule == Broken::Benchmark).map(ToString::to_string),
        )
    };
    assert_eq!(
        [said("dlrm", None), said("dlrm_dcnv2", None), said("deepfm", None)].map(|s| s.0),
        ["2.1.0", "6.0.0", "6.0.0"]
    );
    assert_eq!(said("dlrm", Some("1.0.0")), ("1.0.0", None));
    let unknown = "1: error: submission_benchmark is \"bert\", which is not known here; must be one of dlrm, dlrm_dcnv2, deepfm";
    assert_eq!(said("bert", None).1.as_deref(), Some(unknown));
    let elsewhere = "1: error: submission_benchmark is \"deepfm\", which ruleset 5.0.0 does not have; 6.0.0 has it";
    assert_eq!(said("deepfm", Some("5.0.0")), ("5.0.0", Some(elsewhere.into())));
}

#[test]
fn notes_tell_what_the_other_checkers_stumble_on_and_fail_nothing() {
    let log = header("dlrm_dcnv2", "closed")
        + &line("tracked_stats", "{\"global_batch_size\": 7}", "")
        + &line("run_stop", "null", "\"status\": \"aborted\"");
    let verdict = check(log.as_bytes(), None);
    let notes: Vec<_> = verdict
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Note)
        .map(|f| f.to_string())
        .collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0]
            .starts_with("3: note: tracked_stats: this line contains the word global_batch_size")
    );
    assert!(
        notes[1].starts_with("4: note: run_stop: status")
            && notes[2].starts_with("note: seed is missing")
    );
    let only_notes = Verdict {
        findings: verdict.findings.into_iter().filter(|f| f.severity == Severity::Note).collect(),
        ..verdict
    };
    assert!(only_notes.passes(true));
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!check(&bytes, None).passes(false));
    }

    #[test]
    fn no_edits_of_a_good_line_break_it(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..8)) {
        let mut bytes = [header("deepfm", "open"), line("eval_start", "null", "\"epoch_num\": 0"), line("run_stop", "1", "")].concat().into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let verdict = check(&bytes, None);
        prop_assert!(!verdict.passes(false));
        prop_assert!(verdict.findings.iter().all(|f| f.to_string().lines().count() == 1), "{:?}", verdict.findings);
    }

    #[test]
    fn no_values_break_it(
        key in prop::sample::select(ROUNDS[11].rule_set(Some(Division::Closed)).rules).prop_map(|r| r.key),
        value in prop::sample::select(&["null", "1e400", "-0.0", "99999999999999999999", "[]", "{}", "\"\u{e9}\"", "true"][..]),
        benchmark in prop::sample::select(&["dlrm", "dlrm_dcnv2", "deepfm", "bert"][..]),
        closed in any::<bool>(),
    ) {
        let log = header(benchmark, if closed { "closed" } else { "open" }) + &line(key, value, &format!("\"epoch_num\": {value}"));
        let verdict = check(log.as_bytes(), None);
        prop_assert!(!verdict.passes(false));
        for finding in verdict.findings {
            prop_assert!(finding.to_string().lines().count() == 1);
        }
    }
}
