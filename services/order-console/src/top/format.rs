//! Formats of values, the same as on the dashboard's page. Times are UTC, as in the logs.

use std::ops::Range;

use service_runtime::grouped;
use uuid::Uuid;

use crate::time::Time;
use crate::view::body::{Group, Member};

/// Shown where there is no value.
pub(super) const NONE: &str = "—";
/// From here on tenths of a second or of a rate are left out.
const TENTHS_BELOW: f64 = 9.95;

/// Returns a decimal number digit by digit as it came, its thousands separated.
pub(super) fn decimal(text: &str) -> String {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
    format!("{sign}{}{fraction}", grouped(digits))
}

pub(super) fn count(number: Option<i64>) -> String {
    number.map_or_else(|| NONE.to_owned(), grouped)
}

/// Returns a price or an average, to the hundredth.
pub(super) fn money(number: Option<impl Into<f64>>) -> String {
    number.map_or_else(|| NONE.to_owned(), |number| decimal(&format!("{:.2}", number.into())))
}

pub(super) fn rate(per_second: f64) -> String {
    let is_small = per_second > 0.0 && per_second < TENTHS_BELOW;
    let number =
        if is_small { format!("{per_second:.1}") } else { decimal(&format!("{per_second:.0}")) };
    format!("{number}/s")
}

/// Returns a duration in at most two units: `0.4 s`, `3 min 20 s`, `2 h 13 min`, `4 d 6 h`.
pub(super) fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return NONE.to_owned() };
    if seconds <= 0.0 {
        return "0 s".to_owned();
    }
    if seconds < TENTHS_BELOW {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds.round());
    whole.map_or_else(|_too_long| NONE.to_owned(), |whole| whole_seconds(whole.as_secs()))
}

pub(super) fn whole_seconds(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let Some(first) = UNITS.iter().position(|(_, size)| *size <= seconds) else {
        return "0 s".to_owned();
    };
    let (name, size) = UNITS[first];
    let head = format!("{} {name}", seconds / size);
    match UNITS.get(first + 1) {
        Some((next, next_size)) if seconds % size >= *next_size => {
            format!("{head} {} {next}", seconds % size / next_size)
        }
        Some(_) | None => head,
    }
}

/// Returns the time of day.
pub(super) fn clock(time: Time) -> String {
    time.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// Returns a time in its shortest form `at` another one: without its date on the same day, without its seconds in the
/// same year.
pub(super) fn moment(time: Time, at: Option<Time>) -> String {
    let text = time.to_string();
    let at = at.map(|at| at.to_string()).unwrap_or_default();
    let part = |range: Range<usize>| text.get(range).unwrap_or_default().to_owned();
    if text.get(..10) == at.get(..10) {
        part(11..19)
    } else if text.get(..4) == at.get(..4) {
        format!("{} {}", part(5..10), part(11..16))
    } else {
        part(0..10)
    }
}

/// Returns a member's name: its instance id, or its client id and the end of its member id.
pub(super) fn member(member: &Member) -> String {
    let id = &member.member_id;
    member.instance_id.clone().unwrap_or_else(|| match split_uuid(id) {
        Some((head, tail)) => format!("{head} …{tail}"),
        None => id.clone(),
    })
}

/// Returns the shortest unique name of a member.
pub(super) fn member_short(member_id: &str, group: &Group) -> String {
    let instance = group.members.iter().find(|member| member.member_id == member_id);
    let instance = instance.and_then(|member| member.instance_id.clone());
    instance.unwrap_or_else(|| match split_uuid(member_id) {
        Some((_, tail)) => format!("…{tail}"),
        None => member_id.to_owned(),
    })
}

/// Splits a name that ends in a UUID into what is before it, and its last digits.
fn split_uuid(name: &str) -> Option<(&str, &str)> {
    const UUID_BYTES: usize = 36;
    const TAIL_BYTES: usize = 6;
    let (head, uuid) = name.split_at_checked(name.len().checked_sub(UUID_BYTES)?)?;
    Uuid::try_parse(uuid).ok()?;
    Some((head.trim_end_matches('-'), &uuid[UUID_BYTES - TAIL_BYTES..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sums_stay_exact() {
        for (text, shown) in
            [("0", "0"), ("1234567.000001", "1,234,567.000001"), ("-1000.5", "-1,000.5")]
        {
            assert_eq!(decimal(text), shown);
        }
        assert_eq!(money(Some(1_234.567_f64)), "1,234.57");
        assert_eq!(money(None::<f64>), NONE);
        assert_eq!(
            [0.0, 0.25, 9.94, 9.96, 12_345.6].map(rate),
            ["0/s", "0.2/s", "9.9/s", "10/s", "12,346/s"]
        );
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, shown) in [
            (0.0, "0 s"),
            (0.42, "0.4 s"),
            (9.96, "10 s"),
            (59.9, "1 min"),
            (200.0, "3 min 20 s"),
            (7_980.0, "2 h 13 min"),
            (367_200.0, "4 d 6 h"),
            (86_401.0, "1 d"),
            (f64::MAX, NONE),
        ] {
            assert_eq!(duration(Some(seconds)), shown);
        }
        assert_eq!(duration(None), NONE);
    }

    #[test]
    fn times_have_a_date_where_it_is_not_todays() {
        let time = "2026-11-21T15:02:11.250Z";
        for (at, shown) in [
            ("2026-11-21T23:59:59.999Z", "15:02:11"),
            ("2026-11-22T00:00:00.000Z", "11-21 15:02"),
            ("2027-01-01T00:00:00.000Z", "2026-11-21"),
        ] {
            assert_eq!(moment(time.into(), Some(at.into())), shown, "at {at:?}");
        }
        assert_eq!(moment(time.into(), None), "2026-11-21");
    }

    #[test]
    fn members_are_distinguished_by_the_end_of_their_ids() {
        let id = "order-processor-0e6f0f3c-58d4-4c2c-a6b7-0123456789ab";
        assert_eq!(split_uuid(id), Some(("order-processor", "6789ab")));
        for name in ["", "short", "order-processor-0e6f0f3c-58d4-4c2c-a6b7-0123456789aé"] {
            assert_eq!(split_uuid(name), None, "{name}");
        }
    }
}
