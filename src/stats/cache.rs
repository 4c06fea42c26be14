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

/// The same of requests that have been counted: `(c, n)` says that `n` ids were asked for `c` times,
/// one after another as chance has it; misses of a part of them, `share`, as a number of requests.
///
/// Of `N` requests an id of `c` was asked for within the last `t` with a chance of `1 - (1 - t/N)^c`;
/// where these sum to the slots the cache is full. The first request of an id is a miss, and so is each
/// that comes later than `t` after the one before: of `c` places thrown on a line of length 1, pairs
/// that follow one another, further apart than `x` and both before `m`, are expected to be
/// `F(1 - x) - F(1 - m)` with `F(u) = c (m - 1) u^(c-1) + (c - 1) u^c`. A `share` above 1 stands for the
/// same ids asked for so much more often, as in several epochs.
pub fn counted_misses(counts: &[(u64, u64)], slots: f64, share: f64) -> f64 {
    // More requests than were counted: of the same ids.
    let (times, m) = (share.max(1.0), share.min(1.0));
    let groups: Vec<(f64, f64)> =
        counts.iter().map(|&(c, n)| (c as f64 * times, n as f64)).filter(|g| g.0 > 0.0).collect();
    // Of a share `x` of all requests: `(1 - x)^c`.
    let absent = |x: f64, c: f64| if c == 0.0 { 1.0 } else { (c * (-x).ln_1p()).exp() };
    let met = |x: f64| groups.iter().map(|(c, n)| n * (1.0 - absent(x, *c))).sum::<f64>();
    if met(m) <= slots {
        return met(m);
    }
    let (mut low, mut high) = (0.0, m);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if met(middle) < slots { low = middle } else { high = middle }
    }
    let late = |(c, n): &(f64, f64)| {
        let f = |x: f64| c * (m - 1.0) * absent(x, c - 1.0) + (c - 1.0) * absent(x, *c);
        n * (f(high) - f(m))
    };
    met(m) + groups.iter().map(late).sum::<f64>()
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

    /// Ids that were asked for twice each: within `t` of `N` with a chance of `1 - (1 - t/N)^2`,
    /// which is 1/4 where `(1 - t/N)^2` is 3/4, and so often is the second one late.
    #[test]
    fn counted_ids_by_hand() {
        assert!((counted_misses(&[(2, 100)], 25.0, 1.0) - 175.0).abs() < 1e-6);
        assert_eq!(counted_misses(&[(2, 100)], 100.0, 1.0), 100.0);
        assert_eq!(counted_misses(&[], 5.0, 1.0), 0.0);
        assert!((counted_misses(&[(1, 3)], 2.0, 1.0) - 3.0).abs() < 1e-9);
        // No room at all: nothing is ever there.
        assert!((counted_misses(&[(5, 1), (3, 1)], 1e-9, 1.0) - 8.0).abs() < 1e-6);
        assert!((counted_misses(&[(5, 1), (3, 1)], 1e-9, 0.5) - 4.0).abs() < 1e-6);
        // Twice as long: as if each had been asked for twice as often.
        let twice = counted_misses(&[(4, 30), (2, 9)], 11.0, 1.0);
        assert!((counted_misses(&[(2, 30), (1, 9)], 11.0, 2.0) - twice).abs() < 1e-9);
    }

    /// Of a part of what was counted, against caches of requests in many orders.
    #[test]
    fn a_part_misses_as_often_as_expected() {
        let counts = [(1u64, 60u64), (4, 20), (25, 6)];
        let ids = counts.iter().flat_map(|&(c, n)| std::iter::repeat_n(c, n as usize));
        let mut requests: Vec<usize> =
            ids.enumerate().flat_map(|(id, c)| std::iter::repeat_n(id, c as usize)).collect();
        let g = Philox::new(9, Stream::Planted, 1);
        let mut draws = (0..).map(|n| g.block(n)[0] as usize);
        let (slots, orders) = (25, 300);
        for part in [60usize, 140, 290] {
            let mut misses = 0;
            for _ in 0..orders {
                for k in (1..requests.len()).rev() {
                    requests.swap(k, draws.next().unwrap() % (k + 1));
                }
                let mut last = Vec::<usize>::new();
                for &id in &requests[..part] {
                    match last.iter().position(|&x| x == id) {
                        Some(at) => drop(last.remove(at)),
                        None => misses += 1,
                    }
                    last.insert(0, id);
                    last.truncate(slots);
                }
            }
            let (got, share) = (misses as f64 / f64::from(orders), part as f64 / 290.0);
            let want = counted_misses(&counts, slots as f64, share);
            assert!((got / want - 1.0).abs() < 0.03, "{part}: {got} {want}");
        }
    }

    /// Against a cache that drops what was asked for longest ago, with counted requests in a random
    /// order.
    #[test]
    fn counted_ids_are_missed_as_often_as_foretold() {
        let counts: Vec<u64> = (1..=600u64).map(|k| 1 + 3000 / k).collect();
        let ids = counts.iter().enumerate();
        let mut requests: Vec<usize> =
            ids.flat_map(|(id, &n)| std::iter::repeat_n(id, n as usize)).collect();
        let words = Philox::new(3, Stream::Shuffle, 0);
        for i in (1..requests.len()).rev() {
            requests.swap(i, (words.block_u64(i as u64)[0] % (i as u64 + 1)) as usize);
        }
        for slots in [20, 100, 400] {
            let (mut cache, mut misses) = (std::collections::VecDeque::new(), 0);
            for &id in &requests {
                match cache.iter().position(|&other| other == id) {
                    Some(at) => _ = cache.remove(at),
                    None => misses += 1,
                }
                cache.push_back(id);
                if cache.len() > slots {
                    cache.pop_front();
                }
            }
            let each: Vec<(u64, u64)> = counts.iter().map(|&c| (c, 1)).collect();
            let expected = counted_misses(&each, slots as f64, 1.0);
            assert!(
                (expected / f64::from(misses) - 1.0).abs() < 0.02,
                "{slots}: {expected} {misses}"
            );
        }
    }
}
