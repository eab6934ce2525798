//! What this crate's own tests, benchmarks and command line use beside the public API. It follows no version.

mod pairs;
mod passes;
mod variants;

pub use pairs::covering_pairs;
pub use passes::{Pass, dispatches, plan};
pub use variants::{every_variant, is_plain};

use crate::kernels::compose;
use std::collections::HashMap;
use std::env::{self, VarError};
use std::fs::File;
use std::io::Result;
use std::path::Path;

/// Whether `WGPU_BATCHNORM_TESTS=all` asks tests for all that takes too long for every day.
///
/// # Panics
/// If the variable has another value.
pub fn tests_are_exhaustive() -> bool {
    match env::var("WGPU_BATCHNORM_TESTS") {
        Err(VarError::NotPresent) => false,
        Ok(value) if value == "all" => true,
        other => panic!("WGPU_BATCHNORM_TESTS is {other:?}: it may be all, or not there"),
    }
}

/// Writes a file: all of it, or nothing, in which case a file that was there before stays as it was. A link stays a
/// link, and a pipe or a device is written to, not replaced.
///
/// # Errors
/// What the system reports, or `contents`.
pub fn write(path: &Path, contents: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    crate::files::write(path, contents)
}

/// Finds out early whether a file can be written to.
///
/// # Errors
/// What the system reports.
pub fn check_target(path: &Path) -> Result<()> {
    crate::files::check_target(path)
}

/// Every shader file: its path without the ending, and its text.
pub fn shader_files() -> &'static HashMap<String, &'static str> {
    compose::files()
}

/// The text of a shader file before its cases, and each case with its name.
pub fn parts(text: &str) -> (&str, Vec<(&str, &str)>) {
    compose::parts(text)
}

/// What the lines of this kind (`uses`, `includes`, `needs`) list in a text.
pub fn listed<'a>(text: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    compose::listed(text, kind)
}

/// The text of these shader files behind all that they use, with the case that was chosen of each.
///
/// # Errors
/// What is wrong with the files or the choices, in words.
pub fn composed(
    files: &[&str],
    choices: &[(&'static str, &'static str)],
) -> std::result::Result<String, String> {
    let sections = compose::compose(files, choices)?;
    Ok(sections.into_iter().map(|(heading, section)| heading + section.text).collect())
}
