//! Dates of the proleptic Gregorian calendar, in UTC.
use gatehouse::policy::types::Time;
use toml::value::{Datetime, Offset};

const DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Days of 400 years: after these the calendar is the same again.
const ERA: i64 = 146_097;

/// Returns the time of a date, or of date, time and offset.
#[must_use]
pub fn from_datetime(datetime: &Datetime) -> Option<Time> {
    let date = datetime.date?;
    let days = days(date.year.into(), date.month.into(), date.day.into());
    let seconds = match (datetime.time, datetime.offset) {
        (None, None) => 0,
        (Some(time), Some(offset)) if time.nanosecond.unwrap_or(0) == 0 => {
            let minutes = match offset {
                Offset::Z => 0,
                Offset::Custom { minutes } => i64::from(minutes),
            };
            let hours = i64::from(time.hour) * 60 + i64::from(time.minute) - minutes;
            hours * 60 + i64::from(time.second.unwrap_or(0))
        }
        _ => return None,
    };
    Some(Time(days * DAY + seconds))
}

/// Prints a time as TOML writes it: a date, with the time of day unless that is midnight.
#[must_use]
pub fn print(Time(seconds): Time) -> String {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let date = format!("{year:04}-{month:02}-{day:02}");
    match seconds.rem_euclid(DAY) {
        0 => date,
        rest => format!("{date}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60),
    }
}

/// Days since 1970-01-01. Years start in March here, so that the leap day is the last of one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * ERA + year * 365 + year / 4 - year / 100 + day_of_year - EPOCH
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_seconds_that_the_date_command_says() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("1950-01-01", -631_152_000),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29", 951_782_400),
            ("2026-01-01", 1_767_225_600),
            ("2100-03-01", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(from_datetime(&text.parse().unwrap()), Some(Time(seconds)), "{text}");
            assert_eq!(print(Time(seconds)), text);
        }
        assert_eq!(from_datetime(&"2026-01-01T02:00:00+02:00".parse().unwrap()), Some(Time(1_767_225_600)));
    }

    #[test]
    fn every_day_survives_a_round_trip() {
        for day in -7_305..2_932_897 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn a_time_without_a_place_is_none() {
        for text in ["2026-01-01T00:00:00", "00:00:00", "2026-01-01T00:00:00.5Z"] {
            assert_eq!(from_datetime(&text.parse().unwrap()), None, "{text}");
        }
    }
}
