//! Checkpoints of only the rows that were touched, through the binary.

use super::{
    eval::{eval, json},
    *,
};

/// A run of 40 steps with one large table; the bytes of its checkpoints by step.
fn run(bench: &Bench) -> (PathBuf, Vec<(u64, u64, bool)>) {
    let output = bench.run("results", &["--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    let written = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let saved = line.get("checkpoint")?;
            assert!(saved["longest_pause"].as_f64()? <= saved["seconds"].as_f64()?);
            let (step, bytes) = (saved["step"].as_u64()?, saved["bytes"].as_u64()?);
            Some((step, bytes, saved["incremental"].as_bool()?))
        })
        .collect();
    (bench.only("results"), written)
}

fn workload() -> String {
    replace(
        DLRM,
        &[
            ("tables = [500, 20, 3]", "tables = [20000, 20, 3]"),
            ("epochs = 3", "max_steps = 40"),
            ("[eval]\nevery_steps = 150", "[eval]\nevery_steps = 20"),
            ("every_steps = 100", "every_steps = 10\ninitial = true\nincremental = true"),
        ],
    )
}

#[test]
fn what_was_touched_is_written_and_read_with_its_base() {
    let bench = Bench::new(&workload());
    let (run, written) = run(&bench);
    let steps: Vec<(u64, bool)> = written.iter().map(|(step, _, of)| (*step, *of)).collect();
    assert_eq!(steps, [(0, false), (10, true), (20, true), (30, true), (40, true)]);
    assert!(written[1].1 * 4 < written[0].1, "{written:?}");
    // The two newest, and what they are the changes of.
    let mut kept: Vec<String> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["step-000000000000", "step-000000000030", "step-000000000040"]);
    let loaded = newest(&run);
    assert_eq!(loaded.manifest.base.as_ref().unwrap().name, kept[0]);
    // As a model it is as good as any.
    let record = record::read(&run.join("run.json")).unwrap();
    let last = serde_json::to_value(record.evaluations.last().unwrap().quality).unwrap();
    let model = run.join("checkpoints").join(&kept[2]);
    let own = json(&bench, &[model.to_str().unwrap()]);
    assert_eq!((&own["quality"], &own["step"]), (&last, &40.into()));
    let mut export = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    export.current_dir(bench.dir.path()).arg("export").arg(&model).args(["-o", "m.safetensors"]);
    let exported = export.output().unwrap();
    assert_eq!(code(&exported), 0, "{}", text(&exported));
    let whole = Loaded::file(&bench.path("m.safetensors")).unwrap();
    for name in whole.tensors.names() {
        let (a, b) = (whole.tensors.get(name).unwrap(), loaded.tensors.get(name).unwrap());
        let (mut x, mut y) = (vec![0.0; 9], vec![1.0; 9]);
        let n = a.shape.iter().product::<usize>().min(9);
        a.copy(0, &mut x[..n]);
        b.copy(0, &mut y[..n]);
        assert_eq!((a.shape, &x[..n]), (b.shape, &y[..n]), "{name}");
    }
    // Without its base it is none.
    fs::rename(run.join("checkpoints").join(&kept[0]), bench.path("away")).unwrap();
    let alone = eval(&bench, &[model.to_str().unwrap()]);
    let told = "has only the rows that changed since step-000000000000, which is missing beside it";
    assert!(code(&alone) == 65 && text(&alone).contains(told), "{}", text(&alone));
}

#[test]
fn the_python_lines_of_the_document_read_it() {
    let Ok(python) = std::env::var("DLRM_BENCH_PYTHON") else {
        eprintln!("skipped: DLRM_BENCH_PYTHON is not set");
        return;
    };
    let bench = Bench::new(&workload());
    let (run, _) = run(&bench);
    let document = include_str!("../../docs/checkpoints.md");
    let lines = document.split("```python\n").nth(2).unwrap().split("```").next().unwrap();
    let lines = lines.replace("(1000, 1400)", "(0, 40)") + "rows.tofile(\"rows\")\n";
    let read = Command::new(python)
        .current_dir(run.join("checkpoints"))
        .args(["-c", &lines])
        .output()
        .unwrap();
    if text(&read).contains("No module named 'safetensors'") {
        eprintln!("skipped: this Python has no safetensors");
        return;
    }
    assert!(read.status.success(), "{}", text(&read));
    let loaded = newest(&run);
    let mut rows = vec![0.0; 80_000];
    loaded.tensors.get("emb_l.0.weight").unwrap().copy(0, &mut rows);
    let rows: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(fs::read(run.join("checkpoints/rows")).unwrap() == rows);
}

#[test]
fn where_all_rows_move_it_is_refused() {
    let bench = Bench::new(&workload());
    let dense = ["optimizer.kind=adam", "optimizer.rows=dense"];
    let deepfm = [
        "model.kind=deepfm",
        "model.embedding_l2=0.1",
        "model.bottom=",
        "model.top=",
        "model.hidden=[8]",
    ];
    let grow = ["embedding.store=hashed"];
    let never = ["checkpoint.every_steps=", "checkpoint.initial=false"];
    for (set, told) in [
        (&dense[..], "for the optimizer moves rows that no sample touches"),
        (&deepfm, "for model.embedding_l2 moves rows that no sample touches"),
        (&grow, "is for resident tables"),
        (&never, "has no effect, for no checkpoint is written"),
    ] {
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
        let output = bench.run("refused", &set);
        let shown = text(&output);
        assert!(code(&output) == 64 && shown.contains(told), "{shown}");
        assert!(shown.contains("checkpoint.incremental"), "{shown}");
    }
}
