//! What cannot be done is said in one line.

use super::{Bench, data, done, log::realistic, refused};
use std::fs;

#[test]
fn wrong_keys_are_named() {
    let bench = Bench::new();
    bench.days(2, 50);
    for (data, what) in [
        (data("facebok-terabyte", ""), "data.recipe: is \"facebok-terabyte\"; must be "),
        (data("facebok-terabyte", ""), "(did you mean \"facebook-terabyte\"?)"),
        (
            data("facebook-terabyte", "min_count = 3"),
            "data.min_count: has no effect here, it belongs to data.recipe = \"fuxictr-criteo-x4\" or \"nvidia\"",
        ),
        (
            data("facebook-terabyte", "max_ind_range = 4000000000"),
            "data.max_ind_range: the range of ids is from 1 to 2147483647",
        ),
        (
            data("facebook-terabyte", "sub_sample_rate = 1.5"),
            "data.sub_sample_rate: is 1.5; must be from 0 to below 1",
        ),
        (
            data("facebook-terabyte", "randomize = \"all\""),
            "data.randomize: is \"all\"; must be \"none\", \"day\" or \"total\"",
        ),
        (
            data("facebook-terabyte", "shuffle = \"day\""),
            "data.shuffle: is \"day\", but the training days lie in one file",
        ),
        (
            data("oneflow-dlrm", "max_ind_range = 0\nnull_id = \"next\""),
            "data.null_id: oneflow-dlrm: without data.max_ind_range ids are hashed, and data.null_id next",
        ),
        (
            data("oneflow-deepfm", ""),
            "data.id_range: missing; must be given, since the ids that oneflow-deepfm writes",
        ),
        (
            data("mlperf-v2", "hotness = [1, 2]"),
            "data.hotness: has 2 numbers; must be 26, one for each table",
        ),
        (
            data("nvidia", "").replace("64MiB", "1MiB"),
            "data.memory: is 1MiB; must be at least 64MiB",
        ),
        (
            data("nvidia", "").replace("64MiB", "much"),
            "data.memory: is \"much\"; must be a size, as 2GiB",
        ),
        ("source = \"prepared\"\nraw = \"logs\"".into(), "data.recipe: missing; must be "),
        ("source = \"prepared\"\nrecipe = \"nvidia\"\nraw = []".into(), "data.raw: names no log"),
        (
            data("facebook-terabyte", "").replace("logs", "${DLRM_BENCH_NO_SUCH_VARIABLE}"),
            "data.raw: needs the environment variable DLRM_BENCH_NO_SUCH_VARIABLE, which is not set",
        ),
    ] {
        refused(&bench.run(&data, &[]), 64, &[what]);
    }
    assert!(bench.prepared().is_empty() && bench.runs().is_empty());
}

#[test]
fn broken_logs_are_named_and_leave_nothing() {
    let bench = Bench::new();
    bench.days(2, 50);
    bench.write("logs/day_3", realistic(50, 3));
    refused(&bench.run(&data("facebook-terabyte", ""), &[]), 65, &["day 2 is missing between"]);
    bench.write("logs/day_2", "1\tx\n");
    refused(
        &bench.run(&data("facebook-terabyte", ""), &[]),
        65,
        &["day_2:1: 2 columns; 40 are right"],
    );
    fs::remove_file(bench.at("logs/day_2")).unwrap();
    let one = data("facebook-terabyte", "").replace("logs", "logs/day_0");
    refused(&bench.run(&one, &[]), 64, &["the log has 2 days or more"]);
    refused(&bench.run(&one.replace("day_0", "none"), &[]), 65, &["logs/none: "]);
    assert!(bench.prepared().is_empty() && bench.runs().is_empty(), "{:?}", bench.prepared());
}

#[test]
fn a_cache_that_cannot_be_written_and_a_small_disk_are_refused() {
    let bench = Bench::new();
    bench.days(2, 50);
    bench.write("file", "");
    let below = data("facebook-terabyte", "cache = \"file/cache\"");
    refused(&bench.run(&below, &[]), 74, &["file/cache/facebook-terabyte-", "file is a file"]);
    let terabyte = data("facebook-terabyte", "");
    let small = bench.command(&terabyte, &[]).env("DLRM_BENCH_DISK_LIMIT", "1000").output();
    refused(&small.unwrap(), 74, &["will be written, but 0.001 MB are free on this disk"]);
    assert!(bench.prepared().is_empty(), "{:?}", bench.prepared());
    done(&bench.run(&terabyte, &[]), &["made in"]);
}
