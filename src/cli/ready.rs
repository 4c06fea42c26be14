//! A workload before it is run: what is trained on in place of data that are not there, and how large
//! tables may be.

use super::{Failure, progress::thousands};
use crate::{
    engine,
    host::escape::visible,
    train::{choose_store, fit_memory, memory::shown},
    workload::{ChosenStore, DataConfig, Fitted, Missing, Origin, Resolved, parse},
};
use std::path::Path;

/// A workload with values replaced, as it is run on this machine: its file is read this once. Says on
/// standard error what `auto` came to, unless it is to be `quiet`.
pub(super) fn load(
    file: &Path,
    set: Vec<String>,
    missing: Missing,
    quiet: bool,
) -> Result<Resolved, Failure> {
    let text = parse::text(file)?;
    parse::refuse_sweep(file, &text)?;
    let (resolved, told) = resolve(file, text, set, missing, quiet)?;
    say(&told);
    Ok(resolved)
}

/// The same of the text that was read at `file`, whose `[sweep]` has no effect. What is to be said
/// comes back.
pub(super) fn resolve(
    file: &Path,
    text: String,
    mut set: Vec<String>,
    missing: Missing,
    quiet: bool,
) -> Result<(Resolved, Vec<String>), Failure> {
    let mut resolved = parse::resolve_point(file, text, &set, missing)?;
    // What computes belongs to a result: `auto` is resolved before anything is written down.
    let engine = &resolved.workload.engine;
    let (device, why) = engine::choose_device(engine.kind, engine.device);
    if why.is_some() {
        set.push(format!("engine.device=\"{device}\""));
        resolved = parse::resolve_point(file, resolved.source, &set, missing)?;
    }
    let told = fit(&mut resolved)?;
    Ok((resolved, why.map(|w| w.to_string()).filter(|_| !quiet).into_iter().chain(told).collect()))
}

/// Says lines on standard error.
pub(super) fn say(told: &[String]) {
    told.iter().for_each(|line| errln!("{}", visible(line)));
}

/// Follows `data.fit_memory`, and says in one line on standard error what came of it and of
/// `[data.otherwise]`.
pub(super) fn ready(resolved: &mut Resolved) -> Result<(), Failure> {
    say(fit(resolved)?.as_slice());
    Ok(())
}

/// Follows `embedding.store = "auto"` and `data.fit_memory`; gives what is to be said of that and of
/// `[data.otherwise]`.
fn fit(resolved: &mut Resolved) -> Result<Option<String>, Failure> {
    resolved.chosen_store = choose_store(&mut resolved.workload)?;
    match resolved.chosen_store {
        None => {}
        Some(ChosenStore { cache: None, .. }) => {
            for key in ["embedding.store", "embedding.disk", "embedding.path"] {
                resolved.origin.remove(key);
            }
        }
        Some(_) => {
            for key in ["embedding.store", "embedding.cache"] {
                resolved.origin.insert(key.to_owned(), Origin::AutoStore);
            }
        }
    }
    resolved.fitted = fit_memory(&mut resolved.workload)?;
    if resolved.fitted.is_some_and(|f| f.max_rows.is_some()) {
        resolved.origin.insert("data.max_rows".to_owned(), Origin::FitMemory);
    }
    resolved.origin.remove("data.fit_memory");
    Ok(told(resolved))
}

/// What is trained on in place of what, and how it was made to fit; `None` where there is nothing to
/// tell of.
pub(super) fn told(resolved: &Resolved) -> Option<String> {
    let instead = resolved.instead.as_ref().map(|instead| {
        let data = match &resolved.workload.data {
            DataConfig::Planted(data) => format!("planted data (preset {})", data.preset),
            _ => format!("the data of {}", resolved.workload.workload.name),
        };
        format!("{}: training on {data} instead of the data of {}", instead.why(), instead.of)
    });
    let told = match (instead, resolved.fitted.as_ref().map(fitted)) {
        (Some(instead), Some(fitted)) => Some(format!("{instead}, {fitted}")),
        (instead, fitted) => instead.or_else(|| fitted.map(|f| format!("data.fit_memory: {f}"))),
    };
    match (told, resolved.chosen_store.as_ref().map(chosen)) {
        (Some(told), Some(chosen)) => Some(format!("{told}; {chosen}")),
        (told, chosen) => told.or_else(|| chosen.map(|c| format!("embedding.store: {c}"))),
    }
}

/// `all rows in memory: 7.60 of 20.10 GB that are free`
fn chosen(chosen: &ChosenStore) -> String {
    let ChosenStore { cache, takes, free, kept_by } = *chosen;
    let Some(takes) = takes else {
        return "all rows in memory, since their number is known once files have been read".into();
    };
    let takes = format!("{} of {} that are free", shown(takes), shown(free));
    match (cache, kept_by) {
        (Some(cache), _) => format!(
            "rows in a file and {cache} of them in memory (embedding.store = \"cached\"), since all would take {takes}"
        ),
        (None, Some(key)) => {
            format!("all rows in memory, since {key} leaves no other way: {takes}")
        }
        (None, None) => format!("all rows in memory: {takes}"),
    }
}

/// `tables of at most 5,000,000 rows: 7.60 of 20.10 GB of free memory`
fn fitted(fitted: &Fitted) -> String {
    let tables = match fitted.max_rows {
        Some(rows) => format!("tables of at most {} rows", thousands(rows as u64)),
        None => "tables in full".to_owned(),
    };
    format!("{tables}: {} of {} that are free", shown(fitted.takes), shown(fitted.free))
}
