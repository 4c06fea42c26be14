//! `dlrm-bench report` as a user runs it. scripts/check-report.py looks at the page in a browser.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// One evaluation and a stop.
const LOG: &str = r#":::MLLOG {"time_ms": 1000, "key": "submission_benchmark", "value": "dlrm", "metadata": {}}
:::MLLOG {"time_ms": 1000, "key": "submission_platform", "value": "<i>a machine</i>", "metadata": {}}
:::MLLOG {"time_ms": 1000, "key": "run_start", "value": null, "metadata": {}}
:::MLLOG {"time_ms": 1000, "key": "train_samples", "value": 4000, "metadata": {}}
:::MLLOG {"time_ms": 9000, "key": "eval_accuracy", "value": 0.75, "metadata": {"epoch_num": 1.5}}
:::MLLOG {"time_ms": 9000, "key": "run_stop", "value": null, "metadata": {"status": "success"}}
"#;

fn report(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir)
        .arg("report")
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn logs_become_a_page_and_what_cannot_be_read_is_said_on_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("result_0.txt"), LOG).unwrap();
    let out = report(dir.path(), &["result_0.txt", "--title", "R&D"]);
    assert_eq!(
        (out.status.code(), text(&out.stdout)),
        (Some(0), "written to report.html\n"),
        "{}",
        text(&out.stderr)
    );
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    // 2000 of 4000 samples in 8 s.
    for shown in ["<h1>R&#38;D</h1>", "&#60;i&#62;a machine&#60;/i&#62;", "250.0", "\"y\":[0.75]"] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    assert!(!page.contains("What could not be read"));

    fs::write(dir.path().join("result_1.txt"), "").unwrap();
    let out = report(dir.path(), &[".", "-o", "both.html"]);
    assert_eq!(out.status.code(), Some(65));
    assert!(
        text(&out.stderr).contains("result_1.txt") && text(&out.stderr).lines().count() == 1,
        "{}",
        text(&out.stderr)
    );
    assert!(
        fs::read_to_string(dir.path().join("both.html"))
            .unwrap()
            .contains("result_1.txt: an empty file")
    );
}

/// Of a submission the page has the system that its description describes, and the day of its logs.
#[test]
fn a_submission_has_its_machine_and_its_day() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("v3.1/Org/results/big/dlrm")).unwrap();
    fs::create_dir_all(at("v3.1/Org/systems")).unwrap();
    let log = LOG.replace("\"time_ms\": ", "\"time_ms\": 169800000");
    fs::write(at("v3.1/Org/results/big/dlrm/result_0.txt"), log).unwrap();
    let system = r#"{"submitter": "Org", "system_name": "Big One", "sw_notes": "N/A", "framework": "torch", "number_of_nodes": 4,
        "accelerator_model_name": "<GPU>", "host_memory_capacity": " 2 TB ", "host_networking": ""}"#;
    fs::write(at("v3.1/Org/systems/big.json"), system).unwrap();
    let out = report(dir.path(), &["v3.1"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let page = fs::read_to_string(at("report.html")).unwrap();
    for shown in [
        "<h3>v3.1 Org Big One</h3>",
        "<div><dt>Number of nodes</dt><dd>4</dd></div><div><dt>Host memory capacity</dt><dd>2 TB</dd></div><div><dt>Accelerator model name</dt><dd>&#60;GPU&#62;</dd></div><div><dt>Framework</dt><dd>torch</dd></div></dl>",
        "1 run on 1 system, 2023-10-22",
        "<td>2023-10-22</td>",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
}

#[test]
fn without_results_there_is_no_page() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code, said) in [
        (&["nothing"][..], 65, "nothing"),
        (&["."], 65, "no results in this folder"),
        (&[], 64, "RESULTS"),
    ] {
        let out = report(dir.path(), args);
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        assert!(text(&out.stderr).contains(said), "{}", text(&out.stderr));
        assert!(!dir.path().join("report.html").exists());
    }
    fs::write(dir.path().join("result_0.txt"), LOG).unwrap();
    let out = report(dir.path(), &[".", "--baseline", "nobody"]);
    assert_eq!(
        (out.status.code(), text(&out.stderr).lines().count()),
        (Some(64), 1),
        "{}",
        text(&out.stderr)
    );
    let out = report(dir.path(), &[".", "-o", "no/folder/report.html"]);
    assert_eq!(out.status.code(), Some(74), "{}", text(&out.stderr));
}
