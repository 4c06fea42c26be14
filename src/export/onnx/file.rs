//! The file of an ONNX model, and the one beside it: a protocol buffer takes 2 GiB at most, so tensors
//! of larger models are in `FILE.data` (onnx/onnx: docs/ExternalData.md).

use super::{
    super::Model,
    graph::{Constant, Graph, Kind},
};
use crate::host::{
    atomic_file::{publish, waiting},
    protobuf::Message,
};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Bytes of tensors above which they are in a file of their own, unless otherwise asked for.
pub const EXTERNAL_ABOVE: u64 = 2_000_000_000;
/// Of a model with such a file, smaller tensors stay in the model.
const SMALL: u64 = 1024;
/// Where a tensor begins in the file beside is a multiple of this.
const ALIGNMENT: u64 = 64;
/// Numbers that are copied at once.
const PART: usize = 1 << 20;

/// Version of the format that goes with opset 18.
const IR_VERSION: u64 = 8;
const OPSET: u64 = 18;

/// The file beside the model at `path`.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".data");
    path.with_file_name(name)
}

/// Writes both; the model comes last, so that it is there only with its tensors.
pub(super) fn write(model: &Model<'_>, graph: &Graph, path: &Path) -> io::Result<()> {
    let all: u64 = graph.constants().iter().map(bytes).sum();
    let place = beside(path);
    let mut beside = match all > model.external_above {
        true => Some(Beside::create(&place)?),
        false => None,
    };
    let mut tensors = Vec::new();
    for constant in graph.constants() {
        tensors.push(match &mut beside {
            Some(beside) if bytes(constant) > SMALL => (beside.add(model, constant)?, None),
            _ => (tensor(constant).head(RAW_DATA, bytes(constant)), Some(constant)),
        });
    }
    let waiting = waiting(path);
    let put = || {
        let mut to = BufWriter::new(File::create(&waiting)?);
        put_model(&mut to, model, graph, tensors)?;
        to.flush()?;
        drop(to);
        if let Some(beside) = beside {
            // A model of before would find other tensors than its own.
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => beside.publish()?,
            }
        }
        publish(&waiting, path)
    };
    put().inspect_err(|_| {
        let _ = fs::remove_file(&waiting);
    })
}

/// `TensorProto.raw_data`.
const RAW_DATA: u64 = 9;

/// Writes a `ModelProto`. Tensors are given as messages, with those whose numbers come behind them.
fn put_model(
    to: &mut dyn Write,
    model: &Model<'_>,
    graph: &Graph,
    tensors: Vec<(Message, Option<&Constant>)>,
) -> io::Result<()> {
    let head = graph.message("dlrm-bench");
    let mut framed = Vec::new();
    let mut length = head.len();
    for (tensor, constant) in tensors {
        let numbers = constant.map_or(0, bytes);
        let frame = Message::default().head(5, tensor.len() + numbers);
        length += frame.len() + tensor.len() + numbers;
        framed.push((frame, tensor, constant));
    }
    let opset = Message::default().bytes(1, b"").number(2, OPSET);
    let file = Message::default()
        .number(1, IR_VERSION)
        .bytes(2, b"dlrm-bench")
        .bytes(3, env!("CARGO_PKG_VERSION").as_bytes())
        .message(8, &opset)
        .head(7, length);
    to.write_all(&file.into_bytes())?;
    to.write_all(&head.into_bytes())?;
    for (frame, tensor, constant) in framed {
        to.write_all(&frame.into_bytes())?;
        to.write_all(&tensor.into_bytes())?;
        if let Some(constant) = constant {
            numbers(model, constant, &mut |part| to.write_all(part))?;
        }
    }
    Ok(())
}

/// Bytes of a tensor's numbers.
fn bytes(constant: &Constant) -> u64 {
    match constant {
        Constant::Parameter(_, shape) => 4 * shape.iter().product::<usize>() as u64,
        Constant::Ints(_, numbers) => 8 * numbers.len() as u64,
        Constant::Float(..) => 4,
    }
}

/// `TensorProto` but for its numbers.
fn tensor(constant: &Constant) -> Message {
    let (dims, kind) = match constant {
        Constant::Parameter(_, shape) => (shape.clone(), Kind::Float),
        Constant::Ints(_, numbers) => (vec![numbers.len()], Kind::Int64),
        Constant::Float(..) => (Vec::new(), Kind::Float),
    };
    let tensor = Message::default().packed(1, dims.into_iter().map(|d| d as u64));
    tensor.number(2, kind as u64).bytes(8, constant.name().as_bytes())
}

/// Hands out the numbers of a tensor, little endian, part by part.
fn numbers(
    model: &Model<'_>,
    constant: &Constant,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    match constant {
        Constant::Float(_, x) => put(&x.to_le_bytes()),
        Constant::Ints(_, numbers) => {
            put(&numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())
        }
        Constant::Parameter(name, shape) => {
            let len: usize = shape.iter().product();
            let (mut values, mut bytes) = (Vec::new(), Vec::new());
            for first in (0..len).step_by(PART) {
                values.resize(PART.min(len - first), 0.0);
                model.copy(name, first, &mut values)?;
                bytes.clear();
                bytes.extend(values.iter().flat_map(|v: &f32| v.to_le_bytes()));
                put(&bytes)?;
            }
            Ok(())
        }
    }
}

/// The file beside a model, which takes its name when it is whole.
struct Beside<'a> {
    path: &'a Path,
    waiting: PathBuf,
    file: BufWriter<File>,
    at: u64,
}

impl<'a> Beside<'a> {
    fn create(path: &'a Path) -> io::Result<Self> {
        let waiting = waiting(path);
        let file = BufWriter::new(File::create(&waiting)?);
        Ok(Beside { path, waiting, file, at: 0 })
    }

    /// Writes the numbers of a tensor, and says where they are.
    fn add(&mut self, model: &Model<'_>, constant: &Constant) -> io::Result<Message> {
        let begin = self.at.next_multiple_of(ALIGNMENT);
        self.file.write_all(&vec![0; (begin - self.at) as usize])?;
        numbers(model, constant, &mut |part| self.file.write_all(part))?;
        let length = bytes(constant);
        self.at = begin + length;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut tensor = tensor(constant);
        for (key, value) in
            [("location", name), ("offset", begin.to_string()), ("length", length.to_string())]
        {
            let entry = Message::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
            tensor = tensor.message(13, &entry);
        }
        // EXTERNAL
        Ok(tensor.number(14, 1))
    }

    fn publish(mut self) -> io::Result<()> {
        self.file.flush()?;
        publish(&self.waiting, self.path)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        // Once published it has another name.
        let _ = fs::remove_file(&self.waiting);
    }
}
