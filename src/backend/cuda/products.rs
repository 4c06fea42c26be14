//! Products of two small matrices a sample.

use super::{
    driver::{Driver, Launch, Source},
    interaction::BLOCKS,
    launch::launch,
    memory::Place,
};
use crate::backend::{ProductShape, Result};

pub(super) static SOURCE: Source = Source {
    name: "products",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/sixteen.cuh"),
        include_str!("products.cu"),
    ],
};

/// A block a sample, some elements a thread.
fn shape(samples: u32, elements: usize) -> Launch {
    let threads = elements.next_multiple_of(32).clamp(32, 256);
    Launch {
        grid: [(samples as usize).clamp(1, BLOCKS) as u32, 1, 1],
        block: [threads as u32, 1, 1],
        shared: 0,
    }
}

fn check(s: ProductShape, p: Place, q: Place, out: Place) -> u32 {
    assert!(
        p.cols as usize == s.left * s.inner
            && q.cols as usize == s.inner * s.right
            && out.cols as usize >= s.left * s.right
            && p.rows == out.rows
            && q.rows == out.rows,
        "shapes of products"
    );
    out.cols - (s.left * s.right) as u32
}

/// `out = concat[x, P Q]`.
pub(super) fn forward(
    driver: &dyn Driver,
    s: ProductShape,
    x: Place,
    [p, q]: [Place; 2],
    out: Place,
) -> Result<()> {
    assert!(check(s, p, q, out) == x.cols && x.rows == out.rows, "columns before products");
    let (left, inner, right) = (s.left as u32, s.inner as u32, s.right as u32);
    let [x_kind, p_kind, q_kind, out_kind] = [x, p, q, out].map(|m| m.number.kind());
    launch!(
        driver,
        SOURCE,
        "products_forward",
        shape(out.rows, s.left * s.right),
        x.at,
        x_kind,
        x.stride,
        x.cols,
        p.at,
        p_kind,
        p.stride,
        q.at,
        q_kind,
        q.stride,
        out.rows,
        left,
        inner,
        right,
        out.at,
        out_kind,
        out.stride
    )
}

/// `dP = G Q^T`, `dQ = P^T G`, `G` the last columns of `dout`.
pub(super) fn backward(
    driver: &dyn Driver,
    s: ProductShape,
    [p, q]: [Place; 2],
    dout: Place,
    [dp, dq]: [Place; 2],
) -> Result<()> {
    let at = check(s, p, q, dout);
    check(s, dp, dq, dout);
    let (left, inner, right) = (s.left as u32, s.inner as u32, s.right as u32);
    let [p_kind, q_kind, g_kind, dp_kind, dq_kind] = [p, q, dout, dp, dq].map(|m| m.number.kind());
    launch!(
        driver,
        SOURCE,
        "products_backward",
        shape(dout.rows, s.inner * s.left.max(s.right)),
        p.at,
        p_kind,
        p.stride,
        q.at,
        q_kind,
        q.stride,
        dout.at,
        g_kind,
        dout.stride,
        at,
        dout.rows,
        left,
        inner,
        right,
        dp.at,
        dp_kind,
        dp.stride,
        dq.at,
        dq_kind,
        dq.stride
    )
}
