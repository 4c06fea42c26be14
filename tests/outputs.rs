//! Where output goes: devices, pipes and links are written through, and a reader that goes away or
//! a full disk costs no result and no exit code.
#![cfg(target_os = "linux")]

use std::{
    ffi::CString,
    fs::{self, File},
    io::Read,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "custom"
tables = [50, 20]
dense = 2
train_samples = 4000
eval_samples = 1000
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 100
[optimizer]
kind = "sgd"
learning_rate = 0.1
[eval]
every_steps = 10
[target]
auc = 0.55
"#;

/// A folder with a workload, a finished run in `results`, and a few data files.
struct Place {
    dir: TempDir,
}

impl Place {
    /// A workload and data.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
        let rows: String = (0..60).map(|i| format!("{},{},{}\n", i % 2, i, i % 7)).collect();
        fs::write(dir.path().join("a.csv"), format!("y,x,c\n{rows}")).unwrap();
        Place { dir }
    }

    /// With a run.
    fn with_run() -> Self {
        let place = Place::new();
        let out = place.run(&["run", "w.toml", "--quiet", "--no-ceilings", "--no-plots"]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn make_fifo(&self, name: &str) {
        let path = CString::new(self.at(name).as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a string that ends with 0.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    }

    /// A device like /dev/null, where this process may make one.
    fn make_null(&self, name: &str) -> bool {
        let path = CString::new(self.at(name).as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a string that ends with 0.
        let made =
            unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) };
        if made != 0 || fs::OpenOptions::new().write(true).open(self.at(name)).is_err() {
            println!("skipped: this process may make no devices");
            return false;
        }
        true
    }

    /// Names in the folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// The records of all runs.
    fn records(&self) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        let mut folders = vec![self.at("results")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if entry.ends_with("run.json") {
                    found.push(serde_json::from_slice(&fs::read(entry).unwrap()).unwrap());
                }
            }
        }
        found
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Commands with an output, without the output itself.
const WRITERS: [&[&str]; 6] = [
    &["compare", "results", "--format", "json", "-o"],
    &["report", "results", "-o"],
    &["data", "convert", "a.csv", "--to", "csv", "-o"],
    &["data", "convert", "a.csv", "--to", "parquet", "-o"],
    &["data", "generate", "criteo_kaggle", "--samples", "50", "--to", "bin40", "-o"],
    &["data", "generate", "criteo_kaggle", "--samples", "50", "--to", "criteo", "-o"],
];

/// `args` with an output, which works.
fn write_to(place: &Place, args: &[&str], output: &str) -> Output {
    let out = place.run(&[args, &[output]].concat());
    assert_eq!(out.status.code(), Some(0), "{args:?} {output}: {}", text(&out.stderr));
    assert!(!place.names().iter().any(|n| n.starts_with(".tmp-")), "{:?}", place.names());
    out
}

#[test]
fn what_is_no_regular_file_is_written_through() {
    let place = Place::with_run();
    place.make_fifo("pipe");
    let device = place.make_null("null");
    for args in WRITERS {
        // What a plain file gets.
        write_to(&place, args, "plain");
        let plain = fs::read(place.at("plain")).unwrap();
        assert!(!plain.is_empty());
        fs::remove_file(place.at("plain")).unwrap();

        let reader = std::thread::spawn({
            let pipe = place.at("pipe");
            move || {
                let mut bytes = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
                bytes
            }
        });
        write_to(&place, args, "pipe");
        assert!(fs::metadata(place.at("pipe")).unwrap().file_type().is_fifo());
        let read = reader.join().unwrap();
        // A page says when it was made.
        assert!(read == plain || args[0] == "report" && read.len() == plain.len(), "{args:?}");

        for stdout in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            let out = write_to(&place, args, stdout);
            assert_eq!(out.stdout.len(), plain.len(), "{args:?} {stdout}");
        }
        if device {
            write_to(&place, args, "null");
            assert!(fs::metadata(place.at("null")).unwrap().file_type().is_char_device());
        }
        write_to(&place, args, "/dev/null");
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        // A disk that is full is an error of the output.
        let out = place.run(&[args, &["/dev/full"]].concat());
        assert_eq!(out.status.code(), Some(74), "{args:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("/dev/full"), "{}", text(&out.stderr));
        assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    }
}

#[test]
fn standard_output_that_is_a_file_is_not_replaced() {
    let place = Place::with_run();
    for (first, args) in (1..).zip(["/dev/stdout", "/dev/fd/1"]) {
        let file = fs::OpenOptions::new().create(true).append(true).open(place.at("all")).unwrap();
        let status =
            place.command(&["compare", "results", "-o", args]).stdout(file).status().unwrap();
        assert!(status.success());
        let all = fs::read_to_string(place.at("all")).unwrap();
        assert_eq!(all.matches("tiny").count() % first, 0, "{all}");
        assert!(all.matches("tiny").count() >= first, "{all}");
    }
}

#[test]
fn a_link_stays_and_its_target_is_replaced_with_its_permissions() {
    let place = Place::with_run();
    fs::create_dir(place.at("real")).unwrap();
    for args in WRITERS {
        let force: &[&str] = if args[0] == "data" { &["--force"] } else { &[] };
        let args = &[&args[..args.len() - 1], force, &["-o"]].concat();
        for (link, target) in [("link", "real/target"), ("chain", "link")] {
            let _ = fs::remove_file(place.at(link));
            symlink(target, place.at(link)).unwrap();
            let real = place.at("real/target");
            fs::write(&real, "old").unwrap();
            fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
            write_to(&place, args, link);
            assert!(fs::symlink_metadata(place.at(link)).unwrap().is_symlink(), "{args:?}");
            let new = fs::metadata(&real).unwrap();
            assert!(new.is_file() && new.len() > 3 && new.permissions().mode() & 0o777 == 0o640);
        }
        // A link to nothing yet.
        let _ = fs::remove_file(place.at("real/target"));
        write_to(&place, args, "link");
        assert!(place.at("real/target").is_file(), "{args:?}");
        assert_eq!(fs::read_dir(place.at("real")).unwrap().count(), 1);
    }
}

#[test]
fn a_data_set_of_several_files_does_not_go_to_a_device() {
    let place = Place::new();
    let out = place.run(&["data", "convert", "a.csv", "--to", "torchrec", "-o", "/dev/null"]);
    assert_eq!(out.status.code(), Some(64), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("no regular file"), "{}", text(&out.stderr));
}

/// Every command that prints, in a folder with a run.
const PRINTERS: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["run", "--help"],
    &["gate", "--help"],
    &["data", "--help"],
    &["run", "w.toml", "--explain"],
    &["run", "w.toml", "--quiet", "--no-ceilings", "--no-plots", "--results", "more"],
    &["run", "w.toml", "--loader-only"],
    &["run", "w.toml", "--loader-only", "--json"],
    &[
        "run",
        "w.toml",
        "--quiet",
        "--no-ceilings",
        "--no-plots",
        "--runs",
        "2",
        "--results",
        "more",
    ],
    &["check", "results"],
    &["check", "results", "--format", "json"],
    &["system"],
    &["system", "--json"],
    &["compare", "results"],
    &["compare", "results", "--format", "csv"],
    &["report", "results"],
    &["data", "inspect", "a.csv"],
    &["data", "inspect", "a.csv", "--format", "json"],
    &["data", "convert", "a.csv", "-o", "b.parquet", "--force"],
    &["data", "generate", "criteo_kaggle", "--samples", "9", "-o", "g.bin", "--force"],
    &["data", "profile", "a.csv"],
];

/// The writing end of a pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn output_that_cannot_be_shown_is_an_exit_code_of_its_own() {
    let place = Place::with_run();
    for args in PRINTERS {
        assert_eq!(place.run(args).status.code(), Some(0), "{args:?}");
        let out = place.command(args).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(74), "{args:?}: {error}");
        let last = error.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: cannot write to standard output: No space"), "{error}");
        assert!(error.matches("error:").count() == 1 && !error.contains("panic"), "{error}");

        let out = place.command(args).stdout(unread()).stderr(Stdio::piped()).output().unwrap();
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(141), "{args:?}: {error}");
        assert!(!error.contains("error:") && !error.contains("panic"), "{error}");

        // Closed altogether: `>&-`.
        let mut shell = Command::new("sh");
        shell.current_dir(place.dir.path()).args(["-c", "exec \"$0\" \"$@\" >&-"]);
        let out = shell.arg(env!("CARGO_BIN_EXE_dlrm-bench")).args(*args).output().unwrap();
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(74), "{args:?}: {error}");
        assert!(error.contains("standard output: Bad file descriptor"), "{error}");

        // Nothing to be told on, or to.
        let status = place.command(args).stdout(full()).stderr(unread()).status().unwrap();
        assert!(matches!(status.code(), Some(74 | 141)), "{args:?}: {status}");
    }
}

/// Three runs, and what `data preprocess` makes of a log.
fn with_results() -> Place {
    let place = Place::new();
    let run = ["run", "w.toml", "--quiet", "--no-ceilings", "--no-plots", "--runs", "3"];
    let out = place.run(&run);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let field = |i: usize, k: usize| (i * (k + 3) % 11).to_string();
    let line = |i: usize| {
        let numbers = (0..13).map(|k| field(i, k));
        let words = (13..39).map(|k| format!("{:08x}", i * k % 17));
        let fields: Vec<String> =
            [(i % 2).to_string()].into_iter().chain(numbers).chain(words).collect();
        fields.join("\t") + "\n"
    };
    fs::write(place.at("log.txt"), (0..70).map(line).collect::<String>()).unwrap();
    let made = place.run(&["data", "preprocess", "facebook-kaggle", "log.txt", "-o", "made"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    place
}

/// Commands that write more than they print, what they leave, and their exit code where all is
/// heard; OUT stands for a name of each trial's own.
const MAKERS: &[(&[&str], &str)] = &[
    (&["package", "results", "--org", "X", "--allow-incomplete", "-o", "OUT"], "OUT/X/systems"),
    (&["record", "results", "-o", "OUT"], "OUT"),
    (&["data", "preprocess", "facebook-kaggle", "log.txt", "-o", "OUT"], "OUT/manifest.json"),
    (&["data", "verify", "made"], "made"),
    (&["data", "verify", "made", "--json"], "made"),
    (
        &["gate", "w.toml", "--b", env!("CARGO_BIN_EXE_dlrm-bench"), "--budget", "5s", "-o", "OUT"],
        "OUT/verdict.json",
    ),
];

#[test]
fn what_is_made_is_made_before_anybody_is_told() {
    let place = with_results();
    let mut trials = 0;
    for (args, left) in MAKERS {
        type Streams = fn() -> (Stdio, Stdio);
        let streams: [(Streams, &[i32]); 4] = [
            (|| (full(), Stdio::piped()), &[74]),
            (|| (unread(), Stdio::piped()), &[141]),
            (|| (full(), full()), &[74]),
            (|| (unread(), unread()), &[74, 141]),
        ];
        for (streams, codes) in streams {
            trials += 1;
            let name = format!("out-{trials}");
            let own = |word: &str| word.replace("OUT", &name);
            let args: Vec<String> = args.iter().map(|word| own(word)).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (stdout, stderr) = streams();
            let out = place.command(&args).stdout(stdout).stderr(stderr).output().unwrap();
            let error = text(&out.stderr);
            let code = out.status.code().unwrap();
            // A verdict keeps its code; how much is measured in so short a time is the machine's.
            let verdict = args[0] == "gate" && [1, 5].contains(&code);
            assert!(verdict || codes.contains(&code), "{args:?}: {code} {error}");
            let errors: Vec<&str> = error.lines().filter(|l| l.starts_with("error:")).collect();
            match codes {
                [74] if !error.is_empty() => {
                    let said = "error: cannot write to standard output: No space left";
                    assert!(errors.len() == 1 && errors[0].starts_with(said), "{args:?}: {error}");
                }
                _ => assert!(errors.is_empty(), "{args:?}: {error}"),
            }
            assert!(!error.contains("panic"), "{args:?}: {error}");
            assert!(place.at(&own(left)).exists(), "{args:?} leaves no {left}");
        }
    }
    // Written as to a terminal.
    let whole = ["package", "results", "--org", "X", "--allow-incomplete", "-o", "whole"];
    assert_eq!(place.run(&whole).status.code(), Some(0));
    for name in ["systems", "results", "benchmarks"] {
        assert!(place.at(&format!("out-1/X/{name}")).is_dir(), "{name}");
    }
}

/// As many descriptors as a command has already, or a few more.
#[test]
fn a_lack_of_descriptors_is_told_as_one() {
    let place = with_results();
    let mut lacked = 0;
    for descriptors in 4..14 {
        for command in ["compare results", "report results", "record results -o r.json"] {
            let line = format!("ulimit -n {descriptors} && exec \"$0\" {command}");
            let mut shell = Command::new("sh");
            shell.current_dir(place.dir.path()).args(["-c", &line]);
            let out = shell.arg(env!("CARGO_BIN_EXE_dlrm-bench")).output().unwrap();
            let error = text(&out.stderr);
            match out.status.code() {
                Some(0) => {}
                // The program itself needs libraries.
                Some(127) => {}
                Some(65 | 74) => {
                    lacked += 1;
                    let errors = error.lines().filter(|l| l.starts_with("error:"));
                    let told = |l: &str| l.contains("Too many open files");
                    assert!(errors.clone().count() > 0 && errors.clone().all(told), "{error}");
                }
                code => panic!("{command} with {descriptors} descriptors: {code:?} {error}"),
            }
        }
    }
    assert!(lacked > 0, "nothing lacked");
}

#[test]
fn errors_keep_their_exit_codes_where_nobody_hears_them() {
    let place = Place::new();
    for (args, code) in [
        (&["run", "none.toml"][..], 64),
        (&["run"][..], 64),
        (&["compare", "none"][..], 65),
        (&["data", "inspect", "none.csv"][..], 65),
    ] {
        assert_eq!(place.run(args).status.code(), Some(code), "{args:?}");
        for (out, err) in [(full(), full()), (unread(), unread())] {
            let status = place.command(args).stdout(out).stderr(err).status().unwrap();
            assert_eq!(status.code(), Some(code), "{args:?}");
        }
    }
}

#[test]
fn a_run_without_anybody_who_looks_is_whole() {
    for (out, err) in [(unread(), unread()), (full(), full()), (unread(), full())] {
        let place = Place::new();
        let args = ["run", "w.toml", "--no-ceilings", "--set", "target.auc="];
        let status = place.command(&args).stdout(out).stderr(err).status().unwrap();
        assert!(matches!(status.code(), Some(74 | 141)), "{status}");
        let records = place.records();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["outcome"]["reason"], "budget");
        assert_eq!(records[0]["outcome"]["steps"], 40);
    }
}

#[test]
fn a_run_whose_json_reader_goes_away_ends_and_is_no_result_of_training() {
    let place = Place::with_run();
    let args = [
        "run",
        "w.toml",
        "--json",
        "--no-ceilings",
        "--set",
        "data.train_samples=2000000000",
        "--set",
        "target.auc=0.99",
    ];
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = place.command(&args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(141));
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(error, "");
    let outcomes: Vec<_> = place.records().into_iter().map(|r| r["outcome"].clone()).collect();
    let failed = outcomes.iter().find(|o| o["reason"] == "broken").expect("a record of it");
    assert!(failed["message"].as_str().unwrap().contains("standard output"), "{failed}");
    // The run beside it keeps its score.
    let out = place.run(&["compare", "results"]);
    assert!(!text(&out.stdout).contains("missed"), "{}", text(&out.stdout));
    // With a disk that is full the run goes on: its record counts.
    let out = place
        .command(&["run", "w.toml", "--json", "--no-ceilings", "--results", "full"])
        .stdout(full())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(74), "{}", text(&out.stderr));
}

/// The program prints by its own fallible macros.
#[test]
fn nothing_is_printed_that_can_panic() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.to_string_lossy();
            // Parts of tests alone.
            if ["tests.rs", "testing.rs", "emulated.rs"].iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let program = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            for line in program.lines().filter(|l| !l.trim_start().starts_with("//")) {
                let words = ["println!(", "eprintln!(", " print!(", "eprint!(", "dbg!("];
                assert!(!words.iter().any(|w| line.contains(w)), "{name}: {line}");
            }
        }
    }
}
