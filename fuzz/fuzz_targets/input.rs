//! What the command line's `run` makes of a file of any bytes.
#![no_main]
#![expect(dead_code, reason = "these modules are the command line's, which uses all of them")]

#[path = "../../cli/src/batch.rs"]
mod batch;
#[path = "../../cli/src/blocks.rs"]
mod blocks;
#[path = "../../cli/src/error.rs"]
mod error;
#[path = "../../cli/src/file.rs"]
mod file;
#[path = "../../cli/src/input.rs"]
mod input;
#[path = "../../cli/src/settings.rs"]
mod settings;

use wgpu_batchnorm::Checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = Checkpoint::from_bytes(bytes) {
        let _ = input::Job::new(file, &settings::Overrides::default());
    }
});
