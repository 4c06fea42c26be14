//! Sizes as people write them: `2GiB`, `512MiB`, or a number of bytes.

use serde::Serialize;
use std::{fmt, str::FromStr};

/// Units, the largest first, and the powers of two that they are.
const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
/// Other ways to write them.
const SHORT: [(&str, u32); 3] = [("G", 30), ("M", 20), ("K", 10)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    /// What a size must be, as a phrase after "must be".
    pub const WHAT: &str = "a size, as 2GiB, 512MiB or a number of bytes";
}

impl FromStr for Size {
    type Err = String;

    /// `2GiB`, `2G`, `512MiB` or `1000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut units = UNITS.iter().chain(&SHORT);
        let (number, shift) = units
            .find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
            .unwrap_or((text, 0));
        let bytes = number.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
        bytes.map(Size).ok_or_else(|| format!("must be {}", Size::WHAT))
    }
}

impl fmt::Display for Size {
    /// In the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |&(_, shift): &&(&str, u32)| self.0 > 0 && self.0.is_multiple_of(1 << shift);
        match UNITS.iter().find(whole) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them_and_written_back() {
        for (text, bytes, back) in [
            ("2GiB", 2 << 30, "2GiB"),
            ("512M", 512 << 20, "512MiB"),
            ("1000", 1000, "1000"),
            ("3072MiB", 3 << 30, "3GiB"),
            ("0", 0, "0"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, back));
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for text in ["", "GiB", "two", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
