//! Dot interaction of DLRM by tensor cores: operands in 16 bits or TF32, sums in f32.

use super::{
    driver::{Driver, Launch, Plain, Source, gemm::Number},
    interaction::BLOCKS,
    launch::launch,
    memory::Place,
};
use crate::backend::{BackendError, DotShape, Result};

pub(super) static SOURCE: Source = Source {
    name: "dot_tensor",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/sixteen.cuh"),
        include_str!("common/mma.cuh"),
        include_str!("common/pairs.cuh"),
        include_str!("dot_tensor.cu"),
    ],
};

/// Most warps of a block, a sample each.
const WARPS: usize = 4;

/// `Shape` of dot_tensor.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Shape {
    samples: u32,
    n: u32,
    d: u32,
    self_interaction: u32,
    t_stride: u32,
    r_stride: u32,
    dt_stride: u32,
    cols: u32,
    shared: u32,
    t_pieces: u32,
    r_pieces: u32,
    dt_pieces: u32,
}
// SAFETY: twelve numbers of 32 bits.
unsafe impl Plain for Shape {}

/// Bytes of shared memory that a sample with `width` elements of pairs and direct part takes.
fn sample_bytes(width: usize, number: Number) -> usize {
    (width * number.bytes()).next_multiple_of(16)
}

/// Whether a sample's output of `width` elements can be waited for in `shared` bytes of shared
/// memory.
///
/// # Errors
/// If it is too much.
pub(super) fn check(shape: DotShape, width: usize, number: Number, shared: usize) -> Result<()> {
    let bytes = sample_bytes(width, number);
    if bytes <= shared {
        return Ok(());
    }
    let features = shape.features;
    let what = format!(
        "an interaction of {features} vectors needs {bytes} bytes of shared memory, {shared} are there"
    );
    Err(BackendError::Device(what))
}

/// Blocks of as many samples as fit into `shared` bytes. Each sample is one warp's alone: how many
/// share a block changes no sum.
fn blocks(samples: u32, bytes: usize, shared: usize) -> Launch {
    let warps = (shared / bytes.max(1)).clamp(1, WARPS);
    let grid = (samples as usize).div_ceil(warps).clamp(1, BLOCKS) as u32;
    Launch { grid: [grid, 1, 1], block: [32 * warps as u32, 1, 1], shared: (warps * bytes) as u32 }
}

/// What kernels are told; `r` is the output or its gradient.
fn shape(dot: DotShape, width: usize, t: Place, r: Place, dt: Place) -> Shape {
    let number = t.number;
    assert!(r.number == number && dt.number == number, "an interaction in numbers of one kind");
    let whole = (dot.dim * number.bytes()).is_multiple_of(16);
    Shape {
        samples: t.rows,
        n: dot.features as u32,
        d: dot.dim as u32,
        self_interaction: u32::from(dot.self_interaction),
        t_stride: t.stride,
        r_stride: r.stride,
        dt_stride: dt.stride,
        cols: r.cols,
        shared: (sample_bytes(width, number) / number.bytes()) as u32,
        t_pieces: u32::from(whole && t.in_pieces()),
        r_pieces: u32::from(whole && r.in_pieces()),
        dt_pieces: u32::from(whole && dt.in_pieces()),
    }
}

/// The vectors, the elements of `R` before padding, and the bytes of shared memory that a block can
/// have.
type Room = (DotShape, usize, usize);

/// `T` -> `R`.
pub(super) fn forward(
    driver: &dyn Driver,
    (dot, width, shared): Room,
    t: Place,
    out: Place,
) -> Result<()> {
    let (launch, shape) =
        (blocks(t.rows, sample_bytes(width, t.number), shared), shape(dot, width, t, out, t));
    match t.number {
        Number::F32 => launch!(driver, SOURCE, "dot_forward_tf32", launch, shape, t.at, out.at),
        Number::Bf16 => launch!(driver, SOURCE, "dot_forward_bf16", launch, shape, t.at, out.at),
        Number::F16 => launch!(driver, SOURCE, "dot_forward_f16", launch, shape, t.at, out.at),
    }
}

/// `dR` -> `dT`, every element overwritten.
pub(super) fn backward(
    driver: &dyn Driver,
    (dot, width, shared): Room,
    t: Place,
    dout: Place,
    dt: Place,
) -> Result<()> {
    let (launch, shape) =
        (blocks(t.rows, sample_bytes(width, t.number), shared), shape(dot, width, t, dout, dt));
    match t.number {
        Number::F32 => {
            launch!(driver, SOURCE, "dot_backward_tf32", launch, shape, t.at, dout.at, dt.at)
        }
        Number::Bf16 => {
            launch!(driver, SOURCE, "dot_backward_bf16", launch, shape, t.at, dout.at, dt.at)
        }
        Number::F16 => {
            launch!(driver, SOURCE, "dot_backward_f16", launch, shape, t.at, dout.at, dt.at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_as_many_samples_as_their_memory_holds() {
        let of = |kib: usize, bytes| {
            let Launch { grid, block, shared } = blocks(70, bytes, kib << 10);
            assert!(shared as usize <= kib << 10);
            (grid[0], block[0], shared as usize)
        };
        assert_eq!(of(227, 40_000), (18, 128, 160_000));
        assert_eq!(of(99, 40_000), (35, 64, 80_000));
        assert_eq!(of(99, 99 << 10), (70, 32, 99 << 10));
    }
}
