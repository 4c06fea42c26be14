//! What the program tells of itself: the schema of workloads, completions, manual, version.

use std::{
    path::Path,
    process::{Command, Output},
};

fn dlrm_bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).args(args).output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = dlrm_bench(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn schema_is_the_committed_one() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workload.schema.json");
    let schema = stdout(&["schema"]);
    assert_eq!(schema, std::fs::read_to_string(committed).unwrap());
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["properties"]["train"]["properties"]["batch_size"]["maximum"], 1 << 24);
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        for word in ["run", "gate", "schema", "preprocess", "--loader-only"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let output = dlrm_bench(&["completions", "tcsh"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("[possible values: bash, "));
}

/// bash itself takes the script, where there is one; it completes names of workloads, too.
#[test]
fn bash_completes_a_command_and_a_workload() {
    let script = stdout(&["completions", "bash"]);
    let function = script.split("complete -F ").nth(1).and_then(|s| s.split(' ').next()).unwrap();
    for (words, last, before, full) in [
        ("sche", "sche", "dlrm-bench", "schema"),
        ("run quick", "quick", "run", "quickstart"),
        ("gate deeprec-p", "deeprec-p", "gate", "deeprec-planted"),
    ] {
        let at = words.split(' ').count();
        let ask = format!(
            "COMP_WORDS=(dlrm-bench {words}); COMP_CWORD={at}; {function} dlrm-bench {last} {before}; echo ${{COMPREPLY[@]}}"
        );
        match Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output() {
            Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), full),
            Err(e) => eprintln!("skipped: bash: {e}"),
        }
    }
}

#[test]
fn completions_offer_workloads_beside_files() {
    let zsh = stdout(&["completions", "zsh"]);
    assert!(zsh.contains(r#"{_alternative "workloads:workload:(adult "#), "{zsh}");
    let fish = stdout(&["completions", "fish"]);
    assert!(fish.contains(r#"using_subcommand run" -a "adult "#), "{fish}");
}

#[test]
fn every_command_has_a_manual_page() {
    let page = stdout(&["man"]);
    assert!(page.contains(".TH") && page.contains("Exit codes"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    assert_eq!(stdout(&["man", "-o", pages.to_str().unwrap()]), "");
    for name in ["dlrm-bench", "dlrm-bench-run", "dlrm-bench-gate", "dlrm-bench-data-convert"] {
        assert!(pages.join(format!("{name}.1")).is_file(), "{name}");
    }
    // A folder that cannot be made.
    std::fs::write(dir.path().join("file"), "").unwrap();
    let output = dlrm_bench(&["man", "-o", dir.path().join("file/man1").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write "));
}

#[test]
fn version_tells_commit_compiler_and_instruction_set() {
    let short = stdout(&["-V"]);
    assert_eq!(short, format!("dlrm-bench {}\n", env!("CARGO_PKG_VERSION")));
    let long = stdout(&["--version"]);
    assert!(long.starts_with(&format!("dlrm-bench {} (", env!("CARGO_PKG_VERSION"))), "{long}");
    let fact = |name: &str| {
        let line = long.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name}: {long}")).to_owned()
    };
    assert!(fact("Compiler").starts_with("rustc "), "{long}");
    assert!(!fact("Git commit").is_empty());
    let isas = ["portable", "avx2", "avx512", "avx512bf16"];
    assert!(isas.contains(&&*fact("Instruction set")), "{long}");
    let told = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .env("DLRM_BENCH_ISA", "portable")
        .arg("--version")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("Instruction set: portable"));
}
