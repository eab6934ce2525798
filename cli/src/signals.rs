//! Ends the program when it is interrupted (Ctrl-C, SIGINT, SIGTERM), without leaving a temporary file behind.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;
use std::ffi::c_int;
use std::{io, thread};
use wgpu_batchnorm::internals::abandon_writes;

/// Watches for signals from now on. Where that fails, they end the program as they do without a handler.
pub(crate) fn watch() {
    // The thread itself begins to catch signals: one that nobody waits for would be lost.
    let _ = thread::Builder::new().name("signals".to_owned()).spawn(|| {
        if let Ok(Some(signal)) = first_signal() {
            abandon_writes();
            // Runs no destructors: the GPU's driver may be at work. The exit code is the one that shells give to a
            // signal.
            low_level::exit(128 + signal);
        }
    });
}

/// Waits for a signal.
#[cfg(unix)]
fn first_signal() -> io::Result<Option<c_int>> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    Ok(signals.forever().next())
}

/// Looks for a signal again and again: Windows has no way to wait for one.
#[cfg(not(unix))]
fn first_signal() -> io::Result<Option<c_int>> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let caught = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_usize(signal, Arc::clone(&caught), signal.unsigned_abs() as usize)?;
    }
    loop {
        match caught.load(Ordering::SeqCst) {
            0 => thread::sleep(std::time::Duration::from_millis(20)),
            signal => return Ok(c_int::try_from(signal).ok()),
        }
    }
}
