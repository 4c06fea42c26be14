//! How often a cache is expected to have what is asked for.

/// Ids that are equally popular: the chance that a request is for one of them in particular, and how
/// many there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Popular {
    /// Chance of one.
    pub chance: f64,
    /// How many.
    pub ids: f64,
}

/// Ranks that are taken one by one; from there on those within a percent are taken together.
const SINGLE: u64 = 1000;

/// Chances of `ids` ids by Zipf's law, `k^-exponent`, which have `share` of all requests.
pub fn zipf(ids: u64, exponent: f64, share: f64) -> Vec<Popular> {
    let single = |k: u64| (1.0, (k as f64).powf(-exponent));
    let mut all: Vec<(f64, f64)> = (1..=ids.min(SINGLE)).map(single).collect();
    let mut first = SINGLE + 1;
    while first <= ids {
        let last = (first + first / 100).min(ids);
        // The sum as an integral between the middles.
        let at = |x: f64| match exponent {
            1.0 => x.ln(),
            q => x.powf(1.0 - q) / (1.0 - q),
        };
        let n = (last - first + 1) as f64;
        all.push((n, (at(last as f64 + 0.5) - at(first as f64 - 0.5)) / n));
        first = last + 1;
    }
    let sum: f64 = all.iter().map(|(n, weight)| n * weight).sum();
    let of = |(ids, weight)| Popular { chance: share * weight / sum, ids };
    all.into_iter().map(of).collect()
}

/// Requests of `requests` independent ones that a cache of `slots` ids does not have, which is empty
/// at first and drops what was asked for longest ago: Che's approximation. An id is in the cache if
/// it was asked for within the last `t` requests, and `t` is such that the cache is full:
/// `sum (1 - exp(-p t)) = slots` (H. Che, Y. Tung, Z. Wang: Hierarchical Web Caching Systems:
/// Modeling, Design and Experimental Results, IEEE JSAC 20(7), 2002). Before `t` nothing is dropped.
pub fn expected_misses(ids: &[Popular], slots: f64, requests: f64) -> f64 {
    let met = |t: f64| ids.iter().map(|p| p.ids * -(-p.chance * t).exp_m1()).sum::<f64>();
    if met(requests) <= slots {
        return met(requests);
    }
    let (mut low, mut high) = (0.0, requests);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if met(middle) < slots { low = middle } else { high = middle }
    }
    let missed: f64 = ids.iter().map(|p| p.ids * p.chance * (-p.chance * high).exp()).sum();
    slots + (requests - high) * missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream, unit_f32};

    /// Ids as popular as one another are there as often as there are slots for them.
    #[test]
    fn equal_ids_by_hand() {
        let ids = [Popular { chance: 0.01, ids: 100.0 }];
        // 1 - exp(-t / 100) = 1/4 at t = 28.77; then 3 of 4 miss.
        let t = -100.0 * 0.75f64.ln();
        let misses = expected_misses(&ids, 25.0, 1000.0);
        assert!((misses - (25.0 + (1000.0 - t) * 0.75)).abs() < 1e-6, "{misses}");
        // All fit: what is met is missed once.
        let misses = expected_misses(&ids, 100.0, 50.0);
        assert!((misses - 100.0 * (1.0 - (-0.5f64).exp())).abs() < 1e-9, "{misses}");
    }

    #[test]
    fn chances_are_those_of_each_rank() {
        for exponent in [0.3, 1.0, 1.2] {
            let got = zipf(50_000, exponent, 0.75);
            let sum: f64 = (1..=50_000).map(|k| (k as f64).powf(-exponent)).sum();
            let chance = |k: f64| 0.75 * k.powf(-exponent) / sum;
            assert!((got.iter().map(|p| p.ids * p.chance).sum::<f64>() - 0.75).abs() < 1e-12);
            assert_eq!(got.iter().map(|p| p.ids).sum::<f64>(), 50_000.0);
            assert!((got[2].chance / chance(3.0) - 1.0).abs() < 1e-6);
            assert!((got.last().unwrap().chance / chance(50_000.0) - 1.0).abs() < 0.02);
        }
        assert_eq!(zipf(3, 0.5, 1.0).len(), 3);
    }

    /// Against a cache that drops what was asked for longest ago.
    #[test]
    fn a_cache_misses_as_often_as_expected() {
        for (ids, exponent, slots) in [(400u64, 1.1, 40), (1000, 0.6, 300), (300, 0.9, 10)] {
            let chances = zipf(ids, exponent, 1.0);
            let mut sums = vec![0.0];
            chances.iter().for_each(|p| sums.push(sums[sums.len() - 1] + p.chance));
            let g = Philox::new(5, Stream::Planted, ids);
            let (mut last, mut misses) = (Vec::<usize>::new(), 0);
            let requests = 20_000;
            for n in 0..requests {
                let u = f64::from(unit_f32(g.block(n)[0]));
                let id = sums.partition_point(|&s| s <= u) - 1;
                match last.iter().position(|&x| x == id) {
                    Some(at) => drop(last.remove(at)),
                    None => misses += 1,
                }
                last.insert(0, id);
                last.truncate(slots);
            }
            let want = expected_misses(&chances, slots as f64, requests as f64);
            let off = (f64::from(misses) - want) / requests as f64;
            assert!(off.abs() < 0.015, "{ids} {exponent} {slots}: {misses} {want}");
        }
    }
}
