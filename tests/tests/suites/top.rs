//! `order-console top` in a terminal: the screen, the keys, and the restored terminal.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use end_to_end::{Scenario, Stats, Terminal};
use rustix::process::Signal;
use serde_json::Value;
use service_runtime::grouped;

const ORDERS: u64 = 400;
/// Rows and columns of the terminals.
const SIZE: (u16, u16) = (24, 80);

/// Opens a scenario with one failing order in five.
async fn with_failures(name: &str) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?;
    Ok(scenario
        .with("ERROR_SIMULATION_RATE", "0.2")
        .with("MAX_RETRIES", "1")
        .with("RETRY_BACKOFF_SECONDS", "0.01"))
}

fn top(scenario: &Scenario) -> Result<Terminal> {
    scenario.console("top")?.args(["top", "--by", "kim"]).start_in_terminal(SIZE)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_shows_the_statistics_in_every_size() -> Result<()> {
    let scenario = with_failures("top-numbers").await?;
    // Before the first numbers.
    let mut top = top(&scenario)?;
    top.shows("that nothing was read", |text| text.contains("broker   conn")).await?;
    let processor = scenario.processor("processor")?.start()?;
    produce(&scenario).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    ensure!(stats.dead_letters > 0 && stats.retries > 0, "nothing has failed: {stats:?}");

    top.shows("the numbers of stats", |text| tells(text, &stats)).await?;
    for text in ["broker   connected since ", "registry connected since ", "processors running 1/1"]
    {
        top.shows(text, |screen| screen.contains(text)).await?;
    }
    // Enough rows to show failed orders.
    top.resize(100, 160)?;
    top.shows("what became of orders", |text| {
        text.contains("\nprocessed ") && text.contains("\ndead-lettered ")
    })
    .await?;
    for (rows, columns) in [(8, 30), (1, 1), (50, 160), SIZE] {
        top.resize(rows, columns)?;
        let is_whole = |text: &str| rows < 24 || tells(text, &stats);
        top.shows("the numbers again", |text| {
            text.contains("group") == (columns > 1) && is_whole(text)
        })
        .await?;
    }
    processor.drain().await?;
    top.shows("that no member is left", |text| {
        text.contains("no members: no orders are processed")
    })
    .await?;
    quit(top).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_is_named_next_to_the_numbers_of_the_others() -> Result<()> {
    let scenario = Scenario::open_embedded("top-leaders").await?.with("TOPIC_PARTITIONS", "2");
    let processor = scenario.processor("processor")?.start()?;
    produce(&scenario).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;
    scenario.embedded_broker()?.lose_leader(scenario.orders_topic(), 1)?;

    let mut top = top(&scenario)?;
    top.resize(24, 160)?;
    let stats = Stats { lag: None, ..stats };
    let named = format!("{}-1: no leader", scenario.orders_topic());
    top.shows("the partition, and the numbers", |text| {
        text.contains(&named) && tells(text, &stats)
    })
    .await?;
    quit(top).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_pause_and_resume_after_a_confirmation() -> Result<()> {
    let scenario = with_failures("top-control").await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let mut top = top(&scenario)?;
    top.shows("a processor", |text| text.contains("processors running 1/1")).await?;

    // Pasted text is not a key press.
    top.press("\x1b[200~py\x1b[201~").await?;
    top.press("d").await?;
    top.shows("dead letters, after what was pasted", |text| text.contains(" dead letters, "))
        .await?;
    ensure!(desired(&scenario, "processor").await? == "running", "what is pasted pauses");
    top.press("\x1b").await?;
    top.shows("no question", |text| text.contains("PARTITIONS ") && !text.contains("y/n")).await?;

    top.press("p").await?;
    top.shows("a question", |text| text.ends_with("Pause all processors? y/n")).await?;
    top.press("n").await?;
    top.shows("that nothing was done", |text| text.contains("nothing was changed")).await?;
    ensure!(desired(&scenario, "processor").await? == "running", "n pauses");

    top.press("py").await?;
    top.shows("who has paused it", |text| text.contains("processors paused 1/1 by kim@")).await?;
    ensure!(desired(&scenario, "processor").await? == "paused", "y does not pause");
    ensure!(desired(&scenario, "generator").await? == "running", "y pauses too many");
    top.press("ry").await?;
    top.shows("that it runs", |text| text.contains("processors running 1/1")).await?;
    top.press("Py").await?;
    top.shows("that the generator is to pause", |text| text.contains("generators paused")).await?;
    ensure!(desired(&scenario, "generator").await? == "paused", "y does not pause");
    // A confirmed command holds even if the operator leaves at once.
    top.press("Ryq").await?;
    ensure!(top.wait().await?.success());
    ensure!(desired(&scenario, "generator").await? == "running", "what was said is lost");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_by_cause() -> Result<()> {
    let scenario = with_failures("top-letters").await?;
    let processor = scenario.processor("processor")?.start()?;
    produce(&scenario).await?;
    scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;
    let listed = scenario.console("list")?.args(["dlq", "list", "--json"]).output().await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let causes = listed["causes"].as_array().context("find the causes")?;
    ensure!(causes.len() == 2, "they fail in two ways: {listed}");

    let mut top = top(&scenario)?;
    // The terminal shows keys typed before the program takes it.
    top.shows("a group", |text| text.contains("group ")).await?;
    top.press("d").await?;
    let of = |cause: &Value| Some((cause["type"].as_str()?.to_owned(), cause["letters"].as_u64()?));
    let rows: Vec<_> = causes.iter().filter_map(of).collect();
    top.shows("all causes with their counts", |text| {
        rows.iter().all(|(name, count)| line_with(text, name).contains(&grouped(count).as_str()))
    })
    .await?;
    // The most frequent cause is first.
    let second = format!("the newest of {}", rows[1].0);
    top.press("\x1b[B\r").await?;
    top.shows("the letters of the second", |text| {
        text.contains(&second) && line_with(text, "0:").contains(&"unresolved")
    })
    .await?;
    top.press("\x1b").await?;
    top.shows("the causes again", |text| text.contains(" dead letters, ")).await?;
    top.press("\x1b").await?;
    top.shows("the partitions again", |text| text.contains("PARTITIONS ")).await?;
    quit(top).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_restored_in_every_case() -> Result<()> {
    let scenario = Scenario::open("top-ends").await?;
    let mut top = scenario.console("top")?.args(["top", "--no-color"]).start_in_terminal(SIZE)?;
    ensure!(top.is_in_line_mode()?, "a new terminal is in line mode");
    top.shows("a group", |text| text.contains("group ")).await?;
    ensure!(top.is_taken() == (true, true) && !top.is_in_line_mode()?, "the terminal is not taken");
    ensure!(top.tells_pastes(), "what is pasted looks as if it were typed");
    ensure!(!top.is_coloured(), "there are colours in spite of --no-color");
    top.signal(Signal::TERM)?;
    ensure!(top.wait().await?.success());
    ensure!(given_back(top).await?.is_empty(), "something is left on the screen");

    let mut top = scenario.odd_top("odd-top")?.start_in_terminal(SIZE)?;
    top.shows("a group", |text| text.contains("group ")).await?;
    ensure!(top.is_coloured(), "there are no colours");
    top.signal(Signal::USR1)?;
    ensure!(top.wait().await?.code() == Some(1));
    let left = given_back(top).await?;
    ensure!(left.contains("this task panics") && left.contains("a task has panicked"), "{left}");
    ensure!(!left.contains("group "), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_wait_until_the_terminal_is_restored() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("top-log").await?;
    let chatty = scenario.console("top")?.env("RUST_LOG", "debug").env("LOG_FORMAT", "text");
    let mut top = chatty.args(["top"]).start_in_terminal(SIZE)?;
    top.shows("a broker", |text| text.contains("\nbroker   connected since ")).await?;
    scenario.proxy()?.close();
    let shown = top
        .shows("that it is away, and a line of the log", |text| {
            text.contains("\nbroker   unreachable since ") && text.contains("DEBUG")
        })
        .await?;
    let lines: Vec<&str> = shown.lines().collect();
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    ensure!(first.starts_with("group ") && last.starts_with("q quit"), "it is destroyed:\n{shown}");
    ensure!(shown.matches("DEBUG").count() == 1, "it is destroyed:\n{shown}");
    top.press("q").await?;
    ensure!(top.wait().await?.success());
    let left = given_back(top).await?;
    ensure!(left.contains("DEBUG") && !left.contains("group "), "{left}");
    Ok(())
}

#[tokio::test]
async fn without_a_terminal_the_command_names_an_alternative() -> Result<()> {
    let scenario = Scenario::open("top-piped").await?;
    let mut top = scenario.console("top")?.args(["top"]).start()?;
    top.expect_exit(64).await?;
    top.line("`order-console stats --watch`").await?;
    Ok(())
}

async fn produce(scenario: &Scenario) -> Result<()> {
    let generator = scenario.generator("generator")?.env("ORDER_RATE", "0");
    let count = ORDERS.to_string();
    generator.env("ORDER_COUNT", &count).start()?.expect_exit(0).await
}

/// Quits, and checks that the terminal is restored.
async fn quit(mut top: Terminal) -> Result<()> {
    top.press("q").await?;
    ensure!(top.wait().await?.success());
    let left = given_back(top).await?;
    ensure!(left.is_empty(), "something is left on the screen:\n{left}");
    Ok(())
}

/// Checks that the terminal is restored, and returns the text on the screen.
async fn given_back(top: Terminal) -> Result<String> {
    ensure!(top.is_in_line_mode()?, "keys are still handed on one by one");
    let picture = top.left().await?;
    Ok(picture)
}

/// Returns the desired state of a role from the command line.
async fn desired(scenario: &Scenario, role: &str) -> Result<String> {
    let output = scenario.console("control")?.args(["control", "--json"]).output().await?;
    let output: Value = serde_json::from_str(&output)?;
    let desired = output[role]["desired"].as_str();
    desired.map(str::to_owned).with_context(|| format!("find {role} in {output}"))
}

/// Returns whether all numbers on the screen equal those of `stats`.
fn tells(text: &str, stats: &Stats) -> bool {
    let money = |number: Option<f64>| format!("{:.2}", number.unwrap_or_default());
    let (whole, fraction) = stats.sum.split_once('.').unwrap_or((&stats.sum, "0"));
    let counts = [
        ("produced", grouped(ORDERS)),
        ("consumed", grouped(stats.accounted())),
        ("lag", stats.lag.map_or_else(|| "—".to_owned(), grouped)),
        ("waiting", "0".to_owned()),
        ("processed", grouped(stats.orders)),
        ("dead letters", grouped(stats.dead_letters)),
        ("average", money(stats.average)),
        ("last 100", money(stats.recent_average)),
        ("revenue", format!("{}.{fraction}", grouped(whole))),
        ("lowest", money(stats.min)),
        ("highest", money(stats.max)),
        ("retries", grouped(stats.retries)),
        ("replayed", grouped(stats.replayed)),
    ];
    let shown = numbers(text);
    counts.iter().all(|(label, number)| shown.get(*label) == Some(number))
}

/// Returns the numbers on the screen by their labels, which stand in two columns.
fn numbers(text: &str) -> BTreeMap<String, String> {
    const COLUMNS: [[usize; 3]; 2] = [[0, 12, 25], [37, 46, 62]];
    let mut numbers = BTreeMap::new();
    for line in text.lines() {
        let characters: Vec<char> = line.chars().collect();
        let part = |from: usize, to: usize| {
            let part = characters.get(from..to.min(characters.len())).unwrap_or_default();
            part.iter().collect::<String>().trim().to_owned()
        };
        for [label, number, end] in COLUMNS {
            numbers.entry(part(label, number)).or_insert_with(|| part(number, end));
        }
    }
    numbers
}

/// Returns the words of the first line that begins with a word.
fn line_with<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(word));
    line.unwrap_or_default().split_whitespace().collect()
}
