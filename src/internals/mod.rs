//! Items beside the public API, for this crate's own tests, benchmarks and command line. They follow no version.

mod cost;
mod gpus;
mod loads;
mod pairs;
mod passes;
mod variants;

pub use cost::{Cost, cost};
pub use gpus::known_gpus;
pub use pairs::{covering_files, covering_pairs};
pub use passes::{Pass, dispatches, plan};
pub use variants::{every_variant, is_plain};

#[cfg(feature = "verify")]
pub use crate::verify::channel::run_channel;
#[cfg(feature = "verify")]
pub use crate::verify::pieces::{ChannelValues, LongChannel, pieces};

use crate::checkpoint::{Checkpoint, StoredTensor};
use crate::gpu::Gpu;
use crate::kernels::compose;
use crate::profile::AdapterProfile;
use crate::tunings::Tunings;
use std::collections::{BTreeMap, HashMap};
use std::env::{self, VarError};
use std::fs::File;
use std::io::{Result, Write};
use std::path::Path;

/// Returns whether a device converts f32 to the nearest f16: see [`AdapterProfile::rounds_f16`](crate::AdapterProfile).
pub fn rounds_f16(gpu: &Gpu) -> bool {
    pollster::block_on(crate::gpu::rounds_f16(gpu))
}

/// Returns whether `WGPU_BATCHNORM_TESTS=all` asks for the tests that take too long for every day.
///
/// # Panics
/// Panics if the variable has another value.
pub fn tests_are_exhaustive() -> bool {
    match env::var("WGPU_BATCHNORM_TESTS") {
        Err(VarError::NotPresent) => false,
        Ok(value) if value == "all" => true,
        other => panic!("WGPU_BATCHNORM_TESTS is {other:?}: it may be all, or not there"),
    }
}

/// Writes a file completely or not at all: if that fails, an existing file stays as it was. A link stays a link. A
/// pipe or a device is written to, not replaced.
///
/// # Errors
/// Returns the error of the system, or of `contents`.
pub fn write(path: &Path, contents: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    crate::files::write(path, contents)
}

/// Reads the contents of a file of tunings, as [`Tunings::load`] does.
///
/// # Errors
/// As [`Tunings::load`].
pub fn read_tunings(bytes: &[u8], profile: &AdapterProfile) -> crate::error::Result<Tunings> {
    Tunings::read(bytes, profile)
}

/// Removes the temporary files of all writes in progress, for a program that ends before they do. From then on every
/// write waits: the program must end.
pub fn abandon_writes() {
    crate::files::abandon();
}

/// Writes the contents of a safetensors file, as [`Checkpoint::write`](crate::Checkpoint::write) does.
///
/// # Errors
/// Returns the error of the system, or `InvalidInput` if the data of a tensor does not fit its type and shape.
pub fn write_safetensors(
    file: impl Write,
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, StoredTensor>,
) -> Result<()> {
    crate::checkpoint::write_to(file, metadata, tensors)
}

/// Takes a tensor out of a checkpoint, without a copy.
pub fn take_tensor(file: &mut Checkpoint, name: &str) -> Option<StoredTensor> {
    file.take(name)
}

/// Lists up to eight names, then the number of the others.
pub fn shortened(names: &[String]) -> String {
    crate::error::shortened(names)
}

/// Returns a name or a value as a message shows it: cut, with `…` at its end, if it is longer than 60 characters.
pub fn cut(text: &str) -> String {
    crate::text::cut(text)
}

/// Checks early whether a file can be written to.
///
/// # Errors
/// Returns the error of the system.
pub fn check_target(path: &Path) -> Result<()> {
    crate::files::check_target(path)
}

/// Returns every shader file: its path without the extension, and its text.
pub fn shader_files() -> &'static HashMap<String, &'static str> {
    compose::files()
}

/// Returns the text of a shader file before its cases, and each case with its name.
pub fn parts(text: &str) -> (&str, Vec<(&str, &str)>) {
    compose::parts(text)
}

/// Returns the names that lines of this kind (`uses`, `includes`, `needs`) list in a text.
pub fn listed<'a>(text: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    compose::listed(text, kind)
}

/// Returns the text of these shader files after everything that they use, each file with its chosen case.
///
/// # Errors
/// Describes what is wrong with the files or the choices.
pub fn composed(
    files: &[&str],
    choices: &[(&'static str, &'static str)],
) -> std::result::Result<String, String> {
    let sections = compose::compose(files, choices)?;
    Ok(sections.into_iter().map(|(heading, section)| heading + section.text).collect())
}
