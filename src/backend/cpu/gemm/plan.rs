//! How a product is cut into chunks: by its shape and the instruction set's tile alone, never by
//! the number of threads.

/// Floats of the widest register, and of a cache line.
pub(super) const MAX_LANES: usize = 16;

/// Floats between packed tiles and between packed panels. Without them the rows that packing writes
/// at the same time would lie powers of two apart and push each other out of the first-level cache.
pub(super) const STAGGER: usize = MAX_LANES;

/// Chunks of a layer with one output at most.
pub(super) const MAX_THIN_CHUNKS: usize = 24;

/// Packed words of the sum that are made at once where the weights are packed beforehand: a panel
/// of that length and a tile's rows stay in the first-level cache.
pub(super) const K_BLOCK: usize = 256;

/// Packed words of samples that are made at once for a weight gradient. Packed tiles of all
/// outputs, the rows they come from and the part of the gradient that they add to share the
/// second-level cache.
pub(super) const BATCH_BLOCK: usize = 128;

/// Most tiles of a chunk, in blocks of `K_BLOCK` and of `BATCH_BLOCK`.
const MAX_TILES: usize = 20;

/// With no more tiles than that weights are not packed beforehand.
pub(super) const FEW_TILES: usize = MAX_TILES;

const MAX_GRADIENT_TILES: usize = 40;

/// Rows of a chunk that make reading a packed panel from the third-level cache worth it.
const CHUNK_ROWS: usize = 64;

/// Floats of a chunk's packed tiles, staggers apart.
pub(super) const TILE_ROOM: usize = MAX_TILES * K_BLOCK * MAX_LANES + MAX_GRADIENT_TILES * STAGGER;
const _: () = assert!(
    MAX_TILES * K_BLOCK >= MAX_GRADIENT_TILES * BATCH_BLOCK && MAX_GRADIENT_TILES >= MAX_TILES
);

/// Multiply-adds that are worth a chunk of their own: some 2 microseconds, as much as starting one
/// costs.
const CHUNK_WORK: usize = 1 << 18;

/// Chunks of a product that has work enough: divides evenly among 2, 3, 4 and 6 threads.
const CHUNKS: usize = 12;

/// Most elements that partial sums of a weight gradient may hold.
pub(super) const MAX_PARTIAL: usize = 1 << 20;

/// Most packed words that a weight gradient may share among its chunks: a quarter of a third-level
/// cache.
const MAX_SHARED: usize = 1 << 21;

/// Elements whose copying takes as long as one more round of the threads.
const ROUND: usize = 1 << 19;

/// Packed words of samples that a weight gradient shares at once, for layers of `inputs`: whole
/// blocks of [`K_BLOCK`].
pub(super) fn words_at_once(inputs: usize) -> usize {
    (MAX_SHARED / (K_BLOCK * inputs)).max(1) * K_BLOCK
}

/// Most parts of such a sum.
pub(super) const MAX_PARTS: usize = CHUNKS;

/// A range cut into blocks of equal size, the last one maybe shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub total: usize,
    pub size: usize,
    pub count: usize,
}

impl Blocks {
    /// Blocks of `most` or fewer, as equal as can be.
    pub fn balanced(total: usize, most: usize) -> Self {
        let count = total.div_ceil(most).max(1);
        Blocks::of(total, total.div_ceil(count).max(1))
    }

    /// Blocks of `most` or fewer, as equal as can be with all but the last a multiple of `unit`,
    /// which divides `most`.
    pub fn even(total: usize, most: usize, unit: usize) -> Self {
        Blocks::of(total, Blocks::balanced(total, most).size.next_multiple_of(unit))
    }

    /// Blocks of `size`.
    pub fn of(total: usize, size: usize) -> Self {
        Blocks { total, size, count: total.div_ceil(size) }
    }

    /// First element and length of block `i`.
    pub fn get(&self, i: usize) -> (usize, usize) {
        let at = i * self.size;
        (at, self.size.min(self.total - at))
    }
}

/// The `i`-th of `parts` nearly equal shares of `0..n`.
pub(super) fn share(n: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    i * n / parts..(i + 1) * n / parts
}

/// How many chunks along the rows, the columns and the terms of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub rows: usize,
    pub cols: usize,
    pub parts: usize,
}

impl Grid {
    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.rows * self.cols * self.parts
    }

    /// For weights that are packed beforehand: cut along the rows, and along the columns where rows
    /// are few.
    pub fn of_rows(m: &Blocks, panels: &Blocks, k: usize) -> Self {
        let wanted = wanted(m.total * panels.total * k);
        // Some tiles make good use of a panel that was brought into the first-level cache.
        let rows = wanted.min((m.count / 4).max(1)).max(m.count.div_ceil(MAX_TILES));
        // Long batches get more chunks, so that threads that are held up lose less.
        let rows = if rows >= CHUNKS {
            rows.max((m.total / CHUNK_ROWS / CHUNKS * CHUNKS).min(4 * CHUNKS))
        } else {
            rows
        };
        Grid { rows, cols: wanted.div_ceil(rows).min(panels.count), parts: 1 }
    }

    /// For weights that each chunk packs for itself, with at most [`FEW_TILES`]: cut along the
    /// columns only, so that no panel is packed twice. A chunk packs all rows; two panels or more
    /// make that cheap.
    pub fn of_columns(m: &Blocks, panels: &Blocks, k: usize) -> Self {
        let wanted = wanted(m.total * panels.total * k);
        let cols = [CHUNKS, CHUNKS / 2, 4]
            .into_iter()
            .find(|&cols| cols <= wanted && 2 * cols <= panels.count);
        Grid { rows: 1, cols: cols.unwrap_or(panels.count.min(wanted).min(2)), parts: 1 }
    }

    /// For two operands that each chunk packs for itself, and a sum over `k` terms that may be cut
    /// in parts: the grid with the least copying. An operand is packed once for each chunk along
    /// the other's side; partial sums are written and read. A packed word holds `terms` of the
    /// sum's terms. Told with the elements that are copied.
    pub fn with_fresh_operands(
        m: &Blocks,
        panels: &Blocks,
        k: usize,
        terms: usize,
    ) -> (Self, usize) {
        let rows = m.count.div_ceil(MAX_GRADIENT_TILES);
        let mut best = Grid { rows, cols: 1, parts: 1 };
        let wanted = wanted(m.total * panels.total * k);
        let most_parts = (k / (BATCH_BLOCK * terms)).clamp(1, MAX_PARTS);
        let mut least = usize::MAX;
        for rows in rows..=m.count.min(rows + CHUNKS) {
            for cols in 1..=panels.count.min(1 + CHUNKS) {
                for parts in 1..=most_parts {
                    let grid = Grid { rows, cols, parts };
                    let (enough, even) =
                        (grid.chunks() >= wanted, grid.chunks().is_multiple_of(wanted));
                    let partial = if parts > 1 { parts * m.total * panels.total } else { 0 };
                    let fits = partial <= MAX_PARTIAL;
                    let copied = k * (rows * panels.total + cols * m.total) + 2 * partial;
                    if enough && even && fits && copied < least {
                        (best, least) = (grid, copied);
                    }
                }
            }
        }
        (best, least)
    }

    /// For panels that are packed once for all chunks, and tiles that each chunk packs for itself.
    /// Told with the elements that are copied: what is packed for others is written and read.
    pub fn with_shared_panels(m: &Blocks, panels: &Blocks, k: usize) -> (Self, usize) {
        let wanted = wanted(m.total * panels.total * k);
        let long = |&rows: &usize| wanted.is_multiple_of(rows) && m.total / rows >= CHUNK_ROWS;
        let (rows, least) =
            ((1..=wanted).rev().find(long).unwrap_or(1), m.count.div_ceil(MAX_TILES));
        let rows = if least > rows { least.next_multiple_of(CHUNKS).min(m.count) } else { rows };
        let grid = Grid { rows, cols: wanted.div_ceil(rows).min(panels.count), parts: 1 };
        (grid, k * (2 * panels.total + grid.cols * m.total) + ROUND)
    }
}

/// Chunks that this many multiply-adds are worth.
fn wanted(work: usize) -> usize {
    match work / CHUNK_WORK {
        0 | 1 => 1,
        n @ 2..CHUNKS => n & !1,
        _ => CHUNKS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_and_shares_cover_the_range(total in 0usize..3000, most in 1usize..300, parts in 1usize..40) {
            let blocks = Blocks::balanced(total, most);
            let mut at = 0;
            for i in 0..blocks.count {
                let (start, len) = blocks.get(i);
                prop_assert!(start == at && len >= 1 && len <= most);
                at += len;
            }
            prop_assert_eq!(at, total);
            let shares: usize = (0..parts).map(|i| share(total, parts, i).len()).sum();
            prop_assert_eq!(shares, total);
        }

        #[test]
        fn grids_keep_chunks_within_the_scratch_space(m in 1usize..5000, n in 1usize..5000, k in 1usize..5000) {
            let (m, panels) = (Blocks::balanced(m, 14), Blocks::of(n, 32));
            let grid = if m.count > FEW_TILES { Grid::of_rows(&m, &panels, k) } else { Grid::of_columns(&m, &panels, k) };
            prop_assert!(m.count.div_ceil(grid.rows) <= MAX_TILES && grid.rows <= m.count && grid.cols <= panels.count);
            let (grid, _) = Grid::with_fresh_operands(&m, &panels, k, 1);
            prop_assert!(m.count.div_ceil(grid.rows) <= MAX_GRADIENT_TILES && grid.rows <= m.count && grid.cols <= panels.count);
            let (shared, _) = Grid::with_shared_panels(&m, &panels, k);
            prop_assert!(m.count.div_ceil(shared.rows) <= MAX_TILES && shared.rows <= m.count && shared.cols <= panels.count);
            prop_assert!(grid.parts == 1 || grid.parts * m.total * n <= MAX_PARTIAL && grid.parts <= k);
        }
    }
}
