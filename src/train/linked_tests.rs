//! Checkpoints that refer to segments of the row file: the same model as a whole one, whoever goes on
//! from it, and whatever happens to its files.

use super::{
    Prepared,
    checkpoint::{restore, rows},
    contents::Contents,
    failure::samples_of,
    prepare,
    snapshot::{Of, Snapshot},
};
use crate::{
    backend::StepContext,
    batch::Samples,
    checkpoint::{Checkpoints, Kind, Loaded},
    data::ranges::Range,
    engine::Engine,
    workload,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

const WORKLOAD: &str = r#"
[workload]
name = "large"
[data]
source = "planted"
preset = "custom"
tables = [600, 300, 5]
dense = 2
train_samples = 20000
eval_samples = 100
[model]
kind = "dlrm"
dim = 8
bottom = [8, 8]
top = [8, 1]
[train]
batch_size = 20
[optimizer]
kind = "adagrad"
learning_rate = 0.1
[eval]
batch_size = 20
"#;

fn resident(more: &[&str]) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.toml");
    std::fs::write(&file, WORKLOAD).unwrap();
    let set: Vec<String> = more.iter().map(|s| (*s).to_owned()).collect();
    prepare(&workload::load(&file, &set).unwrap().workload).unwrap()
}

/// Most rows are in a file, which is cleaned again and again.
fn cached(folder: &Path, more: &[&str]) -> Prepared {
    let path = format!("embedding.path={}", folder.display());
    let set = ["embedding.store=cached", "embedding.cache=9000", &path];
    resident(&[&set[..], more].concat())
}

fn step(p: &mut Prepared, snapshot: Option<&mut Snapshot>, n: u64) {
    let range = Range { epoch: 0, start: 20 * n, n: 20, last_of_epoch: false };
    let batch = samples_of(&mut *p.train, range).unwrap();
    if let Some(snapshot) = snapshot {
        snapshot.before_step(&*p.engine, &batch.bags).unwrap();
    }
    p.engine.begin_step(Samples::Host(&batch), StepContext::at_rate(0.1)).unwrap();
    while p.engine.finished(false).unwrap().is_some() {}
}

fn steps(p: &mut Prepared, of: std::ops::Range<u64>) {
    of.for_each(|n| step(p, None, n));
}

fn all(engine: &dyn Engine) -> Vec<(String, Vec<u32>)> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let mut all = Vec::new();
    for (i, p) in engine.params().iter().enumerate() {
        let mut values = vec![0.0; p.len()];
        engine.read(i, &mut values).unwrap();
        all.push((p.name.clone(), bits(values)));
    }
    for (i, s) in engine.optimizer_state().iter().enumerate() {
        let mut values = vec![0.0; s.len()];
        engine.read_state(i, 0, &mut values).unwrap();
        all.push((s.name.clone(), bits(values)));
    }
    all
}

/// Writes one after `at` steps, while `beside` more are done.
fn save(p: &mut Prepared, to: &Checkpoints, linked: bool, at: u64, beside: u64) -> PathBuf {
    let saved = linked.then(|| p.engine.seal_rows().unwrap().unwrap());
    let contents = Contents::whole(&*p.engine, rows(&p.config, p.engine.name())).beside(saved);
    let (kind, workload, progress) = (Kind::Newest, "w".to_owned(), Value::Null);
    let of = Of { kind, step: at, workload, progress };
    let mut snapshot = Snapshot::begin(&*p.engine, &p.config, to, contents, of).unwrap();
    (at..at + beside).for_each(|n| step(p, Some(&mut snapshot), n));
    snapshot.finish(&*p.engine).unwrap().unwrap().path
}

fn is_linked(path: &Path) -> bool {
    path.join("rows.json").is_file()
}

/// Rows in a file or in memory, a checkpoint that is whole or has the segments, a file that is laid
/// out in the same way or another: what is restored has the bits, and what comes of it.
#[test]
fn whoever_goes_on_has_the_bits() {
    for more in [&[][..], &["engine.embedding_rows=bf16", "optimizer.kind=sgd"]] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = |name: &str| Checkpoints::new(folder.path().join(name), 9);
        let mut first = cached(folder.path(), more);
        steps(&mut first, 0..40);
        let (want, position) = (all(&*first.engine), first.engine.position().unwrap());
        let linked = save(&mut first, &checkpoints("linked"), true, 40, 20);
        let mut plain = resident(more);
        steps(&mut plain, 0..40);
        assert!(all(&*plain.engine) == want);
        let whole = save(&mut plain, &checkpoints("whole"), false, 40, 20);
        let end = all(&*plain.engine);
        assert!(all(&*first.engine) == end);
        assert!(is_linked(&linked) && !is_linked(&whole));
        let disk = first.config.cached.as_ref().unwrap().disk * 9 / 10;
        let disk = format!("embedding.disk={disk}");
        let other = [more, &[&*disk]].concat();
        let targets: [(&str, &dyn Fn() -> Prepared); 3] = [
            ("cached", &|| cached(folder.path(), more)),
            ("laid out in another way", &|| cached(folder.path(), &other)),
            ("resident", &|| resident(more)),
        ];
        for from in [&linked, &whole] {
            let loaded = Loaded::open(from).unwrap();
            assert_eq!(loaded.tensors.names().count(), want.len());
            for (name, make) in targets {
                if let Some(rows) = loaded.tensors.referred() {
                    assert_eq!(make().engine.adopt_rows(rows).unwrap(), name == "cached");
                }
                let mut p = make();
                restore(&mut *p.engine, (&loaded, &p.config.model), position).unwrap();
                assert!(all(&*p.engine) == want, "{name}");
                steps(&mut p, 40..60);
                assert!(all(&*p.engine) == end, "{name}");
            }
        }
    }
}

/// Of checkpoints that share segments the older ones can go; who goes on from one writes others,
/// and none that he has taken up is changed by it.
#[test]
fn checkpoints_share_segments_and_outlive_each_other() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let to = Checkpoints::new(folder.path().join("c"), 2);
    let mut plain = resident(&[]);
    let mut p = cached(folder.path(), &[]);
    let mut shared = 0;
    for round in 0..12 {
        let at = 15 * round;
        let position = plain.engine.position().unwrap();
        let want = all(&*plain.engine);
        let path = save(&mut p, &to, true, at, 10);
        steps(&mut plain, at..at + 15);
        steps(&mut p, at + 10..at + 15);
        let loaded = Loaded::open(&path).unwrap();
        for (name, want) in &want {
            let mut got = vec![0.0; want.len()];
            loaded.tensors.get(name).unwrap().copy(0, &mut got);
            assert!(got.iter().map(|v| v.to_bits()).eq(want.iter().copied()), "{round} {name}");
        }
        let links = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap());
        let links = links.filter(|e| e.path().extension().is_some_and(|e| e == "rows"));
        shared += links.filter(|e| e.metadata().unwrap().nlink() > 1).count();
        // Every third is taken up, and the training before it is gone.
        if round % 3 == 2 {
            p = cached(folder.path(), &[]);
            restore(&mut *p.engine, (&loaded, &p.config.model), position).unwrap();
            steps(&mut p, at..at + 15);
        }
        assert!(all(&*p.engine) == all(&*plain.engine), "{round}");
    }
    assert!(shared > 0);
    assert_eq!(std::fs::read_dir(folder.path().join("c")).unwrap().count(), 2);
    // Nothing else has a name.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Whatever is missing or was changed is named.
#[test]
fn damaged_segments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = cached(folder.path(), &[]);
    let to = Checkpoints::new(folder.path().join("c"), 9);
    steps(&mut p, 0..30);
    let first = save(&mut p, &to, true, 30, 20);
    type Harm = fn(&Path);
    let harms: [(&str, Harm, &str); 4] = [
        ("segment-", |f| std::fs::remove_file(f).unwrap(), "is missing"),
        ("rows.json", |f| std::fs::remove_file(f).unwrap(), "is missing"),
        (
            "segment-",
            |f| {
                let mut bytes = std::fs::read(f).unwrap();
                bytes[40] ^= 1;
                // Not in the file that the other one has.
                std::fs::remove_file(f).unwrap();
                std::fs::write(f, bytes).unwrap();
            },
            "was changed",
        ),
        (
            "rows.safetensors",
            |f| std::fs::File::options().write(true).open(f).unwrap().set_len(99).unwrap(),
            "has 99 bytes",
        ),
    ];
    for (file, harm, told) in harms {
        let second = save(&mut p, &to, true, 50, 0);
        let names = std::fs::read_dir(&second).unwrap();
        let mut names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        let name = names.find(|name| name.starts_with(file)).unwrap();
        harm(&second.join(&name));
        let error = Loaded::open(&second).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains(told), "{error}");
        assert_eq!(error.lines().count(), 1);
        let (newest, damaged) = to.newest().unwrap();
        assert_eq!((&newest.path, damaged.len()), (&first, 1));
    }
}
