//! `wgpu-batchnorm`: batch normalization on the GPU from the command line.

mod adapter;
mod batch;
mod bench;
mod blocks;
mod error;
mod file;
mod histogram;
mod info;
mod input;
mod long;
mod report;
mod results;
mod run;
mod settings;
mod signals;
mod statistics;
mod terminal;
mod verify;

use adapter::Common;
use clap::{Parser, Subcommand};
use error::Error;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

/// Batch normalization on the GPU with wgpu: PyTorch's semantics, accurate at any mean
#[derive(Parser)]
#[command(name = "wgpu-batchnorm", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

const EXIT_CODES: &str =
    "Exit codes: 0 right, 1 a check failed, 2 bad input or usage, or no adapter, 130 or 143 interrupted";

#[derive(Subcommand)]
enum Command {
    #[command(after_help = EXIT_CODES)]
    Info(info::Args),
    #[command(after_help = run::FILES)]
    Run(run::Args),
    #[command(after_help = EXIT_CODES)]
    Verify(verify::Args),
    #[command(after_help = EXIT_CODES)]
    Bench(bench::Args),
}

/// The outcome of a command that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything is right.
    Right,
    /// A result is too far from the CPU reference, or a case failed.
    CheckFailed,
}

impl Outcome {
    fn new(passed: bool) -> Self {
        if passed { Self::Right } else { Self::CheckFailed }
    }

    fn code(self) -> u8 {
        match self {
            Self::Right => 0,
            Self::CheckFailed => 1,
        }
    }
}

/// Exit code of bad input, of bad usage (clap's own code for it), and of a missing adapter.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let Cli { command, common } = Cli::parse();
    signals::watch();
    let mut out = io::stdout();
    let result = match &command {
        Command::Info(args) => info::info(args, &common, &mut out),
        Command::Run(args) => run::run(args, &common, &mut out),
        Command::Verify(args) => verify::verify(args, &common, &mut out),
        Command::Bench(args) => bench::bench(args, &common, &mut out),
    };
    ExitCode::from(match result {
        Ok(outcome) => outcome.code(),
        Err(error) => {
            // The reader of a pipe may stop early.
            if !matches!(&error, Error::Stdout(source) if source.kind() == ErrorKind::BrokenPipe) {
                terminal::note(&format!("error: {}{}", error.line(), all_the_same(&error)));
            }
            BAD_INPUT
        }
    })
}

/// Names the files that were written although standard output could not be.
fn all_the_same(error: &Error) -> String {
    let written = if matches!(error, Error::Stdout(_)) { file::written() } else { Vec::new() };
    written.iter().map(|path| format!("; {} is written", path.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::{Cli, Outcome};
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes() {
        assert_eq!(Outcome::new(true).code(), 0);
        assert_eq!(Outcome::new(false).code(), 1);
    }
}
