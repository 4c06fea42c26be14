//! Ids as numbers of 64 bits, as they come where programs hash what they stand for.

use super::{super::super::Source, PlantedSource};
use crate::{
    batch::{Bags, Batch, Schema},
    data::DataError,
};

/// The key of id `id` of categorical column `column`: the last step of SplitMix64 (Steele, Lea and
/// Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), which is a bijection, so that
/// all keys of all columns differ.
pub fn key(column: usize, id: u32) -> u64 {
    let mut z = ((column as u64) << 32 | u64::from(id)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// A split whose ids are delivered as keys.
pub(super) struct Keyed {
    inner: PlantedSource,
    scratch: Bags,
}

impl Keyed {
    /// The samples of `inner`.
    pub fn new(inner: PlantedSource) -> Self {
        Keyed { inner, scratch: Bags::default() }
    }
}

impl Source for Keyed {
    fn schema(&self) -> &Schema {
        self.inner.schema()
    }

    fn len(&self) -> Option<u64> {
        self.inner.len()
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        self.inner.fill(epoch, start, n, batch)?;
        for (column, bags) in batch.bags.iter_mut().enumerate() {
            let ids = &mut self.scratch;
            ids.indices.clear();
            ids.indices.append(&mut bags.indices);
            // Offsets stay as they are.
            bags.extend_keys(ids.indices.iter().map(|&id| key(column, id)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// SplitMix64's first output for the seed 0 is known (its authors' splitmix64.c).
    #[test]
    fn keys_are_those_of_splitmix64_and_differ() {
        assert_eq!(key(0, 0), 0xE220_A839_7B1D_CDAF);
        let all: HashSet<u64> = (0..3).flat_map(|c| (0..5000).map(move |id| key(c, id))).collect();
        assert_eq!(all.len(), 15_000);
        assert!(all.iter().filter(|&&key| key > u64::MAX / 2).count() > 7000);
    }
}
