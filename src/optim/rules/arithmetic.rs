//! What formulas compute with.

/// One f32, several side by side, or the text of a kernel. Every operation is rounded once, as
/// IEEE 754 says.
pub trait Arithmetic: Copy {
    /// A constant.
    fn of(x: f32) -> Self;
    /// `self + b`.
    fn add(self, b: Self) -> Self;
    /// `self - b`.
    fn sub(self, b: Self) -> Self;
    /// `self * b`.
    fn mul(self, b: Self) -> Self;
    /// `self / b`.
    fn div(self, b: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// `yes` where `self > b`, else (also where one of them is NaN) `no`.
    fn if_above(self, b: Self, yes: Self, no: Self) -> Self;
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn of(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn add(self, b: f32) -> f32 {
        self + b
    }
    #[inline(always)]
    fn sub(self, b: f32) -> f32 {
        self - b
    }
    #[inline(always)]
    fn mul(self, b: f32) -> f32 {
        self * b
    }
    #[inline(always)]
    fn div(self, b: f32) -> f32 {
        self / b
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        self.sqrt()
    }
    #[inline(always)]
    fn if_above(self, b: f32, yes: f32, no: f32) -> f32 {
        if self > b { yes } else { no }
    }
}

/// Sum of squares in f32: sixteen running sums, then halves added to halves. The order depends on
/// the length alone.
pub fn sum_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for c in x.chunks(16) {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l += v * v;
        }
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}
