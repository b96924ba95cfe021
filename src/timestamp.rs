//! Moments as text (RFC 3339), in the two forms runc's users see: in the log
//! the local time to the second, in a container's state UTC to the nanosecond.

use crate::sys;
use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-22T18:09:19+01:00`, with `Z` for UTC, as Go's `time.RFC3339`. A
/// moment the C library cannot convert is given in UTC.
pub(crate) fn local(moment: SystemTime) -> String {
    let seconds = since_epoch(moment).0;
    let Some(time) = sys::local_time(seconds) else {
        return format!("{}Z", date_and_time(seconds));
    };
    let sys::LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        offset,
    } = time;
    let zone = match offset {
        0 => "Z".to_owned(),
        _ => {
            let sign = if offset < 0 { '-' } else { '+' };
            let minutes = offset.abs() / 60;
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
}

/// `2026-11-22T17:09:19.5Z`: UTC with as many digits of the second as are not
/// zero, as Go's `time.RFC3339Nano`.
pub(crate) fn utc(moment: SystemTime) -> String {
    let (seconds, nanoseconds) = since_epoch(moment);
    let mut text = date_and_time(seconds);
    if nanoseconds != 0 {
        let fraction = format!(".{nanoseconds:09}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Whole seconds since the epoch, rounded down, and the nanoseconds beyond.
fn since_epoch(moment: SystemTime) -> (i64, u32) {
    let whole = |duration: std::time::Duration| i64::try_from(duration.as_secs());
    match moment.duration_since(UNIX_EPOCH) {
        Ok(after) => (whole(after).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = whole(before).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (-seconds, 0),
                nanoseconds => (-seconds - 1, 1_000_000_000 - nanoseconds),
            }
        }
    }
}

/// `2026-11-22T17:09:19` of a number of seconds since the epoch, in UTC.
fn date_and_time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian
/// calendar. Years are counted from March here, so that the leap day is the
/// last of its year, and in eras of 400 years, which all have the same length.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31 30 31 30 31 days, over and over.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn utc_has_as_many_digits_as_needed() {
        let moment = |seconds, nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        for (moment, text) in [
            (moment(0, 0), "1970-01-01T00:00:00Z"),
            (moment(951_782_400, 0), "2000-02-29T00:00:00Z"),
            (moment(1_795_367_359, 500_000_000), "2026-11-22T17:09:19.5Z"),
            (moment(4_107_542_399, 1), "2100-02-28T23:59:59.000000001Z"),
            (moment(4_107_542_400, 0), "2100-03-01T00:00:00Z"),
            (
                UNIX_EPOCH - Duration::new(0, 1),
                "1969-12-31T23:59:59.999999999Z",
            ),
        ] {
            assert_eq!(utc(moment), text);
        }
    }

    /// Each day of eight centuries follows the one before.
    #[test]
    fn days_are_counted_without_gaps() {
        let length = |year: i64, month| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for days in 0..292_194 {
            assert_eq!(date(days), expected);
            let (year, month, day) = expected;
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == length(year, month) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    /// `date` of the C library's own machine tells the same; the time zones are
    /// tried in tests of the built binary, since `$TZ` belongs to the process.
    #[test]
    fn local_time_agrees_with_utc() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_795_367_359);
        let time = sys::local_time(1_795_367_359).unwrap();
        let shifted =
            UNIX_EPOCH + Duration::from_secs(u64::try_from(1_795_367_359 + time.offset).unwrap());
        let (local, utc) = (local(moment), utc(shifted));
        assert_eq!(local[..19], utc[..19]);
        assert_eq!(local.ends_with('Z'), time.offset == 0);
    }
}
