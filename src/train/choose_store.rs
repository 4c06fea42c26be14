//! `embedding.store = "auto"`: all rows in memory where it suffices, else some of them.

use super::{
    TrainError,
    fit::SHARE,
    memory::{available, device_plan, memory_plan},
};
use crate::{
    comm::launched,
    embedding::{AutoStore, StoreConfig, cached::CachedStore},
    host::Size,
    workload::{ChosenStore, Workload, keeps_from_caching},
};

/// Replaces `embedding.store = "auto"` by what it comes to here and now; `None` where it is not
/// asked for. Where rows have to stay in memory that do not fit, it is for `memory::check_memory` to
/// say what is missing. To be called before [`fit_memory`](super::fit_memory), which then has less
/// to make smaller.
///
/// # Errors
/// If the data do not fit the model.
pub fn choose_store(workload: &mut Workload) -> Result<Option<ChosenStore>, TrainError> {
    let StoreConfig::Auto(auto) = workload.embedding.clone() else { return Ok(None) };
    workload.embedding = StoreConfig::Resident;
    let free = available();
    let resident = ChosenStore { cache: None, takes: None, free, kept_by: None };
    let Some(takes) = takes_of(workload)? else { return Ok(Some(resident)) };
    let resident = ChosenStore { takes: Some(takes), ..resident };
    // What a GPU lacks is said by who computes on it; how much of its memory rows may take is for a
    // workload to say.
    if within(takes, free) && device_fits(workload)? {
        return Ok(Some(resident));
    }
    let several = launched().is_some_and(|(_, ranks)| ranks > 1);
    let kept_by = keeps_from_caching(workload).or(several.then_some("several ranks"));
    if kept_by.is_some() {
        return Ok(Some(ChosenStore { kept_by, ..resident }));
    }
    for cache in sizes(free) {
        workload.embedding = cached(&auto, cache);
        // A cache that is too small for two batches is an error, and so are all smaller ones.
        match takes_of(workload) {
            Ok(Some(takes)) if within(takes, free) => {
                return Ok(Some(ChosenStore { cache: Some(cache), ..resident }));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    workload.embedding = StoreConfig::Resident;
    Ok(Some(ChosenStore { kept_by: Some("train.batch_size"), ..resident }))
}

fn within(bytes: u64, free: u64) -> bool {
    bytes as f64 <= SHARE * free as f64
}

fn cached(auto: &AutoStore, cache: Size) -> StoreConfig {
    let AutoStore { disk, path } = auto.clone();
    StoreConfig::Cached(CachedStore { cache, disk, path, ..CachedStore::default() })
}

/// Bytes of the host's memory that the run takes; `None` while its tables' sizes are not known.
fn takes_of(workload: &Workload) -> Result<Option<u64>, TrainError> {
    let Some(schema) = workload.data_schema()? else { return Ok(None) };
    let config = workload.engine_config(&schema)?;
    Ok(Some(memory_plan(workload, Some(&config)).total()))
}

/// Whether what computes has memory for it, if that is a GPU.
fn device_fits(workload: &Workload) -> Result<bool, TrainError> {
    let Some(schema) = workload.data_schema()? else { return Ok(true) };
    let config = workload.engine_config(&schema)?;
    let device = workload.engine.device.open().ok().flatten();
    let free = device.and_then(|device| device.available().ok());
    let takes = device_plan(workload, &config).map_or(0, |plan| plan.total());
    Ok(free.is_none_or(|free| within(takes, free)))
}

/// Sizes of caches below `free`, 1 and 1.5 times powers of two downwards: few enough that machines of
/// one kind come to one.
fn sizes(free: u64) -> impl Iterator<Item = Size> {
    let powers = (20..50).rev().map(|power| 1u64 << power);
    powers.flat_map(|power| [power / 2 * 3, power]).filter(move |&size| size < free).map(Size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{train::memory::LIMIT, workload};
    use std::path::Path;

    fn read(set: &[&str]) -> Workload {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        workload::load(Path::new("quickstart"), &set).unwrap().workload
    }

    #[test]
    fn sizes_go_down_by_1_and_a_half() {
        let all: Vec<u64> = sizes(5 << 20).map(|s| s.0 >> 19).collect();
        assert_eq!(all, [8, 6, 4, 3, 2]);
    }

    /// The largest size is taken with which the plan fits; nothing is left that a machine decides.
    #[test]
    fn rows_are_cached_where_they_do_not_fit() {
        if std::env::var_os(LIMIT).is_some() {
            return;
        }
        assert_eq!(choose_store(&mut read(&[])).unwrap(), None);
        let mut small = read(&["embedding.store=auto"]);
        let chosen = choose_store(&mut small).unwrap().unwrap();
        assert_eq!((chosen.cache, small.embedding), (None, StoreConfig::Resident));
        // 33.8 million rows of 2 KiB: 69 GB.
        let large = ["embedding.store=auto", "data.max_rows=30000000", "model.dim=512"];
        let large = [&large[..], &["model.bottom=[512]"]].concat();
        let mut w = read(&large);
        let chosen = choose_store(&mut w).unwrap().unwrap();
        if within(chosen.takes.unwrap(), chosen.free) {
            // A machine with more than 90 GB.
            return;
        }
        let StoreConfig::Cached(store) = &w.embedding else { panic!("{chosen:?}") };
        assert_eq!(Some(store.cache), chosen.cache);
        assert!(within(takes_of(&w).unwrap().unwrap(), chosen.free));
        let next = sizes(u64::MAX).take_while(|&s| s > store.cache).last().unwrap();
        w.embedding = cached(&AutoStore::default(), next);
        assert!(!within(takes_of(&w).unwrap().unwrap(), chosen.free));
        // Who moves all rows keeps them in memory.
        let all = [&large[..], &["optimizer.kind=adam", "optimizer.rows=dense"]].concat();
        let chosen = choose_store(&mut read(&all)).unwrap().unwrap();
        assert_eq!((chosen.cache, chosen.kept_by), (None, Some("optimizer.rows")));
    }
}
