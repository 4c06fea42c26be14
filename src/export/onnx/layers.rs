//! Layers that both models share.

use super::graph::{Attribute, Graph, Value};
use crate::model::ParamSpec;
use std::collections::HashMap;

/// The parameters of a model by their names.
pub struct Params(HashMap<String, Vec<usize>>);

impl Params {
    /// Those of `specs`.
    pub fn new(specs: Vec<ParamSpec>) -> Self {
        Params(specs.into_iter().map(|p| (p.name, p.shape)).collect())
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Puts one into the graph.
    pub fn put(&self, graph: &mut Graph, name: &str) -> Value {
        let shape = self.0.get(name).map(Vec::as_slice).unwrap_or_default();
        graph.parameter(name, shape)
    }
}

/// `x W^T`: `[B, n]` by the parameter `weight` `[m, n]`, plus the parameter `bias` if there is one.
pub fn product(
    graph: &mut Graph,
    params: &Params,
    x: &Value,
    (weight, bias): (&str, Option<&str>),
) -> Value {
    let weight = params.put(graph, weight);
    let bias = bias.map(|name| params.put(graph, name));
    let mut inputs = vec![x, &weight];
    inputs.extend(&bias);
    graph.node("Gemm", &inputs, &[("transB", Attribute::Int(1))])
}

/// The layer whose parameters' names begin with `name`.
pub fn linear(graph: &mut Graph, params: &Params, x: &Value, name: &str) -> Value {
    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
    product(graph, params, x, (&weight, Some(&bias)))
}

/// [`linear`] and ReLU.
pub fn linear_relu(graph: &mut Graph, params: &Params, x: &Value, name: &str) -> Value {
    let x = linear(graph, params, x, name);
    graph.node("Relu", &[&x], &[])
}

/// Batch normalisation of the layer `name` by its running statistics.
pub fn batch_norm(graph: &mut Graph, params: &Params, x: &Value, name: &str, eps: f32) -> Value {
    let of = ["scale", "shift", "running_mean", "running_var"];
    let of = of.map(|what| params.put(graph, &format!("{name}.bn.{what}")));
    let inputs = [x, &of[0], &of[1], &of[2], &of[3]];
    graph.node("BatchNormalization", &inputs, &[("epsilon", Attribute::Float(eps))])
}

/// `[B, ...]` as `[B, dims]`.
pub fn reshape(graph: &mut Graph, x: &Value, dims: &[usize]) -> Value {
    let all: Vec<i64> = [-1].into_iter().chain(dims.iter().map(|&d| d as i64)).collect();
    let shape = graph.ints(&all);
    graph.node("Reshape", &[x, &shape], &[])
}

/// Matrices of the same rows, one behind the other; one of them as it is.
pub fn concat(graph: &mut Graph, parts: &[Value]) -> Value {
    match parts {
        [one] => one.clone(),
        parts => {
            let parts: Vec<&Value> = parts.iter().collect();
            graph.node("Concat", &parts, &[("axis", Attribute::Int(1))])
        }
    }
}

/// `[B, n]` with `columns` columns of zeros behind.
pub fn pad(graph: &mut Graph, x: &Value, columns: usize) -> Value {
    if columns == 0 {
        return x.clone();
    }
    let pads = graph.ints(&[0, 0, 0, columns as i64]);
    graph.node("Pad", &[x, &pads], &[])
}
