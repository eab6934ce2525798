//! `run`: what it refuses, and leaves as it was.

use crate::support::{File, Folder, photos, program, run, small};
use safetensors::Dtype;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Checks that the program refuses this input with these words. Runs it with and without an output file, which must
/// stay unchanged.
fn refused(folder: &Folder, input: &str, options: &[&str], words: &[&str]) {
    let output = folder.path("out");
    for before in [None, Some("before")] {
        if let Some(before) = before {
            fs::write(&output, before).unwrap();
        }
        let entries = folder.entries();
        let run = program(&[&["run", input, "--output", &output], options].concat());
        assert_eq!(run.code, Some(2), "{words:?}: {run:?}");
        assert_eq!(run.stdout, "", "{words:?}");
        // Drivers write to standard error too, so ours is the last line.
        let line = run.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("error: "), "{run:?}");
        for word in words.iter().copied().chain([input]) {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
        assert_eq!(fs::read_to_string(&output).ok().as_deref(), before, "{words:?}");
        assert_eq!(folder.entries(), entries, "{words:?}");
    }
    fs::remove_file(&output).unwrap();
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new();
    refused(&folder, &folder.path("nowhere"), &[], &["cannot read", "No such file"]);
    fs::create_dir(folder.path("folder")).unwrap();
    refused(&folder, &folder.path("folder"), &[], &["cannot read", "directory"]);
    let good = small().bytes();
    let mut long = good.clone();
    long.push(0);
    let mut absurd = good.clone();
    absurd[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut past = good.clone();
    past[..8].copy_from_slice(&(good.len() as u64).to_le_bytes());
    let garbage: Vec<u8> = (0..1000u32).map(|k| (k * k % 251) as u8).collect();
    // The sum of these sizes overflows: eight tensors of 2^61 - 1 bytes, and one of 7.
    let tensors = (0..9u64).map(|k| {
        let (from, size) = (k * ((1 << 61) - 1), if k < 8 { (1 << 61) - 1 } else { 7 });
        format!(
            "\"{k}\": {{\"dtype\": \"U8\", \"shape\": [{size}], \"data_offsets\": [{from}, {}]}}",
            from + size
        )
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(", "));
    let overflow = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let files: [(&str, &[u8], &str); 10] = [
        ("empty", &[], "only 0 of the 8 bytes"),
        ("four bytes", &good[..4], "only 4 of the 8 bytes"),
        ("cut in the header", &good[..40], "only 32 follow"),
        ("cut in the data", &good[..good.len() - 1], "take 96 bytes, but only 95 follow"),
        ("a byte too long", &long, "after the tensors' 96 bytes"),
        ("absurd header", &absurd, "18446744073709551615 bytes long"),
        ("header past the end", &past, "cut off"),
        ("garbage", &garbage, "header"),
        ("no JSON", &[&[2, 0, 0, 0, 0, 0, 0, 0], &b"ab"[..]].concat(), "header cannot be read"),
        ("overflow", &overflow, "cut off"),
    ];
    for (name, bytes, words) in files {
        refused(&folder, &folder.write(name, bytes), &[], &["is no safetensors file", words]);
    }
    let torch = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0archive/data.pkl";
    let words = ["torch.save", "safetensors.torch.save_file(model.state_dict()"];
    refused(&folder, &folder.write("model.pt", torch), &[], &words);
    for length in (0..good.len()).step_by(7) {
        refused(&folder, &folder.write("prefix", &good[..length]), &[], &[]);
    }
    // A changed header is refused, or is valid with another meaning. `run` finds panics.
    for position in 0..good.len() - 96 {
        let mut changed = good.clone();
        changed[position] ^= 1 << (position % 8);
        let (input, output) = (folder.write("changed", &changed), folder.path("out"));
        let run = program(&["run", &input, "--output", &output, "--backend", "reference"]);
        assert!(matches!(run.code, Some(0 | 2)), "{run:?}");
        assert_eq!(run.code == Some(0), fs::remove_file(&output).is_ok(), "{run:?}");
    }
}

#[test]
fn tensors_that_do_not_fit() {
    let folder = Folder::new();
    let three = |name: &str, file: File| file.f32s(name, &[3], &[1.0; 3]);
    let words = |dtype| (dtype, [2, 3], vec![0u8; 96]);
    let of = |(dtype, shape, data): (Dtype, [usize; 2], Vec<u8>)| {
        let bytes = 6 * dtype.bitsize() / 8;
        File::default().raw("x", dtype, &shape, &data[..bytes])
    };
    let running = |file: File| three("running_mean", three("running_var", file));
    let count =
        |count: i64| running(small()).raw("num_batches_tracked", Dtype::I64, &[], &count.to_le_bytes());
    let numbered = |names: &[&str]| {
        names.iter().fold(File::default(), |file, name| file.f32s(name, &[2, 2], &[1.0, 2.0, 3.0, 4.0]))
    };
    let cases: Vec<(File, &[&str])> = vec![
        (File::default(), &["no tensor x", "no tensors"]),
        (numbered(&["y", "xs"]), &["no tensor x", "xs, y"]),
        (numbered(&["x", "x.0"]), &["x and x.0"]),
        (numbered(&["x.0", "x.2"]), &["x.1 is missing", "x.2"]),
        (numbered(&["x.1"]), &["x.0 is missing"]),
        (numbered(&["x.0"]).f32s("x.1", &[2, 3], &[0.0; 6]), &["x.1 has 3 channels", "x.0 has 2"]),
        (numbered(&["x.0"]).f32s("x.1", &[1, 2], &[0.0; 2]), &["x.1: ", "more than 1 value", "[1, 2]"]),
        (of(words(Dtype::F64)), &["x is F64", "F32, F16 and BF16"]),
        (of(words(Dtype::I32)), &["x is I32"]),
        (of(words(Dtype::BOOL)), &["x is BOOL"]),
        (File::default().f32s("x", &[], &[1.0]), &["x: ", "2 to 5 dimensions", "0"]),
        (File::default().f32s("x", &[4], &[1.0; 4]), &["x: ", "2 to 5 dimensions", "[4]"]),
        (File::default().f32s("x", &[1, 1, 1, 1, 2, 2], &[1.0; 4]), &["x: ", "2 to 5 dimensions"]),
        (File::default().f32s("x", &[2, 0, 3], &[]), &["x: ", "no channels"]),
        (File::default().f32s("x", &[1, 3], &[1.0; 3]), &["x: ", "more than 1 value", "[1, 3]"]),
        (File::default().f32s("x", &[0, 4_294_967_295], &[]), &["x has shape", "4294967295", "empty"]),
        (File::default().f32s("x", &[0, 1 << 21], &[]), &["x has shape", "at most 1048576 channels"]),
        (File::default().f32s("x", &[0, usize::MAX], &[]), &["x"]),
        (File::default().f32s("x", &[0, 3, usize::MAX], &[]), &["x"]),
        (small().f32s("weight", &[3], &[1.0; 3]), &["weight is given without bias", "--no-bias"]),
        (small().f32s("bias", &[3], &[1.0; 3]), &["bias is given without weight", "--no-weight"]),
        (three("bias", small()).f32s("weight", &[4], &[1.0; 4]), &["weight has shape [4]", "[3]"]),
        (three("bias", small()).f32s("weight", &[3, 1], &[1.0; 3]), &["weight has shape [3, 1]", "[3]"]),
        (three("weight", small()).f32s("bias", &[0], &[]), &["bias has shape [0]", "[3]"]),
        (three("weight", small()).raw("bias", Dtype::I32, &[3], &[0; 12]), &["bias is I32", "F64"]),
        (three("running_mean", small()), &["running_mean is given without running_var"]),
        (three("running_var", small()), &["running_var is given without running_mean"]),
        (three("running_mean", small()).f32s("running_var", &[], &[1.0]), &["running_var has shape []"]),
        (running(small()).raw("running_mean", Dtype::I64, &[3], &[0; 24]), &["running_mean is I64"]),
        (small().raw("num_batches_tracked", Dtype::I64, &[], &[0; 8]), &["num_batches_tracked", "without"]),
        (running(small()).f32s("num_batches_tracked", &[], &[1.5]), &["num_batches_tracked is 1.5", "whole"]),
        (
            running(small()).raw("num_batches_tracked", Dtype::BOOL, &[], &[1]),
            &["num_batches_tracked is BOOL", "integer"],
        ),
        (
            running(small()).raw("num_batches_tracked", Dtype::U64, &[], &[255; 8]),
            &["num_batches_tracked is 18446744073709551615", "9223372036854775806"],
        ),
        (
            running(small()).raw("num_batches_tracked", Dtype::I64, &[2], &[0; 16]),
            &["num_batches_tracked has shape [2]"],
        ),
        (count(-1), &["num_batches_tracked is -1"]),
        (count(i64::MAX), &["num_batches_tracked is 9223372036854775807"]),
        (three("weight", three("bias", small())).key("affine", "false"), &["weight", "affine = false"]),
        (small().f32s("bias", &[3], &[1.0; 3]).key("affine", "false"), &["bias", "affine = false"]),
        (three("weight", three("bias", small())).key("bias", "false"), &["bias is given", "bias = false"]),
        (three("weight", small()).key("weight", "false"), &["weight is given", "weight = false"]),
        (
            three("bias", small()).key("weight", "false").f32s("bias", &[2], &[1.0; 2]),
            &["bias has shape [2]"],
        ),
        (
            running(small()).key("track_running_stats", "false"),
            &["running_mean", "track_running_stats = false"],
        ),
        (
            small().raw("num_batches_tracked", Dtype::I64, &[], &[0; 8]).key("track_running_stats", "false"),
            &["num_batches_tracked", "track_running_stats = false"],
        ),
        (small().f32s("dy", &[2, 3, 4], &[1.0; 24]), &["dy", "[2, 3, 4]", "[2, 3, 2, 2]"]),
        (small().f32s("dy.0", &[2, 3, 2, 2], &[1.0; 24]), &["dy.0 is there, but x.0 is not"]),
        (numbered(&["x.0", "x.1", "dy.1"]), &["dy.1 is there, but dy.0 is not"]),
        (small().raw("dy", Dtype::F16, &[2, 3, 2, 2], &[0; 48]), &["dy is F16", "F32"]),
        (of(words(Dtype::BF16)).f32s("residual", &[2, 3], &[1.0; 6]), &["residual is F32", "BF16"]),
        (of(words(Dtype::F16)).key("dtype", "bf16"), &["metadata dtype is \"bf16\", but x is F16"]),
        (small().f32s("residual", &[2, 3, 4, 1], &[1.0; 24]), &["residual", "[2, 3, 4, 1]", "[2, 3, 2, 2]"]),
        (
            numbered(&["x.0", "x.1", "residual.0"]),
            &["residual.0 is there, but residual.1 is not", "needs a residual"],
        ),
    ];
    for (file, words) in cases {
        refused(&folder, &folder.write("in", &file.bytes()), &["--backend", "reference"], words);
    }
}

#[test]
fn metadata_that_makes_no_sense() {
    let folder = Folder::new();
    let nonsense = [
        ("eps", "abc"),
        ("eps", ""),
        ("eps", "nan"),
        ("eps", "-1"),
        ("eps", "inf"),
        ("eps", "1e39"),
        ("momentum", "inf"),
        ("momentum", "nan"),
        ("momentum", "null"),
        ("mode", "test"),
        ("mode", ""),
        ("affine", "maybe"),
        ("affine", "1"),
        ("weight", "none"),
        ("bias", "0"),
        ("track_running_stats", "yes"),
        ("layout", "nhcw"),
        ("dtype", "f16"),
        ("activation", "elu"),
        ("activation", "leaky-relu"),
    ];
    for (key, value) in nonsense {
        let file = folder.write("in", &small().key(key, value).bytes());
        refused(&folder, &file, &[], &[&format!("metadata {key} is {value:?}")]);
    }
    // The variance of a batch may be 0, so training refuses this eps.
    let file = folder.write("in", &small().key("eps", "0").bytes());
    refused(&folder, &file, &[], &["eps is 0"]);
    let eval = small().key("eps", "0").key("mode", "eval");
    folder.result(&eval, &["--backend", "reference"]);
}

#[test]
fn options_that_make_no_sense() {
    let folder = Folder::new();
    let (input, output) = (folder.write("in", &small().bytes()), folder.path("out"));
    let wrong = [
        ("--eps", "abc"),
        ("--eps", "-1"),
        ("--eps", "nan"),
        ("--momentum", "inf"),
        ("--momentum", "some"),
        ("--mode", "test"),
        ("--layout", "nhcw"),
        ("--backend", "cuda"),
        ("--unknown", "1"),
    ];
    for (option, value) in wrong {
        let run = program(&["run", &input, "--output", &output, option, value]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains(option), "{run:?}");
        assert_eq!(folder.entries(), 1);
    }
    for arguments in [&["run", &input][..], &["run", "--output", &output], &[], &["benchmark"]] {
        assert_eq!(program(arguments).code, Some(2), "{arguments:?}");
    }
    let both = program(&["run", &input, "-o", &output, "--backend", "reference", "--adapter", "x"]);
    assert!(both.code == Some(2) && both.stderr.contains("--adapter"), "{both:?}");
    let both = program(&["run", &input, "-o", &output, "--backend", "reference", "--pipeline-cache", "x"]);
    assert!(both.code == Some(2) && both.stderr.contains("--pipeline-cache"), "{both:?}");
    assert_eq!(folder.entries(), 1);
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = Folder::new();
    let input = folder.write("in", &small().bytes());
    fs::create_dir(folder.path("folder")).unwrap();
    let nowhere = Path::new("nowhere").join("out");
    let in_file = Path::new("in").join("out");
    for output in ["folder", nowhere.to_str().unwrap(), in_file.to_str().unwrap()] {
        let output = folder.path(output);
        let run = program(&["run", &input, "--output", &output, "--backend", "reference"]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.starts_with(&format!("error: cannot write {output}: ")), "{run:?}");
        assert_eq!((folder.entries(), run.stdout.as_str()), (2, ""));
    }
    assert_eq!(fs::read_dir(folder.path("folder")).unwrap().count(), 0);
}

/// Simulates a disk that fills up in the middle of the file. A file may have one block, and the program ignores the
/// signal that would end it when it writes more.
#[cfg(target_os = "linux")]
#[test]
fn writing_that_fails_half_way_leaves_what_was_there() {
    let folder = Folder::new();
    let output = folder.write("out", b"before");
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_wgpu-batchnorm")]);
    shell.args(["run", &photos(), "--output", &output, "--backend", "reference"]);
    let run = run(shell.stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains(&format!("error: cannot write {output}: File too large")), "{run:?}");
    assert_eq!((fs::read(&output).unwrap(), folder.entries()), (b"before".to_vec(), 1));
}
