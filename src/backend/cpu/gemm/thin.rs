//! Layers with one output, as the last of every click model: dot products, an outer product, a
//! weighted sum of rows.

use super::{
    LinearShape, Onto, Rows,
    kernel::Kernel,
    plan::{MAX_THIN_CHUNKS, share},
    product::Target,
    scratch::Scratch,
    sums::sum_parts,
};
use crate::host::pool::{Pool, SharedMut};

/// Elements of the batch that are worth a chunk.
const CHUNK: usize = 1 << 15;

fn chunks(s: LinearShape) -> usize {
    (s.batch * s.input / CHUNK).clamp(1, MAX_THIN_CHUNKS).min(s.batch)
}

/// `y[r] = <x[r], w> + b`, then ReLU if asked for.
pub(super) fn forward<K: Kernel>(
    pool: &Pool,
    s: LinearShape,
    x: Rows,
    w: &[f32],
    b: f32,
    relu: bool,
    y: Target,
) {
    let n = chunks(s);
    pool.run(n, |chunk, _| {
        let r = share(s.batch, n, chunk);
        // SAFETY: the operands were checked against the shape; each chunk writes its own rows.
        unsafe {
            let x = (x.data.as_ptr().add(r.start * x.stride), x.stride);
            let y = (y.to.as_ptr().add(r.start * y.stride), y.stride);
            K::dots(r.len(), s.input, x, w.as_ptr(), b, relu, y);
        }
    });
}

/// `dx[r] = dz[r] * w`, gated, or `dx[r] += dz[r] * w`.
pub(super) fn data_gradient<K: Kernel>(
    pool: &Pool,
    s: LinearShape,
    dz: Rows,
    w: &[f32],
    onto: Onto,
    dx: Target,
) {
    let n = chunks(s);
    let (gate, add) = match onto {
        Onto::Set => (None, false),
        Onto::Add => (None, true),
        Onto::Gate(gate) => (Some(gate), false),
    };
    pool.run(n, |chunk, _| {
        let r = share(s.batch, n, chunk);
        // SAFETY: as above.
        unsafe {
            let dz = (dz.data.as_ptr().add(r.start * dz.stride), dz.stride);
            let gate = gate.map(|g| {
                (
                    g.activation.data.as_ptr().add(r.start * g.activation.stride),
                    g.activation.stride,
                    g.factor,
                )
            });
            let dx = (dx.to.as_ptr().add(r.start * dx.stride), dx.stride);
            K::outer(r.len(), s.input, dz, w.as_ptr(), gate, add, dx);
        }
    });
}

/// `dw = sum_r dz[r] * x[r]`, `db = sum_r dz[r]`: a partial sum for each chunk, then their sum.
pub(super) fn weight_gradient<K: Kernel>(
    scratch: &mut Scratch,
    pool: &Pool,
    s: LinearShape,
    dz: Rows,
    x: Rows,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let n = chunks(s);
    let parts = SharedMut::new(&mut scratch.split().0[..n * s.input]);
    pool.run(n, |chunk, _| {
        let r = share(s.batch, n, chunk);
        // SAFETY: as above; each chunk writes its own part.
        unsafe {
            let g = (dz.data.as_ptr().add(r.start * dz.stride), dz.stride);
            let x = (x.data.as_ptr().add(r.start * x.stride), x.stride);
            K::weighted_sum(
                r.len(),
                s.input,
                g,
                x,
                parts.slice(chunk * s.input, s.input).as_mut_ptr(),
            );
        }
    });
    sum_parts::<K>(pool, n, parts, dw);
    if let Some(db) = db {
        db[0] = dz.data.iter().step_by(dz.stride.max(1)).take(s.batch).sum();
    }
}
