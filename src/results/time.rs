//! UTC as a date.

use crate::host::calendar::{DAY, civil};
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    year: i64,
    month: i64,
    day: i64,
    /// Seconds since midnight.
    second: i64,
}

impl Utc {
    /// Now, by the machine's clock.
    pub fn now() -> Self {
        Self::at(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64))
    }

    /// That of a log's `time_ms`, milliseconds since 1970; `None` if no clock can have shown it.
    pub fn of_log(time_ms: f64) -> Option<Self> {
        // From 2000 to 2200: other numbers are no milliseconds.
        (946_684_800_000.0..7_258_118_400_000.0)
            .contains(&time_ms)
            .then(|| Self::at((time_ms / 1e3) as i64))
    }

    /// Seconds since 1970 (not negative) as a date.
    fn at(seconds: i64) -> Self {
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        Utc { year, month, day, second: seconds.rem_euclid(DAY) }
    }

    fn clock(&self) -> (i64, i64, i64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }

    /// `2026-11-21T04:15:23Z` (RFC 3339).
    pub fn rfc3339(&self) -> String {
        let (h, m, s) = self.clock();
        format!("{:04}-{:02}-{:02}T{h:02}:{m:02}:{s:02}Z", self.year, self.month, self.day)
    }

    /// `20261121T041523Z`, fit for file names and in order of time when sorted.
    pub fn compact(&self) -> String {
        let (h, m, s) = self.clock();
        format!("{:04}{:02}{:02}T{h:02}{m:02}{s:02}Z", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_may_have_a_clock_that_is_none() {
        let day = |ms| Utc::of_log(ms).map(|t| t.rfc3339());
        assert_eq!(day(1_698_000_000_999.0).as_deref(), Some("2023-10-22T18:40:00Z"));
        assert_eq!([0.0, 1_698_000_000.0, f64::NAN, 1e300].map(day), [None, None, None, None]);
    }

    #[test]
    fn dates_are_those_of_the_date_command() {
        // date -u -d @SECONDS +%FT%TZ
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_234_523, "2026-11-21T04:15:23Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc::at(seconds).rfc3339(), expected);
        }
        assert_eq!(Utc::at(1_795_234_523).compact(), "20261121T041523Z");
    }
}
