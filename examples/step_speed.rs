//! Training steps a second of one engine on one of the models of `benches/support/systems.rs`, as
//! one JSON line. Made to take turns with other programs (`scripts/peers.sh`).
//!
//! ```text
//! cargo run --release --example step_speed -- SYSTEM ENGINE PRECISION [SECONDS [BATCH]]
//! ```
//!
//! SYSTEM is `deeprec`, `mlperf`, `deepfm`, `deepfm-dense-adam` or `facebook`; ENGINE `fused` or
//! `candle`; PRECISION `fp32`, `bf16` or `fp16`; BATCH the samples of a step, unless they are the system's
//! own.

#[path = "../benches/support/systems.rs"]
mod systems;

use dlrm_bench::{backend::Precision, engine::EngineKind, engine::Phase};
use serde_json::{Map, json};
use std::{process::ExitCode, time::Instant};

/// Groups of steps that are timed; their median counts.
const GROUPS: usize = 5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match measure(&args) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::from(64)
        }
    }
}

fn measure(args: &[String]) -> Result<serde_json::Value, String> {
    let ([system, engine, precision], more) = match args {
        [s, e, p, more @ ..] if more.len() <= 2 => ([s, e, p], more),
        _ => return Err("give SYSTEM ENGINE PRECISION [SECONDS [BATCH]]".into()),
    };
    let seconds = more.first().map_or(Ok(5.0), |s| {
        s.parse::<f64>().map_err(|_| format!("{s} is no number of seconds"))
    })?;
    let batch = more.get(1).map(|b| match b.parse::<usize>() {
        Ok(batch) if batch > 0 => Ok(batch),
        _ => Err(format!("{b} is no number of samples")),
    });
    let batch = batch.transpose()?;
    let mut all = systems::systems();
    let names: Vec<_> = all.iter().map(|s| s.name).collect();
    let system = all
        .iter_mut()
        .find(|s| s.name == system)
        .ok_or(format!("no system {system}; there are {}", names.join(", ")))?;
    system.batch = batch.unwrap_or(system.batch);
    let kind = match engine.as_str() {
        "fused" => EngineKind::Fused,
        "candle" => EngineKind::Candle,
        other => return Err(format!("no engine {other}; there are fused and candle")),
    };
    let precision = Precision::ALL
        .into_iter()
        .find(|p| p.name() == precision)
        .ok_or(format!("no precision {precision}; use fp32, bf16, fp16"))?;
    if kind == EngineKind::Candle && precision != Precision::Fp32 {
        return Err("candle computes in fp32 only".into());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut engine, batches) = system.start(kind, precision, threads);
    let mut number = 0;
    let mut run = |steps: usize| -> Result<f64, String> {
        let began = Instant::now();
        for _ in 0..steps {
            engine
                .train_step(&batches[number % batches.len()], system.rate())
                .map_err(|e| e.to_string())?;
            number += 1;
        }
        Ok(began.elapsed().as_secs_f64() / steps as f64)
    };
    run(5)?;
    let steps = (seconds / GROUPS as f64 / run(3)?).ceil().max(2.0) as usize;
    let mut times = (0..GROUPS).map(|_| run(steps)).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    let rate = |seconds: f64| (system.batch as f64 / seconds).round();
    let mut phases = Map::new();
    if let Some(clock) = engine.phases() {
        for phase in Phase::ALL {
            let name = serde_json::to_value(phase).map_err(|e| e.to_string())?;
            phases.insert(
                name.as_str().unwrap_or_default().into(),
                json!(clock.seconds(phase) / number as f64),
            );
        }
    }
    Ok(json!({
        "system": system.name, "engine": args[1], "precision": precision.name(), "threads": threads, "batch": system.batch,
        "samples_per_second": rate(times[GROUPS / 2]), "lowest": rate(times[GROUPS - 1]), "highest": rate(times[0]),
        "seconds_a_step": times[GROUPS / 2], "phases": phases,
    }))
}
