//! Days of the Gregorian calendar, without a calendar library. Years are counted from March, so that
//! the leap day comes last (Howard Hinnant, "chrono-compatible low-level date algorithms").

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// Days from 1970-01-01 to a day (`days_from_civil`, ibid.).
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01 (`civil_from_days`, ibid.).
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Days are counted one by one, and come back.
        #[test]
        fn days_follow_one_another(day in -800_000i64..800_000) {
            let (y, m, d) = civil(day);
            prop_assert_eq!(days(y, m, d), day);
            let next = civil(day + 1);
            prop_assert!(next == (y, m, d + 1) || next == (y, m + 1, 1) || next == (y + 1, 1, 1));
        }
    }

    #[test]
    fn the_first_day_is_known() {
        assert_eq!((civil(0), civil(19_782)), ((1970, 1, 1), (2024, 2, 29)));
    }
}
