//! A kill or a signal costs time, never what is done.

use super::{Bench, data, done, error, list};
use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// A run that has begun to prepare.
fn begun(bench: &Bench, data: &str) -> Child {
    let mut run = bench.command(data, &[]);
    let child = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let begun = || bench.prepared().iter().any(|f| f.join(".partial/checkpoint.json").exists());
    while !begun() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let bench = Bench::new();
    bench.days(3, 20_000);
    let total = data("facebook-terabyte", "randomize = \"total\"");
    let mut child = begun(&bench, &total);
    child.kill().unwrap();
    child.wait().unwrap();
    let unfinished = list(&bench.prepared()[0]).iter().any(|f| f.ends_with(".partial"));
    let next = done(&bench.run(&total, &[]), &[]);
    if unfinished {
        assert!(next.contains("going on with preparing 3 raw files"), "{next}");
        assert!(next.contains(", from where an earlier run was"), "{next}");
    }
    let killed = bench.last();
    let whole = format!("{total}\ncache = \"whole\"");
    done(&bench.run(&whole, &[]), &["made in"]);
    assert_eq!(bench.last().1.loss, killed.1.loss);
    assert_eq!(bench.last().0.data_set, killed.0.data_set);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_and_says_what_goes_on() {
    let bench = Bench::new();
    bench.days(3, 20_000);
    let terabyte = data("facebook-terabyte", "");
    let child = begun(&bench, &terabyte);
    super::signal::send(&child, libc::SIGINT);
    let start = Instant::now();
    let ended = child.wait_with_output().unwrap();
    // It may have been done with everything before the signal came.
    if ended.status.code() != Some(0) {
        assert_eq!(ended.status.code(), Some(130), "{}", error(&ended));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let folder = bench.prepared().remove(0);
        if !folder.join("manifest.json").exists() {
            let goes_on = format!("interrupted; the next run goes on with {}\n", folder.display());
            assert!(error(&ended).contains(&goes_on), "{}", error(&ended));
        }
    }
    done(&bench.run(&terabyte, &[]), &["prepared data: "]);
}
