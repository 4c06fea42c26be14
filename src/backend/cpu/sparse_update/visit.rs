//! What is done with the gradient of a row.

use super::sweep::Visit;
use crate::{
    backend::cpu::{
        dense_update::add_squares,
        rule,
        simd::{Lanes, One},
    },
    embedding::Table,
    host::prefetch_row,
    optim::rules::{Constants, Formula},
};
use std::marker::PhantomData;

/// Sum of squares.
pub(super) struct Squares<'a> {
    pub(super) sums: [f64; 16],
    pub(super) total: &'a mut f64,
}

impl Visit for Squares<'_> {
    const CHANGES: bool = false;

    #[inline(always)]
    fn prefetch(&self, _: usize) {}

    #[inline(always)]
    unsafe fn visit<L: Lanes>(
        &mut self,
        _: usize,
        _: *mut f32,
        g: &[f32],
        weight: Option<(*mut f32, f32)>,
    ) {
        // SAFETY: the caller has the instruction set.
        unsafe { add_squares::<L>(g, &mut self.sums) };
        if let Some((_, g)) = weight {
            self.sums[0] += f64::from(g) * f64::from(g);
        }
    }

    #[inline(always)]
    fn end(&mut self) {
        *self.total = self.sums.iter().sum();
    }
}

/// The gradients themselves.
pub(super) struct WriteOut<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) weights: &'a mut [f32],
}

impl Visit for WriteOut<'_> {
    const CHANGES: bool = false;

    #[inline(always)]
    fn prefetch(&self, _: usize) {}

    #[inline(always)]
    unsafe fn visit<L: Lanes>(
        &mut self,
        row: usize,
        _: *mut f32,
        g: &[f32],
        weight: Option<(*mut f32, f32)>,
    ) {
        self.rows[row * g.len()..][..g.len()].copy_from_slice(g);
        if let Some((_, g)) = weight {
            self.weights[row] = g;
        }
    }
}

/// State of a table's rows: pointers to up to two buffers, and their elements a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    buffers: [*mut f32; 2],
    widths: [usize; 2],
}

impl Slots {
    pub(super) fn of(state: &[Vec<Table>], k: usize) -> Self {
        let mut slots = Slots { buffers: [std::ptr::dangling_mut(); 2], widths: [0; 2] };
        for (i, tables) in state.iter().enumerate() {
            slots.buffers[i] = tables[k].as_ptr();
            slots.widths[i] = tables[k].dim();
        }
        slots
    }

    /// State of one row; only for buffers that there are.
    #[inline(always)]
    fn row(self, row: usize) -> [*mut f32; 2] {
        let ([a, b], [wide, narrow]) = (self.buffers, self.widths);
        [a.wrapping_add(row * wide), b.wrapping_add(row * narrow)]
    }
}

/// The update.
pub(super) struct Apply<F> {
    pub(super) formula: PhantomData<F>,
    pub(super) constants: Constants<f32>,
    pub(super) state: Slots,
    pub(super) weight_state: Option<Slots>,
}

impl<F: Formula> Visit for Apply<F> {
    const CHANGES: bool = true;

    #[inline(always)]
    fn prefetch(&self, row: usize) {
        let state = self.state.row(row);
        let used = F::ROW_STATES + usize::from(F::ROW);
        for (&p, &width) in state.iter().zip(&self.state.widths).take(used) {
            prefetch_row(p, width);
        }
    }

    #[inline(always)]
    unsafe fn visit<L: Lanes>(
        &mut self,
        row: usize,
        p: *mut f32,
        g: &[f32],
        weight: Option<(*mut f32, f32)>,
    ) {
        // SAFETY: the row's state is as wide as the formula has it, and is the caller's alone.
        unsafe {
            let (c, state) = (&self.constants, self.state.row(row));
            rule::update_row::<L, F>(c, g.len(), p, g.as_ptr(), state);
            if let (Some((w, g)), Some(state)) = (weight, self.weight_state) {
                rule::update_row::<One, F>(c, 1, w, &g, state.row(row));
            }
        }
    }
}
