//! Rows in the host's memory: one anonymous mapping for a whole set of tables, on huge pages where
//! it is large.
//!
//! Lookups hit rows at random, so a set on 4 KiB pages spends much of its time on address
//! translation.

use memmap2::MmapMut;
use std::{marker::PhantomData, sync::Arc};

/// Tables start at multiples of this many bytes: a cache line, and a whole AVX-512 register.
const LINE: usize = 64;

/// Size and alignment of a huge page on x86-64 and on aarch64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// What can go wrong with the storage of rows.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// Memory could not be had.
    #[error(
        "cannot allocate {bytes} bytes for {what}: {source}; use fewer rows, a smaller dimension or a machine with more memory"
    )]
    Memory {
        /// Purpose.
        what: String,
        /// Amount; `u64::MAX` if it cannot even be counted.
        bytes: u64,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// What a table may hold: numbers for which all bits zero is zero, of a size that divides a cache
/// line.
pub trait Element: Copy + sealed::Sealed + 'static {}
impl Element for f32 {}
impl Element for u16 {}
impl Element for u8 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u16 {}
    impl Sealed for u8 {}
}

/// One mapping, shared by the tables of a set.
#[derive(Debug)]
struct Arena {
    /// Keeps the memory; only reached through `base`.
    _map: MmapMut,
    base: *mut u8,
}

// SAFETY: the memory behind `base` is plain numbers, and each table of a set owns a part of its
// own.
unsafe impl Send for Arena {}
// SAFETY: as above; shared access goes through `&Table`, which only reads.
unsafe impl Sync for Arena {}

/// A matrix `[rows, dim]`, of f32 unless said otherwise, row after row without gaps, starting at a
/// multiple of 64 bytes.
#[derive(Debug)]
pub struct Table<T: Element = f32> {
    arena: Arc<Arena>,
    /// In bytes.
    start: usize,
    rows: usize,
    dim: usize,
    of: PhantomData<T>,
}

/// A set of tables of zeros with the given `(rows, dim)`, in one mapping. Pages are made when first
/// written. `what` names the purpose should memory run out.
///
/// # Errors
/// If the operating system refuses the memory.
pub fn tables<T: Element>(
    shapes: impl IntoIterator<Item = (usize, usize)>,
    what: &str,
) -> Result<Vec<Table<T>>, EmbeddingError> {
    let refuse = |bytes, source| EmbeddingError::Memory { what: what.to_string(), bytes, source };
    let mut placed = Vec::new();
    let mut total = 0usize;
    for (rows, dim) in shapes {
        placed.push((total, rows, dim));
        total = rows
            .checked_mul(dim)
            .and_then(|n| {
                n.checked_mul(size_of::<T>())?.checked_next_multiple_of(LINE)?.checked_add(total)
            })
            .filter(|&t| t <= isize::MAX as usize - HUGE_PAGE)
            .ok_or_else(|| refuse(u64::MAX, std::io::ErrorKind::OutOfMemory.into()))?;
    }
    let align = if total >= HUGE_PAGE { HUGE_PAGE } else { LINE };
    let mut map = MmapMut::map_anon(total + align).map_err(|e| refuse(total as u64, e))?;
    if total >= HUGE_PAGE {
        // Only advice: without huge pages everything still works.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    let skip = map.as_ptr().align_offset(align).min(align);
    let base = map[skip..].as_mut_ptr();
    let arena = Arc::new(Arena { _map: map, base });
    let table =
        |(start, rows, dim)| Table { arena: Arc::clone(&arena), start, rows, dim, of: PhantomData };
    Ok(placed.into_iter().map(table).collect())
}

impl<T: Element> Table<T> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All elements, row-major.
    pub fn values(&self) -> &[T] {
        // SAFETY: the part belongs to this table alone, lies inside the mapping, is aligned and was
        // zeroed by the system.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.rows * self.dim) }
    }

    /// All elements, to change.
    pub fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `values`; `&mut self` makes the reference the only one.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.rows * self.dim) }
    }

    /// Pointer to the first element, good for reading and, while the caller has the table to
    /// itself, for writing.
    pub(crate) fn as_ptr(&self) -> *mut T {
        // SAFETY: the part lies inside the mapping, and starts at a cache line.
        unsafe { self.arena.base.add(self.start).cast() }
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[T] {
        &self.values()[row * self.dim..][..self.dim]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_zero_aligned_and_apart() {
        let mut set =
            tables::<f32>([(3, 5), (0, 4), (1, 1), (70_000, 16), (2, 3)], "a test").unwrap();
        for (k, t) in set.iter_mut().enumerate() {
            assert_eq!(t.values().as_ptr() as usize % LINE, 0);
            assert!(t.values().iter().all(|&v| v == 0.0));
            t.values_mut().fill(k as f32 + 1.0);
        }
        for (k, t) in set.iter().enumerate() {
            assert_eq!(t.values().len(), t.rows() * t.dim());
            assert!(t.values().iter().all(|&v| v == k as f32 + 1.0), "table {k}");
        }
        assert_eq!(set[4].row(1), [5.0; 3]);
        let last = set.pop().unwrap();
        drop(set);
        assert_eq!(last.values(), [5.0; 6], "a table keeps the mapping of its set");
    }

    #[test]
    fn memory_that_nobody_has_is_refused_by_name() {
        for rows in [usize::MAX, usize::MAX / 64, 1 << 55] {
            let error = tables::<f32>([(rows, 16)], "27 embedding tables").unwrap_err().to_string();
            assert!(
                error.contains("27 embedding tables") && error.contains("cannot allocate"),
                "{error}"
            );
        }
    }
}
