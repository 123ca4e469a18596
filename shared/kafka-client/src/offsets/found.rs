//! Results for each partition of a request.

use std::collections::BTreeMap;

use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;

use crate::error::{ClientError, PartitionError};

/// The error of a partition that a response leaves out.
pub(super) const UNANSWERED: PartitionError =
    PartitionError::Refused(ResponseError::UnknownTopicOrPartition);

/// The result for each requested partition.
pub type Found<T> = BTreeMap<TopicPartition, Result<T, PartitionError>>;

/// Returns the values of all partitions.
///
/// # Errors
/// [`ClientError::Partition`] with the first partition that has an error.
pub fn all_of<T>(found: Found<T>) -> Result<BTreeMap<TopicPartition, T>, ClientError> {
    let known = |(partition, found): (TopicPartition, Result<T, PartitionError>)| match found {
        Ok(known) => Ok((partition, known)),
        Err(source) => Err(ClientError::Partition { partition, source }),
    };
    found.into_iter().map(known).collect()
}

/// Returns the same error for all partitions.
pub(super) fn all_failed<'a, T>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    error: &PartitionError,
) -> Found<T> {
    partitions.into_iter().map(|tp| (tp.clone(), Err(error.clone()))).collect()
}

/// Returns the error of a code, if it is one.
pub(super) fn checked(error_code: i16) -> Result<(), PartitionError> {
    match ResponseError::try_from_code(error_code) {
        None => Ok(()),
        Some(error) => Err(PartitionError::Refused(error)),
    }
}

/// Groups items by the topic of their partition, in order.
pub(super) fn by_topic<'a, T>(
    items: impl Iterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<T>> {
    let mut topics: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for (tp, item) in items {
        topics.entry(&tp.topic).or_default().push(item);
    }
    topics
}

/// Checks that the first partition has a value, that the second has an error, and that the third was left out.
#[cfg(test)]
pub(super) fn check<T: Clone + std::fmt::Debug + PartialEq>(
    found: &Found<T>,
    first: &T,
    error: ResponseError,
) {
    let found: Vec<_> = found.values().collect();
    let [Ok(known), Err(PartitionError::Refused(refused)), Err(_left_out)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((known, refused), (first, &error));
}

/// Returns the first `count` partitions of `orders`.
#[cfg(test)]
pub(super) fn partitions(count: i32) -> Vec<TopicPartition> {
    (0..count).map(|index| TopicPartition::new("orders", index)).collect()
}
