//! Writes to standard error: notes, and progress on a terminal.

use std::io::{self, IsTerminal, Write};

/// Writes a line to standard error. Ignores failure, since nobody could be told.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line that the next one overwrites, and that is cleared at the end. Shown only if standard error is a terminal.
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    pub(crate) fn show(&self, text: &str) {
        if self.shown {
            // Longer lines would wrap and not be cleared.
            let text: String = text.chars().take(78).collect();
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }

    pub(crate) fn clear(&self) {
        self.show("");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
