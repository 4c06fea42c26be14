//! cuBLASLt's products as its documentation defines them, in plain loops: what products on the
//! emulated device do, and what tests of launchers compare a GPU's with.

use crate::{
    backend::cuda::driver::{
        Address,
        gemm::{BitMask, Compute, Epilogue, Gemm, Number, Operand},
    },
    embedding::sixteen,
};

/// Number `at` of a matrix or vector.
unsafe fn load(from: Address, number: Number, at: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        match number {
            Number::F32 => *(from as *const f32).add(at),
            Number::Bf16 => sixteen::from_bf16(*(from as *const u16).add(at)),
            Number::F16 => sixteen::from_f16(*(from as *const u16).add(at)),
        }
    }
}

/// Sets number `at` to the nearest.
unsafe fn store(to: Address, number: Number, at: usize, x: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match number {
            Number::F32 => *(to as *mut f32).add(at) = x,
            Number::Bf16 => *(to as *mut u16).add(at) = sixteen::to_bf16(x),
            Number::F16 => *(to as *mut u16).add(at) = sixteen::to_f16(x),
        }
    }
}

/// Element `(i, j)` of op(matrix).
unsafe fn element(o: Operand, number: Number, compute: Compute, i: usize, j: usize) -> f32 {
    let (i, j) = if o.transposed { (j, i) } else { (i, j) };
    // SAFETY: the caller's promise.
    let x = unsafe { load(o.at, number, i + j * o.stride) };
    match (number, compute) {
        // To 10 bits behind the point, ties away from zero.
        (Number::F32, Compute::Tf32) => f32::from_bits(x.to_bits().wrapping_add(0x1000) & !0x1fff),
        _ => x,
    }
}

/// The byte that holds the bit of element `(i, j)`, and the bit in it.
fn bit(mask: BitMask, i: usize, j: usize) -> (*mut u8, u8) {
    let at = i + j * mask.stride;
    ((mask.at as *mut u8).wrapping_add(at / 8), 1 << (at % 8))
}

/// What follows element `(i, j)`, whose sum is `x`.
unsafe fn end(g: &Gemm, i: usize, j: usize, x: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        match g.epilogue {
            Epilogue::None | Epilogue::SumsOfB(_) => x,
            Epilogue::Bias(bias) => x + load(bias, g.result, i),
            Epilogue::BiasRelu(bias) => (x + load(bias, g.result, i)).max(0.0),
            Epilogue::BiasReluMask(bias, mask) => {
                let x = x + load(bias, g.result, i);
                let (byte, bit) = bit(mask, i, j);
                *byte = if x > 0.0 { *byte | bit } else { *byte & !bit };
                x.max(0.0)
            }
            Epilogue::ReluGradient(mask) => {
                let (byte, bit) = bit(mask, i, j);
                if *byte & bit == 0 { 0.0 } else { x }
            }
        }
    }
}

/// One product, summed in f64. Panics where the library would refuse the layout.
///
/// # Safety
/// The matrices must lie in memory that may be used so.
pub(in crate::backend::cuda::driver) unsafe fn product(g: &Gemm) {
    assert!(!g.d.transposed && g.d.stride >= g.m, "columns of D hold {} elements", g.m);
    assert!(
        g.result == Number::F32 || g.result == g.number,
        "results in f32 or the operands' numbers: {g:?}"
    );
    if let Some(mask) = g.epilogue.mask() {
        assert!(
            mask.at.is_multiple_of(16) && mask.stride.is_multiple_of(128) && mask.stride >= g.m,
            "layout of bits: {g:?}"
        );
    }
    let rows = |o: Operand, rows: usize, cols: usize| {
        assert!(o.stride >= if o.transposed { cols } else { rows }, "{g:?}")
    };
    rows(g.a, g.m, g.k);
    rows(g.b, g.k, g.n);
    // SAFETY: the caller's promise.
    unsafe {
        // Read once, not for each column: large products would take minutes.
        let mut a = Vec::with_capacity(g.m * g.k);
        for k in 0..g.k {
            a.extend((0..g.m).map(|i| f64::from(element(g.a, g.number, g.compute, i, k))));
        }
        let mut sums = vec![0.0f64; g.m];
        for j in 0..g.n {
            sums.fill(0.0);
            for k in 0..g.k {
                let b = f64::from(element(g.b, g.number, g.compute, k, j));
                sums.iter_mut().zip(&a[k * g.m..]).for_each(|(sum, a)| *sum += a * b);
            }
            for (i, &sum) in sums.iter().enumerate() {
                let at = i + j * g.d.stride;
                let there = if g.add { f64::from(load(g.d.at, g.result, at)) } else { 0.0 };
                store(g.d.at, g.result, at, end(g, i, j, (there + sum) as f32));
            }
            if let Epilogue::SumsOfB(out) = g.epilogue {
                let sum: f64 =
                    (0..g.k).map(|k| f64::from(element(g.b, g.number, Compute::Plain, k, j))).sum();
                store(out, Number::F32, j, sum as f32);
            }
        }
    }
}
