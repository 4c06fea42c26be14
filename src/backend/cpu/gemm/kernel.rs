//! The kernels: inner loops (`tile.rs`, `pack.rs`, `vectors.rs`), written once over [`Simd`] and
//! compiled once for each instruction set.
//!
//! A *tile* is up to `MR` rows of the result, a *panel* up to `NR` columns. Packed operands are
//! what the tile kernel streams through, in words of 32 bits that hold [`Kernel::TERMS`] terms of
//! the sum: the first operand as `[words][LANES]` a tile (rows beyond the tile's are padding), the
//! second as `[words][NR]` a panel.

use super::{
    format::{Bf16, F16, F32, Format},
    pack::{add_packed_sums, pack_rows, pack_transposed},
    simd::Simd,
    tile::tile,
    vectors::{dots, outer, sum_parts, weighted_sum},
};

/// What happens to a tile when its sum is complete.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    /// Nothing: store it.
    Store,
    /// Adds `bias[column]`, then ReLU if asked for, then dropout if there are bits.
    Bias {
        /// Bias of the tile's first column; null without biases.
        bias: *const f32,
        relu: bool,
        /// Bit of the tile's first element; null without dropout.
        bits: *const u8,
        /// Bytes from one row of bits to the next.
        stride: usize,
        /// What elements whose bit is set are multiplied by; the others become zero.
        factor: f32,
    },
    /// Zero where the gate's element is not positive, else times `factor`.
    Gate {
        /// Gate of the tile's first element.
        gate: *const f32,
        stride: usize,
        factor: f32,
    },
}

impl Finish {
    /// The same for the tile that starts at this row and column.
    pub fn at(self, row: usize, col: usize) -> Self {
        match self {
            Finish::Store => Finish::Store,
            Finish::Bias { bias, relu, bits, stride, factor } => {
                // Panels begin at whole bytes.
                let bits =
                    if bits.is_null() { bits } else { bits.wrapping_add(row * stride + col / 8) };
                let bias = if bias.is_null() { bias } else { bias.wrapping_add(col) };
                Finish::Bias { bias, relu, bits, stride, factor }
            }
            Finish::Gate { gate, stride, factor } => {
                Finish::Gate { gate: gate.wrapping_add(row * stride + col), stride, factor }
            }
        }
    }
}

/// Words between two prefetches of what is read next. All at once they would hold up the loads of
/// the tile itself.
pub(super) const NEXT_WORDS: usize = 16;

/// One tile by one panel, over `words` packed words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub rows: usize,
    pub cols: usize,
    pub words: usize,
    /// Packed `[words][LANES]`.
    pub a: *const f32,
    /// Packed `[words][NR]`.
    pub b: *const f32,
    /// What is read after this, brought to the second-level cache meanwhile: `next_lines` cache
    /// lines every [`NEXT_WORDS`] words.
    pub next: *const f32,
    pub next_lines: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Add to what `c` holds.
    pub accumulate: bool,
    pub finish: Finish,
}

/// The inner loops of one instruction set and one format of packed words.
///
/// # Safety
/// The machine must have the instruction set, and pointers must be valid for the elements that the
/// arguments describe.
pub(super) trait Kernel {
    /// The registers.
    type S: Simd;
    /// Words in a register.
    const LANES: usize = Self::S::LANES;
    /// Rows of the largest tile.
    const MR: usize = Self::S::MR;
    /// Columns of a panel.
    const NR: usize = Self::S::NR;
    /// Terms of the sum that a packed word holds.
    const TERMS: usize;

    /// Computes a tile of `1..=MR` rows and `1..=NR` columns.
    unsafe fn tile(t: &Tile);

    /// Packs `rows <= LANES` rows of `k` consecutive terms, `from[r * stride + i]`: term `i` of row
    /// `r` goes to word `to[i / TERMS * step + r]`. Rows up to `LANES` and terms of the last word
    /// beyond `k` are zeros.
    unsafe fn pack_transposed(
        rows: usize,
        k: usize,
        from: *const f32,
        stride: usize,
        to: *mut f32,
        step: usize,
    );

    /// Packs `cols` columns of `k` terms, `from[i * stride + c]`, into blocks of `width` columns:
    /// term `i` of column `c` goes to word `to[c / width * block + i / TERMS * step + c % width]`.
    /// `width <= step`, `step` is `LANES` or `NR`; terms of the last word beyond `k` are zeros, a
    /// block's words from `width` up to `step` are anything.
    unsafe fn pack_rows(
        k: usize,
        cols: usize,
        from: (*const f32, usize),
        width: usize,
        to: (*mut f32, usize),
        block: usize,
    );

    /// Adds the sum of all terms in `words` words of a packed first operand to `to[..rows]`.
    unsafe fn add_packed_sums(rows: usize, words: usize, a: *const f32, to: *mut f32);

    /// `y[r * y_stride] = act(<x[r], w> + bias)` for rows of `n` elements.
    unsafe fn dots(
        rows: usize,
        n: usize,
        x: (*const f32, usize),
        w: *const f32,
        bias: f32,
        relu: bool,
        y: (*mut f32, usize),
    );

    /// `dx[r] = g[r * stride] * w`, gated as [`Finish::Gate`] says, for rows of `n` elements; `dx[r]
    /// += ...` if `add`.
    unsafe fn outer(
        rows: usize,
        n: usize,
        g: (*const f32, usize),
        w: *const f32,
        gate: Option<(*const f32, usize, f32)>,
        add: bool,
        dx: (*mut f32, usize),
    );

    /// `to[..n] = sum_r g[r * stride] * x[r]`, in the order of the rows.
    unsafe fn weighted_sum(
        rows: usize,
        n: usize,
        g: (*const f32, usize),
        x: (*const f32, usize),
        to: *mut f32,
    );

    /// `to[i] = sum_p parts[p * stride + i]` for `n` elements, in the order of the parts.
    unsafe fn sum_parts(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32);
}

/// Compiles the inner loops for a name: its registers, its format, its tile heights, then the
/// attributes that enable them.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $simd:ty, $format:ty, [$($rows:literal)*] $(, #[$feature:meta])?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(in crate::backend::cpu::gemm) struct $name;

        impl $name {
            $(#[$feature])?
            unsafe fn tile_of<const M: usize, const V: usize>(t: &Tile) {
                // SAFETY: as the caller's.
                unsafe { tile::<$simd, $format, M, V>(t) }
            }
        }

        // SAFETY (all blocks): as the caller's.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "each block hands the promise on; said above")]
        impl Kernel for $name {
            type S = $simd;
            const TERMS: usize = <$format as Format<$simd>>::TERMS;

            unsafe fn tile(t: &Tile) {
                unsafe {
                    match (t.rows, t.cols > <$simd>::LANES) {
                        $(($rows, false) => $name::tile_of::<$rows, 1>(t),
                        ($rows, true) => $name::tile_of::<$rows, 2>(t),)*
                        _ => unreachable!("tiles of {} rows are not made", t.rows),
                    }
                }
            }

            $(#[$feature])?
            unsafe fn pack_transposed(rows: usize, k: usize, from: *const f32, stride: usize, to: *mut f32, step: usize) {
                unsafe { pack_transposed::<$simd, $format, { <$simd>::LANES }>(rows, k, from, stride, to, step) }
            }

            $(#[$feature])?
            unsafe fn pack_rows(
                k: usize, cols: usize, from: (*const f32, usize), width: usize, to: (*mut f32, usize), block: usize,
            ) {
                unsafe { pack_rows::<$simd, $format>(k, cols, from, width, to, block) }
            }

            $(#[$feature])?
            unsafe fn add_packed_sums(rows: usize, words: usize, a: *const f32, to: *mut f32) {
                unsafe { add_packed_sums::<$simd, $format>(rows, words, a, to) }
            }

            $(#[$feature])?
            unsafe fn dots(
                rows: usize, n: usize, x: (*const f32, usize), w: *const f32, bias: f32, relu: bool, y: (*mut f32, usize),
            ) {
                unsafe { dots::<$simd>(rows, n, x, w, bias, relu, y) }
            }

            $(#[$feature])?
            unsafe fn outer(
                rows: usize, n: usize, g: (*const f32, usize), w: *const f32, gate: Option<(*const f32, usize, f32)>,
                add: bool, dx: (*mut f32, usize),
            ) {
                unsafe { outer::<$simd>(rows, n, g, w, gate, add, dx) }
            }

            $(#[$feature])?
            unsafe fn weighted_sum(rows: usize, n: usize, g: (*const f32, usize), x: (*const f32, usize), to: *mut f32) {
                unsafe { weighted_sum::<$simd>(rows, n, g, x, to) }
            }

            $(#[$feature])?
            unsafe fn sum_parts(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32) {
                unsafe { sum_parts::<$simd>(parts, n, from, stride, to) }
            }
        }
    };
}

/// Names of the kernels, one for each instruction set and format.
pub(super) mod kernels {
    #[cfg(target_arch = "x86_64")]
    use super::super::{avx2::Avx2, avx512::Avx512, format::Bf16Pairs};
    use super::{super::portable::Portable, *};

    kernel!(PortableF32, Portable, F32, [1 2 3 4]);
    kernel!(PortableBf16, Portable, Bf16, [1 2 3 4]);
    kernel!(PortableF16, Portable, F16, [1 2 3 4]);

    /// The AVX2 kernels.
    #[cfg(target_arch = "x86_64")]
    macro_rules! avx2 {
        ($name:ident, $format:ty) => { kernel!($name, Avx2, $format, [1 2 3 4 5 6], #[target_feature(enable = "avx2,fma,f16c")]); };
    }
    /// The AVX-512 kernels.
    #[cfg(target_arch = "x86_64")]
    macro_rules! avx512 {
        ($name:ident, $format:ty, $features:literal) => {
            kernel!($name, Avx512, $format, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], #[target_feature(enable = $features)]);
        };
    }
    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use super::*;
        avx2!(Avx2F32, F32);
        avx2!(Avx2Bf16, Bf16);
        avx2!(Avx2F16, F16);
        avx512!(Avx512F32, F32, "avx512f,avx2,fma");
        avx512!(Avx512Bf16, Bf16, "avx512f,avx2,fma");
        avx512!(Avx512F16, F16, "avx512f,avx2,fma");
        avx512!(Avx512Bf16Pairs, Bf16Pairs, "avx512f,avx512bw,avx512bf16,avx2,fma");
    }
    #[cfg(target_arch = "x86_64")]
    pub(in crate::backend::cpu::gemm) use x86::*;
}
