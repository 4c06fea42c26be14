//! Against facebook's own output, and against its loops written the obvious way.

use super::{
    files,
    log::{DENSE, Line, TABLES, lines, realistic},
};
use dlrm_bench::{
    data::preprocess::prepare::{self, Done, Job, Parameters, PlannedFile, Randomize, Recipe},
    host::Isa,
    random::numpy::RandomState,
    workload::OnError,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

#[path = "../support/npz.rs"]
mod npz;

fn job(recipe: Recipe, parameters: Parameters, raw: Vec<PathBuf>, output: &Path) -> Job {
    Job {
        recipe,
        parameters,
        raw,
        output: output.into(),
        memory: 64 << 20,
        threads: 2,
        isa: Isa::best(),
        checkpoint: Duration::ZERO,
    }
}

fn run(job: &Job) -> prepare::Done {
    prepare::run(job, &AtomicBool::new(false), &mut |_| ()).unwrap()
}

fn integers(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b)).collect()
}

#[test]
fn kaggle_lines_equal_what_facebook_wrote() {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let raw = shared.join("data/criteo_sample/kaggle_8000.txt");
    let processed = shared.join("reference/facebook/kaggle_8000_processed.npz");
    if !raw.exists() || !processed.exists() {
        eprintln!("skipped: {} or {} is not there", raw.display(), processed.display());
        return;
    }
    let theirs = npz::read(&processed);
    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe::FacebookKaggle;
    let Done::Prepared { manifest, resumed: false } =
        run(&job(recipe, recipe.parameters(), vec![raw], dir.path()))
    else {
        panic!()
    };
    let written = files(dir.path());
    let names: Vec<&str> = written.keys().map(String::as_str).collect();
    let stem = "kaggleAdDisplayChallenge_processed";
    let bins = ["test", "train", "val"].map(|part| format!("{stem}_{part}.bin"));
    assert_eq!(names, [&bins[0], &bins[1], &bins[2], "manifest.json", "train_fea_count.npz"]);
    let rows = integers(&[&written[&bins[1]][..], &written[&bins[0]], &written[&bins[2]]].concat());
    assert_eq!(
        [&bins[1], &bins[0], &bins[2]].map(|b| written[b].len()),
        [6858 * 160, 571 * 160, 571 * 160]
    );
    for (i, row) in rows.chunks(1 + DENSE + TABLES).enumerate() {
        assert_eq!(f64::from(row[0]), theirs["y"].values[i], "row {i}");
        let row: Vec<f64> = row[1..].iter().map(|&x| f64::from(x)).collect();
        assert_eq!(row[..DENSE], theirs["X_int"].values[i * DENSE..][..DENSE], "row {i}");
        assert_eq!(row[DENSE..], theirs["X_cat"].values[i * TABLES..][..TABLES], "row {i}");
    }
    let counts = npz::read(&dir.path().join("train_fea_count.npz"));
    assert_eq!(
        (&counts["counts"].shape[..], &counts["counts"].values),
        (&[TABLES][..], &theirs["counts"].values)
    );
    let positives = theirs["y"].values.iter().sum::<f64>();
    assert_eq!(manifest.label_rate, positives / 8000.0);
    let ids: Vec<f64> = manifest.columns[DENSE..].iter().map(|c| c.ids.unwrap() as f64).collect();
    assert_eq!(ids, theirs["counts"].values);
    assert_eq!(manifest.splits.iter().map(|s| s.samples).collect::<Vec<_>>(), [6858, 571, 571]);
}

/// Four days of the sample, through numpy itself: digests that transcription.py prints (numpy
/// 2.4.6).
#[test]
fn days_equal_what_numpy_makes_of_them() {
    use Recipe::{FacebookTerabyte, MlperfV1};
    let raw = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/criteo_sample/kaggle_8000.txt"
    ));
    let Ok(text) = std::fs::read_to_string(raw) else {
        eprintln!("skipped: {} is not there", raw.display());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut days = Vec::new();
    for (d, lines) in lines.chunks(2000).enumerate() {
        days.push(dir.path().join(format!("day_{d}")));
        std::fs::write(&days[d], lines.join("\n")).unwrap();
    }
    let cases = [
        (
            MlperfV1,
            MlperfV1.parameters(),
            ["549dc321f9818247", "9c83c36e56a81805", "e5166eb3346bc6a6"],
        ),
        (
            FacebookTerabyte,
            FacebookTerabyte.parameters(),
            ["7d86ba80f8483d9f", "8e8b2ab346b51b4d", "55dbb2e9cd87d649"],
        ),
        (
            MlperfV1,
            Parameters {
                max_ind_range: Some(1000),
                sub_sample_rate: 0.4,
                seed: 7,
                ..MlperfV1.parameters()
            },
            ["31f23dc364a6891f", "7e206eb751e9137d", "fcc17c11cd2db9d9"],
        ),
        (
            FacebookTerabyte,
            Parameters {
                max_ind_range: None,
                sub_sample_rate: 0.2,
                randomize: Randomize::Day,
                ..FacebookTerabyte.parameters()
            },
            ["1f3935114c2a1c21", "0ffe35bccae2fb17", "1bcccbadc8688707"],
        ),
    ];
    for (i, (recipe, parameters, digests)) in cases.into_iter().enumerate() {
        let output = dir.path().join(format!("out-{i}"));
        let Done::Prepared { manifest, .. } = run(&job(recipe, parameters, days.clone(), &output))
        else {
            panic!()
        };
        for (split, digest) in manifest.splits.iter().zip(digests) {
            let sum = Sha256::digest(std::fs::read(output.join(&split.file)).unwrap());
            let start: String = sum.iter().take(8).map(|b| format!("{b:02x}")).collect();
            assert_eq!(start, digest, "{} of {}, {parameters:?}", split.file, recipe.name());
        }
    }
}

/// Train, test, val as records, and counts.
type Parts = ([Vec<i32>; 3], Vec<i32>);

/// `getCriteoAdData` and `numpy_to_binary`, step by step. `days` are the files (Kaggle: one).
fn obvious(recipe: Recipe, p: &Parameters, days: &[Vec<Line>]) -> Parts {
    let mut numpy = RandomState::new(p.seed);
    let days: Vec<Vec<Line>> = if recipe == Recipe::FacebookKaggle {
        let (n, mut rest) = (days[0].len(), &days[0][..]);
        let slice = |d: usize| {
            let (head, tail) = rest.split_at(n / 7 + usize::from(d < n % 7));
            rest = tail;
            head.to_vec()
        };
        (0..7).map(slice).collect()
    } else {
        days.to_vec()
    };
    let mut numbers = vec![HashMap::new(); TABLES];
    let mut processed: Vec<Vec<Vec<i32>>> = Vec::new();
    for day in &days {
        let u: Vec<f64> = day
            .iter()
            .map(|_| if p.sub_sample_rate == 0.0 { 1.0 } else { numpy.random_sample() })
            .collect();
        let mut rows = Vec::new();
        for (line, u) in day.iter().zip(u) {
            if line.label == 0 && u < p.sub_sample_rate {
                continue;
            }
            let mut row = vec![i32::from(line.label)];
            row.extend(line.dense.iter().map(|x| x.unwrap_or(0).max(0)));
            for (id, numbers) in line.ids.iter().zip(&mut numbers) {
                let id = id.unwrap_or(0);
                let next = numbers.len() as i32;
                row.push(*numbers.entry(p.max_ind_range.map_or(id, |m| id % m)).or_insert(next));
            }
            rows.push(row);
        }
        processed.push(rows);
    }
    let last = processed.pop().unwrap();
    let sizes: Vec<usize> = processed.iter().map(Vec::len).collect();
    if p.randomize == Randomize::Total {
        let days_to_sample = sizes.len() as u64;
        let mut buckets = vec![Vec::new(); sizes.len()];
        for rows in processed {
            let drawn: Vec<u64> = rows.iter().map(|_| numpy.interval(days_to_sample - 1)).collect();
            for (row, mut p) in rows.into_iter().zip(drawn) {
                while buckets[p as usize].len() >= sizes[p as usize] {
                    p = numpy.interval(days_to_sample - 1);
                }
                buckets[p as usize].push(row);
            }
        }
        for _ in &last {
            numpy.interval(days_to_sample - 1);
        }
        processed = buckets;
    }
    if p.randomize != Randomize::None {
        for rows in &mut processed {
            let mut indices: Vec<usize> = (0..rows.len()).collect();
            numpy.shuffle(&mut indices);
            *rows = indices.iter().map(|&i| rows[i].clone()).collect();
        }
    }
    let middle = last.len().div_ceil(2);
    let flat = |rows: &[Vec<i32>]| rows.concat();
    (
        [flat(&processed.concat()), flat(&last[..middle]), flat(&last[middle..])],
        numbers.iter().map(|m| m.len() as i32).collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Recipes, settings, carriage returns, byte-order marks, gzip, threads, skipped lines.
    #[test]
    fn equals_the_obvious_loops(
        mut lines in lines(28..90),
        recipe in prop_oneof![Just(Recipe::FacebookKaggle), Just(Recipe::FacebookTerabyte), Just(Recipe::MlperfV1)],
        range in prop::option::of(1u32..70),
        rate in prop_oneof![2 => Just(0.0), 1 => Just(0.4)],
        randomize in prop_oneof![Just(Randomize::None), Just(Randomize::Day), Just(Randomize::Total)],
        threads in 1usize..4,
        (windows, marked, packed, spoilt) in any::<(bool, bool, bool, bool)>(),
        seed: u32,
    ) {
        // So that sub-sampling leaves no part empty.
        lines.iter_mut().step_by(3).for_each(|l| l.label = 1);
        lines.last_mut().unwrap().label = 1;
        let n = lines.len();
        let days: Vec<Vec<Line>> = match recipe {
            Recipe::FacebookKaggle => vec![lines],
            _ => [0..n / 2, n / 2..n / 2 + n / 4, n / 2 + n / 4..n].map(|r| lines[r].to_vec()).to_vec(),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut raw = Vec::new();
        for (d, day) in days.iter().enumerate() {
            let end = if windows { "\r\n" } else { "\n" };
            let mut text: Vec<String> = day.iter().map(Line::text).collect();
            if spoilt {
                text.insert(day.len() / 2, "not a line".into());
            }
            let text = format!("{}{}", if marked { "\u{feff}" } else { "" }, text.join(end));
            let path = dir.path().join(format!("day_{d}"));
            if packed {
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut packer, text.as_bytes()).unwrap();
                std::fs::write(&path, packer.finish().unwrap()).unwrap();
            } else {
                std::fs::write(&path, text).unwrap();
            }
            raw.push(path);
        }
        let on_error = if spoilt { OnError::Skip } else { OnError::Fail };
        let parameters =
            Parameters { max_ind_range: range, sub_sample_rate: rate, randomize, on_error, seed, ..recipe.parameters() };
        let (expected, counts) = obvious(recipe, &parameters, &days);
        let output = dir.path().join("out");
        let job = Job { threads, ..job(recipe, parameters, raw, &output) };
        let Done::Prepared { manifest, resumed: false } = run(&job) else { panic!() };
        for (split, expected) in manifest.splits.iter().zip(&expected) {
            prop_assert!(integers(&std::fs::read(output.join(&split.file)).unwrap()) == *expected, "{}", &split.file);
        }
        let found = npz::read(&output.join(&manifest.files[3].name));
        prop_assert_eq!(&found["counts"].values, &counts.iter().map(|&c| f64::from(c)).collect::<Vec<_>>());
        prop_assert_eq!(manifest.skipped_lines, if spoilt { job.raw.len() as u64 } else { 0 });
        prop_assert_eq!(manifest.dropped_samples + manifest.splits.iter().map(|s| s.samples).sum::<u64>(), n as u64);
        let missing: usize = days.iter().flatten().filter(|l| l.ids[25].is_none()).count();
        prop_assert!(rate > 0.0 || manifest.columns[DENSE + 25].missing == missing as u64);
        prop_assert_eq!(manifest.verify(&output, |_| ()), []);
        prop_assert_eq!(run(&job), Done::Verified(manifest));
        prop_assert!(!output.join(".partial").exists());
    }
}

/// Many stretches of text, many blocks.
#[test]
fn threads_memory_and_instruction_sets_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let raw: Vec<PathBuf> = (0..3).map(|d| dir.path().join(format!("day_{d}"))).collect();
    for (d, path) in raw.iter().enumerate() {
        std::fs::write(path, realistic(6000, d as u64)).unwrap();
    }
    let recipe = Recipe::MlperfV1;
    let mut first = None;
    for (threads, memory, isa) in [
        (1, 64 << 20, Isa::best()),
        (2, 64 << 20, Isa::Portable),
        (3, 1 << 30, Isa::best()),
        (2, 200 << 20, Isa::best()),
    ] {
        let output = dir.path().join(format!("out-{threads}-{memory}"));
        let job =
            Job { threads, memory, isa, ..job(recipe, recipe.parameters(), raw.clone(), &output) };
        run(&job);
        let written = files(&output);
        assert!(
            *first.get_or_insert(written.clone()) == written,
            "{threads} threads, {memory} bytes, {}",
            isa.name()
        );
        let plan = prepare::plan(&job, &|_| ()).unwrap();
        assert!(plan.exact && plan.lines == 18_000 && plan.seconds.is_some());
        for PlannedFile { name, bytes, .. } in plan.files {
            assert_eq!(written[&name].len() as u64, bytes, "{name}");
        }
    }
}

/// The program tells what it took; a log of many times its buffers does not make it more.
#[test]
fn memory_stays_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("train.txt");
    std::fs::write(&raw, realistic(150_000, 5)).unwrap();
    let (raw, output) = (raw.to_str().unwrap(), dir.path().join("out"));
    // Stacks of the threads of a large machine would be no small part of what is taken.
    let words = [
        "preprocess",
        "facebook-kaggle",
        raw,
        "-o",
        output.to_str().unwrap(),
        "--memory",
        "64MiB",
        "--threads",
        "2",
    ];
    let done = super::data(&[&words[..], &["--quiet"]].concat());
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", super::error(&done));
    let Some(mib) = said.lines().find_map(|l| l.strip_suffix(" MiB of memory at most")) else {
        eprintln!("skipped: this system does not tell how much memory was taken");
        return;
    };
    assert!(mib.parse::<u64>().unwrap() <= 64, "{said}");
}
