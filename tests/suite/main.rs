//! All integration tests in one binary.
#![expect(clippy::unwrap_used, reason = "a test that meets an unexpected error fails")]

mod golden;
mod mutants;
mod recorded;
mod shaders;
mod support;
mod table;
