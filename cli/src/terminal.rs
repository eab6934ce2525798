//! Writes to standard error: notes and progress.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

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
    /// The same, but no sooner than [`SELDOM`] after the beginning and the last line: when these were.
    Seldom(Instant, Cell<Instant>),
}

/// Time between two lines in a log of many short phases.
const SELDOM: Duration = Duration::from_secs(10);

impl Progress {
    /// Shows progress on a terminal, and writes a line every ten seconds to anything else, such as a log.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self(if io::stderr().is_terminal() { Kind::Line } else { Kind::Seldom(now, Cell::new(now)) })
    }

    /// Shows progress on a terminal, and writes a line for each phase to anything else, such as a log.
    pub(crate) fn logged() -> Self {
        Self(if io::stderr().is_terminal() { Kind::Line } else { Kind::Log(Instant::now()) })
    }

    pub(crate) fn show(&self, text: &str) {
        match &self.0 {
            Kind::Line => {
                // Longer lines would wrap and not be cleared.
                let text: String = text.chars().take(78).collect();
                let _ = write!(io::stderr(), "\r\x1b[K{text}");
            }
            Kind::Log(start) => note(&format!("{:6.1} s  {text}", start.elapsed().as_secs_f64())),
            Kind::Seldom(start, last) => {
                if last.get().elapsed() >= SELDOM {
                    last.set(Instant::now());
                    note(&format!("{:6.1} s  {text}", start.elapsed().as_secs_f64()));
                }
            }
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
