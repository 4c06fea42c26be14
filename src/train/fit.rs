//! `data.fit_memory`: planted tables as large as the machine has memory for.

use super::{
    TrainError,
    memory::{available, device_plan, memory_plan},
};
use crate::workload::{DataConfig, Fitted, PlantedConfig, Workload};

/// Share of the free memory that the plan may take: the plan leaves out the small change, and others
/// want some too.
pub(super) const SHARE: f64 = 0.75;
/// Where tables of so few rows do not fit, it is not for the tables.
const FEWEST_ROWS: usize = 1_000;

/// Replaces `data.fit_memory` by the `data.max_rows` that it comes to here and now; `None` where it
/// is not asked for. Where nothing fits the cap is the smallest, for `memory::check_memory`
/// to say what is missing.
///
/// # Errors
/// If the data do not fit the model.
pub fn fit_memory(workload: &mut Workload) -> Result<Option<Fitted>, TrainError> {
    let DataConfig::Planted(planted @ PlantedConfig { fit_memory: true, .. }) = &mut workload.data
    else {
        return Ok(None);
    };
    planted.fit_memory = false;
    let asked = planted.max_rows;
    let free = available();
    // What a GPU lacks is said by who computes on it.
    let gpu = workload.engine.device.open().ok().flatten();
    let on_gpu = gpu.and_then(|gpu| gpu.available().ok());
    let within = |bytes: u64, free: u64| bytes as f64 <= SHARE * free as f64;
    let mut takes = 0;
    let mut fits = |max_rows: Option<usize>| -> Result<bool, TrainError> {
        set_cap(workload, max_rows);
        let Some(schema) = workload.data_schema()? else { return Ok(true) };
        let config = workload.engine_config(&schema)?;
        takes = memory_plan(workload, Some(&config)).total();
        let device = device_plan(workload, &config).map_or(0, |plan| plan.total());
        Ok(within(takes, free) && on_gpu.is_none_or(|free| within(device, free)))
    };
    let mut max_rows = asked;
    if !fits(asked)? {
        for cap in caps(asked.unwrap_or(usize::MAX)) {
            max_rows = Some(cap);
            if fits(max_rows)? {
                break;
            }
        }
    }
    Ok(Some(Fitted { max_rows, takes, free }))
}

fn set_cap(workload: &mut Workload, max_rows: Option<usize>) {
    if let DataConfig::Planted(planted) = &mut workload.data {
        planted.max_rows = max_rows;
    }
}

/// 1, 2 and 5 times powers of ten, below `below` and downwards.
fn caps(below: usize) -> impl Iterator<Item = usize> {
    let powers = (3..=9).rev().map(|power| 10usize.pow(power));
    powers
        .flat_map(|power| [5 * power, 2 * power, power])
        .filter(move |&cap| cap < below && cap >= FEWEST_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{train::memory::LIMIT, workload};
    use std::path::Path;

    #[test]
    fn caps_go_down_by_1_2_and_5() {
        let all: Vec<usize> = caps(60_000).collect();
        assert_eq!(all, [50_000, 20_000, 10_000, 5_000, 2_000, 1_000]);
        assert_eq!(caps(usize::MAX).next(), Some(5_000_000_000));
        assert_eq!(caps(FEWEST_ROWS).next(), None);
    }

    /// The plan of the cap that is chosen fits, and that of the next larger one does not.
    #[test]
    fn the_largest_cap_that_fits_is_taken() {
        let read = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            workload::load(Path::new("quickstart"), &set).unwrap().workload
        };
        let mut asked = read(&["data.fit_memory=true", "model.dim=512", "model.bottom=[512]"]);
        assert_eq!(fit_memory(&mut read(&[])).unwrap(), None);
        let fitted = fit_memory(&mut asked).unwrap().unwrap();
        let DataConfig::Planted(data) = &asked.data else { panic!() };
        assert_eq!((data.max_rows, data.fit_memory), (fitted.max_rows, false));
        if std::env::var_os(LIMIT).is_some() {
            return;
        }
        // 33.8 million rows of 2 KiB: 69 GB.
        assert!(fitted.takes as f64 <= SHARE * fitted.free as f64, "{fitted:?}");
        if let Some(cap) = fitted.max_rows {
            let larger = caps(usize::MAX).take_while(|&c| c > cap).last().unwrap();
            let set = format!("data.max_rows={larger}");
            let w = read(&["model.dim=512", "model.bottom=[512]", &set]);
            let config = w.engine_config(&w.data_schema().unwrap().unwrap()).unwrap();
            let takes = memory_plan(&w, Some(&config)).total();
            assert!(takes as f64 > SHARE * fitted.free as f64, "{fitted:?}");
        }
    }

    #[test]
    fn a_cap_that_is_given_and_fits_stays() {
        let set = ["data.fit_memory=true", "data.max_rows=1234"].map(String::from);
        let mut w = workload::load(Path::new("quickstart"), &set).unwrap().workload;
        let fitted = fit_memory(&mut w).unwrap().unwrap();
        assert_eq!(fitted.max_rows, Some(1234));
    }
}
