//! The command line of `order-console dlq`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::operator::OperatorArguments;
use crate::dlq::dismiss;
use crate::dlq::filter::{Filter, Key, Moment};
use crate::dlq::follow::From;
use crate::dlq::letter::Place;
use crate::dlq::letter_state::LetterState;
use crate::replay::{self, Destination, Mode, Others};

/// Works on the dead letters of the group.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqCommand {
    /// Lists the dead letters by cause, with counts and times.
    List {
        /// The letters.
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
    /// Prints new dead letters as they arrive, decoded, one line each, until interrupted.
    Watch {
        /// The letters.
        #[command(flatten)]
        filter: FilterArguments,
        /// Begin with the oldest.
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
    /// Dismisses dead letters that need no more work.
    Dismiss {
        /// The letters.
        #[command(flatten)]
        chosen: ChosenArguments,
        /// Why; operators who show the letters read it.
        #[arg(long, required_unless_present = "undo", conflicts_with = "undo")]
        reason: Option<String>,
        /// Reopen letters that were dismissed.
        #[arg(long)]
        undo: bool,
        /// The operator.
        #[command(flatten)]
        operator: OperatorArguments,
    },
    /// Releases partitions that the dead-letter limit has paused.
    Release {
        /// The operator.
        #[command(flatten)]
        operator: OperatorArguments,
    },
    /// Prints dead letters as JSON lines, without loss.
    Export {
        /// Places in the dead-letter topic: PARTITION:OFFSET.
        places: Vec<Place>,
        /// The letters.
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

/// A selection of letters.
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

/// The letters that a command changes.
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

/// Options of `dlq replay`.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct ReplayArguments {
    #[command(flatten)]
    chosen: ChosenArguments,
    /// Print what would be sent where, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second (20, 20/s) or a minute (30/m).
    #[arg(long, value_parser = parse_rate)]
    rate: Option<Duration>,
    /// Skip letters that failed after so many replays.
    #[arg(long, default_value_t = 3, value_name = "N")]
    limit_replays: u32,
    /// Leave out headers of this name; may be repeated.
    #[arg(long = "drop-header", value_name = "NAME")]
    dropped: Vec<String>,
    /// Send to the orders' own topic, where every group that reads it sees the orders again.
    #[arg(long)]
    to_source: bool,
    /// End another replay that seems to run, without waiting for a heartbeat of it.
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
    /// An operator dismissed it.
    Dismissed,
}

impl DlqCommand {
    /// Checks that a command which changes letters names some.
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
    pub(super) fn filter(&self, now_ms: i64) -> Filter {
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

    /// Returns the letters to dismiss; without a reason, those to reopen.
    pub(super) fn dismissal(
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

impl ReplayArguments {
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn request(&self, now_ms: i64) -> replay::Request {
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
        }
    }
}

impl std::convert::From<StateArgument> for LetterState {
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

pub(super) fn watch_from(from_beginning: bool) -> From {
    if from_beginning { From::Beginning } else { From::End }
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
    fn a_command_that_changes_letters_needs_a_selection() {
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
    fn invalid_or_ambiguous_arguments_are_refused() {
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
    fn a_rate_is_an_interval() {
        for (text, milliseconds) in [("20", 50), ("20/s", 50), ("30/m", 2_000), ("1", 1_000)] {
            assert_eq!(parse_rate(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }
}
