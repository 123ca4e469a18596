//! A selection of dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::FromStr;

use chrono::DateTime;
use clap::Args;
use service_runtime::now_ms;

use super::letter::{Letter, Place};

/// The text is not a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is RFC 3339 (2026-11-21T08:00:00Z) or how long ago (90s, 30m, 2h, 7d)")]
pub(crate) struct ParseMomentError;

/// A key, as an operator names it: a text, or bytes as `0x` and hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(Vec<u8>);

/// Conditions that letters have to fulfil. Fields that are unset match every letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Filter {
    /// Only failures of this type; may be repeated. Classes may be named without their package.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// Only records with this key: a text, or 0x and hexadecimal digits.
    #[arg(long)]
    pub(crate) key: Option<Key>,
    /// Only failures at this time or later: RFC 3339, or how long ago (90s, 30m, 2h, 7d).
    #[arg(long = "since", value_name = "TIME", value_parser = parse_moment)]
    pub(crate) since_ms: Option<i64>,
    /// Only failures before this time.
    #[arg(long = "until", value_name = "TIME", value_parser = parse_moment)]
    pub(crate) until_ms: Option<i64>,
    /// Only records that failed in this partition.
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Only records that failed in this topic.
    #[arg(long)]
    pub(crate) topic: Option<String>,
    #[arg(skip)]
    pub(crate) offset: Option<i64>,
    #[arg(skip)]
    pub(crate) places: BTreeSet<Place>,
    /// Only letters below these offsets, by partition of the dead-letter topic; no other partition matches.
    #[arg(skip)]
    pub(crate) before: Option<BTreeMap<i32, i64>>,
}

/// The letters that a command changes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Selection {
    /// Places in the dead-letter topic: PARTITION:OFFSET.
    places: Vec<Place>,
    #[command(flatten)]
    filter: Filter,
    /// All letters: needed where neither a place nor a filter is given.
    #[arg(long)]
    all: bool,
    /// At most so many, in the order of the dead-letter topic.
    #[arg(long)]
    pub(crate) limit: Option<u64>,
}

impl Selection {
    /// Selects the letters that a filter takes, at most `limit` of them.
    pub(crate) fn of(filter: Filter, limit: Option<u64>) -> Self {
        Self { filter, limit, ..Self::default() }
    }

    pub(crate) fn filter(&self) -> Filter {
        self.filter.clone().at(&self.places)
    }

    /// Returns whether an operator has not said which letters.
    pub(crate) fn is_missing(&self) -> bool {
        !self.all && self.filter().takes_everything()
    }
}

impl Filter {
    /// Returns a filter that takes only letters at these places, if there are any.
    pub(crate) fn at(mut self, places: &[Place]) -> Self {
        self.places.extend(places);
        self
    }

    pub(crate) fn takes_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a letter is named by its place.
    pub(crate) fn names(&self, letter: &Letter<'_>) -> bool {
        self.places.contains(&letter.place)
    }

    /// Returns the part of a partition of the dead-letter topic that may hold matching letters.
    pub(crate) fn narrow(&self, partition: i32, range: Range<i64>) -> Range<i64> {
        let mut range = range;
        if let Some(before) = &self.before {
            range.end = range.end.min(before.get(&partition).copied().unwrap_or(0));
        }
        if !self.places.is_empty() {
            let here = self.places.iter().filter(|place| place.partition == partition);
            let (first, last) = here.fold((i64::MAX, i64::MIN), |(first, last), place| {
                (first.min(place.offset), last.max(place.offset))
            });
            range = range.start.max(first)..range.end.min(last.saturating_add(1));
        }
        range
    }

    pub(crate) fn takes(&self, letter: &Letter<'_>) -> bool {
        let cause = &letter.cause;
        let failed_at_ms = letter.failed_at_ms();
        let is_or_unset = |wanted: bool, unset: bool| unset || wanted;
        is_or_unset(self.types.iter().any(|t| is_type(t, letter)), self.types.is_empty())
            && self.key.as_ref().is_none_or(|Key(key)| letter.key == Some(key.as_slice()))
            && self.since_ms.is_none_or(|since| since <= failed_at_ms)
            && self.until_ms.is_none_or(|until| failed_at_ms < until)
            && self.partition.is_none_or(|partition| cause.partition == Some(partition))
            && self.offset.is_none_or(|offset| cause.offset == Some(offset))
            && self.topic.as_ref().is_none_or(|topic| cause.topic.as_ref() == Some(topic))
            && is_or_unset(self.names(letter), self.places.is_empty())
    }
}

fn is_type(wanted: &str, letter: &Letter<'_>) -> bool {
    let found = letter.cause.type_or_label();
    let without_package = found.rsplit('.').next().unwrap_or(found);
    wanted == found || wanted == without_package
}

fn parse_moment(text: &str) -> Result<i64, ParseMomentError> {
    moment_ms(text, now_ms()).ok_or(ParseMomentError)
}

/// Returns a moment as an operator names it, in milliseconds since 1970: RFC 3339, or how long ago (`90s`, `30m`, `2h`, `7d`).
fn moment_ms(text: &str, now_ms: i64) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let seconds: u64 = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    let ago_ms = count.checked_mul(seconds)?.saturating_mul(1_000);
    Some(now_ms.saturating_sub_unsigned(ago_ms))
}

impl FromStr for Key {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.strip_prefix("0x").and_then(from_hex);
        Ok(Self(bytes.unwrap_or_else(|| text.as_bytes().to_vec())))
    }
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use dead_letter::cause::Cause;
    use dead_letter::{Identity, RawHeader, ReplayOf};
    use uuid::Uuid;

    use super::*;

    const FAILED: &[RawHeader<'_>] = &[
        (b"kafka_dlt-original-topic", Some(b"orders")),
        (b"kafka_dlt-original-partition", Some(b"\x00\x00\x00\x02")),
        (b"kafka_dlt-original-offset", Some(b"\x00\x00\x00\x00\x00\x00\x00\x09")),
        (b"kafka_dlt-exception-fqcn", Some(b"com.example.BankAway")),
    ];

    fn letter() -> Letter<'static> {
        let topic_id = Uuid::nil();
        Letter {
            place: Place { partition: 0, offset: 17 },
            timestamp_ms: 1_000,
            key: Some(b"k\xff"),
            value: None,
            headers: FAILED.to_vec(),
            cause: Cause::of(FAILED),
            identity: Identity {
                topic_id,
                partition: 0,
                offset: 17,
                group: String::new(),
                replay_count: 0,
            },
            origin: ReplayOf { topic: "dlq".into(), topic_id, partition: 0, offset: 17 },
        }
    }

    fn check(filter: &Filter, takes: bool) {
        assert_eq!(filter.takes(&letter()), takes, "{filter:?}");
    }

    #[test]
    fn all_conditions_have_to_match() {
        let key = |text: &str| text.parse().ok();
        let all = Filter {
            types: vec!["other".into(), "com.example.BankAway".into()],
            key: key("0x6bff"),
            since_ms: Some(1_000),
            until_ms: Some(1_001),
            partition: Some(2),
            topic: Some("orders".into()),
            offset: Some(9),
            places: BTreeSet::from([Place { partition: 0, offset: 17 }]),
            before: None,
        };
        check(&Filter::default(), true);
        check(&all, true);
        check(&Filter { types: vec!["BankAway".into()], ..all.clone() }, true);
        check(&Filter { types: vec!["Away".into()], ..all.clone() }, false);
        check(&Filter { key: key("k"), ..all.clone() }, false);
        check(&Filter { since_ms: Some(1_001), ..all.clone() }, false);
        check(&Filter { until_ms: Some(1_000), ..all.clone() }, false);
        check(&Filter { partition: Some(0), ..all.clone() }, false);
        check(&Filter { topic: Some("dlq".into()), ..all.clone() }, false);
        check(&Filter { offset: Some(17), ..all.clone() }, false);
        check(
            &Filter { places: BTreeSet::from([Place { partition: 1, offset: 17 }]), ..all },
            false,
        );
    }

    #[test]
    fn places_and_ends_narrow_what_is_read() {
        let at = |partition, offset| Place { partition, offset };
        let all = Filter::default();
        assert_eq!(all.narrow(0, 3..9), 3..9);
        let two = Filter { places: BTreeSet::from([at(0, 5), at(0, 7)]), ..all.clone() };
        assert_eq!((two.narrow(0, 3..9), two.narrow(1, 3..9).is_empty()), (5..8, true));
        let before = Filter { before: Some(BTreeMap::from([(0, 6)])), ..all };
        assert_eq!((before.narrow(0, 3..9), before.narrow(1, 3..9).is_empty()), (3..6, true));
        let both = Filter { places: two.places, ..before };
        assert_eq!(both.narrow(0, 3..9), 5..6);
    }

    #[test]
    fn a_filter_without_conditions_takes_everything() {
        assert!(Filter::default().takes_everything());
        assert!(!Filter { offset: Some(0), ..Filter::default() }.takes_everything());
    }

    #[test]
    fn times_are_absolute_or_relative() {
        for (text, ms) in [
            ("1970-01-01T00:00:02Z", 2_000),
            ("1970-01-01T01:00:02+01:00", 2_000),
            ("1s", 999_000),
            ("2m", 880_000),
            ("0h", 1_000_000),
            ("1d", -85_400_000),
        ] {
            assert_eq!(moment_ms(text, 1_000_000), Some(ms), "{text}");
        }
        for text in ["", "h", "2", "-2h", "2w", "1.5h", "2é", "2026-11-21", "999999999999999999d"]
        {
            assert_eq!(moment_ms(text, 1_000_000), None, "{text}");
        }
    }

    #[test]
    fn keys_are_texts_or_bytes() {
        for (text, bytes) in
            [("abc", &b"abc"[..]), ("0x00fF", b"\x00\xff"), ("0x0", b"0x0"), ("0xzz", b"0xzz")]
        {
            assert_eq!(text.parse(), Ok(Key(bytes.to_vec())), "{text}");
        }
    }

    #[test]
    fn places_are_partition_and_offset() {
        assert_eq!("0:17".parse(), Ok(Place { partition: 0, offset: 17 }));
        for text in ["", "17", "0:", "a:1", "-1:0", "0:-1", "0:1:2"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
