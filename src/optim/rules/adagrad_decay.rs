//! Adagrad whose sums of squares fade, as DeepRec has it.

use super::{
    Arithmetic, Buffer, Constants, FormulaKind, Per, Range, State, Step, UpdateRule, describe,
};

/// Values that make no sum 0.
const ABOVE_ZERO: Range = Range { holds: |x| x > 0.0, says: "above 0", interval: "" };
const SHARE: Range =
    Range { holds: |x| (0.0..=1.0).contains(&x), says: "from 0 to 1", interval: " in [0, 1]" };
const AT_LEAST_ONE: Range = Range { holds: |n| n >= 1.0, says: "at least 1", interval: "" };

describe::keys! {
    /// With `k` updates before this one: if `floor(k / decay_step) > c` then `G = max(G *
    /// decay_rate, initial_accumulator)` and `c += 1`, one period an update, however many have
    /// passed. Then `G += g^2; p -= lr * g / sqrt(G)`. A row counts its own periods `c`, a dense
    /// parameter those of all its elements (DeepRec: AdagradDecayOptimizer, training_ali_ops.cc).
    AdagradDecay {
        /// Accumulators at start
        initial_accumulator: f64 = 0.1, ABOVE_ZERO;
        /// Updates of a period, after which accumulators fade
        decay_step: u64 = 100_000, AT_LEAST_ONE;
        /// Factor of accumulators after a period; they never fall below `initial_accumulator`
        decay_rate: f64 = 0.9, SHARE;
    }
}

impl UpdateRule for AdagradDecay {
    const KIND: &'static str = "adagrad_decay";
    const ABOUT: &'static str = "`if floor(k / decay_step) > c { G = max(G * decay_rate, \
        initial_accumulator); c += 1 }; G += g^2; p -= lr * g / sqrt(G)`, `k` updates before this \
        one (DeepRec)";

    fn state(&self) -> State {
        State::lazy(vec![
            Buffer::per_element("sum of squares", self.initial_accumulator),
            Buffer { name: "periods", initial: 0.0, dense: Per::Variable, rows: Per::Row },
        ])
    }

    fn step(&self, rate: f64, number: u64) -> Step {
        let before = number.saturating_sub(1);
        // A dense parameter takes part in every update, so it is never more than a period behind.
        let due = before > 0 && before.is_multiple_of(self.decay_step);
        let (factor, least) =
            if due { (self.decay_rate, self.initial_accumulator) } else { (1.0, 0.0) };
        let periods = (before / self.decay_step) as f64;
        let (fade, floor) = (self.decay_rate, self.initial_accumulator);
        Step::of(FormulaKind::AdagradDecay, [rate, factor, least, fade, floor, periods])
    }

    fn examples() -> Vec<Self> {
        vec![AdagradDecay { initial_accumulator: 0.1, decay_step: 2, decay_rate: 0.7 }]
    }
}

/// Constants: rate; factor of sums and what they must reach, for dense parameters or the elements of
/// the present row; the same two for rows that are behind; periods so far.
pub struct Formula;

impl super::Formula for Formula {
    const STATES: usize = 1;
    const ROW: bool = true;

    #[inline(always)]
    fn element<A: Arithmetic>(
        [lr, factor, least, ..]: Constants<A>,
        p: A,
        g: A,
        [sum, rest]: [A; 2],
    ) -> (A, [A; 2]) {
        let faded = sum.mul(factor);
        let sum = least.if_above(faded, least, faded).add(g.mul(g));
        (p.sub(lr.mul(g).div(sum.sqrt())), [sum, rest])
    }

    #[inline(always)]
    fn row<A: Arithmetic>(mut c: Constants<A>, own: A, _: A) -> (Constants<A>, A) {
        let [_, _, _, fade, floor, periods, ..] = c;
        let (zero, one) = (A::of(0.0), A::of(1.0));
        c[1] = periods.if_above(own, fade, one);
        c[2] = periods.if_above(own, floor, zero);
        (c, own.add(periods.if_above(own, one, zero)))
    }
}
