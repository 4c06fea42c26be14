//! Tells the program what it was built from: git commit, compiler, candle's version. Builds without
//! git, too.

use std::{env, fs, process::Command};

fn main() {
    // Also decides when this runs again: after a commit or checkout, and whenever the sources
    // change (for the `-dirty` mark).
    for path in ["build.rs", "src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // A folder above might be somebody else's repository, which this package was unpacked into.
    if git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty()) {
        for file in ["HEAD", "logs/HEAD"] {
            if let Some(path) =
                git(&["rev-parse", "--git-path", file]).filter(|p| fs::exists(p).unwrap_or(false))
            {
                println!("cargo::rerun-if-changed={path}");
            }
        }
        if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
            let changes = git(&[
                "status",
                "--porcelain",
                "--",
                "build.rs",
                "src",
                "Cargo.toml",
                "Cargo.lock",
            ]);
            let mark = if changes.is_some_and(|c| c.is_empty()) { "" } else { "-dirty" };
            println!("cargo::rustc-env=DLRM_BENCH_GIT_COMMIT={commit}{mark}");
        }
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    if let Some(version) = output(&rustc, &["--version"]) {
        println!("cargo::rustc-env=DLRM_BENCH_RUSTC={version}");
    }
    if let Some(version) = fs::read_to_string("Cargo.lock")
        .ok()
        .as_deref()
        .and_then(|lock| locked(lock, "candle-core"))
    {
        println!("cargo::rustc-env=DLRM_BENCH_CANDLE={version}");
    }
    // A build for tests of the gate: see src/train/slowdown.rs. Not a feature, so that nobody's
    // release has it by accident.
    println!("cargo::rustc-check-cfg=cfg(test_slowdown)");
    println!("cargo::rerun-if-env-changed=DLRM_BENCH_BUILD_TEST_SLOWDOWN");
    if env::var_os("DLRM_BENCH_BUILD_TEST_SLOWDOWN").is_some() {
        println!("cargo::rustc-cfg=test_slowdown");
    }
    for variable in ["PROFILE", "TARGET"] {
        println!(
            "cargo::rustc-env=DLRM_BENCH_{variable}={}",
            env::var(variable).unwrap_or_default()
        );
    }
}

fn git(args: &[&str]) -> Option<String> {
    output("git", args)
}

/// What a command prints, trimmed; `None` if it cannot be run or fails.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Version of a package in Cargo.lock.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
    after.split('"').next()
}
