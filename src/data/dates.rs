//! Dates and times as text has them, and what a model is told of them.

use super::source::config::DateFeature;
use crate::host::calendar::{DAY, civil, days};

/// Small numbers as text, which categories are.
const NUMBERS: [&str; 32] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
];

/// What a date may look like, for a message.
pub const FORMS: &str = "a date, as 2024-01-31, 2024/01/31, 31.01.2024, 20240131, each perhaps with 23:59, 23:59:59 or T23:59:59Z, or seconds or milliseconds since 1970";

/// Seconds since 1970-01-01, 0:00 UTC, of a field; `None` if it is no date ([`FORMS`]). A time
/// without a zone is taken for one of UTC; parts of a second are dropped.
pub fn parse(field: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(field).ok()?.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == text.len() {
        return text.parse().ok().and_then(of_number);
    }
    let bytes = text.as_bytes();
    let (day, rest) = match (digits, bytes.get(digits)) {
        (4, Some(&mark @ (b'-' | b'/' | b'.'))) => {
            let (month, day) = (text.get(5..7)?, text.get(8..10)?);
            (bytes[7] == mark).then_some(())?;
            (written(&text[..4], month, day)?, text.get(10..)?)
        }
        (2, Some(b'.')) => {
            let (month, year) = (text.get(3..5)?, text.get(6..10)?);
            (bytes[5] == b'.').then_some(())?;
            (written(year, month, &text[..2])?, text.get(10..)?)
        }
        (8, Some(b' ' | b'T')) => (written(&text[..4], &text[4..6], &text[6..8])?, &text[8..]),
        _ => return None,
    };
    Some(day + time(rest)?)
}

/// The same of a whole number: 20240131, or seconds or milliseconds since 1970, which are told apart
/// by their digits.
pub fn of_number(x: i64) -> Option<i64> {
    match x {
        10_000_000..=99_999_999 => midnight(x / 10_000, x / 100 % 100, x % 100),
        100_000_000..=9_999_999_999 => Some(x),
        100_000_000_000..=9_999_999_999_999 => Some(x / 1000),
        _ => None,
    }
}

/// Seconds of 0:00 of a day that is written so.
fn written(year: &str, month: &str, day: &str) -> Option<i64> {
    midnight(number(year)?, number(month)?, number(day)?)
}

/// Seconds of 0:00 of a day.
fn midnight(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (1..=last).contains(&day).then(|| DAY * days(year, month, day))
}

/// Seconds of what follows a date: nothing, or a time, perhaps with a zone.
fn time(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let text = text.strip_prefix(['T', ' '])?.trim_start();
    let (clock, zone) = match text.find(['Z', '+', '-']) {
        Some(at) => (text[..at].trim_end(), zone(&text[at..])?),
        None => (text, 0),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second = match parts.next() {
        Some(second) => {
            let (whole, part) = second.split_once('.').unwrap_or((second, "0"));
            part.bytes().all(|b| b.is_ascii_digit()).then(|| number(whole))??
        }
        None => 0,
    };
    // A leap second is 60.
    let right = hour < 24 && minute < 60 && second < 61 && parts.next().is_none();
    // Only then: of other numbers the sum may be beyond all.
    right.then(|| hour * 3600 + minute * 60 + second - zone)
}

/// Seconds that a zone is ahead of UTC.
fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hour, minute) = match (text.get(1..3)?, text.get(3..)?) {
        (hour, "") => (hour, "0"),
        (hour, minute) => (hour, minute.strip_prefix(':').unwrap_or(minute)),
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (hour < 24 && minute < 60).then(|| sign * (hour * 3600 + minute * 60))
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

impl DateFeature {
    /// Whether it is a number that a dense column takes, and no category.
    pub fn is_dense(self) -> bool {
        self == DateFeature::DaysSinceEpoch
    }

    /// The largest number of it, if it is a category.
    pub fn most(self) -> u32 {
        match self {
            DateFeature::HourOfDay => 23,
            DateFeature::DayOfWeek => 6,
            DateFeature::DayOfMonth => 31,
            DateFeature::MonthOfYear => 12,
            DateFeature::DaysSinceEpoch => 0,
        }
    }

    /// The number of it of a moment, in seconds since 1970.
    pub fn of(self, seconds: i64) -> i64 {
        let day = seconds.div_euclid(DAY);
        match self {
            DateFeature::HourOfDay => seconds.rem_euclid(DAY) / 3600,
            // 1970-01-01 was a Thursday.
            DateFeature::DayOfWeek => (day + 3).rem_euclid(7),
            DateFeature::DayOfMonth => civil(day).2,
            DateFeature::MonthOfYear => civil(day).1,
            DateFeature::DaysSinceEpoch => day,
        }
    }

    /// A category of a moment, as text.
    pub fn category(self, seconds: i64) -> &'static str {
        usize::try_from(self.of(seconds)).ok().and_then(|n| NUMBERS.get(n)).unwrap_or(&"")
    }
}

/// A moment as text: the date, and the time unless it is 0:00.
pub fn shown(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let date = format!("{year:04}-{month:02}-{day:02}");
    match seconds.rem_euclid(DAY) {
        0 => date,
        s => format!("{date} {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_read_in_their_forms_and_in_no_other() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2024-02-29", 1_709_164_800),
            ("2024/02/29 00:00", 1_709_164_800),
            ("29.02.2024", 1_709_164_800),
            ("20240229", 1_709_164_800),
            ("2024-02-29T12:34:56Z", 1_709_210_096),
            ("2024-02-29 12:34:56.789", 1_709_210_096),
            ("2024-02-29T12:34:56+02:00", 1_709_202_896),
            ("2024-02-29 07:34:56-0500", 1_709_210_096),
            ("20240229T12:34", 1_709_210_040),
            ("1709210096", 1_709_210_096),
            ("1709210096789", 1_709_210_096),
            ("1969-12-31 23:59:59", -1),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(seconds), "{text}");
        }
        for text in [
            "",
            "x",
            "2024",
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "02/29/2024",
            "20241301",
            "2024-02-29 24:00",
            "2024-02-29x",
            "2024-02-29T",
            "2024-02-29 12",
            "12:34",
            "1.5",
            "2024-02/29",
            "2024-02-29 12:34:56.7x",
            "2024-02-29 12:34:56 +x",
            "2024-02-29 9000000000000000:00",
            "2024-02-29 12:34 +24:00",
            "2024-02-29 12:34 +01:9000000000000000000",
            "123456789012345",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn features_of_a_day_that_is_known() {
        // A Thursday, 19,782 days after the first.
        let moment = parse(b"2024-02-29 23:05").unwrap();
        let of = |feature: DateFeature| feature.of(moment);
        use DateFeature::*;
        assert_eq!(
            [HourOfDay, DayOfWeek, DayOfMonth, MonthOfYear, DaysSinceEpoch].map(of),
            [23, 3, 29, 2, 19_782]
        );
        assert_eq!(
            (DayOfMonth.category(moment), shown(moment)),
            ("29", "2024-02-29 23:05:00".into())
        );
        assert_eq!(HourOfDay.of(-1), 23);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(seconds in 0i64..4_000_000_000) {
            prop_assert_eq!(parse(shown(seconds).as_bytes()), Some(seconds));
        }

        /// Whatever stands there.
        #[test]
        fn nothing_ends_the_program(text in "[0-9]{0,21}[-/.T :Z+]?[0-9]{0,21}[-/.T :Z+]?[0-9:.+TZ -]{0,24}\\PC?") {
            let _ = parse(text.as_bytes());
        }
    }
}
