//! `run --explain`: what would be run, on what data, before anything is read.

use super::{
    Failure,
    progress::{clock, thousands},
    ready::told,
    run_output,
};
use crate::{
    checkpoint::KEEP,
    data::{
        locality::IdsProfile,
        preprocess::prepare::free,
        source::{
            paths::expanded,
            prepared::{Outlook, outlook},
        },
    },
    embedding::cached::ReadBy,
    engine::{EngineConfig, memory::MemoryPlan},
    host::escape::visible,
    results::Floor,
    system::{Ceilings, Machine},
    train::{
        ExpectedHits, Over, Popularity, expected_hits, made_on_device,
        memory::{available, device_plan, fits, memory_plan, shown},
    },
    workload::{DataConfig, PreparedConfig, Resolved, Workload},
};
use std::path::Path;

/// The resolved workload with origins, and its data, as comments below.
pub(super) fn explain(resolved: &Resolved, ids: Option<&IdsProfile>) -> Result<String, Failure> {
    let mut out = resolved.explain();
    let w = &resolved.workload;
    out += &format!("\n# sha256 of this workload: {}\n#\n# Data\n", w.sha256());
    if let Some(told) = told(resolved) {
        out += &format!("#   {}\n", visible(&told));
    }
    // What a pattern should match and does not is told as a path that cannot be read.
    match &expanded(&w.data).unwrap_or_else(|_| w.data.clone()) {
        DataConfig::Planted(_) if made_on_device(w) => {
            out += &format!("#   made while training, on {}; no file is read\n", w.engine.device);
        }
        DataConfig::Planted(_) | DataConfig::NumpyRandom(_) => {
            out += "#   made while training; no file is read\n"
        }
        DataConfig::CriteoTsv(c) => {
            for path in &c.paths {
                out += &file("day", path);
            }
        }
        DataConfig::Csv(c) => {
            for (what, paths) in [("train", &c.train), ("eval", &c.eval), ("test", &c.test)] {
                out.extend(paths.0.iter().map(|path| file(what, path)));
            }
        }
        DataConfig::Bin40(c) => {
            out.extend(c.train.iter().map(|path| file("train", path)));
            out += &file("eval", &c.eval);
            out.extend(c.test.iter().map(|path| file("test", path)));
        }
        DataConfig::Prepared(c) => out += &prepared(c, w.engine.threads),
        DataConfig::Parquet(c) => {
            for (what, paths) in [("train", &c.train), ("eval", &c.eval), ("test", &c.test)] {
                out.extend(paths.iter().map(|path| file(what, path)));
            }
        }
        DataConfig::Files(c) => {
            for (what, paths) in [("train", &c.train), ("eval", &c.eval), ("test", &c.test)] {
                out.extend(paths.iter().map(|path| file(what, path)));
            }
        }
    }
    let schema = w.data_schema()?;
    match &schema {
        None => out += "#   columns and tables are known once the files have been read\n",
        Some(schema) => {
            let rows: usize = schema.tables.iter().map(|t| t.rows).sum();
            let (n, ids) = (schema.tables.len(), schema.max_ids_per_sample());
            out += &format!(
                "#   {} dense columns, {n} tables of {rows} rows in all, up to {ids} ids a sample\n",
                schema.dense
            );
        }
    }
    let config = schema.as_ref().map(|schema| w.engine_config(schema)).transpose()?;
    out += &memory(&memory_plan(w, config.as_ref()), config.is_some());
    if let Some(config) = &config {
        out += &device_memory(w, config);
        out += &cache(w, config, ids);
    }
    if let (Some(schema), Some(config)) = (&schema, &config) {
        match run_output::ceilings(w) {
            Ok(Some(ceilings)) => {
                let ceilings = run_output::measured_again(ceilings, w);
                out += &floor(
                    &run_output::floor(w, schema, config, ids, &ceilings, &Machine::inspect()),
                    &ceilings,
                )
            }
            // The plan of its memory has said what a GPU lacks.
            Ok(None) | Err(Failure::Device(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// Prepared data: the log, where they are or will be, what is there, what it takes.
fn prepared(config: &PreparedConfig, threads: usize) -> String {
    let Outlook { raw, folder, there, plan } = match outlook(config, threads) {
        Ok(outlook) => outlook,
        // A run would end with it.
        Err(e) => return format!("#   cannot be prepared: {e}\n"),
    };
    let mut out: String = raw.iter().map(|input| file("log", &input.path)).collect();
    out += &format!("#   prepared by {} in {}\n", config.recipe.name(), folder.display());
    if let Some(manifest) = there {
        let samples = manifest.splits.iter().map(|s| format!("{} {}", s.name, s.samples));
        out += &format!(
            "#   which is there: {} in {} files ({} samples)\n",
            shown(manifest.bytes()),
            manifest.files.len(),
            samples.collect::<Vec<_>>().join(", ")
        );
    }
    if let Some(plan) = plan {
        let what = if plan.resumed { "was begun by an earlier run" } else { "is not there yet" };
        let free =
            free(&folder).map_or(String::new(), |n| format!(", {} are free there", shown(n)));
        out += &format!(
            "#   which {what}: about {} will be written, at most {} at once{free}\n",
            shown(plan.bytes),
            shown(plan.peak_bytes)
        );
        if let Some(seconds) = plan.seconds {
            out += &format!("#   reading takes about {}, writing comes after it\n", clock(seconds));
        }
        out += &format!("#   memory while it is prepared: at most {}\n", shown(config.memory.0));
    }
    out
}

/// The floor of a step as a table.
fn floor(floor: &Floor, ceilings: &Ceilings) -> String {
    let on = ceilings.gpu.clone().unwrap_or_else(|| format!("{} threads", ceilings.threads));
    let mut out = format!(
        "#\n# Floor of a training step of {} samples, as measured now on {on}\n",
        floor.batch
    );
    let ms = |seconds: f64| format!("{:.3} ms", 1e3 * seconds);
    for p in &floor.phases {
        out += &format!("#   {:>12}  {}\n", ms(p.seconds), p.phase);
    }
    out += match floor.popularity {
        Popularity::Law => {
            "#   the most popular rows in the cache, by the law that ids are drawn by\n"
        }
        Popularity::Counted => "#   the most popular rows in the cache, as counted\n",
        Popularity::Unknown => {
            "#   rows taken to be equally popular where nothing tells (--ids-profile does)\n"
        }
    };
    let rate = thousands(floor.samples_per_second.round() as u64);
    out + &format!("#   {:>12}  all: {rate} samples/s at best\n", ms(floor.seconds))
}

/// The plan of a GPU's memory as a table, if one is to compute; what it lacks does not keep the
/// rest from being explained.
fn device_memory(workload: &Workload, config: &EngineConfig) -> String {
    let Some(plan) = device_plan(workload, config) else { return String::new() };
    let device = workload.engine.device;
    let mut out = format!("#\n# Memory of {device}\n");
    for (what, bytes) in plan.items.iter().chain(&[("all", plan.total())]) {
        out += &format!("#   {:>12}  {what}\n", shown(*bytes));
    }
    let free = device.open().and_then(|driver| driver.map(|d| d.available()).transpose());
    match free {
        Ok(free) => {
            let free = free.unwrap_or_default();
            out += &format!("#   {:>12}  free now\n", shown(free));
            out += &fits(workload, config, free)
                .err()
                .map(|e| format!("#   {e}\n"))
                .unwrap_or_default();
        }
        Err(e) => out += &format!("#   {e}\n"),
    }
    out
}

/// Which rows are in memory and which in a file, and how often they are expected to be asked for.
fn cache(workload: &Workload, config: &EngineConfig, ids: Option<&IdsProfile>) -> String {
    let Some(spec) = &config.cached else { return String::new() };
    let all = expected_hits(workload, config, Over::Plan, ids);
    let mut out = "#\n# Cache of rows\n".to_owned();
    let hits = |e: &[ExpectedHits]| {
        let rate = ExpectedHits::rate(e);
        rate.map_or(String::new(), |r| format!(", {:.2}% of ids expected to hit", 100.0 * r))
    };
    for e in &all {
        let (rows, slots) = (thousands(e.rows as u64), thousands(e.slots as u64));
        let hits = hits(std::slice::from_ref(e));
        out += &format!("#   {}: {slots} of {rows} rows{hits}\n", visible(&e.column));
    }
    if all.is_empty() {
        let key = if spec.host.is_some() { "embedding.device_cache" } else { "embedding.cache" };
        return out + &format!("#   all rows fit into {key}; there is no file\n");
    }
    if all.len() < spec.columns.len() {
        out += "#   all others are in memory whole\n";
    }
    if let Some(host) = spec.host {
        out += &format!("#   the host's memory has up to {} of the others\n", shown(host));
    }
    if spec.disk == 0 {
        out += "#   all others fit into it; there is no file\n";
    } else {
        let (folder, disk) = (&spec.folder, shown(spec.disk));
        let free = free(folder).map_or(String::new(), |n| format!("; {} are free there", shown(n)));
        out += &format!("#   a file in {} takes at most {disk}{free}\n", folder.display());
        if workload.checkpoint.linked == Some(true) {
            let keep = workload.checkpoint.keep.unwrap_or(KEEP);
            let best = u64::from(workload.checkpoint.best == Some(true));
            out += &format!(
                "#   checkpoints share its segments; what it lets go of stays while one has it: of up to {} of them, and the one being written\n",
                keep + best
            );
        }
        out += &format!("#   it is read by {}\n", ReadBy::here(spec.reads));
    }
    match ExpectedHits::rate(&all) {
        Some(_) => out + &format!("#   all{}\n", hits(&all)),
        None => out,
    }
}

/// The plan as a table. `whole` says whether the model is in it.
fn memory(plan: &MemoryPlan, whole: bool) -> String {
    let mut out = "#\n# Memory\n".to_owned();
    let total = [("all", plan.total()), ("free now", available())];
    // Of files whose sizes are unknown yet there is nothing to sum up.
    let total = if plan.items.is_empty() { &total[1..] } else { &total[..] };
    for (what, bytes) in plan.items.iter().chain(total) {
        out += &format!("#   {:>12}  {what}\n", shown(*bytes));
    }
    if !whole {
        out += "#   and the model, whose size is known once the files have been read\n";
    }
    out
}

fn file(what: &str, path: &Path) -> String {
    let size = match std::fs::metadata(path) {
        Ok(m) => shown(m.len()),
        Err(e) => format!("cannot be read: {e}"),
    };
    format!("#   {what}: {} ({size})\n", path.display())
}
