//! Profiles of the tables of a source or a file.

use super::{
    super::{
        DataError, Source,
        format::{Reader, chunk},
        rows::Rows,
    },
    Profile,
};
use crate::batch::{Bags, Batch};

/// Samples read at once.
const CHUNK: u64 = 1 << 16;

/// Profiles `tables` (positions in the schema) over the first `samples` samples, epoch after epoch
/// if one is shorter; how many samples that were. Tables are worked on by all cores.
///
/// # Errors
/// If the source cannot be read.
pub fn profile_source(
    source: &mut dyn Source,
    samples: u64,
    tables: &[usize],
) -> Result<(u64, Vec<Profile>), DataError> {
    let epoch_len = source.len().unwrap_or(u64::MAX);
    let mut scan = Scan::new(tables);
    if epoch_len == 0 {
        return Ok((0, scan.profiles));
    }
    let mut batch = Batch::with_capacity(source.schema(), CHUNK as usize);
    let (mut epoch, mut start, mut left) = (0, 0, samples);
    while left > 0 {
        let n = CHUNK.min(left).min(epoch_len - start);
        source.fill(epoch, start, n as usize, &mut batch)?;
        scan.add(&batch.bags);
        left -= n;
        start += n;
        if start == epoch_len {
            (epoch, start) = (epoch + 1, 0);
        }
    }
    Ok((samples, scan.profiles))
}

/// The same of a file's categorical columns, over at most `samples` samples.
///
/// # Errors
/// If the file cannot be read.
pub fn profile_file(
    reader: &mut dyn Reader,
    samples: u64,
    columns: &[usize],
) -> Result<(u64, Vec<Profile>), DataError> {
    let mut scan = Scan::new(columns);
    let mut rows = Rows::new(reader.layout());
    // Fewer where a row is wide, as when it is converted.
    let most = CHUNK.min(8 * chunk(reader.layout()) as u64);
    let mut left = samples;
    while left > 0 {
        reader.read(most.min(left) as usize, &mut rows)?;
        if rows.is_empty() {
            break;
        }
        scan.add(&rows.ids);
        left -= rows.len() as u64;
    }
    Ok((samples - left, scan.profiles))
}

/// Profiles that grow, dealt out to threads.
struct Scan<'a> {
    tables: &'a [usize],
    profiles: Vec<Profile>,
    /// Tables of a thread, at least 1.
    share: usize,
}

impl<'a> Scan<'a> {
    fn new(tables: &'a [usize]) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let profiles = tables.iter().map(|_| Profile::default()).collect();
        Scan { tables, profiles, share: tables.len().div_ceil(threads).max(1) }
    }

    fn add(&mut self, bags: &[Bags]) {
        std::thread::scope(|scope| {
            for (profiles, tables) in
                self.profiles.chunks_mut(self.share).zip(self.tables.chunks(self.share))
            {
                scope.spawn(move || {
                    for (profile, &table) in profiles.iter_mut().zip(tables) {
                        bags[table].indices.iter().for_each(|&id| profile.access(id));
                    }
                });
            }
        });
    }
}
