//! The inner loop: one tile by one panel in registers, and what happens to the sums at the end.

use super::{
    format::Format,
    kernel::{Finish, NEXT_WORDS, Tile},
    plan::MAX_LANES,
    simd::Simd,
};

/// Words of a tile during which a cache line can arrive.
const FAR: usize = 32;

/// Words without a branch between. Counting them one by one is a fifth of the instructions, for which a
/// core that runs somebody else's thread too has no room.
const AT_ONCE: usize = 4;
const _: () = assert!(NEXT_WORDS.is_multiple_of(AT_ONCE));

#[inline(always)]
pub(super) unsafe fn tile<S: Simd, F: Format<S>, const M: usize, const V: usize>(t: &Tile) {
    // SAFETY: the caller's pointers; `V` registers hold the tile's columns.
    unsafe {
        // What the end will need comes while the sums are made, if they take long enough.
        for r in 0..if t.words < FAR { 0 } else { M } {
            for at in [0, S::LANES, V * S::LANES - 1] {
                S::prefetch(t.c.wrapping_add(r * t.c_stride + at));
                if let Finish::Gate { gate, stride, .. } = t.finish {
                    S::prefetch(gate.wrapping_add(r * stride + at));
                }
            }
        }
        let mut acc = [[S::zero(); V]; M];
        let (mut a, mut b, mut next) = (t.a, t.b, t.next);
        // A macro, since sums handed over by reference would be kept in memory.
        macro_rules! add_words {
            ($n:expr) => {
                for i in 0..$n {
                    let mut column = [S::zero(); V];
                    for (v, x) in column.iter_mut().enumerate() {
                        *x = S::load(b.add(i * S::NR + v * S::LANES));
                    }
                    for (r, row) in acc.iter_mut().enumerate() {
                        let x = S::splat(*a.add(i * S::LANES + r));
                        for (sum, y) in row.iter_mut().zip(column) {
                            *sum = F::mul_add(x, y, *sum);
                        }
                    }
                }
                a = a.add($n * S::LANES);
                b = b.add($n * S::NR);
            };
        }
        let mut left = t.words;
        while left >= NEXT_WORDS {
            for _ in 0..t.next_lines {
                S::prefetch_second(next);
                next = next.wrapping_add(MAX_LANES);
            }
            for _ in 0..NEXT_WORDS / AT_ONCE {
                add_words!(AT_ONCE);
            }
            left -= NEXT_WORDS;
        }
        for _ in 0..left / AT_ONCE {
            add_words!(AT_ONCE);
        }
        for _ in 0..left % AT_ONCE {
            add_words!(1);
        }
        if t.cols == V * S::LANES {
            finish_whole::<S, M, V>(t, acc);
        } else {
            finish_part::<S, M, V>(t, acc);
        }
    }
}

/// The end of a tile whose registers are all full: one branch, then straight code. (Sums come by
/// value: a reference would make the compiler keep them in memory, within the inner loop too.)
#[inline(always)]
unsafe fn finish_whole<S: Simd, const M: usize, const V: usize>(t: &Tile, mut acc: [[S::V; V]; M]) {
    // SAFETY: as the caller's.
    unsafe {
        if t.accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, z) in row.iter_mut().enumerate() {
                    *z = S::add(S::load(t.c.add(r * t.c_stride + v * S::LANES)), *z);
                }
            }
        }
        match t.finish {
            Finish::Store => {}
            Finish::Bias { bias, relu, bits, stride, factor } => {
                let mut b = [S::zero(); V];
                if !bias.is_null() {
                    for (v, b) in b.iter_mut().enumerate() {
                        *b = S::load(bias.add(v * S::LANES));
                    }
                }
                for row in acc.iter_mut() {
                    for (z, b) in row.iter_mut().zip(b) {
                        *z = S::add(*z, b);
                    }
                }
                if relu {
                    for row in acc.iter_mut() {
                        for z in row.iter_mut() {
                            *z = S::relu(*z);
                        }
                    }
                }
                if !bits.is_null() {
                    let factor = S::splat(factor);
                    for (r, row) in acc.iter_mut().enumerate() {
                        for (v, z) in row.iter_mut().enumerate() {
                            *z = S::keep(S::mul(*z, factor), bits.add(r * stride), v * S::LANES);
                        }
                    }
                }
            }
            Finish::Gate { gate, stride, factor } => {
                let factor = S::splat(factor);
                for (r, row) in acc.iter_mut().enumerate() {
                    for (v, z) in row.iter_mut().enumerate() {
                        *z = S::gate(
                            S::mul(*z, factor),
                            S::load(gate.add(r * stride + v * S::LANES)),
                        );
                    }
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, &z) in row.iter().enumerate() {
                S::store(t.c.add(r * t.c_stride + v * S::LANES), z);
            }
        }
    }
}

/// The end of a tile whose last registers are not full.
#[inline(always)]
unsafe fn finish_part<S: Simd, const M: usize, const V: usize>(t: &Tile, acc: [[S::V; V]; M]) {
    // SAFETY: as the caller's; registers beyond the tile's columns are not stored.
    unsafe {
        for (r, row) in acc.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                let (at, n) = (v * S::LANES, t.cols - v * S::LANES);
                let c = t.c.add(r * t.c_stride + at);
                let mut z = if t.accumulate { S::add(S::load_up_to(c, n), sum) } else { sum };
                match t.finish {
                    Finish::Store => {}
                    Finish::Bias { bias, relu, bits, stride, factor } => {
                        if !bias.is_null() {
                            z = S::add(z, S::load_up_to(bias.add(at), n));
                        }
                        z = if relu { S::relu(z) } else { z };
                        if !bits.is_null() {
                            z = S::keep(S::mul(z, S::splat(factor)), bits.add(r * stride), at);
                        }
                    }
                    Finish::Gate { gate, stride, factor } => {
                        z = S::gate(
                            S::mul(z, S::splat(factor)),
                            S::load_up_to(gate.add(r * stride + at), n),
                        );
                    }
                }
                S::store_up_to(c, n, z);
            }
        }
    }
}
