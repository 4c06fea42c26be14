//! Bags of quantised rows: `out = fma(code, w * scale, out + w * bias)`, row by row in the order of
//! the bag, as PyTorch's `embedding_bag_byte_rowwise_offsets` and
//! `embedding_bag_4bit_rowwise_offsets` (FBGEMM, src/EmbeddingSpMDM.cc and EmbeddingSpMDMNBit.cc).
//! The same bits on every CPU.

use crate::{
    backend::cpu::{
        gemm::RowsMut,
        simd::{Kernel, Lanes, launch},
    },
    batch::CheckedBags,
    embedding::{QuantisedRows, QuantisedTable, TableSet},
    host::{
        Isa,
        pool::{Pool, SharedMut},
        prefetch_row,
    },
    model::Pooling,
};

/// Samples of a chunk.
const BLOCK: usize = 256;
/// Ids ahead of the present one whose rows are asked for.
const AHEAD: usize = 16;

/// As [`crate::backend::cpu::bags::forward`], of quantised `tables`, which are those of `set`.
///
/// # Panics
/// If the bags were checked for other tables, or if shapes do not fit.
pub fn forward(
    (pool, isa): (&Pool, Isa),
    set: &TableSet,
    tables: &[QuantisedTable],
    bags: CheckedBags<'_>,
    out: RowsMut<'_>,
) {
    let dim = set.dim;
    let columns = set.column..set.column + tables.len();
    assert!(columns.end <= bags.get().len(), "bags for each table");
    let rows = &bags.rows()[columns.clone()];
    assert!(
        tables.iter().zip(rows).all(|(t, &rows)| rows <= t.rows() && t.dim() == dim),
        "bags of tables of {rows:?} rows"
    );
    let (samples, bags) = (bags.samples(), &bags.get()[columns]);
    assert!(out.stride >= tables.len() * dim || samples <= 1, "pooled vectors overlap");
    let blocks = samples.div_ceil(BLOCK);
    let (stride, out) = (out.stride, SharedMut::new(out.data));
    pool.run(blocks * tables.len(), |chunk, _| {
        let (k, block) = (chunk / blocks, chunk % blocks);
        let table = &tables[k];
        let weights = set.weights.as_ref().map(|w| w.tables[k].values());
        let ids = &bags[k].indices;
        for b in block * BLOCK..samples.min((block + 1) * BLOCK) {
            let bag = bags[k].offsets[b] as usize..bags[k].offsets[b + 1] as usize;
            // SAFETY: each vector belongs to one chunk.
            let to = unsafe { out.slice(b * stride + k * dim, dim) };
            for &id in &ids[(bag.start + AHEAD).min(ids.len())..(bag.end + AHEAD).min(ids.len())] {
                let width = table.kind().row_bytes(dim);
                prefetch_row(table.bytes().as_ptr().wrapping_add(id as usize * width), width);
            }
            let mean = set.pooling == Pooling::Mean;
            launch(isa, Bag { table, weights, ids: &ids[bag], mean, to });
        }
    });
}

/// One bag.
struct Bag<'a> {
    table: &'a QuantisedTable,
    weights: Option<&'a [f32]>,
    ids: &'a [u32],
    mean: bool,
    to: &'a mut [f32],
}

impl Kernel for Bag<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Bag { table, weights, ids, mean, to } = self;
        let (kind, width) = (table.kind(), table.kind().row_bytes(to.len()));
        to.fill(0.0);
        for &id in ids {
            let row = &table.bytes()[id as usize * width..][..width];
            let (mut scale, mut bias) = kind.scale_bias(row);
            if let Some(weights) = weights {
                scale *= weights[id as usize];
                bias *= weights[id as usize];
            }
            match kind {
                QuantisedRows::Int8 => {
                    for (to, &code) in to.iter_mut().zip(row) {
                        *to = f32::from(code).mul_add(scale, *to + bias);
                    }
                }
                QuantisedRows::Int4 => {
                    let mut pairs = to.chunks_exact_mut(2);
                    for (to, &codes) in (&mut pairs).zip(row) {
                        to[0] = f32::from(codes & 15).mul_add(scale, to[0] + bias);
                        to[1] = f32::from(codes >> 4).mul_add(scale, to[1] + bias);
                    }
                    if let [to] = pairs.into_remainder() {
                        let code = row[width - 5] & 15;
                        *to = f32::from(code).mul_add(scale, *to + bias);
                    }
                }
            }
        }
        if mean && ids.len() > 1 {
            let share = 1.0 / ids.len() as f32;
            for to in to {
                *to *= share;
            }
        }
    }
}

#[cfg(test)]
mod tests;
