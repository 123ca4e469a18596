//! The terminal: taken over, drawn on, and always given back.

use std::io::{self, BufWriter, IsTerminal as _, Stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use crossterm::cursor::{Hide, Show};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw::{Scene, draw};

/// Bytes that are written at once: a whole screen of most terminals.
const WRITTEN_BYTES: usize = 32 * 1024;

/// Whether the terminal is taken over. There is one, as there is one standard output.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is taken over. It is given back when this is dropped, and before a panic is reported.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

/// Returns whether there is a terminal to read from and to draw on.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Screen {
    pub(super) fn take() -> anyhow::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                report(panic);
            }));
        });
        let writer = BufWriter::with_capacity(WRITTEN_BYTES, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(writer)).context("see the terminal")?;
        // From here on it is given back whatever happens, also if only half of it succeeds.
        IS_TAKEN.store(true, Ordering::SeqCst);
        let screen = Self { terminal };
        enable_raw_mode().context("read keys from the terminal")?;
        // A pasted text then comes as one event, and not as pressed keys.
        execute!(io::stdout(), EnterAlternateScreen, Hide, EnableBracketedPaste)
            .context("clear the terminal")?;
        Ok(screen)
    }

    pub(super) fn show(&mut self, scene: Scene<'_>) -> anyhow::Result<()> {
        ensure!(IS_TAKEN.load(Ordering::SeqCst), "a task has panicked");
        let drawn = self.terminal.draw(|frame| draw(scene, frame.buffer_mut()));
        drawn.map(|_frame| ()).context("draw")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // Nothing can be done about a terminal that is gone.
        disable_raw_mode().unwrap_or_default();
        execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show)
            .unwrap_or_default();
    }
}
