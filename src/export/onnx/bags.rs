//! Categorical columns: their inputs, and the pooled vectors of tables.
//!
//! A column of one id a sample has one input, its ids `[B]`. A column of bags has two: the ids of all
//! samples, one behind the other, and at which of them each sample's bag begins, `[B]` (as
//! `torch.nn.EmbeddingBag` takes them).

use super::{
    graph::{Attribute, Dim, Graph, Kind, Value},
    layers::Params,
};
use crate::{
    batch::Schema,
    model::{Part, Pooling, TableSpec},
};

/// How categorical columns are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bags {
    /// One id a sample in columns that never hold more, bags in all others.
    Auto,
    /// One id a sample in all columns.
    One,
    /// Bags in all columns.
    Offsets,
}

impl Bags {
    /// All of them by their words on the command line.
    pub const WORDS: [(&str, Bags); 3] =
        [("auto", Bags::Auto), ("one", Bags::One), ("offsets", Bags::Offsets)];
}

/// A column's inputs, and what is made of them once for all its tables.
pub struct Column {
    ids: Value,
    /// Of bags.
    bags: Option<Segments>,
}

/// Which sample each id is of.
struct Segments {
    /// `[N, 1]`.
    samples: Value,
    /// Number of samples, `[1]`.
    batch: Value,
    /// Ids of each sample, at least 1, `[B, 1]`.
    counts: Value,
}

/// Makes the inputs of all columns. Names are those of the data, made unlike any other.
pub fn columns(
    graph: &mut Graph,
    schema: &Schema,
    params: &Params,
    bags: Bags,
) -> Result<Vec<Column>, String> {
    let mut taken = vec!["dense".to_owned(), super::OUTPUT.to_owned()];
    let mut all = Vec::new();
    for (k, column) in schema.tables.iter().enumerate() {
        let one = match bags {
            Bags::Auto => column.max_hotness == 1,
            Bags::One if column.max_hotness > 1 => {
                return Err(format!(
                    "column {} holds up to {} ids a sample, and --bags one takes one; use --bags offsets or auto",
                    column.name, column.max_hotness
                ));
            }
            Bags::One => true,
            Bags::Offsets => false,
        };
        let mut name = column.name.clone();
        let free = |name: &str| {
            let offsets = format!("{name}_offsets");
            !name.is_empty()
                && !name.starts_with('/')
                && ![name, &offsets].iter().any(|n| params.has(n) || taken.iter().any(|t| t == n))
        };
        if !free(&name) {
            name = format!("ids_{k}");
        }
        while !free(&name) {
            name.push('_');
        }
        let offsets = format!("{name}_offsets");
        let batch = Dim::Free("batch");
        all.push(if one {
            Column { ids: graph.input(&name, Kind::Int64, &[batch]), bags: None }
        } else {
            let of_all = format!("{name}_ids");
            let ids = graph.input(&name, Kind::Int64, &[Dim::Free(&of_all)]);
            let starts = graph.input(&offsets, Kind::Int64, &[batch]);
            let bags = Some(segments(graph, &ids, &starts));
            Column { ids, bags }
        });
        taken.extend([name, offsets]);
    }
    Ok(all)
}

const ADD: (&str, Attribute) = ("reduction", Attribute::Text("add"));
const FIRST_AXIS: (&str, Attribute) = ("axis", Attribute::Int(0));

/// Marks each bag's beginning among the ids and sums the marks up: the number of the bag that each id
/// is in, from 1. Empty bags begin where the next one does; those at the end behind the last id.
fn segments(graph: &mut Graph, ids: &Value, starts: &Value) -> Segments {
    let (one, zero) = (graph.ints(&[1]), graph.ints(&[0]));
    let n = graph.node("Shape", &[ids], &[]);
    let batch = graph.node("Shape", &[starts], &[]);
    let places = graph.node("Add", &[&n, &one], &[]);
    let none = graph.node("Expand", &[&zero, &places], &[]);
    let ones = graph.node("Expand", &[&one, &batch], &[]);
    let marks = graph.node("ScatterElements", &[&none, starts, &ones], &[FIRST_AXIS, ADD]);
    let first = scalar(graph, &zero);
    let numbers = graph.node("CumSum", &[&marks, &first], &[]);
    let numbers = graph.node("Slice", &[&numbers, &zero, &n], &[]);
    let samples = graph.node("Sub", &[&numbers, &one], &[]);
    let of_each = graph.node("Expand", &[&one, &n], &[]);
    let empty = graph.node("Expand", &[&zero, &batch], &[]);
    let counts = graph.node("ScatterElements", &[&empty, &samples, &of_each], &[FIRST_AXIS, ADD]);
    let counts = graph.node("Max", &[&counts, &one], &[]);
    let counts = graph.node("Cast", &[&counts], &[("to", Attribute::Int(Kind::Float as i64))]);
    let counts = graph.node("Unsqueeze", &[&counts, &one], &[]);
    let samples = graph.node("Unsqueeze", &[&samples, &one], &[]);
    Segments { samples, batch, counts }
}

/// One number without dimensions.
fn scalar(graph: &mut Graph, of_one: &Value) -> Value {
    let zero = graph.ints(&[0]);
    graph.node("Squeeze", &[of_one, &zero], &[])
}

/// The pooled vectors of a table, `[B, d]`. `weights` is the parameter with a number for each id, for
/// the weighted kinds.
pub fn pooled(
    graph: &mut Graph,
    params: &Params,
    column: &Column,
    table: &TableSpec,
    (pooling, weights): (Pooling, Option<&str>),
) -> Value {
    let rows = match table.part {
        Part::Whole => column.ids.clone(),
        Part::Quotient(by) => by_part(graph, &column.ids, "Div", by),
        Part::Remainder(by) => by_part(graph, &column.ids, "Mod", by),
    };
    let values = params.put(graph, &table.name);
    let mut picked = graph.node("Gather", &[&values, &rows], &[FIRST_AXIS]);
    if let Some(weights) = weights {
        let weights = params.put(graph, weights);
        let weights = graph.node("Gather", &[&weights, &rows], &[FIRST_AXIS]);
        picked = graph.node("Mul", &[&picked, &weights], &[]);
    }
    let Some(Segments { samples, batch, counts }) = &column.bags else { return picked };
    let width = graph.ints(&[table.dim as i64]);
    let shape = graph.node("Concat", &[batch, &width], &[FIRST_AXIS]);
    let zero = graph.float(0.0);
    let none = graph.node("Expand", &[&zero, &shape], &[]);
    let sums = graph.node("ScatterND", &[&none, samples, &picked], &[ADD]);
    match pooling {
        Pooling::Mean => graph.node("Div", &[&sums, counts], &[]),
        Pooling::Sum | Pooling::WeightedFixed | Pooling::WeightedLearned => sums,
    }
}

/// Ids divided by a number, or what remains of them.
fn by_part(graph: &mut Graph, ids: &Value, op: &'static str, by: u32) -> Value {
    let by = graph.ints(&[i64::from(by)]);
    graph.node(op, &[ids, &by], &[])
}
