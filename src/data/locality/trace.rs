//! Draws ids that come again as a pattern says.

use super::AccessPattern;
use std::{collections::VecDeque, sync::Arc};

/// A stream of ids with the stack distances of a pattern (facebookresearch/dlrm,
/// dlrm_data_pytorch.py, `trace_generate_lru` and `generate_stack_distance`).
///
/// Each uniform number becomes a distance. While fewer ids have been drawn than the largest
/// distance, only distances that can be met are drawn; afterwards, with `padding`, no new ids are
/// (there are none left). Distance 0 takes the next new id, or the one not used for longest if all
/// have been; distance `d` the one used `d` different ids ago.
#[derive(Debug, Clone)]
pub struct LruTrace {
    pattern: Arc<AccessPattern>,
    padding: bool,
    /// Ids used, the last one at the end.
    used: VecDeque<u32>,
    /// Accesses of distance 0 so far.
    new: usize,
}

impl LruTrace {
    /// A stream that has not drawn anything.
    pub fn new(pattern: Arc<AccessPattern>, padding: bool) -> Self {
        LruTrace { pattern, padding, used: VecDeque::new(), new: 0 }
    }

    /// The pattern drawn from.
    pub fn pattern(&self) -> &AccessPattern {
        &self.pattern
    }

    /// Forgets what has been drawn.
    pub fn restart(&mut self) {
        self.used.clear();
        self.new = 0;
    }

    /// The next id, from a uniform number in `[0, 1)`.
    pub fn next(&mut self, u: f64) -> u32 {
        let ids = &self.pattern.ids;
        let id = match (self.distance(u), self.used.len()) {
            (0, used) => {
                self.new += 1;
                let oldest = if used == ids.len() { self.used.pop_front() } else { None };
                oldest.unwrap_or_else(|| ids[used])
            }
            // A pattern's distances are no larger than its ids are many, and distances that cannot
            // be met yet are not drawn.
            (distance, used) => self.used.remove(used - distance as usize).unwrap_or(ids[0]),
        };
        self.used.push_back(id);
        id
    }

    fn distance(&self, mut u: f64) -> u32 {
        let AccessPattern { distances, cumulative, .. } = &*self.pattern;
        let (last, first) = (distances.len() - 1, cumulative[0]);
        if self.new < distances[last] as usize {
            let reachable = distances.partition_point(|&d| d as usize <= self.new) - 1;
            u *= cumulative[reachable];
        } else if self.padding {
            u = (1.0 - first) * u + first;
        }
        distances[cumulative.partition_point(|&p| p < u).min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Profile, *};
    use proptest::prelude::*;

    /// The original, line by line: one list in which everything moves.
    struct Plain {
        list: Vec<u32>,
        new: usize,
    }

    impl Plain {
        fn next(&mut self, p: &AccessPattern, mut u: f64, padding: bool) -> u32 {
            let largest = *p.distances.last().unwrap() as usize;
            if self.new < largest {
                let j = p.distances.iter().filter(|&&d| d as usize <= self.new).count() - 1;
                u *= p.cumulative[j];
            } else if padding {
                u = (1.0 - p.cumulative[0]) * u + p.cumulative[0];
            }
            let j = p.cumulative.iter().position(|&c| u <= c).unwrap_or(p.cumulative.len() - 1);
            let at = match p.distances[j] as usize {
                0 => {
                    self.new += 1;
                    0
                }
                distance => self.list.len() - distance,
            };
            let id = self.list.remove(at);
            self.list.push(id);
            id
        }
    }

    fn profile(ids: impl IntoIterator<Item = u32>) -> Profile {
        let mut profile = Profile::default();
        ids.into_iter().for_each(|id| profile.access(id));
        profile
    }

    proptest! {
        #[test]
        fn it_draws_what_the_original_draws(
            seen in prop::collection::vec(0u32..30, 1..200),
            uniforms in prop::collection::vec(0.0f64..1.0, 0..300),
            padding: bool,
        ) {
            let pattern = Arc::new(profile(seen).pattern().unwrap());
            let mut plain = Plain { list: pattern.ids.clone(), new: 0 };
            let mut trace = LruTrace::new(Arc::clone(&pattern), padding);
            for _ in 0..2 {
                for &u in &uniforms {
                    prop_assert_eq!(trace.next(u), plain.next(&pattern, u, padding));
                }
                trace.restart();
                plain = Plain { list: pattern.ids.clone(), new: 0 };
            }
        }
    }

    #[test]
    fn drawn_ids_come_again_as_those_that_were_profiled() {
        let mut numbers = crate::random::numpy::RandomState::new(1);
        let skewed: Vec<u32> =
            (0..40_000).map(|_| (numbers.random_sample().powi(3) * 500.0) as u32).collect();
        let before = profile(skewed);
        let mut trace = LruTrace::new(Arc::new(before.pattern().unwrap()), true);
        // New ids come as seldom at first as they came on the whole, so it takes long until all
        // distances can be drawn.
        for _ in 0..120_000 {
            trace.next(numbers.random_sample());
        }
        let after = profile((0..40_000).map(|_| trace.next(numbers.random_sample())));
        for rows in [1, 10, 50, 100, 200, 400] {
            let rates = [before.hit_rate(rows), after.hit_rate(rows)];
            assert!((rates[0] - rates[1]).abs() < 0.02, "{rows} rows: {rates:?}");
        }
    }
}
