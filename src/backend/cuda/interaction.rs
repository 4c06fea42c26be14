//! Dot interaction of DLRM: in f32 here, by tensor cores where products round their operands ([`super::dot_tensor`]).

use super::{
    dot_tensor,
    driver::{Driver, Launch, Source},
    launch::launch,
    linear,
    memory::Place,
};
use crate::backend::{BackendError, DotShape, Precision, Result};

pub(super) static SOURCE: Source = Source {
    name: "interaction",
    parts: &[include_str!("common/common.cuh"), include_str!("common/pairs.cuh"), include_str!("interaction.cu")],
};

/// Bytes of shared memory that a block may have on all GPUs from Ampere on.
pub(super) const SHARED: usize = 160 << 10;

/// Most blocks of a launch.
pub(super) const BLOCKS: usize = 1 << 16;

/// The interaction of vectors of one shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dot {
    shape: DotShape,
    precision: Precision,
    /// Floats from one row of `T` to the next in shared memory: whole vectors of four, not all beginning at the same bank.
    pitch: usize,
}

impl Dot {
    /// # Errors
    /// If the vectors of a sample do not fit into shared memory.
    pub(super) fn new(shape: DotShape, precision: Precision) -> Result<Self> {
        let pitch = shape.dim.next_multiple_of(4);
        let dot = Dot { shape, precision, pitch: if pitch.is_multiple_of(32) { pitch + 4 } else { pitch } };
        if precision != Precision::Fp32 {
            dot_tensor::check(shape, dot.width(), linear::operands(precision))?;
            return Ok(dot);
        }
        let bytes = dot.forward_shared().max(dot.backward_shared());
        if bytes <= SHARED {
            return Ok(dot);
        }
        let DotShape { features, dim, .. } = shape;
        let what = format!(
            "an interaction of {features} vectors of {dim} elements needs {bytes} bytes of shared memory, {SHARED} are there"
        );
        Err(BackendError::Device(what))
    }

    fn forward_shared(&self) -> usize {
        self.shape.features.next_multiple_of(4) * self.pitch * size_of::<f32>()
    }

    /// Floats of a row of the symmetric matrix.
    fn backward_pitch(&self) -> usize {
        self.shape.features.next_multiple_of(16)
    }

    fn backward_shared(&self) -> usize {
        self.shape.features * self.backward_pitch() * size_of::<f32>()
    }

    /// Elements of an output row before padding.
    fn width(&self) -> usize {
        let DotShape { features: n, dim, itself } = self.shape;
        dim + n * (n - 1) / 2 + if itself { n } else { 0 }
    }

    /// `T` -> `R`; all columns of `R` are written.
    pub(super) fn forward(&self, driver: &dyn Driver, t: Place, out: Place) -> Result<()> {
        let DotShape { features, dim, itself } = self.shape;
        assert!(t.cols as usize == features * dim && out.cols as usize >= self.width() && t.rows == out.rows, "shapes");
        if self.precision != Precision::Fp32 {
            return dot_tensor::forward(driver, self.shape, self.width(), t, out);
        }
        let tiles = features.div_ceil(4);
        let warps = (tiles * (tiles + 1) / 2).div_ceil(8).clamp(1, 8);
        let shape = Launch {
            grid: [(t.rows as usize).clamp(1, BLOCKS) as u32, 1, 1],
            block: [32, warps as u32, 1],
            shared: self.forward_shared() as u32,
        };
        let (n, d, itself, pitch) = (features as u32, dim as u32, u32::from(itself), self.pitch as u32);
        launch!(driver, SOURCE, "dot_forward", shape, t.at, t.stride, t.rows, n, d, itself, pitch, out.at, out.stride, out.cols)
    }

    /// `dR` -> `dT`, every element overwritten.
    pub(super) fn backward(&self, driver: &dyn Driver, t: Place, dout: Place, dt: Place) -> Result<()> {
        let DotShape { features, dim, itself } = self.shape;
        assert!(t.cols as usize == features * dim && dt.cols == t.cols && dout.cols as usize >= self.width(), "shapes");
        assert!(t.rows == dout.rows && t.rows == dt.rows, "as many samples everywhere");
        if self.precision != Precision::Fp32 {
            return dot_tensor::backward(driver, self.shape, self.width(), t, dout, dt);
        }
        let shape = Launch {
            grid: [(t.rows as usize).clamp(1, BLOCKS) as u32, 1, 1],
            block: [dim.next_multiple_of(32).min(256) as u32, 1, 1],
            shared: self.backward_shared() as u32,
        };
        let (n, d, itself, pitch) = (features as u32, dim as u32, u32::from(itself), self.backward_pitch() as u32);
        launch!(
            driver,
            SOURCE,
            "dot_backward",
            shape,
            t.at,
            t.stride,
            t.rows,
            n,
            d,
            itself,
            pitch,
            dout.at,
            dout.stride,
            dt.at,
            dt.stride
        )
    }
}
