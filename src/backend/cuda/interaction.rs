//! Dot interaction of DLRM: in f32 here, by tensor cores where products round their operands
//! ([`super::dot_tensor`]).

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
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/pairs.cuh"),
        include_str!("interaction.cu"),
    ],
};

/// Most blocks of a launch.
pub(super) const BLOCKS: usize = 1 << 16;

/// The interaction of vectors of one shape.
#[derive(Debug, Clone, Copy)]
pub struct Dot {
    shape: DotShape,
    precision: Precision,
    /// Floats from one row of `T` to the next in shared memory: whole vectors of four, not all
    /// beginning at the same bank.
    pitch: usize,
    /// Bytes of shared memory that a block can have.
    shared: usize,
}

impl Dot {
    /// On a device whose blocks can have `shared` bytes of shared memory.
    ///
    /// # Errors
    /// If the vectors of a sample do not fit into them.
    pub(super) fn new(shape: DotShape, precision: Precision, shared: usize) -> Result<Self> {
        let pitch = shape.dim.next_multiple_of(4);
        let dot = Dot {
            shape,
            precision,
            pitch: if pitch.is_multiple_of(32) { pitch + 4 } else { pitch },
            shared,
        };
        if precision != Precision::Fp32 {
            dot_tensor::check(shape, dot.width(), linear::operands(precision), shared)?;
            return Ok(dot);
        }
        let bytes = dot.forward_shared().max(dot.backward_shared());
        if bytes <= shared {
            return Ok(dot);
        }
        let DotShape { features, dim, .. } = shape;
        let what = format!(
            "an interaction of {features} vectors of {dim} elements needs {bytes} bytes of shared memory, {shared} are there"
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
        let DotShape { features: n, dim, self_interaction } = self.shape;
        dim + n * (n - 1) / 2 + if self_interaction { n } else { 0 }
    }

    /// `T` -> `R`; all columns of `R` are written.
    pub(super) fn forward(&self, driver: &dyn Driver, t: Place, out: Place) -> Result<()> {
        let DotShape { features, dim, self_interaction } = self.shape;
        assert!(
            t.cols as usize == features * dim
                && out.cols as usize >= self.width()
                && t.rows == out.rows,
            "shapes"
        );
        if self.precision != Precision::Fp32 {
            return dot_tensor::forward(driver, (self.shape, self.width(), self.shared), t, out);
        }
        let tiles = features.div_ceil(4);
        let warps = (tiles * (tiles + 1) / 2).div_ceil(8).clamp(1, 8);
        let shape = Launch {
            grid: [(t.rows as usize).clamp(1, BLOCKS) as u32, 1, 1],
            block: [32, warps as u32, 1],
            shared: self.forward_shared() as u32,
        };
        let (n, d, self_interaction, pitch) =
            (features as u32, dim as u32, u32::from(self_interaction), self.pitch as u32);
        launch!(
            driver,
            SOURCE,
            "dot_forward",
            shape,
            t.at,
            t.stride,
            t.rows,
            n,
            d,
            self_interaction,
            pitch,
            out.at,
            out.stride,
            out.cols
        )
    }

    /// `dR` -> `dT`, every element overwritten.
    pub(super) fn backward(
        &self,
        driver: &dyn Driver,
        t: Place,
        dout: Place,
        dt: Place,
    ) -> Result<()> {
        let DotShape { features, dim, self_interaction } = self.shape;
        assert!(
            t.cols as usize == features * dim
                && dt.cols == t.cols
                && dout.cols as usize >= self.width(),
            "shapes"
        );
        assert!(t.rows == dout.rows && t.rows == dt.rows, "as many samples everywhere");
        if self.precision != Precision::Fp32 {
            return dot_tensor::backward(
                driver,
                (self.shape, self.width(), self.shared),
                t,
                dout,
                dt,
            );
        }
        let shape = Launch {
            grid: [(t.rows as usize).clamp(1, BLOCKS) as u32, 1, 1],
            block: [dim.next_multiple_of(32).min(256) as u32, 1, 1],
            shared: self.backward_shared() as u32,
        };
        let (n, d, self_interaction, pitch) = (
            features as u32,
            dim as u32,
            u32::from(self_interaction),
            self.backward_pitch() as u32,
        );
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
            self_interaction,
            pitch,
            dout.at,
            dout.stride,
            dt.at,
            dt.stride
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_depends_on_the_shared_memory_of_the_device() {
        let fits = |features, dim, precision, kib: usize| {
            let made =
                Dot::new(DotShape { features, dim, self_interaction: false }, precision, kib << 10);
            made.map(|_| ()).map_err(|e| e.to_string())
        };
        // 200 rows of 208 floats.
        let refused = fits(200, 64, Precision::Fp32, 99).unwrap_err();
        assert!(
            refused.contains("needs 166400 bytes of shared memory, 101376 are there"),
            "{refused}"
        );
        assert_eq!(fits(200, 64, Precision::Fp32, 163), Ok(()));
        // 64 elements and 79,800 pairs, in 16 bits and in 32.
        assert!(fits(400, 64, Precision::Bf16, 99).unwrap_err().contains("159728 bytes"));
        assert_eq!(fits(400, 64, Precision::Bf16, 163), Ok(()));
        assert!(fits(400, 64, Precision::Tf32, 227).is_err());
    }
}
