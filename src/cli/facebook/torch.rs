//! Numbers as `print` shows a torch tensor: the layout of `torch/_tensor_str.py` with its default
//! options (4 digits, 80 columns, at most 1000 elements in full).

/// Columns of a line.
const WIDTH: usize = 80;
/// More elements than this are shown by their ends.
const THRESHOLD: usize = 1000;
/// Elements shown of an end.
const EDGE: usize = 3;
/// What stands in front of the first bracket.
const NAME: &str = "tensor(";

/// A float32 tensor of `[rows, columns]`.
pub fn floats(values: &[f32], columns: usize) -> String {
    tensor(values, Some(columns), None, |shown| float_words(shown))
}

/// An int32 tensor of `[rows, columns]`.
pub fn int32(values: &[u32], columns: usize) -> String {
    tensor(values, Some(columns), Some("torch.int32"), |shown| integer_words(shown))
}

/// A list of int64.
pub fn int64(values: &[u32]) -> String {
    let other = values.is_empty().then_some("torch.int64");
    tensor(values, None, other, |shown| integer_words(shown))
}

/// How one element is written.
type Word<T> = Box<dyn Fn(T) -> String>;

fn integer_words(shown: &[u32]) -> Word<u32> {
    let width = shown.iter().map(|v| v.to_string().len()).max().unwrap_or(1);
    Box::new(move |value| format!("{value:>width$}"))
}

fn float_words(shown: &[f32]) -> Word<f32> {
    let sizes = || shown.iter().map(|v| f64::from(v.abs())).filter(|v| v.is_finite() && *v != 0.0);
    let (most, least) = (sizes().fold(0.0, f64::max), sizes().fold(f64::INFINITY, f64::min));
    let whole = sizes().all(|v| v.fract() == 0.0);
    let wide = most / least > 1000.0 || most > 1e8;
    let write = move |value: f32| match value {
        v if v.is_nan() => "nan".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "inf" } else { "-inf" }.to_owned(),
        v if wide || (!whole && least < 1e-4) => python_e(v),
        v if whole => format!("{v:.0}."),
        v => format!("{v:.4}"),
    };
    let nonzero = shown.iter().filter(|v| v.is_finite() && **v != 0.0);
    let width = nonzero.map(|&v| write(v).len()).max().unwrap_or(1);
    Box::new(move |value| format!("{:>width$}", write(value)))
}

/// Python's `{:.4e}`.
fn python_e(value: f32) -> String {
    let word = format!("{value:.4e}");
    let (number, power) = word.split_once('e').unwrap_or((&word, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{number}e{sign}{power:0>2}")
}

/// The positions along an axis that are shown.
fn positions(len: usize, short: bool) -> Vec<usize> {
    match short && len > 2 * EDGE {
        true => (0..EDGE).chain(len - EDGE..len).collect(),
        false => (0..len).collect(),
    }
}

fn tensor<T: Copy>(
    values: &[T],
    columns: Option<usize>,
    kind: Option<&str>,
    words: impl Fn(&[T]) -> Word<T>,
) -> String {
    let short = values.len() > THRESHOLD;
    let width = columns.unwrap_or(values.len());
    let rows = positions(values.len().checked_div(width).unwrap_or(0), short);
    let at = positions(width, short);
    let shown: Vec<T> =
        rows.iter().flat_map(|r| at.iter().map(move |c| values[r * width + c])).collect();
    let word = words(&shown);
    let mut text = NAME.to_owned();
    // Columns in front of a row's first element.
    let indent = NAME.len() + usize::from(columns.is_some());
    let row = |r: usize| {
        let mut words: Vec<String> = at.iter().map(|c| word(values[r * width + c])).collect();
        let each = words.first().map_or(1, String::len) + 2;
        if short && width > 2 * EDGE {
            words.insert(EDGE, " ...".to_owned());
        }
        let lines: Vec<String> =
            words.chunks(((WIDTH - indent) / each).max(1)).map(|line| line.join(", ")).collect();
        format!("[{}]", lines.join(&format!(",\n{}", " ".repeat(indent + 1))))
    };
    match columns {
        None if values.is_empty() => text += "[]",
        None => text += &row(0),
        Some(_) => {
            let mut slices: Vec<String> = rows.iter().map(|&r| row(r)).collect();
            if short && values.len() / width.max(1) > 2 * EDGE {
                slices.insert(EDGE, "...".to_owned());
            }
            text += &format!("[{}]", slices.join(&format!(",\n{}", " ".repeat(NAME.len() + 1))));
        }
    }
    if let Some(kind) = kind {
        let last = text.len() - text.rfind('\n').map_or(0, |at| at + 1);
        let suffix = format!("dtype={kind}");
        text += &match last + suffix.len() + 4 > WIDTH {
            true => format!(",\n{}{suffix}", " ".repeat(NAME.len())),
            false => format!(", {suffix}"),
        };
    }
    text + ")"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As torch 2 prints them.
    #[test]
    fn tensors_are_printed_as_torch_does() {
        assert_eq!(
            floats(&[0.6965, 0.2861, 0.7195, 12.5], 2),
            "tensor([[ 0.6965,  0.2861],\n        [ 0.7195, 12.5000]])"
        );
        assert_eq!(floats(&[1.0, 0.0], 1), "tensor([[1.],\n        [0.]])");
        assert_eq!(floats(&[0.0, 0.0], 2), "tensor([[0., 0.]])");
        assert_eq!(floats(&[1e-5, 0.5], 2), "tensor([[1.0000e-05, 5.0000e-01]])");
        assert_eq!(
            int32(&[1, 2, 1, 10], 2),
            "tensor([[ 1,  2],\n        [ 1, 10]], dtype=torch.int32)"
        );
        assert_eq!(int64(&[1, 0, 12]), "tensor([ 1,  0, 12])");
        assert_eq!(int64(&[]), "tensor([], dtype=torch.int64)");
        let long: Vec<u32> = (0..30).collect();
        assert_eq!(
            int64(&long),
            "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n        \
             18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])"
        );
        let longer: Vec<u32> = (0..1001).collect();
        assert_eq!(int64(&longer), "tensor([   0,    1,    2,  ...,  998,  999, 1000])");
    }
}
