//! From the whole numbers of a file to ids: one rule for all formats.
//!
//! An id has 32 bits, or 64 where it is a key of a table that grows. A number that has more than 32,
//! or is negative, becomes an id of 32 where ids are taken modulo a number, stays as it is where ids
//! are keys, and is an error elsewhere. A hash may have been stored with a sign: a negative
//! number stands for the one without a sign that has the same bits, INT64 -1 for 2^64 - 1 and
//! INT32 -1 for 2^32 - 1.

/// All whole numbers up to this are fractions of 64 bits, too; beyond it some would change without
/// a word.
pub const EXACT: u64 = 1 << 53;

/// What takes ids modulo a number.
const RANGE: &str = "--max-ind-range N, in a workload data.max_ind_range";

/// What becomes of the whole numbers of a column of ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToId {
    /// Taken off each.
    pub offset: i64,
    /// Then modulo this, at least 1. Where an offset is taken off, the numbers have been counted,
    /// and one below it is wrong.
    pub range: Option<u32>,
    /// Whether they have 64 bits; without a `range`.
    pub keys: bool,
}

impl ToId {
    /// Modulo `range`, if there is one.
    pub fn modulo(range: Option<u32>) -> Self {
        ToId { range, ..ToId::default() }
    }

    /// The id that stands for `x`, all bits of which count if it is `unsigned`.
    ///
    /// # Errors
    /// What is wrong with it, for a message that names the column before.
    pub fn whole(self, x: i64, unsigned: bool) -> Result<u64, String> {
        let ToId { offset, range, keys } = self;
        let left = x.wrapping_sub(offset);
        // What has been counted is not below the offset.
        if keys {
            return Ok(left as u64);
        }
        let counted = if unsigned { x as u64 >= offset as u64 } else { x >= offset };
        match (range, u32::try_from(left)) {
            (Some(range), _) if counted || offset == 0 => Ok(left as u64 % u64::from(range)),
            (None, Ok(id)) => Ok(id.into()),
            (Some(_), _) => Err(format!("is {left}; must be an id from 0 to {}", u32::MAX)),
            (None, Err(_)) if unsigned && counted => Err(beyond(left as u64)),
            (None, Err(_)) => Err(beyond(left)),
        }
    }

    /// The same of a number of `bytes` bytes, which has its sign in its highest bit.
    ///
    /// # Errors
    /// As [`ToId::whole`].
    pub fn narrow(self, x: i64, bytes: usize) -> Result<u64, String> {
        let hashes = self.keys || self.range.is_some();
        match hashes && self.offset == 0 && bytes < 8 {
            true => self.whole(x & ((1 << (8 * bytes)) - 1), false),
            false => self.whole(x, false),
        }
    }

    /// The id that stands for a fraction, which must be a whole number; `None` where it is missing
    /// (NaN).
    ///
    /// # Errors
    /// As [`ToId::whole`]. No fraction is a hash: it would have lost some of its bits.
    pub fn fraction(self, x: f64) -> Result<Option<u64>, String> {
        if x.is_nan() {
            return Ok(None);
        }
        if x.fract() != 0.0 || x.is_infinite() {
            return Err(format!("is {x}; must be a whole number, since it is an id"));
        }
        if x < 0.0 || x.abs() > EXACT as f64 {
            return Err(format!("is {x}; must be an id from 0 to {}", u32::MAX));
        }
        self.whole(x as i64, false).map(Some)
    }

    /// The id that a text stands for: digits, perhaps with a minus, or a fraction that is whole
    /// (`3.0`), as pandas writes ids of a column in which some are missing.
    ///
    /// # Errors
    /// `None` if it is no number, else as [`ToId::whole`].
    pub fn text(self, text: &str) -> Result<Option<u64>, Option<String>> {
        if text.starts_with('+') {
            return Err(None);
        }
        let whole = match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(x), _) => Some(self.whole(x, false)),
            (_, Ok(x)) => Some(self.whole(x as i64, true)),
            _ => None,
        };
        match whole {
            Some(id) => id.map(Some).map_err(Some),
            None => self.fraction(text.parse().map_err(|_| None)?).map_err(Some),
        }
    }
}

#[cold]
fn beyond(x: impl std::fmt::Display) -> String {
    let most = u32::MAX;
    format!("is {x}; must be an id from 0 to {most}, or be taken modulo a number ({RANGE})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ids_or_are_named() {
        let (plain, modulo) = (ToId::default(), ToId::modulo(Some(10)));
        assert_eq!(plain.whole(7, false), Ok(7));
        assert_eq!(plain.whole(u32::MAX.into(), false), Ok(u32::MAX.into()));
        assert_eq!(
            plain.whole(-1, false).unwrap_err(),
            "is -1; must be an id from 0 to 4294967295, or be taken modulo a number \
             (--max-ind-range N, in a workload data.max_ind_range)"
        );
        assert!(plain.whole(-1, true).unwrap_err().starts_with("is 18446744073709551615; must"));
        assert!(plain.whole(1 << 32, false).unwrap_err().starts_with("is 4294967296; must"));
        // 2^64 - 1 and 2^32 - 1 end in 5, 2^8 - 1 does, too, and 2^16 - 2 in 4.
        assert_eq!((modulo.whole(-1, false), modulo.whole(13, false)), (Ok(5), Ok(3)));
        assert_eq!((modulo.narrow(-1, 4), modulo.narrow(-1, 1)), (Ok(5), Ok(5)));
        assert_eq!((modulo.narrow(-2, 2), modulo.narrow(-1, 8)), (Ok(4), Ok(5)));
        assert!(plain.narrow(-2, 4).unwrap_err().starts_with("is -2; must"));
        let counted = ToId { offset: 100, ..modulo };
        assert_eq!(counted.whole(117, false), Ok(7));
        assert_eq!(
            counted.whole(99, false).unwrap_err(),
            "is -1; must be an id from 0 to 4294967295"
        );
    }

    #[test]
    fn fractions_and_texts_are_ids_where_they_are_whole() {
        let (plain, modulo) = (ToId::default(), ToId::modulo(Some(10)));
        for (text, id) in [
            ("3", Some(3)),
            ("3.0", Some(3)),
            ("3e2", Some(300)),
            ("-0.0", Some(0)),
            ("4294967295.0", Some(u32::MAX.into())),
            ("nan", None),
        ] {
            assert_eq!(plain.text(text), Ok(id), "{text}");
        }
        for (text, what) in [
            ("0.5", "is 0.5; must be a whole number, since it is an id"),
            ("inf", "is inf; must be a whole number, since it is an id"),
            ("-3", "is -3; must be an id from 0"),
            ("-3.0", "is -3; must be an id from 0"),
            ("4294967296", "is 4294967296; must be an id from 0"),
            ("18446744073709551615", "is 18446744073709551615; must be an id from 0"),
        ] {
            let said = plain.text(text).unwrap_err().unwrap();
            assert!(said.starts_with(what), "{text}: {said}");
        }
        for text in ["x", "", "+3"] {
            assert_eq!(plain.text(text), Err(None), "{text}");
        }
        assert!(
            plain.text("99999999999999999999999").unwrap_err().unwrap().contains("must be an id")
        );
        assert_eq!(modulo.text("18446744073709551615"), Ok(Some(5)));
        assert_eq!((modulo.text("-1"), modulo.text("23.0")), (Ok(Some(5)), Ok(Some(3))));
        // A hash that went through a fraction has lost some of its bits.
        assert!(modulo.text("-1.0").is_err() && modulo.text("1e18").is_err());
    }

    #[test]
    fn keys_keep_all_bits() {
        let keys = ToId { keys: true, ..ToId::default() };
        assert_eq!((keys.whole(-1, false), keys.whole(-1, true)), (Ok(u64::MAX), Ok(u64::MAX)));
        assert_eq!(keys.whole(1 << 40, false), Ok(1 << 40));
        // Of 32 bits with a sign: the number without one.
        assert_eq!((keys.narrow(-1, 4), keys.narrow(-1, 8)), (Ok((1 << 32) - 1), Ok(u64::MAX)));
        let texts = ["18446744073709551615", "-9223372036854775808", "7", "7.0", "nan"];
        let want = [Some(u64::MAX), Some(1 << 63), Some(7), Some(7), None];
        for (text, want) in texts.into_iter().zip(want) {
            assert_eq!(keys.text(text), Ok(want), "{text}");
        }
        // Fractions of 64 bits have lost some of a hash's.
        assert!(keys.text("1e18").is_err() && keys.text("0.5").is_err());
        assert_eq!((keys.text("05db9164x"), keys.text("")), (Err(None), Err(None)));
        assert_eq!(ToId { offset: 9, ..keys }.whole(5, false), Ok(u64::MAX - 3));
    }
}
