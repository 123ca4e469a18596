use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dead_letter::ErrorType;
use fuzz::{Outcome, Target};
use order_ledger::checkpoint::{
    Admission, Capacity, CheckpointError, CompletedOrder, Discarded, Origin, PartitionState,
    Restored,
};
use uuid::Uuid;

const PREFIX: &str = "oc3:";
const TOPIC: Uuid = Uuid::from_u128(7);

#[test]
fn checkpoint() {
    let turn = fuzz::turn();
    let bodies = [0, 1_000, i64::MAX - 300].into_iter().flat_map(|offset| {
        [0, 1, 40, 250].map(|records| {
            let metadata = state(offset, records).checkpoint().unwrap().metadata;
            let bytes = URL_SAFE_NO_PAD.decode(&metadata[PREFIX.len()..]).unwrap();
            bytes[..bytes.len() - 4].to_vec()
        })
    });
    let text = state(5, 30).checkpoint().unwrap().metadata;
    let target = Target {
        name: "checkpoint",
        executions: 5_000,
        seeds: bodies.chain([text.into_bytes(), Vec::new()]).collect(),
        // A bit of the map is one offset of a set.
        memory: |input| 768 * input.len() + (64 << 10),
        mend: None,
        decode: Box::new(restore),
        check,
    };
    fuzz::run(&turn, target, crate::LEFT);
}

/// A partition with records in every state.
fn state(offset: i64, records: i64) -> PartitionState {
    let mut state = PartitionState::empty(TOPIC, offset, Capacity::DEFAULT);
    for at in offset..offset + records {
        let number = u64::try_from(at - offset).unwrap();
        state.admit(at);
        match number % 6 {
            0 => state.doom(at, 3, ErrorType::Rejected),
            1 => state.record_attempts(at, 2),
            2 => _ = state.complete_dead_letter(at, 4, Origin::Replayed),
            _ => _ = state.complete_order(at, order(at)),
        }
        if number.is_multiple_of(20) {
            state.count_dead_letter(ErrorType::RetriesExhausted);
        }
    }
    state
}

fn order(timestamp_ms: i64) -> CompletedOrder {
    CompletedOrder { timestamp_ms, price: 9.99, attempts: 1, origin: Origin::Produced }
}

/// Reads the input as the text of a checkpoint if it begins like one, else as its contents.
fn metadata(input: &[u8]) -> String {
    match str::from_utf8(input) {
        Ok(text) if text.is_empty() || text.starts_with(PREFIX) => text.to_owned(),
        _ => {
            let bytes = [input, &crc32c::crc32c(input).to_le_bytes()].concat();
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
        }
    }
}

/// Restores a checkpoint with the topic and the offset that it names.
fn restore(input: &[u8]) -> Result<Restored, CheckpointError> {
    let metadata = metadata(input);
    let (mut topic, mut offset) = (TOPIC, 0);
    loop {
        let restored = PartitionState::restore(&metadata, topic, offset, Capacity::DEFAULT)?;
        match restored.discarded {
            Some(Discarded::OtherTopic { found, .. }) => topic = found,
            Some(Discarded::OtherOffset { found, .. }) => offset = found,
            _ => return Ok(restored),
        }
    }
}

fn check(_input: &[u8], restored: &Result<Restored, CheckpointError>) -> Outcome {
    let state = match restored {
        Ok(Restored { state, discarded: None }) => state,
        Ok(Restored { discarded: Some(discarded), .. }) => {
            return Outcome::refused(crate::kind(discarded));
        }
        Err(CheckpointError::Malformed(what)) => return Outcome::refused(*what),
        Err(error) => return Outcome::refused(crate::kind(error)),
    };
    let (committable, frontier) = (state.committable(), state.dispatch_frontier());
    assert!(0 <= committable && committable <= frontier, "{committable} {frontier}");
    assert!(state.since() <= committable, "{} {committable}", state.since());
    assert!(i64::try_from(state.incomplete()).unwrap() <= frontier - committable);
    let numbers = state.aggregate();
    assert_eq!(numbers.min().is_some(), numbers.orders() > 0);
    assert!(numbers.min() <= numbers.max(), "{numbers:?}");
    assert!(numbers.average().is_some() == (numbers.orders() > 0), "{numbers:?}");
    numbers.recent_average();
    numbers.records();

    let fits = state.checkpoint();
    if let Ok(written) = &fits {
        let again = restore(written.metadata.as_bytes()).unwrap();
        assert_eq!(again.discarded, None);
        assert_eq!(again.state.aggregate(), numbers);
        assert_eq!(again.state.incomplete(), state.incomplete());
        assert_eq!(again.state.checkpoint().as_ref(), Ok(written));
    }
    go_on(state.clone());
    Outcome::accepted(format!("{} {}", fits.is_ok(), state.incomplete().min(40)))
}

/// Reads the log from the committed offset on, as after a restart.
fn go_on(mut state: PartitionState) {
    let (committable, frontier) = (state.committable(), state.dispatch_frontier());
    let records = state.aggregate().records();
    let mut completed = 0;
    for offset in (committable..frontier).take(300).chain((frontier..i64::MAX).take(3)) {
        if !state.has_room_for(offset) {
            break;
        }
        match state.admit(offset) {
            Admission::Process { attempts } => {
                state.record_attempts(offset, attempts);
                completed += u64::from(state.complete_order(offset, order(offset)));
            }
            Admission::Doomed { attempts, .. } => {
                completed +=
                    u64::from(state.complete_dead_letter(offset, attempts, Origin::Produced));
            }
            Admission::Skip => {}
        }
    }
    assert_eq!(state.aggregate().records(), records.saturating_add(completed));
    let before = state.committable();
    state.advance_to(frontier.saturating_add(5));
    assert!(before <= state.committable());
    state.checkpoint().ok();
}
