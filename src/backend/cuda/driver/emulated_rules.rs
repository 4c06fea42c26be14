//! What a real device refuses, or answers with anything: preconditions of the calls that launchers
//! make, from NVIDIA's documents. The emulated device says which of them a call breaks; docs/cuda.md
//! lists them with their sources.

use super::Emulated;
use crate::backend::{
    BackendError, Result,
    cuda::driver::{
        Address, Launch,
        gemm::{Compute, Epilogue, Gemm, Number},
    },
};

/// Most blocks along x, y and z.
const GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// Most threads of a block along x, y and z, and in all.
const BLOCK: [u32; 3] = [1024, 1024, 64];
const THREADS: u64 = 1024;
/// Most bytes of a kernel's arguments.
const ARGUMENTS: usize = 32_764;
/// Bits between columns of a ReLU's mask are a multiple of this.
const MASK_STRIDE: usize = 128;
/// What vectors of 16 bytes ask of a mask's first byte.
const MASK_ALIGNMENT: u64 = 16;

pub(super) fn broken(what: String) -> BackendError {
    BackendError::Device(format!("a GPU would refuse this: {what}"))
}

/// Shape, shared memory and arguments of a launch, on a device with `shared` bytes a block.
pub(super) fn launch(kernel: &str, l: &Launch, shared: usize, args: &[&[u8]]) -> Result<()> {
    let refuse = |what: String| Err(broken(format!("kernel {kernel}: {what}")));
    for (axis, k) in ["x", "y", "z"].iter().zip(0..) {
        let (grid, block): (u32, u32) = (l.grid[k], l.block[k]);
        if grid == 0 || grid > GRID[k] {
            return refuse(format!("{grid} blocks along {axis}; 1 to {} can be", GRID[k]));
        }
        if block == 0 || block > BLOCK[k] {
            return refuse(format!("{block} threads along {axis}; 1 to {} can be", BLOCK[k]));
        }
    }
    let threads: u64 = l.block.iter().map(|&n| u64::from(n)).product();
    if threads > THREADS {
        return refuse(format!("{threads} threads a block; {THREADS} can be"));
    }
    if l.shared as usize > shared {
        return refuse(format!("{} bytes of shared memory; a block has {shared}", l.shared));
    }
    let bytes: usize = args.iter().map(|a| a.len()).sum();
    if bytes > ARGUMENTS {
        return refuse(format!("{bytes} bytes of arguments; {ARGUMENTS} can be"));
    }
    Ok(())
}

/// A place that a product reads or writes.
struct Place {
    name: &'static str,
    at: Address,
    bytes: usize,
    /// Bytes from one column to the next, and of a column.
    pitch: usize,
    column: usize,
    /// What its address must be a multiple of.
    aligned: u64,
}

/// Types, leading dimensions, alignments and places of a product.
pub(super) fn product(device: &Emulated, g: &Gemm) -> Result<()> {
    let refuse = |what: String| Err(broken(format!("product: {what}: {g:?}")));
    if let Some(what) = types(g) {
        return refuse(what.into());
    }
    let places = match places(g) {
        Ok(places) => places,
        Err(what) => return refuse(what),
    };
    for p in &places {
        if !p.at.is_multiple_of(p.aligned) {
            return refuse(format!("{} is at no multiple of {} bytes", p.name, p.aligned));
        }
        device.owns(p.at, p.bytes, p.name)?;
    }
    apart(g, &places).map_or(Ok(()), refuse)
}

fn types(g: &Gemm) -> Option<&'static str> {
    let sums = matches!(g.epilogue, Epilogue::SumsOfB(_));
    if g.result != Number::F32 && g.result != g.number {
        Some("D is in f32 or in the numbers of A and B")
    } else if g.compute == Compute::Tf32 && g.number != Number::F32 {
        Some("TF32 computes with operands in f32")
    } else if g.d.transposed {
        Some("D is never transposed")
    } else if sums && g.result != Number::F32 {
        Some("sums of B have D's numbers, and are read as f32")
    } else {
        None
    }
}

/// Where a product reads and writes, or a leading dimension that cannot be.
fn places(g: &Gemm) -> std::result::Result<Vec<Place>, String> {
    let mut places = Vec::with_capacity(5);
    for (name, o, rows, cols, number) in [
        ("A", g.a, g.m, g.k, g.number),
        ("B", g.b, g.k, g.n, g.number),
        ("D", g.d, g.m, g.n, g.result),
    ] {
        let (rows, cols) = if o.transposed { (cols, rows) } else { (rows, cols) };
        if o.stride < rows {
            return Err(format!("leading dimension {} of {name}, of {rows} rows", o.stride));
        }
        let size = number.bytes();
        let (pitch, column) = (o.stride * size, rows * size);
        let bytes = (cols.max(1) - 1) * pitch + column;
        places.push(Place { name, at: o.at, bytes, pitch, column, aligned: size as u64 });
    }
    if let Some(at) = g.epilogue.vector() {
        let length = if matches!(g.epilogue, Epilogue::SumsOfB(_)) { g.n } else { g.m };
        let (bytes, aligned) = (length * g.result.bytes(), g.result.bytes() as u64);
        let name = "the vector of the end";
        places.push(Place { name, at, bytes, pitch: bytes, column: bytes, aligned });
    }
    if let Some(mask) = g.epilogue.mask() {
        if !mask.stride.is_multiple_of(MASK_STRIDE) || mask.stride < g.m {
            return Err(format!(
                "leading dimension {} of the mask; a multiple of {MASK_STRIDE}, and no less than {}",
                mask.stride, g.m
            ));
        }
        let (pitch, column) = (mask.stride / 8, g.m.div_ceil(8));
        let bytes = (g.n.max(1) - 1) * pitch + column;
        let (name, aligned) = ("the mask", MASK_ALIGNMENT);
        places.push(Place { name, at: mask.at, bytes, pitch, column, aligned });
    }
    Ok(places)
}

/// What is written lies apart from all else, but for D that is added to.
fn apart(g: &Gemm, places: &[Place]) -> Option<String> {
    let written = |p: &Place| match p.name {
        "D" => true,
        "the vector of the end" => matches!(g.epilogue, Epilogue::SumsOfB(_)),
        "the mask" => matches!(g.epilogue, Epilogue::BiasReluMask(..)),
        _ => false,
    };
    let pairs =
        places.iter().enumerate().flat_map(|(i, a)| places[..i].iter().map(move |b| (a, b)));
    pairs
        .filter(|(a, b)| written(a) || written(b))
        .find(|(a, b)| meet(a, b))
        .map(|(a, b)| format!("{} and {} overlap, and one is written", a.name, b.name))
}

/// Whether two places have a byte in common. Matrices may be columns of one buffer, side by side.
fn meet(a: &Place, b: &Place) -> bool {
    let (first, second) = if a.at <= b.at { (a, b) } else { (b, a) };
    let between = (second.at - first.at) as usize;
    if a.bytes.min(b.bytes) == 0 || between >= first.bytes {
        return false;
    }
    if a.pitch != b.pitch {
        return true;
    }
    let within = between % a.pitch;
    within < first.column || within + second.column > a.pitch
}
