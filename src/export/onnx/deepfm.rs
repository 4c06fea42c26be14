//! DeepFM as a graph.

use super::{
    bags::{Column, pooled},
    graph::{Attribute, Graph, Value},
    layers::{Params, batch_norm, concat, linear, linear_relu, reshape},
};
use crate::model::{DeepFmSpec, Pooling};

/// torch's constant of batch normalisation (`torch.nn.BatchNorm1d`).
const EPSILON: f32 = 1e-5;

/// The logits `[B, 1]`.
pub fn logits(
    graph: &mut Graph,
    params: &Params,
    spec: &DeepFmSpec,
    (dense, columns): (Option<&Value>, &[Column]),
) -> Value {
    let (mut fields, mut linears) = (Vec::new(), Vec::new());
    if let Some(dense) = dense {
        // Each column's value times its vector.
        let axis = graph.ints(&[2]);
        let apart = graph.node("Unsqueeze", &[dense, &axis], &[]);
        let vectors = params.put(graph, "dense_emb");
        let of_each = graph.node("Mul", &[&apart, &vectors], &[]);
        fields.push(reshape(graph, &of_each, &[spec.dense * spec.dim]));
        let weights = params.put(graph, "dense_linear");
        linears.push(graph.node("MatMul", &[dense, &weights], &[]));
    }
    for table in spec.table_specs() {
        let column = &columns[table.column];
        let vector = pooled(graph, params, column, &table, (Pooling::Sum, None));
        let scalars = table.name.starts_with("linear.");
        if scalars { &mut linears } else { &mut fields }.push(vector);
    }
    let all = concat(graph, &fields);
    let first = sum_of(graph, &linears);
    let second = pairs(graph, spec, &all);
    let deep = dnn(graph, params, spec, all);
    let sum = graph.node("Add", &[&first, &second], &[]);
    graph.node("Add", &[&sum, &deep], &[])
}

fn sum_of(graph: &mut Graph, terms: &[Value]) -> Value {
    let terms: Vec<&Value> = terms.iter().collect();
    graph.node("Sum", &terms, &[])
}

/// The sum of `<v_i, v_j>` over all pairs, `[B, 1]`: half of what the square of the sum has more than
/// the sum of squares.
fn pairs(graph: &mut Graph, spec: &DeepFmSpec, all: &Value) -> Value {
    let apart = reshape(graph, all, &[spec.fields(), spec.dim]);
    let axis = graph.ints(&[1]);
    let keep = |keep| ("keepdims", Attribute::Int(keep));
    let sum = graph.node("ReduceSum", &[&apart, &axis], &[keep(0)]);
    let of_sum = graph.node("Mul", &[&sum, &sum], &[]);
    let of_sum = graph.node("ReduceSum", &[&of_sum, &axis], &[keep(1)]);
    let squares = graph.node("Mul", &[all, all], &[]);
    let squares = graph.node("ReduceSum", &[&squares, &axis], &[keep(1)]);
    let more = graph.node("Sub", &[&of_sum, &squares], &[]);
    let half = graph.float(0.5);
    graph.node("Mul", &[&more, &half], &[])
}

/// Hidden layers, then one to a single output. Dropout is off in predictions.
fn dnn(graph: &mut Graph, params: &Params, spec: &DeepFmSpec, mut x: Value) -> Value {
    let name = |layer: usize| format!("dnn.{layer}");
    for layer in 0..spec.hidden.len() {
        let name = name(layer);
        x = if spec.batch_norm {
            let z = linear(graph, params, &x, &name);
            let z = batch_norm(graph, params, &z, &name, EPSILON);
            graph.node("Relu", &[&z], &[])
        } else {
            linear_relu(graph, params, &x, &name)
        };
    }
    linear(graph, params, &x, &name(spec.hidden.len()))
}
