//! A parameter server on several processes, over real MPI libraries (tests/ranks.rs says which): what
//! it learns, how late gradients are, and an end to every situation.
#![cfg(target_os = "linux")]

#[path = "support/mpi.rs"]
mod mpi;

use dlrm_bench::random::philox::{Philox, Stream};
use mpi::{Home, RUN, disturbed, end, folder, homes, kills, record, tensors, text};
use std::{path::Path, process::Command, time::Duration};

const SERVED: [&str; 2] = ["--set", "comm.mode=parameter_server"];

/// A run with some settings, which comes to its end.
fn run(home: &Home, ranks: usize, dir: &Path, set: &[&str]) -> serde_json::Value {
    let args = [&RUN[..], &SERVED, set].concat();
    let output = end(home.command(ranks, dir, &args).spawn().unwrap());
    assert!(output.status.success(), "{}", text(&output));
    record(dir)
}

fn aucs(record: &serde_json::Value) -> Vec<f64> {
    let evaluations = record["evaluations"].as_array().unwrap().iter();
    evaluations.map(|e| e["quality"]["auc"].as_f64().unwrap()).collect()
}

fn numbers(record: &serde_json::Value, of: &str) -> Vec<u64> {
    let all = record["outcome"]["served"][of].as_array().unwrap().iter();
    all.map(|n| n.as_u64().unwrap()).collect()
}

/// A run of one process, without servers.
fn run_alone(dir: &Path, set: &[&str]) -> serde_json::Value {
    let mut alone = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let output = alone.args(RUN).args(set).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    record(dir)
}

#[test]
fn one_batch_at_a_time_comes_to_the_model_of_one_process() {
    let homes = homes();
    if homes.is_empty() {
        return;
    }
    let alone = folder();
    let want = aucs(&run_alone(alone.path(), &[]));
    for (home, servers) in homes.into_iter().zip([2, 1].into_iter().cycle()) {
        let dir = folder();
        let servers = format!("comm.servers={servers}");
        let set = ["--set", &servers, "--set", "comm.staleness=0"];
        let got = run(&home, 4, dir.path(), &set);
        assert_eq!(aucs(&got), want);
        assert!(tensors(dir.path()) == tensors(alone.path()), "{servers}");
        assert_eq!(numbers(&got, "staleness"), [12]);
    }
}

#[test]
fn two_workers_learn_and_no_bound_is_passed() {
    const STEPS: [&str; 4] = ["--set", "train.max_steps=120", "--set", "eval.every_steps=60"];
    let homes = homes();
    if homes.is_empty() {
        return;
    }
    let dir = folder();
    let want = aucs(&run_alone(dir.path(), &STEPS)).pop().unwrap();
    assert!(want > 0.6, "planted data, of which much can be learnt: {want}");
    for (home, bounds) in homes.into_iter().zip([&[None, Some(1)][..], &[None]].into_iter().cycle())
    {
        for &bound in bounds {
            let dir = folder();
            let most = bound.map(|most| format!("comm.staleness={most}"));
            let mut set = STEPS.to_vec();
            set.extend(most.iter().flat_map(|most| ["--set", most]));
            let record = run(&home, 4, dir.path(), &set);
            let auc = aucs(&record).pop().unwrap();
            // Late gradients learn less in as many steps; six runs lay 0.02 to 0.03 behind.
            assert!((auc - want).abs() < 0.06, "{auc} {want}");
            let (staleness, batches) = (numbers(&record, "staleness"), numbers(&record, "batches"));
            assert_eq!(staleness.iter().sum::<u64>(), 120);
            assert_eq!((batches.len(), batches.iter().sum::<u64>()), (2, 120));
            assert!(batches.iter().all(|n| *n > 10), "{batches:?}");
            match bound {
                Some(most) => assert!(staleness.len() <= most + 1, "{staleness:?} of {most}"),
                None => assert!(staleness.len() > 1, "{staleness:?}"),
            }
            assert_eq!(record["outcome"]["served"]["bound"].as_u64(), bound.map(|b| b as u64));
        }
    }
}

#[test]
fn a_server_or_a_worker_that_dies_or_stalls_ends_the_run_in_time() {
    // The server, for which workers wait, then one of those.
    const STOPPED: [&[(usize, u64)]; 2] = [&[(1, 100), (3, 130)], &[(1, 170)]];
    for (home, stops) in homes().into_iter().zip(STOPPED.into_iter().cycle()) {
        let served = (4, &SERVED[..]);
        for kill in 0..kills() {
            let random = Philox::new(23, Stream::Shuffle, kill).block(0);
            let (rank, after) = (1 + (kill as usize) % 3, random[1] % 400);
            let after = Duration::from_millis(after.into());
            let (output, took) = disturbed(&home, served, rank, libc::SIGKILL, after);
            assert!(!output.status.success() && took < Duration::from_secs(30), "{took:?}");
        }
        for &(stopped, after) in stops {
            let after = Duration::from_millis(after);
            let (output, took) = disturbed(&home, served, stopped, libc::SIGSTOP, after);
            let text = text(&output);
            assert!(!output.status.success() && took < Duration::from_secs(60), "{took:?}\n{text}");
            let who = format!("rank {stopped} (host ");
            let line = text.lines().find(|l| l.contains(&who)).expect(&text);
            assert!(line.contains(" has not sent ") || line.contains(" has not taken "), "{line}");
            assert!(line.contains("for 3 s") && line.contains("at step"), "{line}");
        }
    }
}

#[test]
fn what_a_parameter_server_cannot_do_is_refused_in_one_line() {
    let dir = folder();
    let args = [&RUN[..], &SERVED].concat();
    let mut alone = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let output = alone.args(&args).current_dir(dir.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("at least 3 ranks"), "{}", text(&output));
    let mut plan = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let plan = plan.args(["plan", "w.toml", "--ranks", "4"]).args(SERVED);
    let output = plan.current_dir(dir.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("knows synchronous training only"), "{}", text(&output));
    for home in homes().into_iter().take(1) {
        for (set, said) in [
            ("comm.servers=2", "takes at least 4 ranks"),
            ("engine.kind=candle", "trains with the fused engine on CPUs"),
            ("embedding.store=hashed", "embedding.store"),
        ] {
            let args = [&RUN[..], &SERVED, &["--set", set]].concat();
            let output = end(home.command(3, dir.path(), &args).spawn().unwrap());
            assert!(!output.status.success() && text(&output).contains(said), "{}", text(&output));
        }
    }
    assert!(!dir.path().join("results/here").exists());
}
