//! `run`: the files that it reads and writes, when it is interrupted, and the memory that it takes.

use crate::support::{File, Folder, command, program, run, small};
use safetensors::Dtype;
use std::fs;
use std::process::Stdio;

#[test]
fn the_input_is_overwritten_only_if_that_is_asked_for() {
    let folder = Folder::new();
    let input = folder.write("in", &small().bytes());
    let before = fs::read(&input).unwrap();
    let mut outputs = vec![input.clone(), folder.path("./in")];
    if cfg!(unix) {
        fs::hard_link(&input, folder.path("hard")).unwrap();
        outputs.push(folder.path("hard"));
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("in", folder.path("soft")).unwrap();
        outputs.push(folder.path("soft"));
    }
    let entries = folder.entries();
    for output in &outputs {
        for (input, output) in [(&input, output), (output, &input)] {
            let run = program(&["run", input, "--output", output, "--backend", "reference"]);
            assert_eq!(run.code, Some(2), "{run:?}");
            let line = run.stderr.lines().last().unwrap_or_default();
            assert!(line.starts_with(&format!("error: {output} is the input")), "{run:?}");
            assert!(line.contains("--overwrite-input"), "{run:?}");
            assert_eq!((fs::read(input).unwrap(), folder.entries()), (before.clone(), entries));
        }
    }
    let run = program(&["run", &input, "-o", &input, "--backend", "reference", "--overwrite-input"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(File::read(&input).tensors.contains_key("y"));
    assert_eq!(folder.entries(), entries);
    // A copy is another file.
    let copy = folder.write("copy", &before);
    let run = program(&["run", &copy, "-o", &input, "--backend", "reference"]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

/// Returns a file of this number of channels, with this number of values in each.
fn channels(channels: usize, values: usize) -> File {
    let all: Vec<f32> = (0..channels * values).map(|k| (k * k % 977) as f32).collect();
    File::default().f32s("x", &[1, channels, values], &all)
}

/// Sends a signal while the program computes, or while it writes. The program is stopped meanwhile: it does
/// not go on until the signal is there, however long the machine takes to send it.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    use std::time::{Duration, Instant};
    let folder = Folder::new();
    let input = folder.write("in", &channels(32, 60_000).bytes());
    // The temporary file is empty when the program checks that there can be one.
    let is_written = |folder: &Folder| folder.sizes().any(|(name, size)| name.starts_with('.') && size > 0);
    let interrupted = |signal: &str, writing: bool| {
        let output = folder.write("out", b"before");
        let mut child =
            command(&["run", &input, "--output", &output, "--backend", "reference"]).spawn().unwrap();
        let (id, started) = (child.id().to_string(), Instant::now());
        while !(if writing { is_written(&folder) } else { started.elapsed() > Duration::from_millis(150) }) {
            assert!(started.elapsed() < Duration::from_secs(60), "no temporary file shows up");
            std::thread::sleep(Duration::from_micros(500));
        }
        for signal in ["STOP", signal, "CONT"] {
            let kill = std::process::Command::new("kill").args(["-s", signal, &id]).status();
            assert!(kill.unwrap().success());
        }
        let code = child.wait().unwrap().code();
        assert_eq!(folder.entries(), 2, "{signal}, writing: {writing}, exit code {code:?}");
        let is_done = fs::read(&output).unwrap() != b"before";
        assert!(!is_done || File::read(&output).tensors.contains_key("y"));
        (code, is_done)
    };
    for (signal, writing, code) in [("TERM", false, 143), ("INT", false, 130), ("TERM", true, 143)] {
        // The program may be done with the file before the signal arrives.
        let code_in_time = (0..10).map(|_| interrupted(signal, writing)).find(|(_, is_done)| !is_done);
        assert_eq!(code_in_time, Some((Some(code), false)), "{signal}, writing: {writing}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_told_with_what_was_written() {
    let folder = Folder::new();
    let input = folder.write("in", &small().bytes());
    let output = folder.path("out");
    for options in [&[][..], &["--json"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command =
            command(&[&["run", &input, "--output", &output, "--backend", "reference"], options].concat());
        let run = run(command.stdout(full));
        assert_eq!(run.code, Some(2), "{run:?}");
        let line = run.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("error: cannot write to standard output: No space left"), "{run:?}");
        assert!(line.contains(&format!("{output} is written")), "{run:?}");
        assert!(File::read(&output).tensors.contains_key("y"));
    }
    // Nothing is said of files where none was written.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let run = run(command(&["info"]).stdout(full));
    assert!(run.code == Some(2) && !run.stderr.contains("is written"), "{run:?}");
}

#[test]
fn long_values_are_cut_in_messages() {
    let folder = Folder::new();
    let long = "ab".repeat(5_000);
    let x = |name: &str| File::default().f32s(name, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let files = [
        small().key("eps", &long),
        small().key("activation", &long),
        small().key("dtype", &long),
        small().key("layout", &long),
        x(&long),
        x("x").f32s(&format!("dy.{}", "1".repeat(9)), &[2, 2], &[0.0; 4]),
        File::default().f32s("x", &vec![1; 10_000], &[1.0]),
        x("x").f32s("weight", &vec![1; 10_000], &[1.0]),
        x("x").f32s("residual", &vec![1; 10_000], &[1.0]),
    ];
    for file in files {
        let input = folder.write("in", &file.bytes());
        let run = program(&["run", &input, "--output", &folder.path("out"), "--backend", "reference"]);
        assert_eq!(run.code, Some(2), "{run:?}");
        let line = run.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("error: ") && line.chars().count() < 600, "{} bytes: {line}", line.len());
    }
    // The name of a type, which the reader of the header reports.
    let header = format!("{{\"x\":{{\"dtype\":\"{long}\",\"shape\":[],\"data_offsets\":[0,0]}}}}");
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let run = program(&["run", &folder.write("in", &bytes), "--output", &folder.path("out")]);
    assert!(run.code == Some(2) && run.stderr.len() < 1500, "{run:?}");
    assert_eq!(folder.entries(), 1);
}

/// Returns the most memory that the program had, in bytes.
#[cfg(target_os = "linux")]
fn peak(arguments: &[&str]) -> u64 {
    let mut child = command(arguments).spawn().unwrap();
    let mut peak = 0;
    loop {
        // It never falls, and is gone when the program ends.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = found.map_or(peak, |kilobytes: u64| kilobytes << 10);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Returns a file with batches of this shape: x, and others of these names.
#[cfg(target_os = "linux")]
fn batches(dtype: Dtype, shape: &[usize], others: &[&str]) -> File {
    let elements = shape.iter().product::<usize>();
    let halves = |k: usize| [(k * k % 251) as u8, 0x3c];
    let data: Vec<u8> = match dtype {
        Dtype::F16 => (0..elements).flat_map(halves).collect(),
        _ => (0..elements).flat_map(|k| ((k * k % 977) as f32).to_le_bytes()).collect(),
    };
    let with = |file: File, name: &&str| file.raw(name, dtype, shape, &data);
    ["x"].iter().chain(others).fold(File::default(), with)
}

/// A channel that has more values than a block is checked in pieces. What it gives is what many channels give.
#[cfg(target_os = "linux")]
#[test]
fn large_channels_are_right_on_this_adapter() {
    let folder = Folder::new();
    let rows = [2, 1, 300_001];
    let last = |file: File| file.key("layout", "channels_last").key("activation", "relu");
    for file in [
        batches(Dtype::F32, &rows, &[]),
        batches(Dtype::F16, &rows, &["dy", "residual"]),
        last(batches(Dtype::F32, &[600_001, 2], &["dy", "residual"])),
        last(batches(Dtype::F16, &[600_001, 1], &["dy"])),
    ] {
        let input = folder.write("in", &file.bytes());
        let mut files = Vec::new();
        for backend in ["auto", "reference"] {
            let output = folder.path("out");
            let run = program(&["run", &input, "--output", &output, "--backend", backend]);
            assert_eq!(run.code, Some(0), "{run:?}");
            assert!(run.stdout.contains("PASS"), "{run:?}");
            files.push(File::read(&output).tensors);
        }
        let kinds = |k: usize| files[k].iter().map(|(name, (dtype, shape, _))| (name, dtype, shape));
        assert!(kinds(0).eq(kinds(1)));
        assert_eq!(files[0]["num_batches_tracked"], files[1]["num_batches_tracked"]);
    }
}

/// 200 MB take less than three times their size, whether in many channels or in few. The quick test takes the
/// difference between two smaller files, as the program itself takes the same memory for both.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_less_than_three_times_the_input() {
    let folder = Folder::new();
    let of = |file: File| {
        let input = folder.write("in", &file.bytes());
        let run = ["run", &input, "--output", &folder.path("out"), "--backend", "reference"];
        (fs::metadata(&input).unwrap().len(), peak(&run))
    };
    let compare = |what: &str, small: File, large: File| {
        let ((small, at_small), (large, at_large)) = (of(small), of(large));
        let (more, more_memory) = (large - small, at_large.saturating_sub(at_small));
        assert!(more_memory < 3 * more, "{what}: {more_memory} bytes of memory for {more}");
    };
    let last = |file: File| file.key("layout", "channels_last");
    compare("many channels", channels(20, 100_000), channels(80, 100_000));
    let few = |n: usize| batches(Dtype::F32, &[1, 3, n], &[]);
    compare("few channels", few(600_000), few(1_800_000));
    let few = |n: usize| batches(Dtype::F16, &[1, 3, n], &["dy", "residual"]);
    compare("few channels of f16 with gradients", few(600_000), few(1_500_000));
    if !wgpu_batchnorm::internals::tests_are_exhaustive() {
        return;
    }
    let many = |n: usize| batches(Dtype::F16, &[1, n, 100_000], &[]);
    compare("many channels of f16", many(20), many(80));
    let is_less = |what: &str, file: File| {
        let (size, memory) = of(file);
        assert!(size >= 199_000_000, "{what}: {size}");
        assert!(memory < 3 * size, "{what}: {memory} bytes of memory for {size}");
    };
    is_less("many channels", channels(500, 100_000));
    is_less("3 channels of images", batches(Dtype::F32, &[8, 3, 1_444, 1_444], &[]));
    is_less(
        "3 channels last, with dy and residual",
        last(batches(Dtype::F32, &[1, 2_358, 2_358, 3], &["dy", "residual"])),
    );
    is_less("3 channels of f16 with dy", batches(Dtype::F16, &[1, 3, 16_700_000], &["dy"]));
    is_less("1 channel of f16", batches(Dtype::F16, &[1, 1, 100_000_000], &[]));
}

/// The limits are those where the input does not fit into memory, or where it does, and what is computed of it does
/// not.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_an_error() {
    let folder = Folder::new();
    // One channel, which is computed in pieces, and many, of which a block takes more memory than these limits leave.
    let one = folder.write("one", &channels(1, 8_000_000).bytes());
    let many = folder.write("many", &batches(Dtype::F32, &[1, 100, 80_000], &["dy"]).bytes());
    for (input, megabytes, computes) in
        [(&one, 20, false), (&one, 40, false), (&many, 20, false), (&many, 60, false), (&many, 115, true)]
    {
        let limited = format!("ulimit -v {megabytes}000; exec \"$0\" \"$@\"");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_wgpu-batchnorm")]);
        shell.args(["run", input, "--output", &folder.path("out"), "--backend", "reference"]);
        // Else a thread's allocator may reserve much that is never used.
        shell.env("MALLOC_ARENA_MAX", "1");
        let run = run(shell.stdout(Stdio::piped()).stderr(Stdio::piped()));
        assert_eq!(run.code, Some(2), "{megabytes} MB: {run:?}");
        assert!(run.stderr.contains("memory"), "{megabytes} MB: {run:?}");
        assert_eq!(run.stderr.contains("computing and checking"), computes, "{megabytes} MB: {run:?}");
        assert_eq!(folder.entries(), 2);
    }
}
