//! Pickles as `torch.save` writes them (protocol 2), of the few opcodes that they need
//! (python/cpython: Lib/pickletools.py; pytorch: torch/_weights_only_unpickler.py lists those that
//! `torch.load(weights_only=True)` takes).

/// What is pickled.
#[derive(Debug, Clone, PartialEq)]
pub enum Pickled {
    /// `None`.
    Nothing,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Pickled>),
    /// A tuple of two.
    Pair(Box<[Pickled; 2]>),
    /// A dictionary.
    Dict(Vec<(Pickled, Pickled)>),
    /// `collections.OrderedDict`, as a `state_dict` is one.
    Ordered(Vec<(Pickled, Pickled)>),
    /// A tensor of f32 whose numbers, row-major, are those of storage `storage`.
    Tensor {
        /// Its number in the file.
        storage: usize,
        /// Dimensions; none of a scalar.
        shape: Vec<usize>,
    },
}

impl From<&str> for Pickled {
    fn from(text: &str) -> Self {
        Pickled::Text(text.to_owned())
    }
}

impl Pickled {
    /// A dictionary with words for keys.
    pub fn dict<'a>(pairs: impl IntoIterator<Item = (&'a str, Pickled)>) -> Self {
        Pickled::Dict(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The pickle.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![PROTO, 2];
        put(self, &mut out);
        out.push(STOP);
        out
    }
}

const PROTO: u8 = 0x80;
const STOP: u8 = b'.';
const MARK: u8 = b'(';
const NONE: u8 = b'N';
const NEWTRUE: u8 = 0x88;
const NEWFALSE: u8 = 0x89;
const BININT1: u8 = b'K';
const BININT: u8 = b'J';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const BINUNICODE: u8 = b'X';
const EMPTY_LIST: u8 = b']';
const APPENDS: u8 = b'e';
const EMPTY_DICT: u8 = b'}';
const SETITEMS: u8 = b'u';
const EMPTY_TUPLE: u8 = b')';
const TUPLE: u8 = b't';
const TUPLE2: u8 = 0x86;
const GLOBAL: u8 = b'c';
const REDUCE: u8 = b'R';
const BINPERSID: u8 = b'Q';

fn put(value: &Pickled, out: &mut Vec<u8>) {
    match value {
        Pickled::Nothing => out.push(NONE),
        Pickled::Bool(is) => out.push(if *is { NEWTRUE } else { NEWFALSE }),
        Pickled::Int(n) => int(*n, out),
        Pickled::Float(x) => {
            out.push(BINFLOAT);
            out.extend(x.to_be_bytes());
        }
        Pickled::Text(text) => self::text(text, out),
        Pickled::List(values) => {
            out.extend([EMPTY_LIST, MARK]);
            values.iter().for_each(|v| put(v, out));
            out.push(APPENDS);
        }
        Pickled::Pair(pair) => {
            pair.iter().for_each(|v| put(v, out));
            out.push(TUPLE2);
        }
        Pickled::Dict(pairs) => {
            out.push(EMPTY_DICT);
            items(pairs, out);
        }
        Pickled::Ordered(pairs) => {
            ordered(out);
            items(pairs, out);
        }
        Pickled::Tensor { storage, shape } => tensor(*storage, shape, out),
    }
}

fn items(pairs: &[(Pickled, Pickled)], out: &mut Vec<u8>) {
    out.push(MARK);
    for (key, value) in pairs {
        put(key, out);
        put(value, out);
    }
    out.push(SETITEMS);
}

fn int(n: i64, out: &mut Vec<u8>) {
    if let Ok(n) = u8::try_from(n) {
        out.extend([BININT1, n]);
    } else if let Ok(n) = i32::try_from(n) {
        out.push(BININT);
        out.extend(n.to_le_bytes());
    } else {
        out.extend([LONG1, 8]);
        out.extend(n.to_le_bytes());
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.push(BINUNICODE);
    // Names and words are short.
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn global(module: &str, name: &str, out: &mut Vec<u8>) {
    out.push(GLOBAL);
    out.extend(format!("{module}\n{name}\n").as_bytes());
}

fn ordered(out: &mut Vec<u8>) {
    global("collections", "OrderedDict", out);
    out.extend([EMPTY_TUPLE, REDUCE]);
}

fn sizes(of: &[usize], out: &mut Vec<u8>) {
    out.push(MARK);
    of.iter().for_each(|&n| int(n as i64, out));
    out.push(TUPLE);
}

/// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`, where the
/// storage is `("storage", type, key, device, numbers)` (torch/serialization.py, `persistent_id`).
fn tensor(storage: usize, shape: &[usize], out: &mut Vec<u8>) {
    global("torch._utils", "_rebuild_tensor_v2", out);
    out.extend([MARK, MARK]);
    text("storage", out);
    global("torch", "FloatStorage", out);
    text(&storage.to_string(), out);
    text("cpu", out);
    int(shape.iter().product::<usize>() as i64, out);
    out.extend([TUPLE, BINPERSID]);
    int(0, out);
    sizes(shape, out);
    let stride = |axis: usize| shape[axis + 1..].iter().product();
    sizes(&(0..shape.len()).map(stride).collect::<Vec<_>>(), out);
    out.push(NEWFALSE);
    ordered(out);
    out.extend([TUPLE, REDUCE]);
}

#[cfg(test)]
mod tests {
    use super::{super::object, *};
    use candle_core::pickle::Stack;
    use proptest::prelude::*;

    proptest! {
        /// Numbers come back, whatever opcode they take.
        #[test]
        fn numbers_come_back(whole in any::<i64>(), small in -300i64..300, x in any::<f64>()) {
            let value = Pickled::dict([
                ("whole", Pickled::Int(whole)),
                ("small", Pickled::Int(small)),
                ("x", Pickled::Float(x)),
            ]);
            let mut stack = Stack::empty();
            stack.read_loop(&mut &value.to_bytes()[..]).unwrap();
            let read = stack.finalize().unwrap();
            let of = |key| object::number(object::get(&read, key).unwrap()).unwrap();
            prop_assert_eq!(of("whole"), whole as f64);
            prop_assert_eq!(of("small"), small as f64);
            prop_assert_eq!(of("x").to_bits(), x.to_bits());
        }
    }
}
