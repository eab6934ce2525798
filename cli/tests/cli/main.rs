//! The program as its users see it: arguments, files, what it prints, exit codes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bench;
#[cfg(target_os = "linux")]
mod faults;
mod golden;
mod info;
mod run;
mod run_files;
mod run_numbers;
mod run_refused;
mod support;
mod verify;
