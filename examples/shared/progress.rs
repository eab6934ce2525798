//! Progress on stderr: a line that is rewritten on a terminal, ten plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};

/// Progress of a piece of work.
pub(crate) struct Progress {
    name: String,
    total: usize,
    tenths: usize,
    terminal: bool,
}

impl Progress {
    /// Starts work in `total` steps.
    pub(crate) fn new(name: impl Into<String>, total: usize) -> Self {
        Self { name: name.into(), total, tenths: 0, terminal: stderr().is_terminal() }
    }

    /// Shows that `done` steps are done, and the news. Steps count from 1.
    pub(crate) fn show(&mut self, done: usize, news: &str) {
        let Self { name, total, .. } = self;
        let tenths = 10 * done / (*total).max(1);
        // A closed stderr is no reason to stop.
        let _ = if self.terminal {
            let end = if done == *total { "\n" } else { "" };
            write!(stderr(), "\r{name}: step {done} of {total}, {news}\x1b[K{end}")
        } else if tenths > self.tenths {
            writeln!(stderr(), "{name}: step {done} of {total}, {news}")
        } else {
            Ok(())
        };
        self.tenths = tenths;
    }
}
