//! The idempotent producer of one partition, as a state machine without IO: numbering, retries, deadlines.
//!
//! The caller encodes batches with a [`BatchEncoder`](crate::record_batch::BatchEncoder) and pushes them into the
//! [`PartitionProducer`] of their partition. It sends what [`PartitionProducer::next`] returns, with acks=all, and reports
//! each answer. Outcomes come out in the order of the batches. Backoff and metadata are the caller's: [`ErrorClass`] says
//! which of them an error needs.
//!
//! # What the broker does
//!
//! A leader keeps per producer id and partition the newest epoch, the last sequence number and the last five batches.
//! A batch that equals one of the five in epoch and numbers is answered with the offset it has. Otherwise its epoch must
//! not be lower, and its first number must follow the last one, or be 0 in a higher epoch. This has two exceptions:
//!
//! - A leader without state of a producer accepts any number. It could refuse the first of two batches and append the
//!   second. So the first batch of an epoch goes alone, and so does the next batch after any error or after a minute
//!   without batches, until it is acknowledged.
//! - A broker that restarts may remember only the last batch. So an out-of-order answer does not prove that an earlier
//!   batch is absent: only if every later batch that may be in the log gets the same answer, it is.
//!
//! # Numbers
//!
//! Two rules keep anything from being written twice, whatever the network does:
//!
//! 1. A batch that may be in the log is sent again only with the same epoch and number. The broker recognises it, because
//!    at most five batches are sent from the oldest unresolved one on.
//! 2. A batch gets another number only when every attempt was answered and it is known not to be in the log. A number is
//!    reused only once no copy of its former batch can still arrive.
//!
//! ```text
//!               ┌────────── not written, in doubt ───────────┐
//!               ▼                                            │
//!  push ───► Waiting ─────────────── next ──────────────► OnItsWay ── answered, expired ──┐
//!             │ ▲                                            │                            ▼
//!             │ └── gap closes: new number ── OutOfOrder ◄───┘ out of order              Done
//!             │                                   │                                       ▲
//!             └── expired ────────────────────────┴── gap closes, a copy may exist ───────┘
//! ```
//!
//! # Gaps
//!
//! A gap is a sequence number that the broker will never see, or may never see:
//!
//! - A batch was refused, or expired before it was written. The broker refuses the batches behind it as out of order.
//! - A batch expired and its outcome is unknown. The batches behind it tell: if the last one is appended, there is no gap.
//! - The oldest unresolved batch is out of order although everything before it was acknowledged: the broker lost state.
//!
//! In a gap no batch gets a number. Batches on their way are waited for. Batches that may be in the log are sent again,
//! one at a time, with the numbers they have. If one is appended, those before it are in the log too. If all of them are
//! out of order, none is in the log: the last of them would be recognised. Then the gap is closed:
//!
//! - If every batch with a number behind the last delivered one is known never to have been written, and no copy of one
//!   can exist, the numbers behind the delivered one are given again in the same epoch. The broker has not seen them, and
//!   expects the first of them.
//! - Otherwise the epoch rises by one and the numbers start at 0
//!   ([KIP-360](https://cwiki.apache.org/confluence/display/KAFKA/KIP-360%3A+Improve+reliability+of+idempotent%2Ftransactional+producer)).
//!   Without a transactional id the client does this on its own, as Kafka's Java client does. After epoch `i16::MAX`
//!   a new producer id is needed. An epoch belongs to one partition, so a gap does not disturb the others.
//!
//! A batch with a copy that may still arrive ([`Delivery::InDoubt`]) keeps its number, and so is given up when a gap
//! closes over it. Java's client sends it again in the new epoch; the copy, if it arrives before the new epoch, is then a
//! second append.
//!
//! # Limits
//!
//! A broker forgets a producer after `producer.id.expiration.ms` (a day) without a batch of it. A batch that is unresolved
//! for longer can be written twice. Delivery deadlines must therefore be shorter. After an unclean leader election acknowledged batches
//! can be missing from the log, as the cluster's operator has decided.
//!
//! Protocol: [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging).

mod entry;
mod error_class;
mod gap;
mod outcome;
mod partition;
mod sequence;
#[cfg(test)]
mod tests;

pub use self::error_class::ErrorClass;
pub use self::outcome::{
    Attempt, AttemptId, BrokerError, Delivery, Outcome, ProducerIdentity, Written,
};
pub use self::partition::{BATCHES_SENT_MAX, PartitionProducer};
