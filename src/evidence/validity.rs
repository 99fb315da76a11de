//! Validity of certificates (RFC 5280, 4.1.2.5): seconds since 1970.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::asn1::{Fields, NotDer};
use crate::policy::types::Time;
use der::asn1::AnyRef;
use der::{Tag, Tagged};

/// Days of a common year before each month, and of all of them.
const DAYS_BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// Reads the SEQUENCE of two times.
pub(super) fn read(value: AnyRef<'_>) -> Result<(Time, Time), NotDer> {
    let mut fields = Fields::open(value, Tag::Sequence)?;
    let times = (time(fields.any()?)?, time(fields.any()?)?);
    fields.end()?;
    Ok(times)
}

/// Reads a UTCTime (of 1950 to 2049) or a GeneralizedTime, in the one form that RFC 5280 has: seconds, UTC. Times before
/// 1970 are refused.
fn time(value: AnyRef<'_>) -> Result<Time, NotDer> {
    let digits = value.value();
    let (century, digits) = match (value.tag(), digits.split_first_chunk::<2>()) {
        (Tag::UtcTime, _) => (None, digits),
        (Tag::GeneralizedTime, Some((century, digits))) => (Some(two(*century)?), digits),
        _ => return Err(NotDer),
    };
    let (digits, [b'Z']) = digits.split_at_checked(12).ok_or(NotDer)? else { return Err(NotDer) };
    let mut numbers = [0; 6];
    for (number, pair) in numbers.iter_mut().zip(digits.as_chunks().0) {
        *number = two(*pair)?;
    }
    let [in_century, month, day, hour, minute, second] = numbers;
    let century = century.unwrap_or(if in_century < 50 { 20 } else { 19 });
    let year = century.saturating_mul(100).saturating_add(in_century);
    let day = days(year, month, day).ok_or(NotDer)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(NotDer);
    }
    // Far from any limit: a year has four digits.
    let in_base_60 = |high: i64, low: i64| high.saturating_mul(60).saturating_add(low);
    Ok(Time(in_base_60(in_base_60(day.saturating_mul(24).saturating_add(hour), minute), second)))
}

/// Reads two decimal digits.
fn two(digits: [u8; 2]) -> Result<i64, NotDer> {
    let [tens, ones] = digits.map(|byte| i64::from(byte).saturating_sub(i64::from(b'0')));
    let is_digit = |number| (0..10).contains(&number);
    if is_digit(tens) && is_digit(ones) {
        Ok(tens.saturating_mul(10).saturating_add(ones))
    } else {
        Err(NotDer)
    }
}

/// Counts the days from 1970-01-01 to this one, if it is a day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let month = usize::try_from(month).ok()?;
    let is_leap = leap_days(year) != leap_days(year.saturating_sub(1));
    // The leap day moves the months behind it.
    let before = |months: usize| {
        let days = DAYS_BEFORE.get(months)?;
        Some(days.saturating_add(i64::from(is_leap && months >= 2)))
    };
    let (start, end) = (before(month.checked_sub(1)?)?, before(month)?);
    if year < 1970 || day < 1 || day > end.saturating_sub(start) {
        return None;
    }
    let years = year.saturating_sub(1970).saturating_mul(365);
    let leaps = leap_days(year.saturating_sub(1)).saturating_sub(leap_days(1969));
    Some(years.saturating_add(leaps).saturating_add(start).saturating_add(day).saturating_sub(1))
}

/// Counts the leap days of all years up to this one (Gregorian).
const fn leap_days(year: i64) -> i64 {
    (year / 4).saturating_sub(year / 100).saturating_add(year / 400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::asn1::{GeneralizedTime, UtcTime};
    use der::{DateTime, Decode, Encode};
    use std::time::Duration;

    fn general(text: &str) -> Result<Time, NotDer> {
        time(AnyRef::new(Tag::GeneralizedTime, text.as_bytes()).unwrap())
    }

    fn short(text: &str) -> Result<Time, NotDer> {
        time(AnyRef::new(Tag::UtcTime, text.as_bytes()).unwrap())
    }

    #[test]
    fn times_of_every_week_of_every_year_are_read_as_another_calendar_writes_them() {
        let end = 253_402_300_799_u64;
        for seconds in (0..=end).step_by(5 * 86_400 - 37).chain([end]) {
            let date = DateTime::from_unix_duration(Duration::from_secs(seconds)).unwrap();
            let der = GeneralizedTime::from_date_time(date).to_der().unwrap();
            let expected = Ok(Time(seconds.try_into().unwrap()));
            assert_eq!(time(AnyRef::from_der(&der).unwrap()), expected, "{seconds}");
            if let Ok(utc) = UtcTime::from_date_time(date) {
                assert_eq!(time(AnyRef::from_der(&utc.to_der().unwrap()).unwrap()), expected, "{seconds}");
            }
        }
    }

    #[test]
    fn days_and_hours_that_no_calendar_has_are_refused() {
        for text in [
            "20260229000000Z",
            "21000229000000Z",
            "20260431000000Z",
            "20260001000000Z",
            "20261301000000Z",
            "20260100000000Z",
            "20260132000000Z",
            "20260101240000Z",
            "20260101006000Z",
            "20260101000060Z",
            "19691231235959Z",
            "00000101000000Z",
        ] {
            assert_eq!(general(text), Err(NotDer), "{text}");
        }
        assert!(general("20240229000000Z").is_ok() && general("20000229000000Z").is_ok());
    }

    #[test]
    fn other_forms_of_times_are_refused() {
        for text in [
            "2601010000Z",
            "260101000000",
            "260101000000+0100",
            "260101000000.0Z",
            "26010100000:Z",
            "26010100000/Z",
            "",
        ] {
            assert_eq!(short(text), Err(NotDer), "{text}");
            assert_eq!(general(&format!("20{text}")), Err(NotDer), "{text}");
        }
        assert_eq!(short("500101000000Z"), Err(NotDer));
        assert_eq!(short("491231235959Z"), general("20491231235959Z"));
        assert_eq!(time(AnyRef::new(Tag::Utf8String, b"260101000000Z").unwrap()), Err(NotDer));
    }
}
