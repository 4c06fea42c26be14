//! Just enough of numpy's `.npz` (a zip of `.npy`) to read reference arrays.

use flate2::read::DeflateDecoder;
use std::{collections::HashMap, io::Read, path::Path};

/// An array with its elements as f64, in row-major order.
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// Reads all arrays of a file by name.
pub fn read(path: &Path) -> HashMap<String, Array> {
    let zip = std::fs::read(path).unwrap();
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    // The end record holds the number of entries and where the central directory starts.
    let end = zip.windows(4).rposition(|w| w == b"PK\x05\x06").unwrap();
    let (entries, mut at) = (u16_at(end + 10), u32_at(end + 16));
    let mut arrays = HashMap::new();
    for _ in 0..entries {
        let (method, packed, name_len, extra, comment, local) = (
            u16_at(at + 10),
            u32_at(at + 20),
            u16_at(at + 28),
            u16_at(at + 30),
            u16_at(at + 32),
            u32_at(at + 42),
        );
        let name = std::str::from_utf8(&zip[at + 46..at + 46 + name_len]).unwrap();
        let data = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        let mut npy = Vec::new();
        match method {
            0 => npy.extend_from_slice(&zip[data..data + packed]),
            8 => {
                DeflateDecoder::new(&zip[data..data + packed]).read_to_end(&mut npy).unwrap();
            }
            m => panic!("{name}: zip method {m}"),
        }
        arrays.insert(name.trim_end_matches(".npy").to_owned(), array(&npy));
        at += 46 + name_len + extra + comment;
    }
    arrays
}

/// Version 1 of the format: magic, header length, a Python dict as text, the elements.
fn array(npy: &[u8]) -> Array {
    let start = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = std::str::from_utf8(&npy[10..start]).unwrap();
    let inside = |open: &str, close: &str| {
        header.split_once(open).unwrap().1.split_once(close).unwrap().0.to_owned()
    };
    let shape: Vec<usize> =
        inside("'shape': (", ")").split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let data = &npy[start..];
    let stored: Vec<f64> = match inside("'descr': '", "'").as_str() {
        "<f8" => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        "<f4" => data
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        "<i4" => data
            .chunks_exact(4)
            .map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        "<i8" => {
            data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
        }
        "|u1" => data.iter().map(|&b| f64::from(b)).collect(),
        "|i1" => data.iter().map(|&b| f64::from(b as i8)).collect(),
        other => panic!("element type {other}"),
    };
    let values = match (inside("'fortran_order': ", ",").as_str(), &shape[..]) {
        ("True", &[rows, columns]) => {
            (0..rows * columns).map(|i| stored[i % columns * rows + i / columns]).collect()
        }
        _ => stored,
    };
    Array { shape, values }
}
