//! Numbers as `print` shows a numpy array: the layout of `numpy.array2string` with its default
//! options (75 columns, at most 1000 elements in full) and a number of digits.

/// Columns of a line.
const WIDTH: usize = 75;
/// More elements than this are shown by their ends.
const THRESHOLD: usize = 1000;
/// Elements shown of an end.
const EDGE: usize = 3;

/// A float32 array of one or two dimensions, `digits` behind the point at most.
pub fn floats(values: &[f32], shape: &[usize], digits: usize) -> String {
    let short = values.len() > THRESHOLD;
    let shown = if short { ends(values, shape) } else { values.to_vec() };
    let words = Words::of(&shown, digits);
    layout(&|i| words.word(values[i]), shape, short)
}

/// A list of whole numbers.
pub fn integers(values: &[usize]) -> String {
    let short = values.len() > THRESHOLD;
    let shown = if short { ends(values, &[values.len()]) } else { values.to_vec() };
    let width = shown.iter().map(|v| v.to_string().len()).max().unwrap_or(0);
    layout(&|i| format!("{:>width$}", values[i]), &[values.len()], short)
}

/// The positions along an axis that are shown.
fn positions(len: usize, short: bool) -> Vec<usize> {
    match short && 2 * EDGE < len {
        true => (0..EDGE).chain(len - EDGE..len).collect(),
        false => (0..len).collect(),
    }
}

/// The elements of a long array that are shown.
fn ends<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let columns = shape.last().copied().unwrap_or(0);
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let row = positions(columns, true);
    let rows = positions(rows, shape.len() > 1);
    rows.iter().flat_map(|r| row.iter().map(move |c| values[r * columns + c])).collect()
}

/// How the elements of an array are written, all in the same width.
struct Words {
    scientific: bool,
    /// Digits before the point (sign included) and behind it.
    left: usize,
    right: usize,
    /// Digits of the exponent.
    exponent: usize,
    digits: usize,
}

impl Words {
    fn of(values: &[f32], digits: usize) -> Self {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let sizes = || finite().map(f32::abs).filter(|&v| v != 0.0);
        let most = sizes().fold(0.0, f32::max);
        let least = sizes().fold(f32::INFINITY, f32::min);
        let scientific = most >= 1e8 || (most > 0.0 && (least < 1e-4 || most / least > 1000.0));
        let (mut left, mut right, mut exponent) = (0, 0, 0);
        for value in finite() {
            let word = if scientific { e(value, digits) } else { positional(value, digits) };
            let (number, power) = word.split_once('e').unwrap_or((&word, ""));
            let (whole, part) = number.split_once('.').unwrap_or((number, ""));
            left = left.max(whole.len());
            right = right.max(part.len());
            exponent = exponent.max(power.len().saturating_sub(1));
        }
        let widest = values.iter().filter(|v| !v.is_finite()).map(|&v| special(v).len()).max();
        // What is no number stands at the right end of the same width.
        let tail = right + 1 + if scientific { exponent + 2 } else { 0 };
        left = left.max(widest.unwrap_or(0).saturating_sub(tail));
        Words { scientific, left, right, exponent, digits }
    }

    fn word(&self, value: f32) -> String {
        let Words { left, right, exponent, digits, .. } = *self;
        let tail = right + 1 + if self.scientific { exponent + 2 } else { 0 };
        if !value.is_finite() {
            return format!("{:>width$}", special(value), width = left + tail);
        }
        if !self.scientific {
            let word = positional(value, digits);
            let (whole, part) = word.split_once('.').unwrap_or((&word, ""));
            return format!("{whole:>left$}.{part:<right$}");
        }
        let word = e(value, digits);
        let (number, power) = word.split_once('e').unwrap_or((&word, "+00"));
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let (sign, power) = power.split_at(1);
        format!("{whole:>left$}.{part:0<right$}e{sign}{power:0>exponent$}")
    }
}

fn special(value: f32) -> &'static str {
    match value {
        v if v.is_nan() => "nan",
        v if v > 0.0 => "inf",
        _ => "-inf",
    }
}

/// The fewest digits that tell the number from its neighbours, `digits` behind the point at most,
/// without zeros at the end: `0.5074`, `-1.`.
fn positional(value: f32, digits: usize) -> String {
    let fewest = value.to_string();
    let part = fewest.split_once('.').map_or(0, |(_, part)| part.len());
    let word = if part > digits { format!("{value:.digits$}") } else { fewest };
    trimmed(&word)
}

/// The same with an exponent of two digits at least: `1.5e-05`.
fn e(value: f32, digits: usize) -> String {
    let fewest = format!("{value:e}");
    let part = |word: &str| {
        let number = word.split('e').next().unwrap_or_default();
        number.split_once('.').map_or(0, |(_, part)| part.len())
    };
    let word = if part(&fewest) > digits { format!("{value:.digits$e}") } else { fewest };
    let (number, power) = word.split_once('e').unwrap_or((&word, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{}e{sign}{power:0>2}", trimmed(number))
}

fn trimmed(number: &str) -> String {
    match number.contains('.') {
        true => number.trim_end_matches('0').to_owned(),
        false => format!("{number}."),
    }
}

/// Brackets and lines around the words of elements.
fn layout(word: &dyn Fn(usize) -> String, shape: &[usize], short: bool) -> String {
    match *shape {
        [n] => row(word, 0, n, 1, short),
        [rows, columns] if columns > 0 => {
            let at = positions(rows, short);
            let mut out = String::new();
            for (i, &r) in at.iter().enumerate() {
                if i > 0 {
                    out += if r == at[i - 1] + 1 { "\n " } else { "\n ...\n " };
                }
                out += &row(word, r * columns, columns, 2, short);
            }
            format!("[{out}]")
        }
        _ => "[]".to_owned(),
    }
}

/// One row of elements from `start` on, wrapped; `depth` brackets are open within it.
fn row(
    word: &dyn Fn(usize) -> String,
    start: usize,
    len: usize,
    depth: usize,
    short: bool,
) -> String {
    let indent = " ".repeat(depth);
    let width = WIDTH - depth;
    let (mut done, mut line) = (String::new(), indent.clone());
    let mut put = |line: &mut String, word: &str| {
        if line.len() + word.len() > width && line.len() > indent.len() {
            done += line.trim_end();
            done.push('\n');
            *line = indent.clone();
        }
        *line += word;
    };
    let at = positions(len, short);
    for (i, &p) in at.iter().enumerate() {
        if i > 0 {
            line.push(' ');
            if p != at[i - 1] + 1 {
                put(&mut line, "...");
                line.push(' ');
            }
        }
        put(&mut line, &word(start + p));
    }
    done += &line;
    format!("[{}]", &done[depth..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As numpy 2.4 prints them with `precision=5`.
    #[rustfmt::skip]
    const NUMPY: [(&[f32], &[usize], &str); 7] = [
        (&[0.1, -0.25, 3.0], &[3], "[ 0.1  -0.25  3.  ]"),
        (&[1e-05, 2.0, 3.2415927, -4.0], &[2, 2], "[[ 1.00000e-05  2.00000e+00]\n [ 3.24159e+00 -4.00000e+00]]"),
        (&[1.0, 2.0, -3.0], &[3], "[ 1.  2. -3.]"),
        (&[f32::NAN, f32::INFINITY, -1.5], &[3], "[ nan  inf -1.5]"),
        (&[1.1234568], &[1, 1], "[[1.12346]]"),
        (&[123456790.0, 1.5], &[2], "[1.23457e+08 1.50000e+00]"),
        (&[-0.0, 0.0, 0.0], &[3], "[-0.  0.  0.]"),
    ];
    const LONG_ROW: &str = concat!(
        "[0.00000e+00 1.42857e-01 2.85714e-01 ... 1.71000e+02 1.71143e+02\n",
        " 1.71286e+02]",
    );
    const LONG: &str = concat!(
        "[[0.00000e+00 1.42857e-01 2.85714e-01 ... 3.85714e+00 4.00000e+00\n",
        "  4.14286e+00]\n",
        " [4.28571e+00 4.42857e+00 4.57143e+00 ... 8.14286e+00 8.28571e+00\n",
        "  8.42857e+00]\n",
        " [8.57143e+00 8.71429e+00 8.85714e+00 ... 1.24286e+01 1.25714e+01\n",
        "  1.27143e+01]\n",
        " ...\n",
        " [1.58571e+02 1.58714e+02 1.58857e+02 ... 1.62429e+02 1.62571e+02\n",
        "  1.62714e+02]\n",
        " [1.62857e+02 1.63000e+02 1.63143e+02 ... 1.66714e+02 1.66857e+02\n",
        "  1.67000e+02]\n",
        " [1.67143e+02 1.67286e+02 1.67429e+02 ... 1.71000e+02 1.71143e+02\n",
        "  1.71286e+02]]",
    );

    #[test]
    fn arrays_are_printed_as_numpy_does() {
        for (values, shape, printed) in NUMPY {
            assert_eq!(floats(values, shape, 5), printed, "{values:?}");
        }
        let long: Vec<f32> = (0..1200).map(|i| i as f32 / 7.0).collect();
        assert_eq!(floats(&long, &[1200], 5), LONG_ROW);
        assert_eq!(floats(&long, &[40, 30], 5), LONG);
        assert_eq!(integers(&[12, 4, 2, 1]), "[12  4  2  1]");
        assert_eq!(integers(&[8, 4, 2, 1]), "[8 4 2 1]");
    }
}
