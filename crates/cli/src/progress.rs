//! Progress of long work: a bar with rate and time left on the standard error.
//!
//! Invariants: nothing is shown in the first second, and never where the standard error is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(1);

/// Progress in bytes.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    waits: bool,
}

impl Progress {
    /// Work of so many bytes, if that is known.
    pub fn bytes(total: Option<u64>) -> Progress {
        let hidden = ProgressDrawTarget::hidden();
        let (bar, style) = match total {
            Some(total) => (
                ProgressBar::with_draw_target(Some(total), hidden),
                "{bar:20} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left {msg}",
            ),
            None => (
                ProgressBar::with_draw_target(None, hidden),
                "{spinner} {bytes} {bytes_per_sec} {msg}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Progress { bar, started: Instant::now(), waits: io::stderr().is_terminal() }
    }

    /// So many bytes are done.
    pub fn at(&mut self, done: u64) {
        self.show_when_due();
        self.bar.set_position(done);
    }

    /// Shows a few words beside the bar.
    pub fn say(&mut self, message: impl FnOnce() -> String) {
        self.show_when_due();
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
        }
    }

    /// The bar, for what wraps a reader.
    pub fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }

    fn show_when_due(&mut self) {
        if self.waits && self.started.elapsed() >= PATIENCE {
            self.waits = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }
}
