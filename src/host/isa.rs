//! Which instruction set the matrix products use.

/// Overrides the choice of [`Isa::detect`]: `avx512bf16`, `avx512`, `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "DLRM_BENCH_ISA";

/// An instruction set with kernels of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust; what the compiler makes of it for the target's baseline.
    Portable,
    /// AVX2 with FMA and F16C: 8 floats a register.
    Avx2,
    /// AVX-512F: 16 floats a register.
    Avx512,
    /// AVX-512 with products of bf16 (AVX512-BF16, AVX512-BW).
    Avx512Bf16,
}

impl Isa {
    /// Every instruction set, best last.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];

    /// The best instruction set of this machine, or the one that the environment variable
    /// `DLRM_BENCH_ISA` names if this machine has it. An unknown or unavailable name is an error,
    /// so that nobody measures something else than was asked for.
    pub fn detect() -> Result<Isa, IsaError> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) => Isa::named(&name),
            Err(std::env::VarError::NotPresent) => Ok(Isa::best()),
            Err(std::env::VarError::NotUnicode(name)) => {
                Err(IsaError::Unknown(name.to_string_lossy().into_owned()))
            }
        }
    }

    /// The best instruction set of this machine.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Portable)
    }

    /// The instruction set of this name, if this machine has it.
    pub fn named(name: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| IsaError::Unknown(name.to_string()))?;
        if isa.available() { Ok(isa) } else { Err(IsaError::Unavailable(isa.name())) }
    }

    /// Its name: `portable`, `avx2`, `avx512`, `avx512bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && Isa::Avx2.available(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512bw")
                    && Isa::Avx512.available()
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Does a piece of work compiled for AVX2 where the machine has it; with the same result, so long as
/// the work computes nothing that depends on an instruction set. The closure, and all that it calls,
/// must be `#[inline(always)]`: what is called stays compiled for any machine. (It is called by
/// reference, since `FnOnce` would put a function in between that cannot be marked so.)
pub fn wide<R>(mut work: impl FnMut() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(work: &mut impl FnMut() -> R) -> R {
            work()
        }
        if Isa::Avx2.available() {
            // SAFETY: the machine has it.
            return unsafe { avx2(&mut work) };
        }
    }
    work()
}

/// Why an instruction set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No such name.
    #[error(
        "{ISA_VARIABLE}={0}: unknown instruction set; use avx512bf16, avx512, avx2 or portable"
    )]
    Unknown(String),
    /// This machine lacks it.
    #[error("{ISA_VARIABLE}={0}: this machine does not have it; it has {best}", best = Isa::best().name())]
    Unavailable(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_refused() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        let error = Isa::named("sse9").unwrap_err().to_string();
        assert!(
            error.contains("DLRM_BENCH_ISA=sse9")
                && error.contains("avx512bf16, avx512, avx2 or portable"),
            "{error}"
        );
    }
}
