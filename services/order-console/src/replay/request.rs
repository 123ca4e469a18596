//! What an operator asks a replay for.

use std::time::Duration;

use clap::Args;

use crate::dlq::filter::Selection;
use crate::operator::Operator;

/// How many replays of a letter may fail, unless the operator says another number.
pub(crate) const REPLAYS_MAX: u32 = 3;

/// A replay, as an operator asks for it.
#[derive(Clone, Debug, Args)]
pub struct Request {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Print what would be sent where, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// At most so many a second (20, 20/s) or a minute (30/m).
    #[arg(long = "rate", value_name = "RATE", value_parser = parse_rate)]
    pub(crate) interval: Option<Duration>,
    /// Skip letters that failed after so many replays.
    #[arg(long = "limit-replays", default_value_t = REPLAYS_MAX, value_name = "N")]
    pub(crate) replays_max: u32,
    /// Leave out headers of this name; may be repeated.
    #[arg(long = "drop-header", value_name = "NAME")]
    pub(crate) dropped: Vec<String>,
    /// Send to the orders' own topic, where every group that reads it sees the orders again.
    #[arg(long)]
    pub(crate) to_source: bool,
    /// End another replay that seems to run, without waiting for a heartbeat of it.
    #[arg(long)]
    pub(crate) break_lock: bool,
    #[command(flatten)]
    pub(crate) operator: Operator,
}

/// Reads the time between two letters from a rate.
fn parse_rate(text: &str) -> Result<Duration, String> {
    let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
    let unit = match unit {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        _ => return Err("a rate is so many a second (20, 20/s) or a minute (30/m)".to_owned()),
    };
    match count.parse::<u32>() {
        Ok(count) if count > 0 => Ok(unit / count),
        Ok(_) | Err(_) => Err("a rate is a whole number from 1 up".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_interval() {
        for (text, milliseconds) in [("20", 50), ("20/s", 50), ("30/m", 2_000), ("1", 1_000)] {
            assert_eq!(parse_rate(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }
}
