//! Styles: in the terminal's own sixteen colours, or without any.

use ratatui::style::{Color, Modifier, Style};

use crate::view::body::{ConnectionState, MemberState, Status};

/// Values, and the first row.
pub(super) const VALUE: Style = Style::new().add_modifier(Modifier::BOLD);
/// Labels and other text beside values.
pub(super) const LABEL: Style = Style::new().add_modifier(Modifier::DIM);
/// The row of a table that keys act on, and questions.
pub(super) const MARKED: Style = Style::new().add_modifier(Modifier::REVERSED);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Colours,
    Plain,
}

impl Look {
    fn style(self, colour: Color, plain: Modifier) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new().add_modifier(plain),
        }
    }

    pub(super) fn heading(self) -> Style {
        self.style(Color::Cyan, Modifier::UNDERLINED).add_modifier(Modifier::UNDERLINED)
    }

    pub(super) fn good(self) -> Style {
        self.style(Color::Green, Modifier::empty())
    }

    pub(super) fn odd(self) -> Style {
        self.style(Color::Yellow, Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.style(Color::Red, Modifier::BOLD).add_modifier(Modifier::BOLD)
    }

    /// The line of the average of all, and that of the latest.
    pub(super) fn lines(self) -> (Style, Style) {
        (self.style(Color::Cyan, Modifier::empty()), self.style(Color::Yellow, Modifier::empty()))
    }

    pub(super) fn status(self, status: Status) -> Style {
        match status {
            Status::Waiting => LABEL,
            Status::Retrying => self.odd(),
            Status::Processed => self.good(),
            Status::DeadLettered => self.bad(),
            Status::Replayed => self.style(Color::Cyan, Modifier::empty()),
        }
    }

    pub(super) fn connection(self, state: ConnectionState) -> Style {
        match state {
            ConnectionState::Connected => self.good(),
            ConnectionState::Failing | ConnectionState::Unreachable => self.bad(),
            ConnectionState::Unknown => LABEL,
        }
    }

    pub(super) fn member(self, state: MemberState) -> Style {
        match state {
            MemberState::Running => self.good(),
            MemberState::Paused => self.odd(),
            MemberState::Unknown => LABEL,
        }
    }
}
