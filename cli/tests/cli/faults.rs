//! What the program makes of a driver's failures. A Vulkan layer makes one call fail: the program ends with an error and
//! writes nothing, or is not disturbed.

use crate::support::{File, Folder, command};
use std::process::Command;
use std::time::{Duration, Instant};
use wgpu_batchnorm::internals::tests_are_exhaustive;

/// Longer than any of these runs takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls of one function that fail in turn.
const CALLS: usize = 6;

/// The tests of every day take every so many-th fault.
const EVERY: usize = 19;

/// Returns the places and messages of panics that a program printed.
fn panics(stderr: &str) -> Vec<(&str, &str)> {
    let mut lines = stderr.lines();
    let mut panics = Vec::new();
    while let Some(line) = lines.next() {
        if let Some((_, place)) = line.split_once("panicked at ") {
            panics.push((place, lines.next().unwrap_or_default()));
        }
    }
    panics
}

/// Runs the program, and returns its exit code and output. The first is `None` after a signal, or after a while.
fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_program_survives_failures_of_the_driver() {
    let folder = Folder::new();
    let values: Vec<f32> = (0..24).map(|k| k as f32).collect();
    let file = File::default().f32s("x", &[4, 3, 2], &values).f32s("dy", &[4, 3, 2], &values);
    let input = folder.write("input", &file.bytes());
    let output = folder.path("output");
    let layer = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 3] = [
        &["run", &input, "-o", &output, "--backend", "gpu"],
        &["verify", "--only", "three elements", "--backend", "gpu"],
        &["info"],
    ];
    let every = if tests_are_exhaustive() { 1 } else { EVERY };
    let (mut number, mut met, mut of_wgpu, mut wrong) = (0, 0, 0, Vec::new());
    for arguments in commands {
        for function in fault_layer::functions() {
            for call in 1..=CALLS {
                number += 1;
                if number % every != 0 {
                    continue;
                }
                let code = fault_layer::CODES[number % 3];
                let fault = format!("{}:{call}:{code}", function.to_str().unwrap());
                let mut program = command(arguments);
                program.env("RUST_BACKTRACE", "0").env("FAULT_LAYER", &fault);
                let (code, stdout, stderr) = ended(fault_layer::switch_on(&mut program, layer.path()));
                let known =
                    panics(&stderr).iter().all(|(place, message)| fault_layer::is_of_wgpu(place, message));
                let written = std::fs::remove_file(&output).is_ok();
                let as_documented = match code {
                    Some(0) => stderr.is_empty() && written == (arguments[0] == "run"),
                    // A case that met the fault counts as failed, with its error.
                    Some(1) => arguments[0] == "verify" && stdout.contains("FAIL"),
                    Some(2) => !written && stderr.contains("error: "),
                    // Where wgpu panics.
                    Some(101) => !panics(&stderr).is_empty(),
                    // Where wgpu destroys a semaphore twice.
                    None => fault.starts_with("vkCreateSemaphore:3:"),
                    _ => false,
                };
                met += usize::from(code != Some(0));
                of_wgpu += usize::from(code == Some(101));
                if !known || !as_documented {
                    wrong.push(format!(
                        "{} with {fault}: {code:?}, written: {written}: {stderr}",
                        arguments[0]
                    ));
                }
            }
        }
    }
    println!("{met} of {} faults ended the program, {of_wgpu} by a panic of wgpu", number / every);
    assert!(wrong.is_empty(), "{} faults: {}", wrong.len(), wrong.join("\n"));
    assert!(met > number / every / 10, "{met}: the layer is not at work");
}
