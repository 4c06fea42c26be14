//! `run --loader-only`: how fast batches can be had, without training on them.

use super::{Exit, Failure, preparing::Preparing, progress::thousands};
use crate::{data::loader::Loader, workload::Workload};
use serde::Serialize;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Reading ends after this, if the epochs are not over before.
const ENOUGH: Duration = Duration::from_secs(10);

/// What `--json` prints.
#[derive(Serialize)]
struct Speed {
    event: &'static str,
    /// Until the first batch was there: files opened, and read where they are held in memory.
    open_seconds: f64,
    /// From the first batch to the last.
    seconds: f64,
    batches: u64,
    samples: u64,
    /// Of all batches but the first.
    samples_per_second: Option<f64>,
    /// Dense features, ids and labels handed out a second.
    bytes_per_second: Option<f64>,
}

/// Takes batches from the loader as fast as it makes them.
pub(super) fn loader_only(
    workload: &Workload,
    quiet: bool,
    json: bool,
    stop: &AtomicBool,
) -> Result<Exit, Failure> {
    let show = Preparing::new(quiet || json);
    let begun = Instant::now();
    let Some(data) = workload.open_data_until(stop, &mut |news| show.hear(news))? else {
        return Ok(Exit::Interrupted);
    };
    let mut loader = Loader::start(data.train, workload.loader_plan())?;
    let (mut first, mut batches, mut samples, mut timed, mut bytes) = (None, 0, 0, 0, 0);
    while let Some(loaded) = loader.next_batch()? {
        let batch = &loaded.batch;
        batches += 1;
        samples += batch.len as u64;
        let first = match first {
            None => *first.insert(Instant::now()),
            Some(first) => {
                let ids: usize = batch.bags.iter().map(|b| b.indices.len()).sum();
                timed += batch.len as u64;
                bytes += 4 * (batch.dense.len() + batch.labels.len() + ids) as u64;
                first
            }
        };
        loader.recycle(loaded);
        if first.elapsed() > ENOUGH || stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let Some(first) = first else {
        return Err(Failure::Input(
            "the training split holds no batch; there is nothing to measure".into(),
        ));
    };
    let seconds = first.elapsed().as_secs_f64();
    let rate = |n: u64| (n > 0).then(|| n as f64 / seconds);
    let speed = Speed {
        event: "loader",
        open_seconds: (first - begun).as_secs_f64(),
        seconds,
        batches,
        samples,
        samples_per_second: rate(timed),
        bytes_per_second: rate(bytes),
    };
    if json {
        outln!("{}", serde_json::to_string(&speed).map_err(|e| Failure::Internal(e.to_string()))?);
    } else {
        out!("{}", text(&speed));
    }
    Ok(if stop.load(Ordering::Relaxed) { Exit::Interrupted } else { Exit::Done })
}

fn text(s: &Speed) -> String {
    let mut text = format!("first batch after    {:.3} s\n", s.open_seconds);
    text += &format!(
        "batches              {} ({} samples) in {:.3} s\n",
        thousands(s.batches),
        thousands(s.samples),
        s.seconds
    );
    match (s.samples_per_second, s.bytes_per_second) {
        (Some(samples), Some(bytes)) => {
            text += &format!(
                "loader               {} samples/s, {:.2} GB/s\n",
                thousands(samples as u64),
                bytes / 1e9
            );
        }
        _ => text += "loader               one batch is too little to tell its speed\n",
    }
    text
}
