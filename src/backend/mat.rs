//! Matrices inside device buffers.

/// Columns of a buffer, for any number of rows: row `r` starts at element `at + r * stride` and
/// holds `cols` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Offset of the first element.
    pub at: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Elements of a row.
    pub cols: usize,
}

impl Window {
    /// A buffer that holds one matrix of `cols` columns and nothing else.
    pub fn whole(cols: usize) -> Self {
        Window { at: 0, stride: cols, cols }
    }

    /// Columns `from..from + cols` of the same rows.
    pub fn columns(self, from: usize, cols: usize) -> Self {
        debug_assert!(from + cols <= self.cols);
        Window { at: self.at + from, cols, ..self }
    }

    /// The same columns from row `first` on.
    pub fn from_row(self, first: usize) -> Self {
        Window { at: self.at + first * self.stride, ..self }
    }

    /// The first `rows` rows, for reading.
    pub fn of<F>(self, buf: &F, rows: usize) -> Mat<'_, F> {
        Mat { buf, window: self, rows }
    }

    /// The first `rows` rows, for writing.
    pub fn of_mut<F>(self, buf: &mut F, rows: usize) -> MatMut<'_, F> {
        MatMut { buf, window: self, rows }
    }
}

/// A matrix `[rows, window.cols]` in a buffer `F`, to read.
#[derive(Debug)]
pub struct Mat<'a, F> {
    /// The buffer.
    pub buf: &'a F,
    /// Where in it.
    pub window: Window,
    /// Rows.
    pub rows: usize,
}

impl<F> Clone for Mat<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for Mat<'_, F> {}

/// A matrix `[rows, window.cols]` in a buffer `F`, to write.
#[derive(Debug)]
pub struct MatMut<'a, F> {
    /// The buffer.
    pub buf: &'a mut F,
    /// Where in it.
    pub window: Window,
    /// Rows.
    pub rows: usize,
}

impl<F> MatMut<'_, F> {
    /// The same matrix, to read.
    pub fn as_mat(&self) -> Mat<'_, F> {
        Mat { buf: self.buf, window: self.window, rows: self.rows }
    }

    /// The same matrix for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_, F> {
        MatMut { buf: self.buf, window: self.window, rows: self.rows }
    }
}

/// A fully connected layer's parameters in the buffer of all dense parameters: weight `[outputs,
/// inputs]` and, behind it, maybe a bias `[outputs]`. Gradients have the same places in their own buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Offset of the weight, or its number where the device keeps weights itself
    /// ([`super::Backend::keeps_weights`]).
    pub weight: usize,
    /// Offset of the bias; `None` without one.
    pub bias: Option<usize>,
    /// Fan in.
    pub inputs: usize,
    /// Fan out.
    pub outputs: usize,
}

/// A batch normalisation's parameters: `scale` and `shift` in the buffer of all dense parameters,
/// the running statistics in theirs, each `[cols]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Offset of the scale.
    pub scale: usize,
    /// Offset of the shift.
    pub shift: usize,
    /// Offset of the running mean in the buffer of running statistics.
    pub mean: usize,
    /// Offset of the running variance there.
    pub var: usize,
    /// Features.
    pub cols: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a new batch in the running statistics.
    pub momentum: f32,
    /// Whether the running variance is of unbiased ones (torch's), or of biased ones
    /// (TensorFlow's).
    pub unbiased: bool,
    /// `max(y, 0)` behind it.
    pub relu: bool,
}
