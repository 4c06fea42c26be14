//! The formulas of [`crate::optim::rules`] as text of a kernel: each is run once with names in place
//! of numbers, and every operation becomes a line.

use crate::optim::rules::{Arithmetic, CONSTANTS, Constants, Formula, FormulaKind, Visitor};
use std::{cell::RefCell, fmt::Write};

/// Stands among the parts of a [`super::driver::Source`] for [`text`].
pub(super) const FORMULAS: &str = "the formulas of all update rules";

/// All formulas: `RULE_CONSTANTS`, a struct `Formula0`, `Formula1`, ... for each, and
/// `WITH_FORMULA(kind, statement)`, which does the statement with that struct as `F`.
pub(super) fn text() -> String {
    let mut text = format!(
        "// Made from src/optim/rules by src/backend/cuda/rules.rs.\n#define RULE_CONSTANTS {CONSTANTS}\n"
    );
    let mut cases = String::new();
    for &kind in FormulaKind::ALL {
        text += &kind.visit(Struct { kind });
        let number = kind as u32;
        cases += &format!(" case {number}: {{ using F = Formula{number}; __VA_ARGS__; break; }}");
    }
    text + &format!("#define WITH_FORMULA(kind, ...) switch (kind) {{{cases} default: break; }}\n")
}

/// The struct of a formula.
struct Struct {
    kind: FormulaKind,
}

impl Visitor for Struct {
    type Output = String;

    fn visit<F: Formula>(self) -> String {
        MEANINGS.with_borrow_mut(Vec::clear);
        let constants: Constants<Name> = std::array::from_fn(|k| Name::given(format!("c[{k}]")));
        let [p, g] = ["p", "g"].map(|name| Name::given(name.to_owned()));
        let state = [0, 1].map(|k| Name::given(format!("s[{k}]")));
        let function = |head: &str, changed: Vec<(String, Name)>, result: Option<Name>| {
            let body = body(changed, result);
            format!("    static __device__ __forceinline__ {head} {{\n{body}    }}\n")
        };
        let of_element = |name: &str, states: usize, (new, after): (Name, [Name; 2])| {
            let changed = (0..states).map(|k| (format!("s[{k}]"), after[k])).collect();
            let head = format!(
                "float {name}(const float (&c)[{CONSTANTS}], float p, float g, float (&s)[2])"
            );
            function(&head, changed, Some(new))
        };
        let element = of_element("element", F::STATES, F::element(constants, p, g, state));
        let in_row = F::row_element(constants, p, g, state);
        let in_row = of_element("row_element", F::ROW_STATES, in_row);
        let [own, mean] = ["own", "mean_square"].map(|name| Name::given(name.to_owned()));
        let (after, own) = F::row(constants, own, mean);
        let changed = (0..CONSTANTS).map(|k| (format!("c[{k}]"), after[k]));
        let changed = changed.chain([("own".to_owned(), own)]).collect();
        let head = format!("void row(float (&c)[{CONSTANTS}], float& own, float mean_square)");
        let row = function(&head, changed, None);
        format!(
            "struct Formula{} {{ // {:?}\n    static const u32 STATES = {}, ROW_STATES = {};\n    static const bool ROW = {}, SQUARES = {};\n{element}{row}{in_row}}};\n",
            self.kind as u32,
            self.kind,
            F::STATES,
            F::ROW_STATES,
            F::ROW,
            F::SQUARES,
        )
    }
}

/// A number of a formula: a parameter of the function, or the result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name(usize);

/// What a name stands for, and the names in it.
struct Meaning {
    text: String,
    operands: Vec<Name>,
}

thread_local! {
    /// The meanings of all names.
    static MEANINGS: RefCell<Vec<Meaning>> = const { RefCell::new(Vec::new()) };
}

impl Name {
    /// A parameter of the function, or a constant.
    fn given(text: String) -> Self {
        Name::of(text, Vec::new())
    }

    fn of(text: String, operands: Vec<Name>) -> Self {
        MEANINGS.with_borrow_mut(|all| {
            all.push(Meaning { text, operands });
            Name(all.len() - 1)
        })
    }

    fn operation<const N: usize>(
        operands: [Name; N],
        text: impl Fn([String; N]) -> String,
    ) -> Self {
        Name::of(text(operands.map(|n| format!("t{}", n.0))), operands.into())
    }
}

/// Lines that compute `changed` and `result` from the parameters, assign and return them.
fn body(changed: Vec<(String, Name)>, result: Option<Name>) -> String {
    MEANINGS.with_borrow(|all| {
        let changed: Vec<_> = changed.iter().filter(|(to, from)| all[from.0].text != *to).collect();
        let mut needed: Vec<Name> = changed.iter().map(|(_, from)| *from).chain(result).collect();
        let mut next = 0;
        while let Some(name) = needed.get(next) {
            next += 1;
            let more: Vec<Name> =
                all[name.0].operands.iter().filter(|n| !needed.contains(n)).copied().collect();
            needed.extend(more);
        }
        needed.sort_by_key(|n| n.0);
        needed.dedup();
        let mut lines = String::new();
        for Name(n) in needed {
            let _ = writeln!(lines, "        float t{n} = {};", all[n].text);
        }
        for (to, from) in changed {
            let _ = writeln!(lines, "        {to} = t{};", from.0);
        }
        if let Some(Name(n)) = result {
            let _ = writeln!(lines, "        return t{n};");
        }
        lines
    })
}

impl Arithmetic for Name {
    fn of(x: f32) -> Self {
        assert!(x.is_finite(), "a constant of a formula is finite");
        Name::given(format!("{x:?}f"))
    }
    fn add(self, b: Self) -> Self {
        Name::operation([self, b], |[a, b]| format!("{a} + {b}"))
    }
    fn sub(self, b: Self) -> Self {
        Name::operation([self, b], |[a, b]| format!("{a} - {b}"))
    }
    fn mul(self, b: Self) -> Self {
        Name::operation([self, b], |[a, b]| format!("{a} * {b}"))
    }
    fn div(self, b: Self) -> Self {
        Name::operation([self, b], |[a, b]| format!("__fdiv_rn({a}, {b})"))
    }
    fn sqrt(self) -> Self {
        Name::operation([self], |[a]| format!("__fsqrt_rn({a})"))
    }
    fn if_above(self, b: Self, yes: Self, no: Self) -> Self {
        Name::operation([self, b, yes, no], |[a, b, yes, no]| format!("{a} > {b} ? {yes} : {no}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_becomes_lines() {
        let sgd = FormulaKind::Sgd.visit(Struct { kind: FormulaKind::Sgd });
        let lines: Vec<&str> = sgd.lines().map(str::trim).collect();
        let at = lines.iter().position(|l| l.contains("float element(")).unwrap();
        let name = |line: &str, of: &str| {
            let (name, text) = line.strip_prefix("float ").unwrap().split_once(" = ").unwrap();
            assert_eq!(text, of);
            name.to_owned()
        };
        let lr = name(lines[at + 1], "c[0];");
        let p = name(lines[at + 2], "p;");
        let g = name(lines[at + 3], "g;");
        let product = name(lines[at + 4], &format!("{lr} * {g};"));
        let new = name(lines[at + 5], &format!("{p} - {product};"));
        assert_eq!(lines[at + 6], format!("return {new};"));
        assert_eq!(text(), text(), "kernels are kept by their text");
    }
}
