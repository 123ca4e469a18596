//! A webhook with random responses, and killed processors: each order either counts or has an unresolved dead letter, and
//! a replay makes it count once.
//!
//! An order that the webhook refused before a kill may succeed after it. A processor that retries a record with a written
//! dead letter would count it twice: at once, and after the replay.
//!
//! `RANDOM_FAILURES_ORDERS` and `RANDOM_FAILURES_KILLS` set the size, `RANDOM_FAILURES_SEED` repeats the responses.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::platform::variable;
use end_to_end::verdict::Simulation;
use end_to_end::webhook::Answer;
use end_to_end::{Scenario, Service, Stats, Webhook};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::time::sleep;

const ORDERS_DEFAULT: u64 = 5_000;
const KILLS_DEFAULT: usize = 8;
/// The shares of attempts that the webhook rejects and that it fails temporarily.
const REFUSED: f64 = 0.05;
const UNAVAILABLE: f64 = 0.15;
/// The longest delay of a kill after its call, so that it hits commits and dead letters at any point.
const KILL_DELAY_MAX: Duration = Duration::from_millis(600);
/// One replay with random responses and one without suffice.
const REPLAYS_MAX: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_or_has_an_unresolved_dead_letter_whatever_the_webhook_draws()
-> Result<()> {
    let given = Given {
        orders: setting("RANDOM_FAILURES_ORDERS")?.unwrap_or(ORDERS_DEFAULT),
        kills: setting("RANDOM_FAILURES_KILLS")?.unwrap_or(KILLS_DEFAULT),
        seed: setting("RANDOM_FAILURES_SEED")?.unwrap_or_else(rand::random),
    };
    announce(&given);
    run(&given).await.with_context(|| format!("{given:?}"))
}

/// The size and the seed of a run.
#[derive(Debug)]
struct Given {
    orders: u64,
    kills: usize,
    seed: u64,
}

async fn run(given: &Given) -> Result<()> {
    let mut draws = StdRng::seed_from_u64(given.seed);
    let webhook = Webhook::start(Answer::DONE)?;
    draw_answers(&webhook, StdRng::seed_from_u64(draws.random()));
    let scenario = Scenario::open("random-failures")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("TOPIC_PARTITIONS", "6")
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("MAX_RETRIES", "1")
        .with("RETRY_BACKOFF_SECONDS", "0.05")
        .with("ORDER_COUNT", &given.orders.to_string());
    scenario.generator("generator")?.env("ORDER_RATE", "0").start()?.expect_exit(0).await?;
    let mut processors = Processors::start(&scenario)?;

    // Two thirds of the kills hit orders, the others replays that fail again.
    let in_replay = given.kills / 3;
    let orders = usize::try_from(given.orders)?;
    let first = moments(&mut draws, given.kills - in_replay, orders);
    processors.kill_at(&webhook, &first, &mut draws).await?;
    let stats = scenario.stats_at_end(given.orders).await?;
    let mut unresolved =
        balanced(&scenario, &stats, given.orders, "after the first attempts").await?;
    ensure!(unresolved > 0, "nothing failed");

    let mut replayed = 0;
    for replay in 1..=REPLAYS_MAX {
        let before = webhook.calls().len();
        let sent = dlq(&scenario, &["replay", "--all"]).await?["sent"].as_u64();
        replayed += sent.context("read how many were sent")?;
        if replay == 1 {
            let second = moments(&mut draws, in_replay, usize::try_from(unresolved)?);
            let second: Vec<usize> = second.into_iter().map(|calls| before + calls).collect();
            processors.kill_at(&webhook, &second, &mut draws).await?;
        }
        let what = format!("the end of {replayed} replays");
        let is_done = |stats: &Stats| (stats.lag == Some(0)) && (stats.replayed >= replayed);
        let stats = scenario.stats_when(&what, is_done).await?;
        unresolved =
            balanced(&scenario, &stats, given.orders, &format!("after replay {replay}")).await?;
        if unresolved == 0 {
            break;
        }
        webhook.answer(|_| Answer::DONE);
    }
    ensure!(unresolved == 0, "{unresolved} letters are unresolved after {REPLAYS_MAX} replays");
    let stats = scenario.stats().await?;
    let verdict = scenario.verdict(Simulation::OFF).await?;
    let totals = (stats.orders, stats.sum_micros()?);
    assert_eq!(totals, (verdict.orders, verdict.sum_micros));
    assert_eq!(verdict.orders, given.orders);
    processors.drain().await
}

/// Checks that every order either counts or has an unresolved dead letter, and returns the number of these.
async fn balanced(scenario: &Scenario, stats: &Stats, produced: u64, when: &str) -> Result<u64> {
    let listed = dlq(scenario, &["list"]).await?;
    let unresolved = listed["unresolved"].as_u64().context("read the unresolved letters")?;
    ensure!(
        stats.orders + unresolved == produced,
        "{when}: {} orders counted + {unresolved} unresolved letters = {}, {produced} were produced ({:+})",
        stats.orders,
        stats.orders + unresolved,
        i128::from(stats.orders + unresolved) - i128::from(produced)
    );
    Ok(unresolved)
}

/// Sets random responses of the webhook.
fn draw_answers(webhook: &Webhook, draws: StdRng) {
    let draws = Mutex::new(draws);
    webhook.answer(move |_| {
        let share: f64 = draws.lock().unwrap_or_else(PoisonError::into_inner).random();
        if share < REFUSED {
            Answer::Status(422)
        } else if share < REFUSED + UNAVAILABLE {
            Answer::UNAVAILABLE
        } else {
            Answer::DONE
        }
    });
}

/// Draws the calls after which to kill processors, in rising order.
fn moments(draws: &mut StdRng, kills: usize, calls: usize) -> Vec<usize> {
    let mut moments: Vec<usize> = (0..kills).map(|_| draws.random_range(0..calls)).collect();
    moments.sort_unstable();
    moments
}

/// Three processors: two static members, whose successors take over at once, and a dynamic one.
struct Processors<'s> {
    scenario: &'s Scenario,
    running: Vec<Service>,
    started: usize,
}

impl<'s> Processors<'s> {
    fn start(scenario: &'s Scenario) -> Result<Self> {
        let mut processors = Self { scenario, running: Vec::new(), started: 0 };
        for member in 0..3 {
            let processor = processors.start_one(member)?;
            processors.running.push(processor);
        }
        Ok(processors)
    }

    fn start_one(&mut self, member: usize) -> Result<Service> {
        self.started += 1;
        let command = self.scenario.processor(&format!("processor-{member}-{}", self.started))?;
        let instance_id = format!("{}-{member}", self.scenario.group());
        let command =
            if member < 2 { command.env("GROUP_INSTANCE_ID", &instance_id) } else { command };
        command.start()
    }

    /// Kills a processor soon after each of these numbers of calls, and starts a successor.
    async fn kill_at(
        &mut self,
        webhook: &Webhook,
        moments: &[usize],
        draws: &mut StdRng,
    ) -> Result<()> {
        for moment in moments {
            webhook.calls_when(|calls| calls.len() >= *moment).await;
            sleep(KILL_DELAY_MAX.mul_f64(draws.random())).await;
            let member = draws.random_range(0..self.running.len());
            self.running[member].kill().await?;
            self.running[member] = self.start_one(member)?;
        }
        Ok(())
    }

    async fn drain(self) -> Result<()> {
        for processor in self.running {
            processor.drain().await?;
        }
        Ok(())
    }
}

/// Runs `order-console dlq` to its end and returns what it printed.
async fn dlq(scenario: &Scenario, arguments: &[&str]) -> Result<Value> {
    let command = scenario.console("dlq")?.args(["dlq"]).args(arguments.iter().copied());
    let printed = command.args(["--json"]).output().await?;
    serde_json::from_str(&printed).with_context(|| format!("read what dlq printed: {printed}"))
}

/// Returns a setting of this test, if set.
fn setting<T: FromStr>(name: &str) -> Result<Option<T>> {
    let parse = |text: String| text.parse().ok().with_context(|| format!("{name} is {text:?}"));
    variable(name).map(parse).transpose()
}

#[expect(clippy::print_stderr, reason = "an operator of the test who sees it fail needs the seed")]
fn announce(given: &Given) {
    eprintln!("{given:?}");
}
