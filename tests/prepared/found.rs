//! The first run makes files, others find them, of one log and one set of settings.

use super::{Bench, data, done, log::realistic, refused};
use std::{
    fs,
    io::Write,
    time::{Duration, SystemTime},
};

#[test]
fn the_first_run_prepares_and_the_next_one_finds_it() {
    let bench = Bench::new();
    bench.days(3, 200);
    let terabyte = data("facebook-terabyte", "");
    let first =
        done(&bench.run(&terabyte, &[]), &["preparing 3 raw files (", "prepared data: made in "]);
    let begins = first.lines().find(|l| l.starts_with("preparing")).unwrap();
    let folder = bench.prepared().remove(0);
    for what in [
        &*format!(" by facebook-terabyte in {}: about ", folder.display()),
        " will be written, at most ",
        "reading takes about 0:0",
    ] {
        assert!(begins.contains(what), "{begins}");
    }
    let (record, metrics) = bench.last();
    let of = record.data.unwrap().prepared.unwrap();
    assert!(of.made && of.folder == folder && of.recipe == "facebook-terabyte", "{of:?}");
    assert_eq!(
        (of.raw.len(), of.raw[2].bytes),
        (3, fs::metadata(bench.at("logs/day_2")).unwrap().len())
    );
    assert_eq!(of.parameters["max_ind_range"], 10_000_000);
    let manifest = blake3::hash(&fs::read(folder.join("manifest.json")).unwrap());
    assert_eq!(of.manifest, Some(manifest.to_hex().to_string()));
    assert!(record.init_seconds.unwrap() >= of.seconds);
    // The content is known though the files were not there before the run.
    let files = record.data_set.clone().unwrap().files.unwrap();
    assert!(files.len() == 3 && files.iter().all(|f| f.blake3.is_some()), "{files:?}");

    let again =
        done(&bench.run(&terabyte, &[]), &["prepared data: found in ", "4 files with the sizes"]);
    assert!(!again.contains("preparing"), "{again}");
    let (second, same) = bench.last();
    assert_eq!((second.data_set, &same.loss), (record.data_set, &metrics.loss));
    assert!(!second.data.unwrap().prepared.unwrap().made);
    // By another name, from another folder.
    fs::create_dir(bench.at("other")).unwrap();
    let pattern = terabyte.replace("\"logs\"", "[\"../logs/day_*\"]");
    let elsewhere = bench.command(&pattern, &[]).current_dir(bench.at("other")).output().unwrap();
    assert!(!elsewhere.status.success(), "the workload lies elsewhere");
    fs::copy(bench.at("w.toml"), bench.at("other/w.toml")).unwrap();
    let elsewhere = bench.command(&pattern, &[]).current_dir(bench.at("other")).output().unwrap();
    assert_eq!(bench.prepared().len(), 1, "{}", super::error(&elsewhere));
    done(&elsewhere, &["prepared data: found in "]);

    // Other settings, and another log, have folders of their own.
    done(&bench.run(&data("facebook-terabyte", "seed = 4"), &[]), &["made in"]);
    done(&bench.run(&data("mlperf-v1", ""), &[]), &["made in"]);
    assert_eq!(bench.prepared().len(), 3);
    bench.write("logs/day_1", realistic(201, 1));
    done(&bench.run(&terabyte, &[]), &["made in"]);
    assert_eq!(bench.prepared().len(), 4);
}

#[test]
fn packed_days_and_series_are_prepared_once() {
    let bench = Bench::new();
    for day in 0..2 {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(realistic(300, day).as_bytes()).unwrap();
        bench.write(&format!("logs/day_{day}.gz"), packer.finish().unwrap());
    }
    let told = done(&bench.run(&data("mlperf-v1", "cache = \"cache\""), &["--runs", "2"]), &[]);
    assert_eq!(told.matches("prepared data: made in").count(), 1, "{told}");
    assert_eq!(told.matches("prepared data: found in").count(), 1, "{told}");
    assert_eq!((bench.runs().len(), super::list(&bench.at("cache")).len()), (2, 1));
    let only = bench.run(&data("mlperf-v1", "cache = \"cache\""), &["--loader-only"]);
    done(&only, &["prepared data: found in"]);
    assert!(String::from_utf8_lossy(&only.stdout).contains("batches"), "{only:?}");
    // What `data preprocess` makes is taken, too, once its checksums are compared.
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(bench.dir.path())
        .args(["data", "preprocess", "mlperf-v1", "logs", "-o", "own", "--quiet"])
        .status();
    assert!(made.unwrap().success());
    let own = data("mlperf-v1", "cache = \"own\"");
    done(&bench.run(&own, &[]), &["own, 4 of 4 files compared with their checksums"]);
    done(&bench.run(&own, &[]), &["own, 4 files with the sizes and times"]);
    refused(
        &bench.run(&data("mlperf-v1", "cache = \"own\"\nseed = 9"), &[]),
        65,
        &["own: holds data made with seed = 123"],
    );
}

#[test]
fn two_processes_prepare_once() {
    let bench = Bench::new();
    bench.days(3, 2000);
    let mut runs: Vec<_> = (0..2)
        .map(|i| {
            let mut run = bench.command(&data("facebook-terabyte", ""), &["--results"]);
            run.arg(format!("results-{i}"));
            run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            run.spawn().unwrap()
        })
        .collect();
    let told: Vec<String> =
        runs.drain(..).map(|run| done(&run.wait_with_output().unwrap(), &[])).collect();
    let all = told.concat();
    assert_eq!(all.matches("prepared data: made in").count(), 1, "{all}");
    assert_eq!(all.matches("prepared data: found in").count(), 1, "{all}");
    assert_eq!(bench.prepared().len(), 1, "a lock is left");
}

#[test]
fn what_changed_is_named() {
    let bench = Bench::new();
    bench.days(2, 300);
    let terabyte = data("facebook-terabyte", "");
    done(&bench.run(&terabyte, &[]), &[]);
    let folder = bench.prepared().remove(0);
    let train = folder.join("terabyte_processed_train.bin");
    // Only the time: the bytes are read again, and are right.
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::File::options().append(true).open(&train).unwrap().set_modified(later).unwrap();
    done(&bench.run(&terabyte, &[]), &["1 of 4 files compared with their checksums"]);
    let mut bytes = fs::read(&train).unwrap();
    bytes[12] ^= 1;
    fs::write(&train, &bytes).unwrap();
    refused(
        &bench.run(&terabyte, &[]),
        65,
        &["terabyte_processed_train.bin has the right size but other content", "delete the folder"],
    );
    fs::write(&train, &bytes[..320]).unwrap();
    refused(&bench.run(&terabyte, &[]), 65, &["terabyte_processed_train.bin has 320 bytes, "]);
    fs::remove_file(&train).unwrap();
    refused(&bench.run(&terabyte, &[]), 65, &["terabyte_processed_train.bin is missing"]);
    fs::remove_dir_all(&folder).unwrap();
    done(&bench.run(&terabyte, &[]), &["made in"]);
    // A log with the same ends that was written to again.
    let day = bench.at("logs/day_0");
    fs::File::options().append(true).open(&day).unwrap().set_modified(later).unwrap();
    refused(
        &bench.run(&terabyte, &[]),
        65,
        &["holds data made from ", "day_0 as it was at another time"],
    );
}

#[test]
fn explain_tells_where_they_are_or_would_be() {
    let bench = Bench::new();
    bench.days(2, 300);
    let terabyte = data("facebook-terabyte", "");
    let explain = |set: &[&str]| {
        let out = bench.run(&terabyte, &[&["--explain"], set].concat());
        assert!(out.status.success(), "{}", super::error(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    let before = explain(&[]);
    for what in [
        "max_ind_range = 10000000",
        "memory = \"64MiB\"",
        "#   log: logs/day_1 (",
        "#   prepared by facebook-terabyte in ",
        "#   which is not there yet: about ",
        "#   memory while it is prepared: at most 67.1 MB",
        "columns and tables are known once",
    ] {
        assert!(before.contains(what), "{before}\nlacks {what}");
    }
    assert!(bench.prepared().is_empty() && bench.runs().is_empty());
    done(&bench.run(&terabyte, &[]), &[]);
    let after = explain(&[]);
    assert!(after.contains("#   which is there: "), "{after}");
    assert!(after.contains("(train 300, test 150, val 150 samples)"), "{after}");
    assert!(after.contains("#   13 dense columns, 26 tables of "), "{after}");
    // A log that is not there does not keep the rest from being explained.
    fs::rename(bench.at("logs"), bench.at("away")).unwrap();
    let none = explain(&[]);
    assert!(none.contains("#   cannot be prepared: logs: No such file"), "{none}");
}
