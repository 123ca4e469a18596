//! The command line of `order-console dlq`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::dismiss;
use super::filter::{Filter, Key, Moment};
use super::letter::Place;
use super::standing::State;
use super::watch;
use crate::replay::{self, Destination, Mode, Others};

/// Works on the dead letters of the group.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqCommand {
    /// Lists the dead letters by cause, with counts and times.
    List {
        /// Which letters.
        #[command(flatten)]
        filter: FilterArguments,
        /// Only letters in this state.
        #[arg(long, value_enum)]
        state: Option<StateArgument>,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Shows everything about one dead letter: headers, key, and the value as an order or in hexadecimal.
    Show {
        /// Its place in the dead-letter topic: PARTITION:OFFSET. Or name the record that failed by its topic, partition and
        /// offset.
        #[arg(required_unless_present_any = ["topic", "partition", "offset"])]
        place: Option<Place>,
        /// The topic in which the record failed.
        #[arg(long)]
        topic: Option<String>,
        /// The partition in which the record failed.
        #[arg(long)]
        partition: Option<i32>,
        /// The offset at which the record failed.
        #[arg(long)]
        offset: Option<i64>,
        /// A JSON object a letter instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Prints new dead letters as they come, decoded, one line each, until stopped.
    Watch {
        /// Which letters.
        #[command(flatten)]
        filter: FilterArguments,
        /// Begin with those that are there.
        #[arg(long)]
        from_beginning: bool,
        /// End after so many.
        #[arg(long)]
        limit: Option<u64>,
        /// One JSON object a line, as export prints them.
        #[arg(long)]
        json: bool,
    },
    /// Sends dead letters again, to the group's own replay topic, each once.
    Replay(Box<ReplayArguments>),
    /// Puts dead letters aside that nobody has to work on any more.
    Dismiss {
        /// Which letters.
        #[command(flatten)]
        chosen: ChosenArguments,
        /// Why; everybody who lists or shows them will read it.
        #[arg(long, required_unless_present = "undo", conflicts_with = "undo")]
        reason: Option<String>,
        /// Take up again what was put aside.
        #[arg(long)]
        undo: bool,
        /// Who does it.
        #[command(flatten)]
        operator: OperatorArguments,
    },
    /// Lets partitions go on that paused because too many orders failed in a row.
    Release {
        /// Who does it.
        #[command(flatten)]
        operator: OperatorArguments,
    },
    /// Prints dead letters as JSON lines, without loss.
    Export {
        /// Places in the dead-letter topic: PARTITION:OFFSET.
        places: Vec<Place>,
        /// Which letters.
        #[command(flatten)]
        filter: FilterArguments,
        /// Only letters in this state.
        #[arg(long, value_enum)]
        state: Option<StateArgument>,
        /// At most so many.
        #[arg(long)]
        limit: Option<u64>,
    },
}

/// Which letters.
#[derive(Clone, Debug, Default, Args)]
pub struct FilterArguments {
    /// Only failures of this type; may be repeated. Classes may be named without their package.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only records with this key: a text, or 0x and hexadecimal digits.
    #[arg(long)]
    key: Option<Key>,
    /// Only failures at this time or later: RFC 3339, or how long ago (90s, 30m, 2h, 7d).
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only failures before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only records that failed in this partition.
    #[arg(long)]
    partition: Option<i32>,
    /// Only records that failed in this topic.
    #[arg(long)]
    topic: Option<String>,
}

/// Which letters something is done about.
#[derive(Clone, Debug, Default, Args)]
pub struct ChosenArguments {
    /// Places in the dead-letter topic: PARTITION:OFFSET.
    places: Vec<Place>,
    #[command(flatten)]
    filter: FilterArguments,
    /// All letters: needed where neither a place nor a filter is given.
    #[arg(long)]
    all: bool,
    /// At most so many, in the order of the dead-letter topic.
    #[arg(long)]
    limit: Option<u64>,
}

/// Who does it.
#[derive(Clone, Debug, Args)]
pub struct OperatorArguments {
    /// Your name, for those who read what was done.
    #[arg(long, env = "USER", default_value = "unknown", hide_env = true)]
    by: String,
}

/// What `dlq replay` is told.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct ReplayArguments {
    #[command(flatten)]
    chosen: ChosenArguments,
    /// Say what would be sent where, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second (20, 20/s) or a minute (30/m).
    #[arg(long, value_parser = parse_rate)]
    rate: Option<Duration>,
    /// Leave letters alone that failed after so many replays.
    #[arg(long, default_value_t = 3, value_name = "N")]
    limit_replays: u32,
    /// Leave out headers of this name; may be repeated.
    #[arg(long = "drop-header", value_name = "NAME")]
    dropped: Vec<String>,
    /// Send to the orders' own topic, where every group that reads it sees the orders again.
    #[arg(long)]
    to_source: bool,
    /// End a replay that seems to run, instead of watching whether it does.
    #[arg(long)]
    break_lock: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    operator: OperatorArguments,
}

/// What has become of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StateArgument {
    /// Nothing yet.
    Unresolved,
    /// It was sent again.
    Replayed,
    /// It was put aside.
    Dismissed,
}

impl DlqCommand {
    /// Checks what cannot be said in the arguments themselves.
    ///
    /// # Errors
    /// With what the operator has to add.
    pub fn check(&self) -> Result<(), &'static str> {
        let chosen = match self {
            Self::Replay(arguments) => &arguments.chosen,
            Self::Dismiss { chosen, .. } => chosen,
            Self::List { .. }
            | Self::Show { .. }
            | Self::Watch { .. }
            | Self::Release { .. }
            | Self::Export { .. } => return Ok(()),
        };
        if !chosen.all && chosen.filter(0).takes_everything() {
            return Err(
                "say which dead letters: places (0:17), a filter (--type, --key, --since, …), or --all",
            );
        }
        Ok(())
    }
}

impl FilterArguments {
    /// Returns the filter, with relative times counted back from `now_ms`.
    pub(crate) fn filter(&self, now_ms: i64) -> Filter {
        Filter {
            types: self.types.clone(),
            key: self.key.clone(),
            since_ms: self.since.map(|moment| moment.ms(now_ms)),
            until_ms: self.until.map(|moment| moment.ms(now_ms)),
            partition: self.partition,
            topic: self.topic.clone(),
            ..Filter::default()
        }
    }
}

impl ChosenArguments {
    fn filter(&self, now_ms: i64) -> Filter {
        Filter { places: self.places.iter().copied().collect(), ..self.filter.filter(now_ms) }
    }

    /// Returns what is to be dismissed; without a reason, what is to be taken up again.
    pub(crate) fn dismissal(
        &self,
        reason: Option<String>,
        operator: &OperatorArguments,
        now_ms: i64,
    ) -> dismiss::Request {
        dismiss::Request {
            filter: self.filter(now_ms),
            limit: self.limit.unwrap_or(u64::MAX),
            reason,
            by: operator.name(),
        }
    }
}

impl OperatorArguments {
    /// Returns who and where.
    pub fn name(&self) -> String {
        format!("{}@{}", self.by, service_runtime::host_name())
    }
}

impl ReplayArguments {
    pub(crate) fn request(&self, now_ms: i64) -> replay::Request {
        replay::Request {
            filter: self.chosen.filter(now_ms),
            limit: self.chosen.limit.unwrap_or(u64::MAX),
            replays_max: self.limit_replays,
            destination: if self.to_source {
                Destination::Source
            } else {
                Destination::ReplayTopic
            },
            dropped: self.dropped.clone(),
            interval: self.rate,
            mode: if self.dry_run { Mode::DryRun } else { Mode::Send },
            others: if self.break_lock { Others::Break } else { Others::Respect },
            by: self.operator.name(),
            is_json: self.json,
        }
    }
}

impl From<StateArgument> for State {
    fn from(state: StateArgument) -> Self {
        match state {
            StateArgument::Unresolved => Self::Unresolved,
            StateArgument::Replayed => Self::Replayed,
            StateArgument::Dismissed => Self::Dismissed,
        }
    }
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

/// Returns where watching begins.
pub(crate) fn watch_from(from_beginning: bool) -> watch::From {
    if from_beginning { watch::From::Beginning } else { watch::From::End }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(subcommand)]
        command: DlqCommand,
    }

    fn parse(line: &str) -> Result<DlqCommand, String> {
        let words = std::iter::once("dlq").chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        arguments.command.check()?;
        Ok(arguments.command)
    }

    #[test]
    fn what_is_done_to_letters_needs_to_be_told_which() {
        for line in ["replay", "replay --dry-run --rate 5", "dismiss --reason x", "dismiss --undo"]
        {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with("say which dead letters"), "{line}: {error}");
        }
        for line in [
            "replay --all",
            "replay 0:17 1:3",
            "replay --type simulated --since 2h",
            "dismiss --all --reason x",
            "dismiss --all --undo",
            "dismiss --key k --reason x",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "show",
            "show here",
            "replay --all --rate 0",
            "replay --all --rate 5/h",
            "replay --all --since yesterday",
            "dismiss --all",
            "dismiss --all --undo --reason x",
            "list --state gone",
            "resend",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_rate_is_a_distance_in_time() {
        for (text, milliseconds) in [("20", 50), ("20/s", 50), ("30/m", 2_000), ("1", 1_000)] {
            assert_eq!(parse_rate(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }
}
