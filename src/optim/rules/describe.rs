//! What a rule says of itself: its keys in a workload file, its state, its formula.

use super::{Arithmetic, Step};

/// A value of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A whole number.
    Count(u64),
    /// True or false.
    Flag(bool),
    /// One of [`Key::words`].
    Word(&'static str),
}

/// Which numbers a key takes.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Whether a number is one of them.
    pub holds: fn(f64) -> bool,
    /// What must be, behind "must be".
    pub says: &'static str,
    /// The same as the document has it, behind "number" or "integer".
    pub interval: &'static str,
}

impl Range {
    /// Every number, and every value that is none.
    pub const ANY: Range = Range { holds: |_| true, says: "a number", interval: "" };
    /// 0 and above.
    pub const NOT_NEGATIVE: Range = Range { holds: |x| x >= 0.0, says: "0 or more", interval: "" };
    /// From 0 to below 1.
    pub const BELOW_ONE: Range = Range {
        holds: |x| (0.0..1.0).contains(&x),
        says: "from 0 to below 1",
        interval: " in [0, 1)",
    };
    /// Epsilon of a rule whose second moment begins at 0.
    pub const DIVISOR: Range = Range {
        holds: |x| x > 0.0,
        says: "above 0, or a parameter without gradient divides by 0",
        interval: "",
    };
}

/// A key of a rule in the section `[optimizer]`.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The name behind its section's.
    pub path: &'static str,
    /// Value if it is not given; it also tells the key's type.
    pub default: fn() -> Value,
    /// The words that it takes, if it takes words.
    pub words: &'static [&'static str],
    /// The numbers that it takes.
    pub range: Range,
    /// What it means, in lines.
    pub about: &'static [&'static str],
}

/// A type that a key's value can have.
pub trait Setting: Copy {
    /// Words, if it has some.
    const WORDS: &'static [&'static str] = &[];
    /// As a value.
    fn value(self) -> Value;
    /// From a value of the same kind.
    ///
    /// # Panics
    /// If it is of another kind.
    fn of(value: Value) -> Self;
}

macro_rules! setting {
    ($($t:ty: $kind:ident),*) => {$(
        impl Setting for $t {
            fn value(self) -> Value {
                Value::$kind(self)
            }
            fn of(value: Value) -> Self {
                match value {
                    Value::$kind(x) => x,
                    other => panic!("{other:?} for a {}", stringify!($t)),
                }
            }
        }
    )*};
}
setting!(f64: Number, u64: Count, bool: Flag);

/// An enum whose variants are words of a workload file.
macro_rules! words {
    ($(#[$doc:meta])* $t:ident { $($(#[$variant_doc:meta])* $word:literal => $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $t {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }
        impl $crate::optim::rules::Setting for $t {
            const WORDS: &'static [&'static str] = &[$($word),+];
            fn value(self) -> $crate::optim::rules::Value {
                $crate::optim::rules::Value::Word(match self { $($t::$variant => $word),+ })
            }
            fn of(value: $crate::optim::rules::Value) -> Self {
                match value {
                    $($crate::optim::rules::Value::Word($word) => $t::$variant,)+
                    other => panic!("{other:?} for a {}", stringify!($t)),
                }
            }
        }
    };
}
pub(super) use words;

/// A rule as a workload file states it: a struct with a field a key. A field is followed by its
/// default and its range; its documentation is the document's.
macro_rules! keys {
    ($(#[$doc:meta])* $name:ident {
        $($(#[doc = $about:literal])+ $key:ident: $t:ty = $default:expr, $range:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $($(#[doc = $about])+ pub $key: $t),*
        }
        impl $crate::optim::rules::Keyed for $name {
            const KEYS: &'static [$crate::optim::rules::Key] = &[$(
                $crate::optim::rules::Key {
                    name: stringify!($key),
                    path: concat!("optimizer.", stringify!($key)),
                    default: || <$t as $crate::optim::rules::Setting>::value($default),
                    words: <$t as $crate::optim::rules::Setting>::WORDS,
                    range: $range,
                    about: &[$($about),+],
                }
            ),*];
            fn read<E>(
                _value: &mut dyn FnMut(
                    &'static $crate::optim::rules::Key,
                ) -> Result<$crate::optim::rules::Value, E>,
            ) -> Result<Self, E> {
                let mut _keys = Self::KEYS.iter();
                $(
                    let $key = match _keys.next() {
                        Some(key) => <$t as $crate::optim::rules::Setting>::of(_value(key)?),
                        None => unreachable!("as many keys as fields"),
                    };
                )*
                Ok($name { $($key),* })
            }
            fn values(&self) -> Vec<$crate::optim::rules::Value> {
                vec![$($crate::optim::rules::Setting::value(self.$key)),*]
            }
        }
    };
}
pub(super) use keys;

/// The keys of a rule.
pub trait Keyed: Sized {
    /// The keys, in the order in which they are written.
    const KEYS: &'static [Key];
    /// The rule with the value that `value` has for each key, which is of the default's kind.
    ///
    /// # Errors
    /// Those of `value`.
    fn read<E>(value: &mut dyn FnMut(&'static Key) -> Result<Value, E>) -> Result<Self, E>;
    /// The values of [`Keyed::KEYS`].
    fn values(&self) -> Vec<Value>;
}

/// How many numbers of a state there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// One an element.
    Element,
    /// One a row of a table.
    Row,
    /// One a variable (a dense parameter, or a table). A function of the number of updates, since
    /// every variable takes part in each, so that it is never stored.
    Variable,
}

/// A piece of a rule's state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Buffer {
    /// What it is.
    pub name: &'static str,
    /// Every number at start.
    pub initial: f32,
    /// Beside dense parameters: per element or per variable.
    pub dense: Per,
    /// Beside tables. One number a row must be the last that is stored.
    pub rows: Per,
}

impl Buffer {
    /// One number an element everywhere, `initial` at start.
    pub fn per_element(name: &'static str, initial: f64) -> Self {
        let initial = initial as f32;
        Buffer { name, initial, dense: Per::Element, rows: Per::Element }
    }
}

/// The state that a rule keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Its pieces: at most two are stored beside a dense parameter, and at most two beside a table.
    pub buffers: Vec<Buffer>,
    /// Whether rows move that a batch does not touch.
    pub moves_all_rows: bool,
}

impl State {
    /// State of which rows that a batch does not touch have no part.
    pub fn lazy(buffers: Vec<Buffer>) -> Self {
        State { buffers, moves_all_rows: false }
    }

    /// Initial values of the buffers that are as long as the dense parameters.
    pub fn dense(&self) -> impl Iterator<Item = f32> + '_ {
        self.buffers.iter().filter(|b| b.dense == Per::Element).map(|b| b.initial)
    }

    /// Numbers a row, and initial value, of each buffer of a table of `dim` columns.
    pub fn rows(&self, dim: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.buffers.iter().filter_map(move |b| match b.rows {
            Per::Element => Some((dim, b.initial)),
            Per::Row => Some((1, b.initial)),
            Per::Variable => None,
        })
    }

    /// Numbers of state of a row of `dim` columns.
    pub fn row_len(&self, dim: usize) -> usize {
        self.rows(dim).map(|(width, _)| width).sum()
    }
}

/// A rule: a struct of its keys ([`Keyed`]), and what follows from them.
pub trait UpdateRule: Keyed + Copy {
    /// `optimizer.kind` in workload files, `opt_name` in logs.
    const KIND: &'static str;
    /// Formula and source in a line, for the document.
    const ABOUT: &'static str;

    /// What is wrong with keys that are each right, and the key to name; `None` if nothing.
    fn conflict(&self) -> Option<(&'static str, String)> {
        None
    }

    /// The state.
    fn state(&self) -> State;

    /// The constants of update `number` (1-based) at learning rate `rate` (the schedule applied),
    /// for the formula that the keys ask for.
    fn step(&self, rate: f64, number: u64) -> Step;

    /// The rule with numbers that show, in each form that computes something else: what checks of
    /// devices and tests go through.
    fn examples() -> Vec<Self>;

    /// Keys of the MLPerf log beside the common ones, and their values.
    fn logged(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

/// A rule as the document has it.
#[derive(Debug, Clone)]
pub struct Description {
    /// [`UpdateRule::KIND`].
    pub kind: &'static str,
    /// [`UpdateRule::ABOUT`].
    pub about: &'static str,
    /// [`Keyed::KEYS`].
    pub keys: &'static [Key],
    /// The state with all keys at their defaults.
    pub state: State,
}

/// The description of a rule.
pub(super) fn of<R: UpdateRule>() -> Description {
    let state = match R::read::<std::convert::Infallible>(&mut |key| Ok((key.default)())) {
        Ok(rule) => rule.state(),
        Err(never) => match never {},
    };
    Description { kind: R::KIND, about: R::ABOUT, keys: R::KEYS, state }
}

/// Constants that a formula may have.
pub const CONSTANTS: usize = 8;

/// The constants of a step; those that a formula does not ask for are 0.
pub type Constants<A> = [A; CONSTANTS];

/// Constants in f32, from f64.
pub(super) fn constants<const N: usize>(given: [f64; N]) -> Constants<f32> {
    const { assert!(N <= CONSTANTS) };
    let mut all = [0.0; CONSTANTS];
    all.iter_mut().zip(given).for_each(|(c, x)| *c = x as f32);
    all
}

/// The arithmetic of a rule, written once for CPU and GPU.
pub trait Formula: 'static {
    /// Numbers of state that an element of a dense parameter has: 0, 1 or 2.
    const STATES: usize;

    /// Numbers of state that an element of a row has.
    const ROW_STATES: usize = Self::STATES;

    /// Whether a row has a number of its own, kept behind those of its elements.
    const ROW: bool = false;

    /// Whether [`Formula::row`] wants the mean of the squared gradient.
    const SQUARES: bool = false;

    /// New parameter and state of an element of a dense parameter, from constants, parameter,
    /// gradient and state. Numbers from [`Formula::STATES`] on are passed through.
    fn element<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]);

    /// Constants of a row's elements, and the row's number after the update, from the constants,
    /// the row's number and the mean of its squared gradient ([`super::sum_squares`] over the number
    /// of columns).
    #[inline(always)]
    fn row<A: Arithmetic>(c: Constants<A>, own: A, mean_square: A) -> (Constants<A>, A) {
        let _ = mean_square;
        (c, own)
    }

    /// As [`Formula::element`] for an element of a row, with the constants of [`Formula::row`].
    #[inline(always)]
    fn row_element<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        Self::element(c, p, g, s)
    }
}
