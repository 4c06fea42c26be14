//! Profiles of a source's tables.

use super::{
    super::{Batch, DataError, Source},
    Profile,
};

/// Samples read at once.
const CHUNK: u64 = 1 << 16;

/// Profiles `tables` (positions in the schema) over the first `samples` samples, epoch after epoch if one is shorter. Tables are worked on
/// by all cores.
///
/// # Errors
/// If the source cannot be read.
pub fn profile_source(source: &mut dyn Source, samples: u64, tables: &[usize]) -> Result<Vec<Profile>, DataError> {
    let epoch_len = source.len().unwrap_or(u64::MAX);
    let mut profiles: Vec<Profile> = tables.iter().map(|_| Profile::default()).collect();
    if epoch_len == 0 || tables.is_empty() {
        return Ok(profiles);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = tables.len().div_ceil(threads);
    let mut batch = Batch::with_capacity(source.schema(), CHUNK as usize);
    let (mut epoch, mut start, mut left) = (0, 0, samples);
    while left > 0 {
        let n = CHUNK.min(left).min(epoch_len - start);
        source.fill(epoch, start, n as usize, &mut batch)?;
        std::thread::scope(|scope| {
            for (profiles, tables) in profiles.chunks_mut(share).zip(tables.chunks(share)) {
                let bags = &batch.bags;
                scope.spawn(move || {
                    for (profile, &table) in profiles.iter_mut().zip(tables) {
                        bags[table].indices.iter().for_each(|&id| profile.access(id));
                    }
                });
            }
        });
        left -= n;
        start += n;
        if start == epoch_len {
            (epoch, start) = (epoch + 1, 0);
        }
    }
    Ok(profiles)
}
