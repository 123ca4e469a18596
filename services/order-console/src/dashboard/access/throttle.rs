//! Limits wrong tokens of a client: some at once, and then one at a time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong tokens that a client may send at once.
const WRONG_MAX: u32 = 10;
/// After how long one of them is forgotten.
pub(crate) const FORGOTTEN_AFTER: Duration = Duration::from_secs(6);
/// The most clients that are counted apart; any more count as one.
const CLIENTS_MAX: usize = 4_096;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Until when the wrong tokens of each client are remembered.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    until: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Throttle {
    /// Returns whether a token of this client is checked.
    pub(crate) fn admits(&self, client: IpAddr, now: Instant) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = until.contains_key(&client) || until.len() < CLIENTS_MAX;
        let until = until.get(if is_known { &client } else { &OTHERS });
        until.is_none_or(|until| {
            until.saturating_duration_since(now) <= FORGOTTEN_AFTER * (WRONG_MAX - 1)
        })
    }

    pub(crate) fn note_wrong(&self, client: IpAddr, now: Instant) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= CLIENTS_MAX {
            until.retain(|_, until| *until > now);
        }
        let is_known = until.contains_key(&client) || until.len() < CLIENTS_MAX;
        let until = until.entry(if is_known { client } else { OTHERS }).or_insert(now);
        *until = (*until).max(now) + FORGOTTEN_AFTER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn guesses(throttle: &Throttle, client: IpAddr, now: Instant) -> u32 {
        let mut guesses = 0;
        while throttle.admits(client, now) {
            throttle.note_wrong(client, now);
            guesses += 1;
        }
        guesses
    }

    #[test]
    fn a_client_may_be_wrong_some_times_and_then_once_in_a_while() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(guesses(&throttle, CLIENT, start), WRONG_MAX);
        let other = Ipv4Addr::new(10, 0, 0, 2).into();
        assert!(throttle.admits(other, start), "others may");
        assert_eq!(guesses(&throttle, CLIENT, start + FORGOTTEN_AFTER), 1);
        assert_eq!(guesses(&throttle, CLIENT, start + FORGOTTEN_AFTER * 100), WRONG_MAX);
    }

    #[test]
    fn any_number_of_clients_takes_bounded_memory_and_is_bounded_too() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let clients =
            (0..10_000).map(|number| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
        let guesses: u32 = clients.map(|client| guesses(&throttle, client, start)).sum();
        let told_apart = u32::try_from(CLIENTS_MAX).unwrap();
        assert!(guesses <= (told_apart + 1) * WRONG_MAX, "{guesses}");
        let known = throttle.until.lock().unwrap().len();
        assert!(known <= CLIENTS_MAX + 1, "{known}");
    }
}
