//! The update rules. One file a rule holds its keys, its state and its formula; the list below is
//! all that names them, and everything else (parsing, kernels of CPU and GPU, memory plan, cost, log)
//! asks the rule.
//!
//! Formulas are computed in f32 in the order of the originals' kernels; what depends on the step
//! alone (bias corrections, decayed rates) is computed in f64 first. A formula is written once over
//! [`Arithmetic`]: one number here, whole registers in the CPU's kernels, text in the GPU's. Nothing
//! is fused or reordered, so all of them give the same bits.

mod adagrad;
mod adagrad_decay;
mod adam;
mod adam_async;
mod arithmetic;
mod describe;
mod rowwise_adagrad;
mod sgd;

pub use adagrad::Adagrad;
pub use adagrad_decay::AdagradDecay;
pub use adam::{Adam, AdamForm, AdamRows};
pub use adam_async::AdamAsync;
pub use arithmetic::{Arithmetic, sum_squares};
pub use describe::{
    Buffer, CONSTANTS, Constants, Description, Formula, Key, Keyed, Per, Range, Setting, State,
    UpdateRule, Value,
};
pub use rowwise_adagrad::RowwiseAdagrad;
pub use sgd::Sgd;

/// Every rule, and the formulas that its keys choose from.
macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $rule:ident { $($kind:ident: $formula:ty),+ })+) => {
        /// An update rule; `g` is the gradient of the mean loss, summed over duplicates of a row
        /// first. Every rule works on dense parameters and on the rows of a table.
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum OptimizerSpec {
            $($(#[doc = $doc])+ $rule($rule)),+
        }

        /// Every rule by its name.
        pub mod named {
            pub use super::{$($rule),+};
        }

        $(impl From<$rule> for OptimizerSpec {
            fn from(rule: $rule) -> Self {
                OptimizerSpec::$rule(rule)
            }
        })+

        impl OptimizerSpec {
            /// Every rule's kind, as workload files and logs name it.
            pub const KINDS: &'static [&'static str] = &[$($rule::KIND),+];

            /// Every rule as the document has it.
            pub fn all() -> Vec<Description> {
                vec![$(describe::of::<$rule>()),+]
            }

            /// [`UpdateRule::examples`] of every rule.
            pub fn examples() -> Vec<OptimizerSpec> {
                let mut all = Vec::new();
                $(all.extend($rule::examples().into_iter().map(OptimizerSpec::$rule));)+
                all
            }

            /// The rule of a kind, with the value that `value` has for each of its keys.
            ///
            /// # Errors
            /// Those of `value`.
            ///
            /// # Panics
            /// If there is no such kind.
            pub fn read<E>(
                kind: &str,
                value: &mut dyn FnMut(&'static Key) -> Result<Value, E>,
            ) -> Result<Self, E> {
                match kind {
                    $($rule::KIND => Ok($rule::read(value)?.into()),)+
                    other => panic!("no update rule is called {other}"),
                }
            }

            /// Its kind.
            pub fn kind(&self) -> &'static str {
                match self { $(OptimizerSpec::$rule(_) => $rule::KIND),+ }
            }

            /// Its keys and their values.
            pub fn settings(&self) -> impl Iterator<Item = (&'static Key, Value)> + use<> {
                let (keys, values) = match self {
                    $(OptimizerSpec::$rule(r) => ($rule::KEYS, r.values())),+
                };
                keys.iter().zip(values)
            }

            /// See [`UpdateRule::conflict`].
            pub fn conflict(&self) -> Option<(&'static str, String)> {
                match self { $(OptimizerSpec::$rule(r) => r.conflict()),+ }
            }

            /// The state that it keeps.
            pub fn state(&self) -> State {
                match self { $(OptimizerSpec::$rule(r) => r.state()),+ }
            }

            /// See [`UpdateRule::logged`].
            pub fn logged(&self) -> Vec<(&'static str, f64)> {
                match self { $(OptimizerSpec::$rule(r) => r.logged()),+ }
            }
        }

        /// The formulas of all rules. A GPU's kernels know them by these numbers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(missing_docs)]
        pub enum FormulaKind {
            $($($kind),+),+
        }

        impl FormulaKind {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [FormulaKind] = &[$($(FormulaKind::$kind),+),+];

            /// Hands the formula to `visitor`.
            #[inline(always)]
            pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self { $($(FormulaKind::$kind => visitor.visit::<$formula>()),+),+ }
            }
        }

        impl Step {
            /// The constants of update `number` (1-based) at learning rate `rate` (the schedule
            /// applied).
            pub fn new(rule: &OptimizerSpec, rate: f64, number: u64) -> Step {
                match rule { $(OptimizerSpec::$rule(r) => r.step(rate, number)),+ }
            }
        }
    };
}

rules! {
    /// `p -= lr * g`.
    Sgd { Sgd: sgd::Formula }
    /// Accumulated squares.
    Adagrad { Adagrad: adagrad::Formula }
    /// Accumulated squares, one number a row.
    RowwiseAdagrad { RowwiseAdagrad: rowwise_adagrad::Formula }
    /// Two moments.
    Adam { Adam: adam::Formula }
    /// Accumulated squares that fade.
    AdagradDecay { AdagradDecay: adagrad_decay::Formula }
    /// Two moments, with powers that belong to a variable.
    AdamAsync {
        AdamAsync: adam_async::Formula<false, false>,
        AdamAsyncNesterov: adam_async::Formula<true, false>,
        AdamAsyncRmsprop: adam_async::Formula<false, true>,
        AdamAsyncNesterovRmsprop: adam_async::Formula<true, true>
    }
}

impl OptimizerSpec {
    /// Plain gradient descent.
    pub const SGD: OptimizerSpec = OptimizerSpec::Sgd(Sgd {});
}

/// One application of a rule: its formula, its constants ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The formula.
    pub formula: FormulaKind,
    /// Its constants.
    pub constants: Constants<f32>,
}

impl Step {
    /// A formula with its constants, rounded to f32.
    fn of<const N: usize>(formula: FormulaKind, constants: [f64; N]) -> Step {
        Step { formula, constants: describe::constants(constants) }
    }
}

/// Work that is compiled for each formula.
pub trait Visitor {
    /// What comes of it.
    type Output;
    /// Does the work.
    fn visit<F: Formula>(self) -> Self::Output;
}

/// Updates dense parameters, one by one. `s0` and `s1` are as long as `p` where the rule has that
/// state, else empty.
pub fn update(step: &Step, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    struct Dense<'a>(&'a Constants<f32>, &'a mut [f32], &'a [f32], [&'a mut [f32]; 2]);
    impl Visitor for Dense<'_> {
        type Output = ();
        fn visit<F: Formula>(self) {
            let Dense(c, p, g, mut s) = self;
            for i in 0..p.len() {
                let old = load(&s, F::STATES, i);
                let (new, state) = F::element(*c, p[i], g[i], old);
                p[i] = new;
                store(&mut s, F::STATES, i, state);
            }
        }
    }
    step.formula.visit(Dense(&step.constants, p, g, [s0, s1]));
}

/// Updates one row of a table, element by element; state as [`State::rows`] has it for a row.
pub fn update_row(step: &Step, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    struct Row<'a>(&'a Constants<f32>, &'a mut [f32], &'a [f32], [&'a mut [f32]; 2]);
    impl Visitor for Row<'_> {
        type Output = ();
        fn visit<F: Formula>(self) {
            let Row(c, p, g, mut s) = self;
            let mean = if F::SQUARES { sum_squares(g) / g.len() as f32 } else { 0.0 };
            let own = if F::ROW { s[F::ROW_STATES][0] } else { 0.0 };
            let (c, own) = F::row(*c, own, mean);
            if F::ROW {
                s[F::ROW_STATES][0] = own;
            }
            for i in 0..p.len() {
                let old = load(&s, F::ROW_STATES, i);
                let (new, state) = F::row_element(c, p[i], g[i], old);
                p[i] = new;
                store(&mut s, F::ROW_STATES, i, state);
            }
        }
    }
    step.formula.visit(Row(&step.constants, p, g, [s0, s1]));
}

fn load(s: &[&mut [f32]; 2], states: usize, i: usize) -> [f32; 2] {
    [0, 1].map(|k| if k < states { s[k][i] } else { 0.0 })
}

fn store(s: &mut [&mut [f32]; 2], states: usize, i: usize, new: [f32; 2]) {
    (0..states).for_each(|k| s[k][i] = new[k]);
}

#[cfg(test)]
pub(crate) mod tests;
