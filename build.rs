//! Tells the program what it was built from: git commit, compiler, candle's version. Builds without
//! git, too.

use std::{env, fs, process::Command};

fn main() {
    // Also decides when this runs again: after a commit or checkout, and whenever the sources
    // change (for the `-dirty` mark).
    for path in ["build.rs", "src", "templates", "Cargo.toml", "Cargo.lock"] {
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
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()))
        .map(|name| name.replace('_', "-"))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    println!("cargo::rustc-env=DLRM_BENCH_FEATURES={}", features.join(" "));
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\u{1f}', " ");
    println!("cargo::rustc-env=DLRM_BENCH_RUSTFLAGS={}", flags.replace('\n', " "));
    if let Some(hash) = sources() {
        println!("cargo::rustc-env=DLRM_BENCH_SOURCES={hash:016x}");
    }
    for variable in ["PROFILE", "TARGET", "OPT_LEVEL"] {
        println!(
            "cargo::rustc-env=DLRM_BENCH_{variable}={}",
            env::var(variable).unwrap_or_default()
        );
    }
}

/// FNV-1a over names and bytes of all sources, in order of names: two builds of one commit whose
/// files were changed are told apart. `None` if a file cannot be read.
fn sources() -> Option<u64> {
    let mut files = vec!["build.rs".into(), "Cargo.toml".into(), "Cargo.lock".into()];
    let mut folders = vec![std::path::PathBuf::from("src"), "templates".into()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()? {
            let path = entry.ok()?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let name = file.to_str()?.replace('\\', "/");
        for byte in name.bytes().chain([0]).chain(fs::read(&file).ok()?) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Some(hash)
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
