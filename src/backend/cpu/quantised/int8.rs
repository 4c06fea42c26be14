//! Layers of whole numbers: inputs are rounded to bytes by the range of the whole batch, weights
//! were, and the products are exact sums. The same bits on every CPU and for any number of threads.
//!
//! The formulas are those of PyTorch's dynamic quantisation with the engine fbgemm: for inputs
//! `ChooseQuantizationParams` with `reduce_range` (pytorch,
//! aten/src/ATen/native/quantized/cpu/QuantUtils.h) and `QuantizeAvx2` (FBGEMM,
//! src/QuantUtilsAvx2.cc), for weights `MinMaxObserver` with
//! `per_tensor_symmetric` (pytorch, torch/ao/quantization/observer.py), for results
//! `ReQuantizeForFloat` (FBGEMM, include/fbgemm/OutputProcessing-inl.h).

mod products;

use crate::{
    backend::{
        BackendError, Result,
        cpu::{
            elementwise::for_rows,
            gemm::{LinearShape, Rows, RowsMut},
            simd::{Kernel, Lanes, launch},
        },
    },
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
};
use products::{STEP, TILE, products};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Samples and outputs of a chunk.
const BLOCK: [usize; 2] = [64, 64];
/// Most inputs of a layer: then no sum leaves 32 bits.
const MOST_INPUTS: usize = 1 << 16;
/// Inputs have codes from 0 to this.
const LEVELS: f64 = 127.0;
/// Scales of inputs are not smaller (`SMALL_SCALE_THRESHOLD`).
const LEAST_SCALE: f32 = 6.1e-5;

/// Bytes of a row of codes.
fn padded(inputs: usize) -> usize {
    inputs.next_multiple_of(STEP)
}

/// `n` zeros, or an error.
pub(super) fn zeros<T: Default + Clone>(n: usize, what: &str) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let bytes = (n * size_of::<T>()) as u64;
    all.try_reserve_exact(n).map_err(|_| BackendError::Memory { what: what.to_owned(), bytes })?;
    all.resize(n, T::default());
    Ok(all)
}

/// A weight `[outputs, inputs]`: `scale * code`.
#[derive(Debug)]
pub struct Weight {
    inputs: usize,
    /// `[outputs, padded(inputs)]`.
    codes: Vec<i8>,
    /// The sum of each output's codes.
    sums: Vec<i32>,
    scale: f32,
}

impl Weight {
    /// Bytes that a weight takes.
    pub fn bytes(outputs: usize, inputs: usize) -> usize {
        outputs * (padded(inputs) + size_of::<i32>()) + size_of::<f32>()
    }

    /// Zeros.
    ///
    /// # Errors
    /// If memory cannot be had, or there are so many inputs that sums would not fit 32 bits.
    pub fn zeros(outputs: usize, inputs: usize) -> Result<Self> {
        if inputs > MOST_INPUTS {
            return Err(BackendError::Device(format!(
                "a layer of {inputs} inputs cannot be int8, but at most {MOST_INPUTS}"
            )));
        }
        let what = "int8 weights";
        let (codes, sums) = (zeros(outputs * padded(inputs), what)?, zeros(outputs, what)?);
        Ok(Weight { inputs, codes, sums, scale: f32::EPSILON })
    }

    /// Numbers.
    pub fn numbers(&self) -> usize {
        self.inputs * self.sums.len()
    }

    /// Bytes that it takes.
    pub fn held(&self) -> usize {
        self.codes.len() + self.sums.len() * size_of::<i32>() + size_of_val(&self.scale)
    }

    /// Sets all elements. If one is not finite, all are NaN.
    pub fn quantise(&mut self, w: &[f32]) {
        let most = w.iter().fold(0f32, |most, v| most.max(v.abs()));
        self.scale = if w.iter().all(|v| v.is_finite()) {
            (most / 127.5).max(f32::EPSILON)
        } else {
            f32::NAN
        };
        let inverse = 1.0 / self.scale;
        let rows = self.codes.chunks_exact_mut(padded(self.inputs).max(1));
        for ((row, sum), w) in rows.zip(&mut self.sums).zip(w.chunks_exact(self.inputs.max(1))) {
            for (code, &v) in row.iter_mut().zip(w) {
                *code = (v * inverse).round_ties_even().clamp(-128.0, 127.0) as i8;
            }
            *sum = row.iter().map(|&code| i32::from(code)).sum();
        }
    }

    /// Copies elements `first..` out.
    pub fn read(&self, first: usize, out: &mut [f32]) {
        let width = padded(self.inputs);
        for (i, o) in out.iter_mut().enumerate() {
            let (row, c) = ((first + i) / self.inputs, (first + i) % self.inputs);
            *o = f32::from(self.codes[row * width + c]) * self.scale;
        }
    }
}

/// How a batch's inputs are rounded: `x` is `scale * (code - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct InputScale {
    scale: f32,
    zero: i32,
}

impl InputScale {
    /// For inputs between `min` and `max`. NaN if they are not finite.
    fn of(min: f32, max: f32) -> Self {
        if !min.is_finite() || !max.is_finite() {
            return InputScale { scale: f32::NAN, zero: 0 };
        }
        let (mut min, mut max) = (min.min(0.0), max.max(0.0));
        let mut scale = (f64::from(max) - f64::from(min)) / LEVELS;
        if scale as f32 == 0.0 || (1.0 / scale as f32).is_infinite() {
            scale = 0.1;
        }
        let least = f64::from(LEAST_SCALE);
        if scale < least {
            let amplifier = LEAST_SCALE / scale as f32;
            scale = least;
            (min, max) = match (min == 0.0, max == 0.0) {
                (true, _) => (min, LEAST_SCALE * LEVELS as f32),
                (_, true) => (-LEAST_SCALE * LEVELS as f32, max),
                _ => (min * amplifier, max * amplifier),
            };
        }
        let (low, high) = (f64::from(min) / scale, f64::from(max) / scale);
        // Of both ends that which is known better.
        let zero = if -low.abs() < LEVELS - high.abs() { -low } else { LEVELS - high };
        let zero = zero.clamp(0.0, LEVELS).round_ties_even() as i32;
        InputScale { scale: scale as f32, zero }
    }
}

/// Room for the codes of a batch's inputs.
#[derive(Debug, Default)]
pub struct Inputs {
    codes: Vec<u8>,
}

impl Inputs {
    /// Makes room for `samples` samples of a layer's inputs.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn plan(&mut self, samples: usize, inputs: usize) -> Result<()> {
        let bytes = samples * padded(inputs);
        if bytes > self.codes.len() {
            self.codes = zeros(bytes, "int8 inputs of layers")?;
        }
        Ok(())
    }

    /// Rounds a batch's inputs.
    fn fill(
        &mut self,
        pool: &Pool,
        isa: Isa,
        (rows, cols): (usize, usize),
        x: Rows<'_>,
    ) -> InputScale {
        let (least, most) = (AtomicI32::new(i32::MAX), AtomicI32::new(i32::MIN));
        for_rows(pool, rows, cols, |rows| {
            let (mut low, mut high) = (i32::MAX, i32::MIN);
            for r in rows {
                let row = &x.data[r * x.stride..][..cols];
                launch(isa, Range { row, low: &mut low, high: &mut high });
            }
            least.fetch_min(low, Relaxed);
            most.fetch_max(high, Relaxed);
        });
        let of = |ordered: AtomicI32| f32::from_bits(ordered_bits(ordered.into_inner()) as u32);
        let scale = InputScale::of(of(least), of(most));
        let width = padded(cols);
        let codes = SharedMut::new(&mut self.codes[..rows * width]);
        for_rows(pool, rows, cols, |rows| {
            for r in rows {
                // SAFETY: each row belongs to one chunk.
                let (to, tail) = unsafe { codes.slice(r * width, width) }.split_at_mut(cols);
                launch(isa, Round { scale, row: &x.data[r * x.stride..][..cols], to });
                tail.fill(0);
            }
        });
        scale
    }
}

/// From the bits of an f32 to a number that is ordered as it is, infinity below NaN, and back.
#[inline(always)]
fn ordered_bits(bits: i32) -> i32 {
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// Least and greatest of a row, as [`ordered_bits`].
struct Range<'a> {
    row: &'a [f32],
    low: &'a mut i32,
    high: &'a mut i32,
}

impl Kernel for Range<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (mut low, mut high) = (*self.low, *self.high);
        for v in self.row {
            let bits = ordered_bits(v.to_bits() as i32);
            low = low.min(bits);
            high = high.max(bits);
        }
        (*self.low, *self.high) = (low, high);
    }
}

/// The codes of a row.
struct Round<'a> {
    scale: InputScale,
    row: &'a [f32],
    to: &'a mut [u8],
}

impl Kernel for Round<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (inverse, zero) = (1.0 / self.scale.scale, self.scale.zero as f32);
        for (to, v) in self.to.iter_mut().zip(self.row) {
            *to = v.mul_add(inverse, zero).round_ties_even() as u8;
        }
    }
}

/// `Y = X W^T + b`, then the ReLU if there is one; a bias of zeros if there is none.
///
/// # Panics
/// If shapes do not fit, or there is no room for the batch ([`Inputs::plan`]).
pub fn forward(
    (pool, isa): (&Pool, Isa),
    inputs: &mut Inputs,
    s: LinearShape,
    x: Rows<'_>,
    w: &Weight,
    (bias, relu): (Option<&[f32]>, bool),
    y: RowsMut<'_>,
) {
    if s.batch == 0 {
        return;
    }
    assert!(s.input == w.inputs && s.output == w.sums.len(), "a weight of another layer");
    assert!(bias.is_none_or(|b| b.len() == s.output), "a bias for each output");
    assert!(y.stride >= s.output || s.batch <= 1, "rows of results overlap");
    let InputScale { scale, zero } = inputs.fill(pool, isa, (s.batch, s.input), x);
    let (scale, width) = (scale * w.scale, padded(s.input));
    let blocks = [s.batch.div_ceil(BLOCK[0]), s.output.div_ceil(BLOCK[1])];
    let (stride, y) = (y.stride, SharedMut::new(y.data));
    pool.run(blocks[0] * blocks[1], |chunk, _| {
        let rows = chunk / blocks[1] * BLOCK[0];
        let outputs = chunk % blocks[1] * BLOCK[1];
        let (last_row, last_output) =
            (s.batch.min(rows + BLOCK[0]), s.output.min(outputs + BLOCK[1]));
        for first in (rows..last_row).step_by(TILE[0]) {
            for output in (outputs..last_output).step_by(TILE[1]) {
                let tile = [TILE[0].min(last_row - first), TILE[1].min(last_output - output)];
                let x = &inputs.codes[first * width..][..tile[0] * width];
                let codes = &w.codes[output * width..][..tile[1] * width];
                let sums = products(isa, tile, width, x, codes);
                for (r, sums) in sums.iter().enumerate().take(tile[0]) {
                    // SAFETY: each element belongs to one chunk.
                    let to = unsafe { y.slice((first + r) * stride + output, tile[1]) };
                    for (c, to) in to.iter_mut().enumerate() {
                        let sum = sums[c] - zero * w.sums[output + c];
                        let b = bias.map_or(0.0, |b| b[output + c]);
                        let v = (sum as f32).mul_add(scale, b);
                        *to = if relu && v < 0.0 { 0.0 } else { v };
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
