//! The command line of `order-console dlq`.

use clap::Subcommand;

use crate::dlq::dismiss;
use crate::dlq::filter::Filter;
use crate::dlq::letter::Place;
use crate::dlq::letter_state::LetterState;
use crate::operator::Operator;
use crate::replay;

/// Works on the dead letters of the group.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqCommand {
    /// Lists the dead letters by cause, with counts and times.
    List {
        /// The letters.
        #[command(flatten)]
        filter: Filter,
        /// Only letters in this state.
        #[arg(long, value_enum)]
        state: Option<LetterState>,
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
        filter: Filter,
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
    Replay {
        /// The replay.
        #[command(flatten)]
        request: Box<replay::Request>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Dismisses dead letters that need no more work.
    Dismiss(dismiss::Request),
    /// Releases partitions that the dead-letter limit has paused.
    Release(Operator),
    /// Prints dead letters as JSON lines, without loss.
    Export {
        /// Places in the dead-letter topic: PARTITION:OFFSET.
        places: Vec<Place>,
        /// The letters.
        #[command(flatten)]
        filter: Filter,
        /// Only letters in this state.
        #[arg(long, value_enum)]
        state: Option<LetterState>,
        /// At most so many.
        #[arg(long)]
        limit: Option<u64>,
    },
}

impl DlqCommand {
    /// Checks that a command which changes letters names some.
    ///
    /// # Errors
    /// With what the operator has to add.
    pub fn check(&self) -> Result<(), &'static str> {
        let selection = match self {
            Self::Replay { request, .. } => &request.selection,
            Self::Dismiss(request) => &request.selection,
            Self::List { .. }
            | Self::Show { .. }
            | Self::Watch { .. }
            | Self::Release(_)
            | Self::Export { .. } => return Ok(()),
        };
        if selection.is_missing() {
            return Err(
                "say which dead letters: places (0:17), a filter (--type, --key, --since, …), or --all",
            );
        }
        Ok(())
    }
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
}
