//! The progress display of long commands.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress display on standard error.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Starts a new count, from zero, with the label `what`.
    pub(crate) fn begin(&self, what: &'static str) {
        self.0.set_position(0);
        self.0.set_message(what);
    }

    pub(crate) fn advance(&self, by: usize) {
        self.0.inc(by as u64);
    }

    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
