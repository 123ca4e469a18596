//! The choice of letters that a replay sends, and of their partitions.

use std::num::NonZeroU32;

use dead_letter::ErrorType;
use dead_letter::cause::Author;
use kafka_core::murmur2::partition_for_key;

use crate::dlq::filter::Filter;
use crate::dlq::letter::Letter;
use crate::dlq::letter_state::LetterState;

/// The letters that an operator wants replayed.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) filter: Filter,
    /// Letters that failed after as many replays are left alone.
    pub(super) replays_max: u32,
    /// Only letters of this topic can be sent, where they go back to the topic that they came from.
    pub(super) only_from: Option<String>,
    /// Replays of records that failed before this time may have been deleted, in milliseconds since 1970.
    pub(super) lost_before_ms: Option<i64>,
}

/// Why a letter that the filter takes is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    AlreadySent,
    /// It was dismissed, and the filter does not name its place.
    Dismissed,
    /// It failed after as many replays as are allowed.
    LimitReached,
    /// It holds bytes of a damaged log instead of a record.
    NoRecord,
    /// It failed in another topic than the one it would be sent to.
    OtherTopic,
    /// It has no value. Share groups copy the value only where they are configured to.
    NoValue,
    /// Its replay may be among deleted records of the replay topic, and the filter does not name its place.
    PerhapsSent,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadySent => "sent before",
            Self::Dismissed => "dismissed",
            Self::LimitReached => "replayed as often as --limit-replays allows",
            Self::NoRecord => "not a record but bytes of a damaged log",
            Self::OtherTopic => "of another topic than the orders'",
            Self::NoValue => "without the value of the record",
            Self::PerhapsSent => "perhaps sent before the replay topic lost its oldest records",
        }
    }
}

impl Choice {
    /// Returns why a letter that the filter takes is left alone; `None` where it is sent.
    pub(super) fn judge(&self, letter: &Letter<'_>, state: LetterState) -> Option<Reason> {
        let cause = &letter.cause;
        let is_named = self.filter.names(letter);
        let may_be_lost = self.lost_before_ms.is_some_and(|lost| letter.failed_at_ms() < lost);
        let is_a_type = |kind: ErrorType| cause.error_type.as_deref() == Some(kind.as_str());
        let is_no_record =
            is_a_type(ErrorType::CorruptBatch) || is_a_type(ErrorType::UndecodableRecord);
        let is_from_elsewhere = |topic: &String| cause.topic.as_ref() != Some(topic);
        if state == LetterState::Replayed {
            Some(Reason::AlreadySent)
        } else if state == LetterState::Unresolved && may_be_lost && !is_named {
            Some(Reason::PerhapsSent)
        } else if state == LetterState::Dismissed && !is_named {
            Some(Reason::Dismissed)
        } else if letter.identity.replay_count >= self.replays_max {
            Some(Reason::LimitReached)
        } else if cause.author == Author::OrderProcessor && is_no_record {
            Some(Reason::NoRecord)
        } else if self.only_from.as_ref().is_some_and(is_from_elsewhere) {
            Some(Reason::OtherTopic)
        } else if cause.author == Author::ShareGroup && letter.value.is_none() {
            Some(Reason::NoValue)
        } else {
            None
        }
    }
}

/// Returns the partition that a letter goes to: the one its record came from, if both topics have as many partitions; else
/// the one that a Java client chooses for the key.
///
/// `source` is the partition the record failed in, and how many that topic has.
pub(super) fn partition_for(count: i32, source: Option<(i32, i32)>, key: Option<&[u8]>) -> i32 {
    let Some(partitions) = u32::try_from(count).ok().and_then(NonZeroU32::new) else { return 0 };
    let partition = source.map_or(0, |(partition, _)| partition.max(0));
    match (source, key) {
        (Some((_, source_count)), _) if source_count == count && partition < count => partition,
        (_, Some(key)) => partition_for_key(key, partitions),
        (_, None) => partition % count,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dead_letter::cause::Cause;
    use dead_letter::{Identity, RawHeader, ReplayOf};
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::Place;

    const PLACE: Place = Place { partition: 0, offset: 5 };

    fn letter<'a>(headers: &'a [RawHeader<'a>], replay_count: u32) -> Letter<'a> {
        let topic_id = Uuid::nil();
        Letter {
            place: PLACE,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: headers.to_vec(),
            cause: Cause::of(headers),
            identity: Identity {
                topic_id,
                partition: 0,
                offset: 5,
                group: "g".into(),
                replay_count,
            },
            origin: ReplayOf { topic: "orders".into(), topic_id, partition: 0, offset: 5 },
        }
    }

    fn everything() -> Choice {
        Choice { filter: Filter::default(), replays_max: 3, only_from: None, lost_before_ms: None }
    }

    const SIMULATED: &[RawHeader<'_>] =
        &[(b"dlq.error.type", Some(b"simulated")), (b"__dlq.errors.topic", Some(b"orders"))];

    #[test]
    fn a_letter_is_sent_unless_there_is_a_reason_not_to() {
        let choice = everything();
        let judge = |count, state| choice.judge(&letter(SIMULATED, count), state);
        assert_eq!(judge(0, LetterState::Unresolved), None);
        assert_eq!(judge(2, LetterState::Unresolved), None);
        assert_eq!(judge(3, LetterState::Unresolved), Some(Reason::LimitReached));
        assert_eq!(judge(0, LetterState::Replayed), Some(Reason::AlreadySent));
        assert_eq!(judge(0, LetterState::Dismissed), Some(Reason::Dismissed));
    }

    #[test]
    fn a_dismissed_letter_that_is_named_is_sent_and_one_that_was_sent_is_not() {
        let mut choice = everything();
        choice.filter.places = BTreeSet::from([PLACE]);
        let letter = letter(SIMULATED, 0);
        assert_eq!(choice.judge(&letter, LetterState::Dismissed), None);
        assert_eq!(choice.judge(&letter, LetterState::Replayed), Some(Reason::AlreadySent));
        choice.filter.places = BTreeSet::from([Place { offset: 6, ..PLACE }]);
        assert!(!choice.filter.takes(&letter));
    }

    #[test]
    fn a_letter_whose_replay_may_have_been_deleted_has_to_be_named() {
        let mut choice = Choice { lost_before_ms: Some(1), ..everything() };
        let letter = letter(SIMULATED, 0);
        let judge = |choice: &Choice, state| choice.judge(&letter, state);
        let perhaps_sent = Some(Reason::PerhapsSent);
        assert_eq!(judge(&choice, LetterState::Unresolved), perhaps_sent);
        assert_eq!(judge(&choice, LetterState::Replayed), Some(Reason::AlreadySent));
        choice.filter.places = BTreeSet::from([PLACE]);
        assert_eq!(judge(&choice, LetterState::Unresolved), None);
    }

    #[test]
    fn a_letter_without_a_record_is_not_sent() {
        for kind in ["corrupt-batch", "undecodable-record"] {
            let headers: [RawHeader<'_>; 1] = [(b"dlq.error.type", Some(kind.as_bytes()))];
            let verdict = everything().judge(&letter(&headers, 0), LetterState::Unresolved);
            assert_eq!(verdict, Some(Reason::NoRecord));
        }
        let headers: [RawHeader<'_>; 1] = [(b"__dlq.errors.topic", Some(b"orders"))];
        let verdict = everything().judge(&letter(&headers, 0), LetterState::Unresolved);
        assert_eq!(verdict, Some(Reason::NoValue), "a share group's letter without a copy");
    }

    #[test]
    fn only_letters_of_the_orders_go_back_to_the_orders() {
        let judge = |topic: &str| {
            let choice = Choice { only_from: Some(topic.into()), ..everything() };
            choice.judge(&letter(SIMULATED, 0), LetterState::Unresolved)
        };
        assert_eq!((judge("orders"), judge("parcels")), (None, Some(Reason::OtherTopic)));
    }

    #[test]
    fn a_letter_goes_where_its_record_was_or_where_java_puts_its_key() {
        for (count, source, key, partition) in [
            (3, Some((2, 3)), Some(&b"1001"[..]), 2),
            (7, Some((2, 3)), Some(b"1001"), 2),
            (7, Some((1, 3)), Some(b"abc"), 4),
            (3, None, Some(b"abcd"), 2),
            (3, Some((5, 7)), None, 2),
            (3, Some((9, 3)), None, 0),
            (3, None, None, 0),
        ] {
            assert_eq!(partition_for(count, source, key), partition, "{source:?} {key:?}");
        }
    }
}
