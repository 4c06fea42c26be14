//! Sums of ranges of a list of counts that changes (Fenwick, "A new data structure for cumulative
//! frequency tables", 1994).

/// Counts at places `0..n`; changing one and summing a prefix take `log n` steps.
#[derive(Debug, Clone, Default)]
pub(super) struct Fenwick {
    /// Node `i` (from 1) holds the sum of the `i & -i` places that end with place `i - 1`.
    nodes: Vec<u32>,
}

impl Fenwick {
    /// `n` places, of which the first `ones` hold 1 and the others 0.
    pub fn with_ones(n: usize, ones: usize) -> Self {
        let node = |i: usize| {
            let below = i - (i & i.wrapping_neg());
            i.min(ones).saturating_sub(below) as u32
        };
        Fenwick { nodes: (1..=n).map(node).collect() }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Changes the count at `place` by `change`, which may be -1 as `u32::MAX`.
    pub fn add(&mut self, place: usize, change: u32) {
        let mut i = place + 1;
        while let Some(node) = self.nodes.get_mut(i - 1) {
            *node = node.wrapping_add(change);
            i += i & i.wrapping_neg();
        }
    }

    /// Sum of the places before `end`.
    pub fn before(&self, end: usize) -> u32 {
        let (mut i, mut sum) = (end, 0);
        while i > 0 {
            sum += self.nodes[i - 1];
            i &= i - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_a_plain_list(n in 1usize..70, ones in 0usize..70, ups in prop::collection::vec(0usize..70, 0..40)) {
            let ones = ones.min(n);
            let mut plain = vec![0u32; n];
            plain[..ones].fill(1);
            let mut tree = Fenwick::with_ones(n, ones);
            for place in ups.into_iter().filter(|&p| p < n) {
                let change = if plain[place] > 0 { u32::MAX } else { 1 };
                plain[place] = plain[place].wrapping_add(change);
                tree.add(place, change);
            }
            for end in 0..=n {
                prop_assert_eq!(tree.before(end), plain[..end].iter().sum::<u32>());
            }
        }
    }
}
