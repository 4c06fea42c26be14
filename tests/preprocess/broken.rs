//! What is wrong is said in one line that names the place, and leaves nothing that looks whole.

use super::{
    data, error, files,
    log::{different_ids, realistic},
    program,
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Output,
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn preprocess(recipe: &str, raw: &Path, output: &Path, more: &[&str]) -> Output {
    data(
        &[
            &[
                "preprocess",
                recipe,
                raw.to_str().unwrap(),
                "-o",
                output.to_str().unwrap(),
                "--quiet",
            ],
            more,
        ]
        .concat(),
    )
}

/// One line, and this code.
fn refused(output: &Output, code: i32, what: &[&str]) {
    let error = error(output);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.starts_with("error: ") && error.trim_end().lines().count() == 1, "{error}");
    what.iter().for_each(|w| assert!(error.contains(w), "{error}\n{w}"));
}

#[test]
fn broken_logs_are_named_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = realistic(3000, 1);
    let lines: Vec<&str> = text.lines().collect();
    let with = |i: usize, line: &[u8]| {
        let mut changed: Vec<&[u8]> = lines.iter().map(|l| l.as_bytes()).collect();
        changed[i] = line;
        [&changed.join(&b'\n')[..], b"\n"].concat()
    };
    let packed = gzip(text.as_bytes());
    let short = lines[2000].rsplit_once('\t').unwrap().0;
    let cases = [
        ("39", with(2000, short.as_bytes()), ":2001: 39 columns; 40 are right (label, 13 integers"),
        ("41", with(7, format!("{}\t1", lines[7]).as_bytes()), ":8: 41 columns; 40 are right"),
        (
            "label",
            with(0, format!("2{}", &lines[0][1..]).as_bytes()),
            ":1: column 1 (label) is \"2\"; 0 or 1 is right",
        ),
        ("binary", with(1500, &[0xff; 100_000]), ":1501: byte 1 of the line is not UTF-8 text"),
        ("blank", with(2999, b""), ":3000: 1 columns; 40 are right"),
        (
            "cut.gz",
            packed[..packed.len() / 2].to_vec(),
            "the gzip data end early; the file is not complete",
        ),
        ("empty", Vec::new(), ": is empty; a log has a line a sample"),
        (
            "few",
            lines[..3].join("\n").into_bytes(),
            ": 3 samples are too few: 3 in the training days, 0 in the last one",
        ),
    ];
    for (name, bytes, what) in cases {
        let raw = write(dir.path(), name, bytes);
        let output = at("out");
        let place = format!("{}{}", raw.display(), if name.ends_with("gz") { ":" } else { what });
        refused(
            &preprocess("facebook-kaggle", &raw, &output, &["--memory", "64MiB"]),
            65,
            &[&place, what],
        );
        assert!(!output.exists(), "{name}");
    }
    refused(&preprocess("facebook-kaggle", &at("none"), &at("out"), &[]), 65, &["none: "]);
    // The broken day of three; and what was there stays.
    for (day, bytes) in [text.as_bytes(), &with(100, b"x"), text.as_bytes()].into_iter().enumerate()
    {
        write(dir.path(), &format!("days/day_{day}"), bytes);
    }
    let kept = write(dir.path(), "out/notes.txt", "mine");
    refused(
        &preprocess("facebook-terabyte", &at("days"), &at("out"), &[]),
        65,
        &["day_1:101: 1 columns"],
    );
    assert_eq!(files(&at("out")).len(), 1);
    assert_eq!(fs::read(kept).unwrap(), b"mine");
    let skipped = preprocess("facebook-terabyte", &at("days"), &at("out"), &["--on-error", "skip"]);
    assert!(skipped.status.success(), "{}", error(&skipped));
    assert!(String::from_utf8_lossy(&skipped.stdout).contains("1 malformed line left out"));
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "train.txt", realistic(50, 1));
    let output = dir.path().join("out");
    let refuse = |recipe: &str, more: &[&str], code, what: &str| {
        refused(&preprocess(recipe, &raw, &output, more), code, &[what]);
        assert!(!output.exists());
    };
    refuse("mlperf-v1", &[], 64, "mlperf-v1: the log has 2 days or more");
    refuse("facebook-kaggle", &["--sub-sample-rate", "1"], 64, "from 0 to less than 1 is right");
    refuse("facebook-kaggle", &["--memory", "1MiB"], 64, "must be at least 64 MiB");
    refuse(
        "mlperf-v2",
        &["--hotness", &["4294967295"; 26].join(",")],
        64,
        "must be from 1 to 2147483647 and 1048576",
    );
    refuse(
        "facebook-kaggle",
        &["--max-ind-range", "3000000000"],
        64,
        "the range of ids is from 1 to 2147483647",
    );
    let mut command = program();
    command
        .args(["data", "preprocess", "facebook-kaggle"])
        .arg(&raw)
        .arg("-o")
        .arg(&output)
        .arg("--quiet");
    let full = command.env("DLRM_BENCH_DISK_LIMIT", "1000").output().unwrap();
    refused(&full, 74, &["out: about ", " will be written, but 0.001 MB are free on this disk"]);
    assert!(!output.exists());
    let planned = preprocess("facebook-kaggle", &raw, &output, &["--plan"]);
    let plan = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.status.success() && !output.exists(), "{plan}");
    assert!(
        plan.contains("50 lines") && plan.contains(" 6,880 bytes  ") && plan.contains("_train.bin"),
        "{plan}"
    );
}

/// What cannot be known before all samples are seen is planned for the worst: all different, all
/// written out.
#[test]
fn no_more_is_written_than_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "train.txt", different_ids(70_000));
    let days = dir.path().join("days");
    for day in 0..2 {
        write(&days, &format!("day_{day}"), different_ids(70_000));
    }
    for (recipe, raw, more) in [
        ("fuxictr-criteo-x4", &raw, ["--min-count", "1"]),
        ("oneflow-dlrm", &days, ["--max-ind-range", "0"]),
        ("oneflow-deepfm", &raw, ["--seed", "1"]),
    ] {
        let output = dir.path().join(recipe);
        let planned = preprocess(recipe, raw, &output, &[&more[..], &["--plan"]].concat());
        let plan = String::from_utf8(planned.stdout).unwrap();
        let all = plan.lines().find(|l| l.contains(" bytes in all")).unwrap();
        let most: u64 = all.split_whitespace().next().unwrap().replace(',', "").parse().unwrap();
        assert!(preprocess(recipe, raw, &output, &more).status.success());
        let written: u64 = files(&output)
            .iter()
            .filter(|(name, _)| name.as_str() != "manifest.json")
            .map(|(_, b)| b.len() as u64)
            .sum();
        assert!(written <= most, "{recipe}: {written} bytes, but {plan}");
    }
}

/// Folders that cannot be read or made.
#[cfg(unix)]
#[test]
fn folders_without_permission_are_named() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "train.txt", realistic(50, 1));
    // A file is where the folder should be.
    let taken = write(dir.path(), "taken", "x");
    refused(&preprocess("facebook-kaggle", &raw, &taken.join("out"), &[]), 74, &["taken/out"]);
    let days = dir.path().join("days");
    write(&days, "day_0", realistic(50, 1));
    let open_to =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open_to(&days, 0o000);
    let mut command = program();
    if fs::read_dir(&days).is_ok() {
        // Who runs this may read everything, so somebody else does, with a copy that he can reach.
        let copy = dir.path().join("program");
        fs::copy(command.get_program(), &copy).unwrap();
        open_to(dir.path(), 0o755);
        command = std::process::Command::new(copy);
        command.uid(65534).gid(65534);
    }
    command
        .args(["data", "preprocess", "facebook-terabyte", "--quiet", "-o"])
        .arg(dir.path().join("out"))
        .arg(&days);
    match command.output() {
        Ok(output) => refused(&output, 65, &["days: ", "ermission denied"]),
        Err(e) => eprintln!("skipped: nobody else can run the program here: {e}"),
    }
    fs::set_permissions(&days, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn stale_and_damaged_output_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "train.txt", realistic(300, 1));
    let output = dir.path().join("out");
    let again = |more: &[&str]| preprocess("facebook-kaggle", &raw, &output, more);
    assert!(again(&[]).status.success());
    let once_more = again(&[]);
    assert!(
        once_more.status.success()
            && String::from_utf8_lossy(&once_more.stdout).contains("was there already")
    );
    let verify = || data(&["verify", output.to_str().unwrap(), "--quiet"]);
    assert!(verify().status.success());
    refused(
        &again(&["--max-ind-range", "7"]),
        65,
        &["holds data made with max_ind_range = null; choose another folder"],
    );
    let modified = fs::metadata(&raw).unwrap().modified().unwrap();
    let at =
        |time| fs::File::options().append(true).open(&raw).unwrap().set_modified(time).unwrap();
    fs::write(&raw, realistic(301, 1)).unwrap();
    refused(&again(&[]), 65, &["holds data made from other raw files"]);
    fs::write(&raw, realistic(300, 1)).unwrap();
    at(modified + std::time::Duration::from_secs(1));
    refused(&again(&[]), 65, &["holds data made from", "as it was at another time", "touch -d @"]);
    at(modified);

    let train = output.join("kaggleAdDisplayChallenge_processed_train.bin");
    let good = fs::read(&train).unwrap();
    let mut bytes = good.clone();
    bytes[777] ^= 1;
    for (bytes, what) in
        [(&bytes[..], "has the right size but other content"), (&good[160..], "160 too short")]
    {
        fs::write(&train, bytes).unwrap();
        refused(&again(&[]), 65, &["_train.bin ", what, "damaged files: 1 of 4"]);
        let found = verify();
        let said = String::from_utf8_lossy(&found.stdout).into_owned();
        assert_eq!(found.status.code(), Some(1));
        assert!(
            said.starts_with(&format!("{}: ", train.display())) && said.contains(what),
            "{said}"
        );
    }
    fs::remove_file(output.join("manifest.json")).unwrap();
    refused(&verify(), 65, &["has no manifest.json"]);
    refused(&again(&[]), 65, &["is there already, but no manifest.json that tells what it is"]);
}

/// Too little memory ends where the work can go on with more, unless what is there was touched.
#[test]
fn unfinished_work_goes_on_only_if_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "train.txt", different_ids(60_000));
    let output = dir.path().join("out");
    // Every id is a word, more of them than fit.
    let prepare = |output: &Path, more: &[&str]| {
        preprocess(
            "fuxictr-criteo-x4",
            &raw,
            output,
            &[&["--min-count", "1", "--checkpoint", "1000"], more].concat(),
        )
    };
    let again = |more: &[&str]| prepare(&output, more);
    refused(
        &again(&["--memory", "64MiB"]),
        71,
        &["no memory for the ids that occur often enough", "give more with --memory"],
    );
    refused(&again(&["--seed", "4"]), 65, &["work was begun here with other settings"]);
    let ordered = output.join(".partial/ordered.bin");
    let good = fs::read(&ordered).unwrap();
    assert!(!good.is_empty());
    fs::write(&ordered, [&[9][..], &good[1..]].concat()).unwrap();
    refused(
        &again(&["--memory", "256MiB"]),
        65,
        &["ordered.bin: its first ", " bytes are not those that were written"],
    );
    fs::write(&ordered, &good[..good.len() - 1]).unwrap();
    refused(&again(&["--memory", "256MiB"]), 65, &["ordered.bin: has less than the "]);
    fs::write(&ordered, &good).unwrap();
    let done = again(&["--memory", "256MiB"]);
    assert!(done.status.success(), "{}", error(&done));
    assert!(String::from_utf8_lossy(&done.stdout).contains("made, from where an earlier run was"));
    let whole = dir.path().join("whole");
    assert!(prepare(&whole, &["--memory", "1GiB"]).status.success());
    assert!(files(&output) == files(&whole));
}

/// Dictionaries, and counts of values, that do not fit in memory change no byte.
#[test]
fn what_does_not_fit_waits_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    // Most ids are new, some come again, and a few come late and often.
    let mut text = different_ids(50_000);
    text += &different_ids(20_000);
    text += &realistic(5000, 3);
    let one = write(dir.path(), "train.txt", &text);
    let days = dir.path().join("days");
    for (day, text) in [&text, &realistic(3000, 9), &different_ids(30_000)].into_iter().enumerate()
    {
        write(&days, &format!("day_{day}"), text);
    }
    for (recipe, raw, more) in [
        ("facebook-kaggle", &one, &["--sub-sample-rate", "0.1"][..]),
        ("mlperf-v1", &days, &[]),
        ("facebook-terabyte", &days, &["--max-ind-range", "4000000"]),
        ("nvidia", &days, &["--min-count", "2"]),
    ] {
        let made = ["64MiB", "2GiB"].map(|memory| {
            let output = dir.path().join(format!("{recipe}-{memory}"));
            let words = [
                "preprocess",
                recipe,
                raw.to_str().unwrap(),
                "-o",
                output.to_str().unwrap(),
                "--memory",
                memory,
            ];
            let done = data(&[&words[..], more].concat());
            assert!(done.status.success(), "{recipe}: {}", error(&done));
            // It says what it does; of what is counted it does not.
            let waited = error(&done).contains("numbering what was left");
            assert_eq!(waited, memory == "64MiB" && recipe != "nvidia", "{recipe}");
            files(&output)
        });
        let [less, more] = made;
        for (name, bytes) in &more {
            assert!(less[name] == *bytes, "{recipe}: {name}");
        }
        assert_eq!(less.len(), more.len());
    }
}
