//! Ends the program when it is interrupted (Ctrl-C, SIGINT, SIGTERM), without leaving a temporary file behind.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use wgpu_batchnorm::internals::abandon_writes;

/// How often the thread looks whether a signal came. Windows has no way to wait for one.
const PERIOD: Duration = Duration::from_millis(20);

/// Watches for signals from now on. Where that fails, they end the program as they do without a handler.
pub(crate) fn watch() {
    let caught = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&caught);
    let watcher = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            match seen.load(Ordering::SeqCst) {
                0 => thread::sleep(PERIOD),
                signal => end(signal),
            }
        }
    });
    if watcher.is_ok() {
        for signal in [SIGINT, SIGTERM] {
            let _ = flag::register_usize(signal, Arc::clone(&caught), signal.unsigned_abs() as usize);
        }
    }
}

/// Ends the program with the exit code that shells give to a signal. Runs no destructors: the GPU's driver may be at
/// work.
fn end(signal: usize) -> ! {
    abandon_writes();
    low_level::exit(i32::try_from(128 + signal).unwrap_or(i32::MAX))
}
