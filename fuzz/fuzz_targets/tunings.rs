//! Tunings of any bytes, and plans by them.
#![no_main]

#[path = "../../tests/suite/untrusted/targets.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests share it; what fails unexpectedly is a find")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::tunings(bytes);
});
