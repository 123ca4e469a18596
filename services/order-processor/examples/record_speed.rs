//! Measures what the bookkeeping of a record costs: `cargo run --release -p order-processor --example record_speed`.
#![expect(clippy::print_stdout, reason = "the numbers are the program's output")]
#![expect(clippy::disallowed_methods, reason = "measuring needs a clock")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use order_ledger::aggregate::Aggregate;
use order_ledger::checkpoint::{Admission, Capacity, CompletedOrder, Origin, PartitionState};
use order_ledger::producer_table::{ProducerTable, Stamp};
use order_processor::handler::simulation::Simulation;
use uuid::Uuid;

const ROUNDS: u32 = 20;
const RECORDS: u32 = 250_000;
const PRODUCER_ID: &[u8] = b"9f1c2b7e0123abcd";
const OTHER_PRODUCER_ID: &[u8] = b"0123456789abcdef";
const ORDER_ID: &str = "9f1c2b7e-1111-4222-8333-0123456789ab";

fn main() -> Result<(), Box<dyn Error>> {
    let mut aggregate = Aggregate::default();
    measure("aggregate, times rising", |index| aggregate.add_order(rising(index), price(index)));
    let mut aggregate = Aggregate::default();
    measure("aggregate, times of three producers", |index| {
        aggregate.add_order(interleaved(index), price(index));
    });

    let mut table = ProducerTable::default();
    measure("producer table, one producer", |index| {
        Stamp::new(PRODUCER_ID, u64::from(index) + 1).map(|stamp| table.judge(&stamp))
    });
    let mut table = ProducerTable::default();
    measure("producer table, two in turn", |index| {
        let id = if index % 2 == 0 { PRODUCER_ID } else { OTHER_PRODUCER_ID };
        Stamp::new(id, u64::from(index) + 1).map(|stamp| table.judge(&stamp))
    });
    let mut counter = Counter::default();
    measure("stamp out of two headers", |_| Stamp::of(black_box(counter.next_headers())).is_some());
    let simulation = Simulation::new(0.1, None, None, 3);
    measure("simulation of an order id", |_| simulation.failure(black_box(ORDER_ID), 10.0, 1));

    let mut state = PartitionState::empty(Uuid::max(), 0, Capacity::DEFAULT);
    let mut counter = Counter::default();
    measure("all bookkeeping of a record", |index| {
        keep_books(&mut state, i64::from(index), &mut counter);
    });
    let mut state = PartitionState::empty(Uuid::max(), 0, Capacity::DEFAULT);
    let mut counter = Counter::default();
    // Every 1,000th record starts to wait, and the one before it ends: ten always wait.
    measure("the same while ten records wait", |index| {
        let offset = i64::from(index);
        if offset % 1_000 == 0 {
            state.complete_dead_letter(offset - 10_000, 4, Origin::Produced);
            black_box(state.admit(offset, None));
            counter.next_headers();
        } else {
            keep_books(&mut state, offset, &mut counter);
        }
    });
    assert_eq!(state.aggregate().duplicates(), 0, "what was measured was the usual way");

    let checkpoint = state.checkpoint()?;
    let start = Instant::now();
    for _ in 0..1_000 {
        black_box(state.checkpoint()?);
    }
    let microseconds = start.elapsed().as_secs_f64() * 1e3;
    println!(
        "writing a checkpoint of {} characters {microseconds:>6.1} us",
        checkpoint.metadata.len()
    );
    Ok(())
}

#[inline(never)]
fn keep_books(state: &mut PartitionState, offset: i64, counter: &mut Counter) {
    let index = u32::try_from(offset).unwrap_or_default();
    if !state.has_room_for(offset) {
        return;
    }
    let stamp = Stamp::of(black_box(counter.next_headers()));
    if let Admission::Process { attempts } = state.admit(offset, stamp) {
        let order = CompletedOrder {
            timestamp_ms: rising(index),
            price: price(index),
            attempts: attempts + 1,
            origin: Origin::Produced,
        };
        state.complete_order(offset, order);
    }
}

fn rising(index: u32) -> i64 {
    1_700_000_000_000 + i64::from(index / 100)
}

fn interleaved(index: u32) -> i64 {
    1_700_000_000_000 + i64::from(index / 100) - 3 * i64::from((index / 10) % 3)
}

fn price(index: u32) -> f32 {
    9.99 + f32::from(index.to_le_bytes()[0])
}

/// A sequence as a text of eight digits that is counted up in place.
struct Counter([u8; 8]);

impl Default for Counter {
    fn default() -> Self {
        Self(*b"00000000")
    }
}

impl Counter {
    fn next_headers(&mut self) -> [(&[u8], Option<&[u8]>); 2] {
        for digit in self.0.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
        [(b"producer-id", Some(PRODUCER_ID)), (b"sequence", Some(&self.0))]
    }
}

/// Prints the best of some rounds.
fn measure<T>(what: &str, mut work: impl FnMut(u32) -> T) {
    let mut best = Duration::MAX;
    for round in 0..ROUNDS {
        let start = Instant::now();
        for index in 0..RECORDS {
            black_box(work(black_box(round * RECORDS + index)));
        }
        best = best.min(start.elapsed());
    }
    println!("{what:<35} {:>7.1} ns", best.as_secs_f64() * 1e9 / f64::from(RECORDS));
}
