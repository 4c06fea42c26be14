//! DLRM as a graph.

use super::{
    bags::{Column, pooled},
    graph::{Attribute, Graph, Value},
    layers::{Params, batch_norm, concat, linear, linear_relu, pad, product, reshape},
};
use crate::model::{
    DlrmSpec, Interaction, Pooling, Qr, QrOperation, Trick, projected, projection_layer, top_layer,
};

/// TensorFlow's constant of batch normalisation (`tf.layers.batch_normalization`).
const EPSILON: f32 = 1e-3;

/// The logits `[B, 1]`.
pub fn logits(
    graph: &mut Graph,
    params: &Params,
    spec: &DlrmSpec,
    (dense, columns): (&Value, &[Column]),
) -> Result<Value, String> {
    if spec.quirks.batch_stats_in_eval {
        return Err("the quirk dr.bn-batch-stats-in-eval lets predictions depend on which samples share a batch, which an ONNX file does not say; take it out of workload.quirks".to_owned());
    }
    let mut x = pad(graph, dense, spec.bottom_input() - spec.dense);
    for layer in 0..spec.bottom.len() {
        let name = format!("bot_l.{}", 2 * layer);
        x = linear_relu(graph, params, &x, &name);
        if spec.batch_norm {
            x = batch_norm(graph, params, &x, &name, EPSILON);
        }
    }
    let mut features = vec![x];
    features.extend(vectors(graph, params, spec, columns));
    let met = interaction(graph, params, spec, &features);
    Ok(top(graph, params, spec, met))
}

/// The vectors of all columns, each `[B, d]`.
fn vectors(graph: &mut Graph, params: &Params, spec: &DlrmSpec, columns: &[Column]) -> Vec<Value> {
    let (tables, projections) = (spec.table_specs(), spec.projections());
    let weighted = matches!(spec.pooling, Pooling::WeightedFixed | Pooling::WeightedLearned);
    let mut all = Vec::new();
    for (k, column) in columns.iter().enumerate() {
        // Without them all are 1.
        let weights = weighted.then(|| format!("v_W_l.{k}")).filter(|name| params.has(name));
        let of: Vec<Value> = tables
            .iter()
            .filter(|table| table.column == k)
            .map(|table| pooled(graph, params, column, table, (spec.pooling, weights.as_deref())))
            .collect();
        let vector = match (spec.trick, &of[..]) {
            (_, [one]) => one.clone(),
            (Trick::Qr(Qr { operation: QrOperation::Mult, .. }), [q, r]) => {
                graph.node("Mul", &[q, r], &[])
            }
            (Trick::Qr(Qr { operation: QrOperation::Add, .. }), [q, r]) => {
                graph.node("Add", &[q, r], &[])
            }
            _ => concat(graph, &of),
        };
        let wider = projections.iter().find(|(column, _)| *column == k);
        all.push(match wider {
            Some((_, matrix)) => product(graph, params, &vector, (&matrix.name, None)),
            None => vector,
        });
    }
    all
}

/// Lets the features meet: `[B, top_input]`.
fn interaction(graph: &mut Graph, params: &Params, spec: &DlrmSpec, features: &[Value]) -> Value {
    let t = spec.vectors();
    let all = concat(graph, features);
    match &spec.interaction {
        Interaction::Cat => all,
        Interaction::Cross { layers, rank } => {
            let name = |name: &str, l: usize| format!("inter_arch.crossnet.{name}.{l}");
            let mut x = all.clone();
            for l in 0..*layers {
                let (h, w) = match rank {
                    Some(_) => {
                        let v = name("V_kernels", l);
                        (product(graph, params, &x, (&v, None)), name("W_kernels", l))
                    }
                    None => (x.clone(), name("kernels", l)),
                };
                let y = product(graph, params, &h, (&w, Some(&name("bias", l))));
                let y = graph.node("Mul", &[&all, &y], &[]);
                x = graph.node("Add", &[&y, &x], &[]);
            }
            x
        }
        Interaction::Projection { branches } => {
            let [p, q] = projected(branches, t.d);
            let mut matrix = |branch: usize, shape: [usize; 2]| {
                let layers = 0..branches[branch].len();
                let made = layers.fold(all.clone(), |x, layer| {
                    linear_relu(graph, params, &x, &projection_layer(branch, layer))
                });
                reshape(graph, &made, &shape)
            };
            let (left, right) = (matrix(0, [p, t.d]), matrix(1, [t.d, q]));
            let products = graph.node("MatMul", &[&left, &right], &[]);
            let products = reshape(graph, &products, &[p * q]);
            concat(graph, &[features[0].clone(), products])
        }
        Interaction::Dot { self_interaction, .. } => {
            let n = t.n;
            let pairs: Vec<i64> = (0..n)
                .flat_map(|i| {
                    (0..i + usize::from(*self_interaction)).map(move |j| (i * n + j) as i64)
                })
                .collect();
            let mut parts = vec![features[0].clone()];
            if !pairs.is_empty() {
                let stacked = reshape(graph, &all, &[n, t.d]);
                let turned = turned(graph, &stacked);
                let products = graph.node("MatMul", &[&stacked, &turned], &[]);
                let products = reshape(graph, &products, &[n * n]);
                let pairs = graph.ints(&pairs);
                let axis = ("axis", Attribute::Int(1));
                parts.push(graph.node("Gather", &[&products, &pairs], &[axis]));
            }
            let met = concat(graph, &parts);
            pad(graph, &met, spec.top_input() - spec.interaction.width(t))
        }
    }
}

/// `[B, n, d]` as `[B, d, n]`.
fn turned(graph: &mut Graph, x: &Value) -> Value {
    graph.node("Transpose", &[x], &[("perm", Attribute::Ints(&[0, 2, 1]))])
}

/// The top MLP. Layers that nothing is computed with are not in the graph.
fn top(graph: &mut Graph, params: &Params, spec: &DlrmSpec, mut x: Value) -> Value {
    let last = spec.top.len() - 1;
    for layer in spec.dead_layers()..last {
        x = linear_relu(graph, params, &x, &top_layer(layer));
    }
    linear(graph, params, &x, &top_layer(last))
}
