//! Which ends of products a device's library has, in the shapes of a full-size DLRM step: where it
//! lacks one a kernel of ours does its work after a plain product, which is right as well and costs
//! another pass over the memory.

use super::PRECISIONS;
use crate::backend::{
    Precision, Result,
    cuda::{
        driver::{
            Driver, Memory,
            gemm::{BitMask, Compute, Epilogue, Gemm, Operand},
        },
        linear,
    },
};
use serde::Serialize;
use std::rc::Rc;

/// One end of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// The layer and the precision.
    pub product: String,
    /// What follows the product.
    pub end: &'static str,
    /// Whether the library has it.
    pub there: bool,
}

/// Layers of MLPerf's DLRM, narrow and wide: inputs and outputs.
const LAYERS: [(usize, usize); 3] = [(512, 256), (1024, 1024), (480, 1024)];

/// Tries each with batches of `batch` samples.
///
/// # Errors
/// If the device fails, or has not enough memory.
pub fn ends(driver: &Rc<dyn Driver>, batch: usize) -> Result<Vec<End>> {
    let mut all = Vec::new();
    for precision in PRECISIONS {
        for (inputs, outputs) in LAYERS {
            layer(driver, precision, [batch, inputs, outputs], &mut all)?;
        }
    }
    Ok(all)
}

fn layer(
    driver: &Rc<dyn Driver>,
    precision: Precision,
    shape: [usize; 3],
    all: &mut Vec<End>,
) -> Result<()> {
    let [batch, inputs, outputs] = shape;
    let number = linear::operands(precision);
    let memory = |elements: usize| Memory::zeros(driver, elements * size_of::<f32>(), "a layer");
    let (x, y, weight, vector) = (
        memory(batch * inputs)?,
        memory(batch * outputs)?,
        memory(inputs * outputs)?,
        memory(outputs)?,
    );
    let bits = memory((batch * inputs.max(outputs).next_multiple_of(128)).div_ceil(32))?;
    let matrix = |m: &Memory, stride: usize, transposed| Operand { at: m.at(), stride, transposed };
    let mask = |columns: usize| BitMask { at: bits.at(), stride: columns.next_multiple_of(128) };
    let compute = if precision == Precision::Tf32 { Compute::Tf32 } else { Compute::Plain };
    let forward = Gemm {
        m: outputs,
        n: batch,
        k: inputs,
        a: matrix(&weight, inputs, true),
        b: matrix(&x, inputs, false),
        number,
        d: matrix(&y, outputs, false),
        result: number,
        compute,
        epilogue: Epilogue::None,
        add: false,
    };
    let data = Gemm {
        m: inputs,
        k: outputs,
        a: matrix(&weight, inputs, false),
        b: matrix(&y, outputs, false),
        d: matrix(&x, inputs, false),
        ..forward
    };
    let gradient = memory(inputs * outputs)?;
    let of_weight = Gemm {
        m: inputs,
        n: outputs,
        k: batch,
        a: matrix(&x, inputs, false),
        b: matrix(&y, outputs, true),
        d: matrix(&gradient, inputs, false),
        result: linear::operands(Precision::Fp32),
        ..forward
    };
    let product = format!("{inputs} to {outputs}, {}", precision.name());
    let tries = [
        ("bias and ReLU", forward, Epilogue::BiasRelu(vector.at())),
        (
            "bias and ReLU, which leaves bits",
            forward,
            Epilogue::BiasReluMask(vector.at(), mask(outputs)),
        ),
        ("gradient of the ReLU from bits", data, Epilogue::ReluGradient(mask(inputs))),
        ("gradient of the bias", of_weight, Epilogue::SumsOfB(vector.at())),
    ];
    for (end, gemm, epilogue) in tries {
        // SAFETY: the matrices have been made in these shapes, vector and bits for the wider side.
        let there = unsafe { driver.gemm(&Gemm { epilogue, ..gemm }) }?;
        all.push(End { product: product.clone(), end, there });
    }
    driver.synchronize()
}
