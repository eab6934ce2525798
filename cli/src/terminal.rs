//! Writes to standard error: notes and progress.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Writes a line to standard error. Ignores failure, since nobody could be told.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells on standard error what the program does.
pub(crate) struct Progress(Kind);

enum Kind {
    /// A line that the next one overwrites, and that is cleared at the end.
    Line,
    /// A line for each phase that stays, with the seconds since the beginning.
    Log(Instant),
    Silent,
}

impl Progress {
    /// Shows progress only if standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self(if io::stderr().is_terminal() { Kind::Line } else { Kind::Silent })
    }

    /// Shows progress on a terminal, and writes a line for each phase to anything else, such as a log.
    pub(crate) fn logged() -> Self {
        Self(if io::stderr().is_terminal() { Kind::Line } else { Kind::Log(Instant::now()) })
    }

    pub(crate) fn show(&self, text: &str) {
        match self.0 {
            Kind::Line => {
                // Longer lines would wrap and not be cleared.
                let text: String = text.chars().take(78).collect();
                let _ = write!(io::stderr(), "\r\x1b[K{text}");
            }
            Kind::Log(start) => note(&format!("{:6.1} s  {text}", start.elapsed().as_secs_f64())),
            Kind::Silent => {}
        }
    }

    pub(crate) fn clear(&self) {
        if matches!(self.0, Kind::Line) {
            self.show("");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
