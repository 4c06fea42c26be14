//! What a pickle of `torch.save` holds, as candle's reader gives it: numbers, dictionaries, and where
//! the numbers of a tensor are.

use candle_core::pickle::Object;

/// The pairs of a dictionary; none of anything else.
pub(super) fn pairs(object: &Object) -> &[(Object, Object)] {
    match object {
        Object::Dict(pairs) => pairs,
        Object::Build { callable, .. } => pairs(callable),
        _ => &[],
    }
}

/// What a dictionary has under `key`; of two the last one.
pub(super) fn get<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    let is = |(k, _): &&(Object, Object)| matches!(k, Object::Unicode(k) if k == key);
    pairs(object).iter().rev().find(is).map(|(_, value)| value)
}

/// A number: Python's, or a scalar of numpy.
pub(super) fn number(object: &Object) -> Option<f64> {
    match object {
        Object::Int(n) => Some(f64::from(*n)),
        Object::Long(n) => Some(*n as f64),
        Object::Float(x) => Some(*x),
        Object::Reduce { callable, args } if is_class(callable, "multiarray", "scalar") => {
            match &**args {
                Object::Tuple(args) => numpy(args.first()?, &bytes(args.get(1)?)?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_class(object: &Object, module: &str, class: &str) -> bool {
    matches!(object, Object::Class { module_name, class_name }
        if module_name.ends_with(module) && class_name == class)
}

/// A scalar of numpy's, little endian, of the type that `dtype` names.
fn numpy(dtype: &Object, bytes: &[u8]) -> Option<f64> {
    let dtype = match dtype {
        Object::Build { callable, .. } => callable,
        other => other,
    };
    let Object::Reduce { args, .. } = dtype else { return None };
    let Object::Tuple(args) = &**args else { return None };
    let Some(Object::Unicode(word)) = args.first() else { return None };
    Some(match word.trim_start_matches(['<', '=', '|']) {
        "f8" => f64::from_le_bytes(bytes.try_into().ok()?),
        "f4" => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        "i8" => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        "i4" => f64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    })
}

/// Bytes, which protocol 2 writes as text whose characters are their values: `_codecs.encode(TEXT,
/// "latin1")`.
fn bytes(object: &Object) -> Option<Vec<u8>> {
    let Object::Reduce { callable, args } = object else { return None };
    let Object::Tuple(args) = &**args else { return None };
    match args.first() {
        Some(Object::Unicode(text)) if is_class(callable, "_codecs", "encode") => {
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
        }
        _ => None,
    }
}
