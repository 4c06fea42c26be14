//! Ranks by Zipf's law, `P(k) ~ k^-q` on `1..=n`, by rejection-inversion (Hörmann & Derflinger,
//! "Rejection-inversion to generate variates from monotone discrete distributions", 1996): exact
//! for any `n`, without a table.
//!
//! With `H(x) = x^(1-q) / (1-q)`, an integral of the density's hat, a uniform `y` between `H(1.5) -
//! 1` and `H(n + 0.5)` gives `x = H^-1(y)` and `k = round(x)`, which is taken if `y >= H(k + 0.5) -
//! k^-q`. Since the exact border lies only about `q(q+1) / (24 k^2)` above `k - 0.5`, a bound on
//! that distance settles all but about one draw in a hundred without a second power.

use crate::exact::{exp, floor, ln, select};

/// The law of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zipf {
    n: f64,
    /// `1 - q`.
    p: f64,
    inverse_p: f64,
    /// `(1 - q) H` at both ends of the range of `y`.
    first: f64,
    span: f64,
    /// `max over k >= 2 of (border(k) - k + 0.5) k^2`.
    squeeze: f64,
}

/// A drawn candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// `(1 - q) y`.
    t: f64,
    /// The rank, from 1.
    pub rank: f64,
    /// Whether the quick test takes it; if not, [`Zipf::accept`] decides.
    pub sure: bool,
}

impl Zipf {
    /// Ranks `1..=n` with exponent `q` in (0, 4], not 1 (take 1.001 for 1).
    pub fn new(n: u32, q: f64) -> Self {
        debug_assert!(n >= 1 && q > 0.0 && q <= 4.0 && (q - 1.0).abs() > 1e-4, "n {n}, q {q}");
        let p = 1.0 - q;
        let first = pow(1.5, p) - p;
        let span = pow(f64::from(n) + 0.5, p) - first;
        let mut zipf = Zipf { n: f64::from(n), p, inverse_p: 1.0 / p, first, span, squeeze: 0.0 };
        // The distance times k^2 falls towards its limit; the allowance covers rounding.
        let limit = q * (q + 1.0) / 24.0;
        let largest = (2..64).map(|k| zipf.border_distance(f64::from(k))).fold(limit, f64::max);
        zipf.squeeze = largest * 1.001;
        zipf
    }

    /// A candidate from a uniform number in (0, 1).
    #[inline(always)]
    pub fn candidate(&self, u: f64) -> Candidate {
        let t = self.first + u * self.span;
        let x = pow(t, self.inverse_p);
        let k = floor(x + 0.5);
        let rank = select(k < 1.0, 1.0, select(k > self.n, self.n, k));
        // The range of y begins where rank 1 has its exact share, so that rank 1 is never refused.
        let sure = (x - rank + 0.5) * (rank * rank) >= self.squeeze || rank < 1.5;
        Candidate { t, rank, sure }
    }

    /// `[n, p, 1 / p, first, span, squeeze]`.
    pub fn numbers(&self) -> [f64; 6] {
        [self.n, self.p, self.inverse_p, self.first, self.span, self.squeeze]
    }

    /// The exact test, for a candidate that is not sure.
    pub fn accept(&self, c: &Candidate) -> bool {
        let k = c.rank;
        let border = pow(k + 0.5, self.p) - self.p * pow(k, self.p - 1.0);
        // y >= H(k + 0.5) - k^-q, times 1 - q, whose sign turns the comparison.
        if self.p > 0.0 { c.t >= border } else { c.t <= border }
    }

    /// `(H^-1(H(k + 0.5) - k^-q) - k + 0.5) k^2`.
    fn border_distance(&self, k: f64) -> f64 {
        let border = pow(pow(k + 0.5, self.p) - self.p * pow(k, self.p - 1.0), self.inverse_p);
        (border - k + 0.5) * (k * k)
    }
}

/// `x^y`, `x > 0`.
#[inline(always)]
fn pow(x: f64, y: f64) -> f64 {
    exp(ln(x) * y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream, unit_f64};

    fn draw(zipf: &Zipf, uniforms: &mut impl Iterator<Item = f64>) -> u32 {
        loop {
            let c = zipf.candidate(uniforms.next().unwrap());
            if c.sure || zipf.accept(&c) {
                return c.rank as u32;
            }
        }
    }

    fn uniforms(seed: u64) -> impl Iterator<Item = f64> {
        let g = Philox::new(seed, Stream::Planted, 0);
        (0..).map(move |i| unit_f64(g.block_u64(i)[0]).max(1e-300))
    }

    #[test]
    fn frequencies_follow_the_law() {
        for (n, q) in [
            (1, 1.2),
            (2, 0.5),
            (3, 0.7),
            (10, 0.9),
            (24, 1.05),
            (1000, 1.001),
            (1000, 0.3),
            (5000, 2.5),
            (1 << 31, 1.2),
        ] {
            let zipf = Zipf::new(n, q);
            let mut u = uniforms(u64::from(n));
            let draws = 200_000;
            let mut counts = [0u32; 20];
            for _ in 0..draws {
                let k = draw(&zipf, &mut u);
                assert!((1..=n).contains(&k));
                if let Some(c) = counts.get_mut(k as usize - 1) {
                    *c += 1;
                }
            }
            // The sum of the law in f64: exact terms to 10,000, then the integral with the midpoint
            // rule's small error.
            let head = n.min(10_000);
            let mut z: f64 = (1..=head).map(|k| f64::from(k).powf(-q)).sum();
            if n > head {
                z += ((f64::from(n) + 0.5).powf(1.0 - q) - (f64::from(head) + 0.5).powf(1.0 - q))
                    / (1.0 - q);
            }
            for (i, &c) in counts.iter().enumerate().take(n as usize) {
                let p = (i as f64 + 1.0).powf(-q) / z;
                let sd = (p * (1.0 - p) / f64::from(draws)).sqrt();
                let seen = f64::from(c) / f64::from(draws);
                assert!(
                    (seen - p).abs() <= 5.0 * sd + 1e-9,
                    "n {n} q {q} rank {}: {seen} for {p}",
                    i + 1
                );
            }
        }
    }

    #[test]
    fn the_quick_test_never_takes_what_the_exact_one_refuses_and_settles_nearly_all() {
        for q in [0.2, 0.6, 0.95, 1.001, 1.05, 1.2, 1.6, 2.5, 4.0] {
            let zipf = Zipf::new(10_000_000, q);
            // Beyond, k^3 times the rounding of the border hides the distance.
            for k in 2..400 {
                assert!(zipf.border_distance(f64::from(k)) <= zipf.squeeze, "q {q}, k {k}");
            }
            let mut u = uniforms(3);
            let mut unsure = 0;
            for _ in 0..20_000 {
                let c = zipf.candidate(u.next().unwrap());
                unsure += u32::from(!c.sure);
                assert!(!c.sure || c.rank < 1.5 || zipf.accept(&c));
            }
            assert!(unsure < 1000, "q {q}: {unsure}");
        }
    }
}
