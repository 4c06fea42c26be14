//! The time of day where the machine stands.

use std::time::{SystemTime, UNIX_EPOCH};

/// Hour and minute now: in the machine's time zone where it can be asked for, else in UTC.
pub fn hour_and_minute() -> (u32, u32) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    local(seconds).unwrap_or(((seconds / 3600 % 24) as u32, (seconds / 60 % 60) as u32))
}

#[cfg(target_os = "linux")]
fn local(seconds: i64) -> Option<(u32, u32)> {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    let seconds = seconds as libc::time_t;
    // SAFETY: both pointers are to values that live here, and `localtime_r` keeps neither.
    let filled = unsafe { libc::localtime_r(&seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: `localtime_r` has filled it; all of its fields may be zero, too.
    let parts = unsafe { parts.assume_init() };
    Some((u32::try_from(parts.tm_hour).ok()?, u32::try_from(parts.tm_min).ok()?))
}

#[cfg(not(target_os = "linux"))]
fn local(_seconds: i64) -> Option<(u32, u32)> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_a_time_of_day() {
        let (hour, minute) = super::hour_and_minute();
        assert!(hour < 24 && minute < 60);
        // Zones differ from UTC by quarters of an hour.
        let utc = super::SystemTime::now().duration_since(super::UNIX_EPOCH).unwrap().as_secs();
        let off = (u64::from(minute) + 60 - utc / 60 % 60) % 15;
        assert!(off == 0 || off == 14, "{minute}");
    }
}
