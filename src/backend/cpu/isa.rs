//! Lets the compiler vectorise plain loops for the instruction set that the machine has.

use super::gemm::Isa;

/// Runs `f` compiled for `isa`, provided that what `f` does is inlined into it. Plain Rust arithmetic gives the same bits in every
/// instruction set, since the compiler neither reorders sums nor fuses products with sums.
#[inline]
pub fn vectorised<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    debug_assert!(isa.available());
    match isa {
        // SAFETY: an `Isa` other than `Portable` is only made where the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512(f) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(f) },
        _ => f(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}
