//! Feeds decoders with mutations of valid inputs, and checks results and memory.
//!
//! A [`Target`] has a decoder, valid inputs, a limit of memory, and a check of each result. The run mutates inputs with a
//! new kind of result further. By default it has a fixed seed and a fixed number of executions. These variables change
//! that:
//!
//! | variable | |
//! |---|---|
//! | `FUZZ_SECONDS` | how long each target runs, with a random seed |
//! | `FUZZ_SEED` | the seed, as an earlier run printed it |
//! | `FUZZ_INPUT` | a file that a failed run has left: the only input |

mod mutate;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use peak_alloc::PeakAlloc;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _, TryRng as _};

/// Counts the allocations of the whole process.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One target runs at a time, because the count covers the whole heap.
static TURN: Mutex<()> = Mutex::new(());

/// The right to run a target, and to prepare its inputs.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

/// Waits until no other target of the process runs or is prepared.
pub fn turn() -> Turn {
    Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The default seed.
const SEED: u64 = 1;
/// The most inputs to mutate further.
const POOL_MAX: usize = 1024;
/// How often, in executions, an input is decoded twice.
const TWICE_EVERY: u64 = 16;

/// How often an input must exceed its memory before the run fails.
const TIMES_MAX: u32 = 1000;

/// Decodes an input.
pub type Decode<T> = Box<dyn FnMut(&[u8]) -> T>;

/// A decoder under test.
pub struct Target<T> {
    /// The name of the target in the output.
    pub name: &'static str,
    /// The number of executions without `FUZZ_SECONDS`.
    pub executions: u64,
    /// The valid inputs, from which all others derive.
    pub seeds: Vec<Vec<u8>>,
    /// The most memory of decoding an input, in bytes.
    pub memory: fn(&[u8]) -> usize,
    /// Corrects checksums and lengths, so that mutations pass their checks.
    pub mend: Option<fn(&mut [u8])>,
    /// Decodes an input.
    pub decode: Decode<T>,
    /// Checks the result of an input.
    pub check: fn(&[u8], &T) -> Outcome,
}

/// The outcome of an input.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the decoder accepted the input.
    pub is_accepted: bool,
    /// The kind of the result; an input with a new kind is mutated further.
    pub kind: String,
}

impl Outcome {
    /// Returns the outcome of an accepted input.
    pub fn accepted(kind: impl Into<String>) -> Self {
        Self { is_accepted: true, kind: kind.into() }
    }

    /// Returns the outcome of a refused input.
    pub fn refused(kind: impl Into<String>) -> Self {
        Self { is_accepted: false, kind: kind.into() }
    }
}

/// The length and the seed of a run.
struct Plan {
    seed: u64,
    time: Option<Duration>,
    input: Option<PathBuf>,
}

#[derive(Default)]
struct Count {
    executions: u64,
    accepted: u64,
    memory_max: usize,
    slowest: Duration,
}

/// The inputs to mutate, and the kinds of results so far.
struct Pool {
    inputs: Vec<Vec<u8>>,
    seeds: usize,
    kinds: BTreeSet<String>,
}

/// Runs a target.
///
/// # Panics
/// If the decoder or a check panics, or an input exceeds its memory. The run prints the input and writes it to a file in
/// `dir`.
#[expect(clippy::print_stdout, reason = "a run reports what it has done")]
pub fn run<T: Debug>(_turn: &Turn, mut target: Target<T>, dir: &str) {
    let plan = Plan::from_environment();
    let (name, seed) = (target.name, plan.seed);
    println!("{name}: seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut pool = Pool::new(target.seeds.clone());
    let mut count = Count::default();
    let started = now();
    if let Some(path) = &plan.input {
        let input = from_hex(&fs::read_to_string(path).unwrap_or_default());
        execute(&mut target, &input, true, &mut count);
        return;
    }
    loop {
        let is_over = match plan.time {
            Some(time) => count.executions.is_multiple_of(64) && started.elapsed() >= time,
            None => count.executions >= target.executions,
        };
        if is_over {
            break;
        }
        let input = pool.next(count.executions, target.mend, &mut rng);
        let is_twice = count.executions.is_multiple_of(TWICE_EVERY);
        let executed =
            catch_unwind(AssertUnwindSafe(|| execute(&mut target, &input, is_twice, &mut count)));
        match executed {
            Ok(outcome) => pool.take(input, outcome, &mut rng),
            Err(panic) => {
                let path = leave(Path::new(dir), name, seed, &input);
                let (hex, execution) = (to_hex(&input), count.executions);
                println!("{name}: FAILED in execution {execution} of seed {seed}, by {hex}");
                println!("{name}: run it alone with FUZZ_INPUT={}", path.display());
                resume_unwind(panic);
            }
        }
    }
    let Count { executions, accepted, memory_max, slowest } = count;
    println!(
        "{name}: {} s, {executions} executions, {accepted} accepted, {} kinds of results, \
         peak allocation {memory_max} bytes, slowest {} ms",
        started.elapsed().as_secs(),
        pool.kinds.len(),
        slowest.as_millis()
    );
}

/// Decodes an input and checks the result.
fn execute<T: Debug>(
    target: &mut Target<T>,
    input: &[u8],
    is_twice: bool,
    count: &mut Count,
) -> Outcome {
    let (result, took) = measure(target, input, count);
    let allowed = (target.memory)(input);
    assert!(took <= allowed, "{} bytes took {took} bytes of memory, not {allowed}", input.len());
    if is_twice {
        let again = (target.decode)(input);
        assert_eq!(
            format!("{result:?}"),
            format!("{again:?}"),
            "it depends on more than the input"
        );
    }
    let outcome = (target.check)(input, &result);
    count.executions += 1;
    count.accepted += u64::from(outcome.is_accepted);
    outcome
}

/// Decodes an input, and returns its memory.
///
/// The threads of the test runner allocate memory as well, so the least of several measurements counts.
fn measure<T>(target: &mut Target<T>, input: &[u8], count: &mut Count) -> (T, usize) {
    let allowed = (target.memory)(input);
    let mut least = usize::MAX;
    let mut times = 0;
    loop {
        HEAP.reset_peak_usage();
        let (before, began) = (HEAP.current_usage(), now());
        let result = (target.decode)(input);
        count.slowest = count.slowest.max(began.elapsed());
        least = least.min(HEAP.peak_usage().saturating_sub(before));
        times += 1;
        let is_clear = least <= count.memory_max || least <= allowed && times > 2;
        if is_clear || times > TIMES_MAX {
            count.memory_max = count.memory_max.max(least);
            return (result, least);
        }
        thread::yield_now();
    }
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name| variable(name)?.parse::<u64>().ok();
        let time = number("FUZZ_SECONDS").map(Duration::from_secs);
        let unset = if time.is_some() { SysRng.try_next_u64().unwrap_or(SEED) } else { SEED };
        let seed = number("FUZZ_SEED").unwrap_or(unset);
        Self { seed, time, input: variable("FUZZ_INPUT").map(PathBuf::from) }
    }
}

impl Pool {
    fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds: seeds.len(), inputs: seeds, kinds: BTreeSet::new() }
    }

    /// Returns the next input: first the valid inputs, then mutations.
    fn next(&self, nth: u64, mend: Option<fn(&mut [u8])>, rng: &mut StdRng) -> Vec<u8> {
        let seed = usize::try_from(nth).ok().filter(|nth| *nth < self.seeds);
        if let Some(seed) = seed {
            return self.inputs[seed].clone();
        }
        let mut input = mutate::next(&self.inputs, rng);
        if let Some(mend) = mend
            && rng.random_ratio(3, 4)
        {
            mend(&mut input);
        }
        input
    }

    fn take(&mut self, input: Vec<u8>, outcome: Outcome, rng: &mut StdRng) {
        let is_new = self.kinds.len() < POOL_MAX && self.kinds.insert(outcome.kind);
        if !(is_new || outcome.is_accepted && rng.random_ratio(1, 64)) {
            return;
        }
        if self.inputs.len() < self.seeds + POOL_MAX {
            self.inputs.push(input);
        } else {
            let place = rng.random_range(self.seeds..self.inputs.len());
            self.inputs[place] = input;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests of this crate have no other settings")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the setting limits the time of a run")]
fn now() -> Instant {
    Instant::now()
}

/// Writes an input to a file.
fn leave(dir: &Path, name: &str, seed: u64, input: &[u8]) -> PathBuf {
    let path = dir.join(format!("fuzz-{name}-{seed}.hex"));
    // The run reports the failure even if the file cannot be written.
    fs::write(&path, to_hex(input)).ok();
    path
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).ok();
    digits.chunks_exact(2).filter_map(byte).collect()
}
