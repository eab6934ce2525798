//! The program as its users see it: arguments, files, what it prints, exit codes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wgpu_batchnorm::ndarray::{ArrayD, IxDyn};
use wgpu_batchnorm::verify::{compare, compare_scaled, largest};

const TOLERANCE: f64 = 1e-6;

/// What a run of the program left behind.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn program(arguments: &[&str]) -> Run {
    run(&mut command(arguments))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgpu-batchnorm"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> Run {
    let output = command.spawn().and_then(std::process::Child::wait_with_output).unwrap();
    let run = Run {
        code: output.status.code(),
        stdout: own_lines(String::from_utf8(output.stdout).unwrap()),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    run
}

/// Standard output without the line that Vulkan's validation layer, where the tests run under it, puts there.
fn own_lines(stdout: String) -> String {
    let own = |line: &&str| !line.starts_with("Validation Layer Info - ");
    stdout.split_inclusive('\n').filter(own).collect()
}

/// A machine on which no adapter is found.
fn without_adapter(command: &mut Command) -> &mut Command {
    command.env_remove("WGPU_ADAPTER_NAME").env_remove("WGPU_BACKEND");
    if cfg!(target_os = "linux") {
        let nowhere = "/nonexistent/icd.json";
        command.env("VK_ICD_FILENAMES", nowhere).env("VK_DRIVER_FILES", nowhere)
    } else {
        // A backend that this program is built without.
        command.env("WGPU_BACKEND", "gl")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn photos() -> String {
    root().join("data/photos.safetensors").to_str().unwrap().to_owned()
}

/// Tensors and metadata of a file.
#[derive(Clone, Debug, Default, PartialEq)]
struct File {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl File {
    fn read(path: impl AsRef<Path>) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
        let tensors = tensors.map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())));
        Self { tensors: tensors.collect(), metadata: header.metadata().clone().unwrap_or_default() }
    }

    fn golden(name: &str) -> Self {
        Self::read(root().join("tests/golden").join(name).with_extension("safetensors"))
    }

    /// Without what asks for a backward pass.
    fn forward_only(mut self) -> Self {
        self.tensors.retain(|name, _| name != "dy" && !name.starts_with("dy."));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone());
        safetensors::serialize(views, metadata).unwrap()
    }

    fn f32s(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), data));
        self
    }

    fn raw(mut self, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Self {
        self.tensors.insert(name.to_owned(), (dtype, shape.to_vec(), data.to_vec()));
        self
    }

    fn key(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    fn values(&self, name: &str) -> Option<ArrayD<f64>> {
        let (dtype, shape, data) = self.tensors.get(name)?;
        let values = match dtype {
            Dtype::F32 => {
                data.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect()
            }
            Dtype::F64 => data.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word)).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word) as f64).collect(),
            dtype => panic!("{name} is {dtype}"),
        };
        Some(ArrayD::from_shape_vec(IxDyn(shape), values).unwrap())
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }
}

/// A folder for one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn entries(&self) -> usize {
        fs::read_dir(self.0.path()).unwrap().count()
    }

    /// Runs the program on a file that is fine, and reads its output.
    fn result(&self, file: &File, options: &[&str]) -> (Run, File) {
        let (input, output) = (self.write("in", &file.bytes()), self.path("out"));
        let run = program(&[&["run", &input, "--output", &output], options].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        (run, File::read(output))
    }
}

/// Two images of three channels.
fn small() -> File {
    let values: Vec<f32> = (0..24u16).map(|k| f32::from(k * k % 17)).collect();
    File::default().f32s("x", &[2, 3, 2, 2], &values)
}

// run: results

/// Every golden file on this backend, against PyTorch's numbers in float64.
fn golden(backend: &str) {
    let folder = Folder::new();
    let (mut right, mut refused, mut wrong) = (0, 0, Vec::new());
    for entry in fs::read_dir(root().join("tests/golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let file = File::golden(name);
        let (input, output) = (folder.write("in", &file.bytes()), folder.path("out"));
        let run = program(&["run", &input, "--output", &output, "--backend", backend]);
        if file.metadata["dtype"] != "f32" {
            assert_eq!(run.code, Some(2), "{name}: {run:?}");
            let dtype = file.metadata["dtype"].to_uppercase();
            assert!(run.stderr.contains(&format!("x is {dtype}")), "{name}: {run:?}");
            refused += 1;
            continue;
        }
        assert_eq!(run.code, Some(0), "{name}: {run:?}");
        let problems = differences(&file, &File::read(&output));
        if problems.is_empty() {
            right += 1;
        } else {
            wrong.push(format!("{name}: {}", problems.join("; ")));
        }
        fs::remove_file(&output).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((right, refused), (32, 5));
}

/// What is wrong with the output of a golden file.
fn differences(golden: &File, output: &File) -> Vec<String> {
    let mut problems = Vec::new();
    let mut compared = 0;
    for name in golden.tensors.keys() {
        let Some(quantity) = name.strip_prefix("exact.") else { continue };
        compared += 1;
        let exact = golden.values(name).unwrap();
        let Some(actual) = output.values(quantity) else {
            problems.push(format!("{quantity} is missing"));
            continue;
        };
        let result = match quantity {
            "num_batches_tracked" => compare(quantity, actual.view(), exact.view(), 0.0),
            // As far as the values lie from their mean, so large may its error be.
            "running_mean" => {
                let var = golden.values("exact.running_var").unwrap();
                let scale = largest(exact.view()).max(largest(var.view()).sqrt());
                compare_scaled(quantity, actual.view(), exact.view(), scale, TOLERANCE)
            }
            // Gradients are what is left of large terms: PyTorch's own error tells how much to expect.
            _ if quantity.starts_with('d') => {
                let expected = golden.values(&format!("expected.{quantity}")).unwrap();
                let own = compare(quantity, expected.view(), exact.view(), f64::INFINITY).unwrap();
                compare(quantity, actual.view(), exact.view(), TOLERANCE.max(4.0 * own))
            }
            _ => compare(quantity, actual.view(), exact.view(), TOLERANCE),
        };
        problems.extend(result.err().map(|mismatch| mismatch.to_string()));
    }
    if compared == 0 {
        problems.push("nothing to compare".to_owned());
    }
    problems
}

#[test]
fn golden_files_on_the_gpu() {
    golden("gpu");
}

#[test]
fn golden_files_on_the_reference() {
    golden("reference");
}

#[test]
fn the_comparison_of_golden_files_can_fail() {
    let golden = File::golden("bn2d_nan_one_channel");
    let folder = Folder::new();
    let (_, output) = folder.result(&golden, &["--backend", "reference"]);
    assert_eq!(differences(&golden, &output), [""; 0]);

    let mut without = output.clone();
    without.tensors.remove("running_var");
    assert_eq!(differences(&golden, &without), ["running_var is missing"]);
    for name in ["y", "dx", "dweight", "dbias", "running_mean", "running_var", "num_batches_tracked"] {
        let mut wrong = output.clone();
        // The first value is a number, and 1 in the exponent's last bit doubles or halves it.
        let (dtype, _, data) = wrong.tensors.get_mut(name).unwrap();
        if *dtype == Dtype::F32 {
            data[2] ^= 0x80;
        } else {
            data[0] ^= 1;
        }
        assert_eq!(differences(&golden, &wrong).len(), 1, "{name}");
    }
    // NaN where there was a number, and a number where there was NaN.
    for byte in 0..100 * 3 {
        let mut wrong = output.clone();
        let data = &mut wrong.tensors.get_mut("y").unwrap().2;
        let value = data.as_chunks_mut::<4>().0.get_mut(byte).unwrap();
        let flipped = if f32::from_le_bytes(*value).is_nan() { 0.5 } else { f32::NAN };
        *value = flipped.to_le_bytes();
        assert_eq!(differences(&golden, &wrong).len(), 1);
    }
}

#[test]
fn steps_are_the_same_as_runs_one_after_another() {
    let folder = Folder::new();
    for (name, steps) in [("bn2d_cumulative_average", 4), ("bn2d_five_steps", 5), ("bn2d_momentum_0_9", 2)] {
        for backend in ["gpu", "reference"] {
            let golden = File::golden(name).forward_only();
            let (_, all) = folder.result(&golden, &["--backend", backend]);
            let mut expected =
                vec!["num_batches_tracked".to_owned(), "running_mean".into(), "running_var".into()];
            for k in 0..steps {
                let stems =
                    ["batch_mean", "batch_var", "num_batches_tracked", "running_mean", "running_var", "y"];
                expected.extend(stems.map(|stem| format!("{stem}.{k}")));
            }
            expected.sort();
            assert_eq!(all.names(), expected);

            // The state of each step is that of the next one's file.
            let mut file = golden.clone();
            for k in 0..steps {
                file.tensors.retain(|name, _| name != "x" && !name.starts_with("x."));
                file.tensors.insert("x".to_owned(), golden.tensors[&format!("x.{k}")].clone());
                let (_, one) = folder.result(&file, &["--backend", backend]);
                for state in ["running_mean", "running_var", "num_batches_tracked"] {
                    // The reference keeps its state in f64, a file in f32: the last bit may differ.
                    let in_all = all.values(&format!("{state}.{k}")).unwrap();
                    compare(state, in_all.view(), one.values(state).unwrap().view(), 5e-7).unwrap();
                    file.tensors.insert(state.to_owned(), one.tensors[state].clone());
                    if k + 1 == steps {
                        assert_eq!(all.tensors[&format!("{state}.{k}")], all.tensors[state]);
                    }
                }
                assert_eq!(one.tensors["y"], all.tensors[&format!("y.{k}")]);
            }
        }
    }
}

#[test]
fn gradients_of_steps_are_written_with_their_steps() {
    let folder = Folder::new();
    let (run, all) = folder.result(&File::golden("bn2d_five_steps"), &["--backend", "gpu"]);
    for k in 0..5 {
        for name in ["dx", "dweight", "dbias"] {
            assert!(all.tensors.contains_key(&format!("{name}.{k}")), "{:?}", all.names());
        }
    }
    assert!(run.stdout.contains("dx ") && run.stdout.contains("dweight ") && run.stdout.contains("dbias "));
    // Without affine there are no parameters to have gradients.
    let (_, bare) = folder.result(&File::golden("bn2d_no_affine"), &[]);
    assert!(bare.tensors.contains_key("dx") && !bare.tensors.contains_key("dweight"), "{:?}", bare.names());
    // And without dy, no gradients.
    let (_, forward) = folder.result(&File::golden("bn2d_eval").forward_only(), &[]);
    assert!(!forward.tensors.keys().any(|name| name.starts_with('d')), "{:?}", forward.names());
}

#[test]
fn photographs() {
    let folder = Folder::new();
    let output = folder.path("out.safetensors");
    let run = program(&["run", &photos(), "--output", &output, "--backend", "gpu"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for text in
        ["x [2, 3, 213, 320]", "error against the CPU reference: y ", "PASS", "num_batches_tracked 0 → 1"]
    {
        assert!(run.stdout.contains(text), "{text}: {run:?}");
    }
    assert!(!run.stderr.contains("note"), "{run:?}");
    let file = File::read(&output);
    let names = ["batch_mean", "batch_var", "num_batches_tracked", "running_mean", "running_var", "y"];
    assert_eq!(file.names(), names);
    assert_eq!(file.tensors["num_batches_tracked"].1, [0; 0]);

    // Here once more, in the plainest way: each channel of y has mean 0 and variance var / (var + eps).
    let x = File::read(photos()).values("x").unwrap();
    let y = file.values("y").unwrap();
    for c in 0..3 {
        let channel = |values: &ArrayD<f64>| -> Vec<f64> {
            values.indexed_iter().filter(|(index, _)| index[1] == c).map(|(_, value)| *value).collect()
        };
        let (x, y) = (channel(&x), channel(&y));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        for (x, y) in x.iter().zip(&y) {
            assert!(((x - mean) / (var + 1e-5).sqrt() - y).abs() < 3e-6);
        }
        let n = x.len() as f64;
        let running = |name: &str| file.values(name).unwrap()[[c]];
        assert!((running("batch_mean") - mean).abs() < 1e-6 && (running("batch_var") - var).abs() < 1e-6);
        assert!((running("running_mean") - 0.1 * mean).abs() < 1e-6);
        assert!((running("running_var") - (0.9 + 0.1 * var * n / (n - 1.0))).abs() < 1e-6);
    }
    assert_eq!(folder.entries(), 1);
}

#[test]
fn options_go_before_the_file_and_the_file_before_defaults() {
    let folder = Folder::new();
    let describe = |file: &File, options: &[&str]| -> Vec<String> {
        let options = [options, &["--backend", "reference"]].concat();
        let metadata = folder.result(file, &options).1.metadata;
        ["mode", "eps", "momentum", "affine", "track_running_stats", "layout", "dtype", "adapter"]
            .map(|key| metadata[key].clone())
            .to_vec()
    };
    let file = small();
    let adapter = "CPU reference";
    let default = ["train", "1e-5", "0.1", "true", "true", "channels_first", "f32", adapter];
    assert_eq!(describe(&file, &[]), default);

    let file = file.key("mode", "eval").key("eps", "0.5").key("momentum", "none").key("dtype", "f32");
    let file = file.key("affine", "false").key("track_running_stats", "false").key("layout", "channels_last");
    let expected = ["eval", "0.5", "none", "false", "false", "channels_last", "f32", adapter];
    assert_eq!(describe(&file, &[]), expected);

    let given = ["--mode", "train", "--eps", "1e-3", "--momentum", "-1.2", "--layout", "channels-first"];
    let expected = ["train", "0.001", "-1.2", "false", "false", "channels_first", "f32", adapter];
    assert_eq!(describe(&file, &given), expected);
    // What the command line says hides what the file says, even nonsense.
    let file = file.key("eps", "abc").key("mode", "?").key("momentum", "?").key("layout", "?");
    assert_eq!(describe(&file, &given), expected);
    assert_eq!(describe(&file, &[&given[..5], &["none", "--layout", "channels_first"]].concat())[2], "none");
}

#[test]
fn options_change_the_result() {
    let folder = Folder::new();
    let reference =
        |options: &[&str]| folder.result(&small(), &[options, &["--backend", "reference"]].concat()).1;
    let default = reference(&[]);
    assert_ne!(reference(&["--eps", "0.5"]).tensors["y"], default.tensors["y"]);
    let eval = reference(&["--mode", "eval"]);
    assert_eq!(eval.names(), ["num_batches_tracked", "running_mean", "running_var", "y"]);
    // A new layer's running statistics, mean 0 and variance 1, change nothing but for eps.
    let y = eval.values("y").unwrap();
    compare("y", y.view(), small().values("x").unwrap().view(), 1e-5).unwrap();
    let momentum = reference(&["--momentum", "-1"]);
    assert_eq!(momentum.tensors["y"], default.tensors["y"]);
    let mean = |file: &File, name: &str| file.values(name).unwrap()[[1]];
    assert_eq!(mean(&momentum, "running_mean"), -mean(&momentum, "batch_mean"));
    let last = reference(&["--layout", "channels-last"]);
    assert_eq!(
        (default.values("batch_mean").unwrap().len(), last.values("batch_mean").unwrap().len()),
        (3, 2)
    );
}

#[test]
fn a_file_that_says_little() {
    let folder = Folder::new();
    // Each of the optional tensors; a count of shape [1]; x.0 alone; other tensors and keys.
    let file = small().f32s("weight", &[3], &[2.0; 3]).f32s("bias", &[3], &[-1.0; 3]).key("format", "pt");
    let file = file.f32s("running_mean", &[3], &[0.0; 3]).f32s("running_var", &[3], &[1.0; 3]);
    let (_, plain) = folder.result(&file, &[]);
    assert_eq!(plain.values("num_batches_tracked").unwrap()[[]], 1.0);
    let mut file = file.raw("num_batches_tracked", Dtype::I64, &[1], &41i64.to_le_bytes());
    for name in ["x.01", "xs", "y", "expected.y", "a", "b", "c", "d", "e", "f", "g"] {
        file = file.f32s(name, &[1], &[0.0]);
    }
    let x = file.tensors.remove("x").unwrap();
    file.tensors.insert("x.0".to_owned(), x);
    let (run, numbered) = folder.result(&file, &[]);
    assert_eq!(numbered.values("num_batches_tracked").unwrap()[[]], 42.0);
    assert_eq!(numbered.tensors["y.0"], plain.tensors["y"]);
    assert!(!numbered.tensors.contains_key("y") && numbered.tensors.contains_key("batch_mean.0"));
    assert_eq!(
        run.stderr.matches("note: left alone: a, b, c, d, e, expected.y, f, g and 3 more\n").count(),
        1
    );

    // The same file again makes the same bytes.
    let before = fs::read(folder.path("out")).unwrap();
    folder.result(&file, &[]);
    assert_eq!(fs::read(folder.path("out")).unwrap(), before);
}

#[test]
fn input_and_output_may_be_one_file() {
    let folder = Folder::new();
    let path = folder.write("file", &small().bytes());
    let run = program(&["run", &path, "-o", &path, "--backend", "reference"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(File::read(&path).tensors.contains_key("y"));
    assert_eq!(folder.entries(), 1);
}

#[test]
fn not_finite_and_empty_batches() {
    let folder = Folder::new();
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::MIN_POSITIVE, -0.0, 3.0, 5.0];
    for backend in ["gpu", "reference"] {
        let odd = File::default().f32s("x.0", &[2, 4], &odd).f32s("x.1", &[0, 4], &[]);
        let (run, file) = folder.result(&odd, &["--json", "--backend", backend]);
        assert!(file.tensors.contains_key("batch_var.0") && !file.tensors.contains_key("batch_var.1"));
        assert_eq!(file.tensors["y.1"].1, [0, 4]);
        assert_eq!(file.values("num_batches_tracked").unwrap()[[]], 2.0);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["steps"][0]["channels"][0]["x_mean"], Value::Null);
        assert_eq!(report["steps"][0]["channels"][3]["y_mean"], 0.0);
        assert_eq!(report["steps"][1]["channels"][3]["x_std"], Value::Null);
        let (run, _) = folder.result(&odd, &["--backend", backend]);
        assert!(run.stdout.contains("NaN"), "{run:?}");
    }
}

#[test]
fn long_tables_are_cut() {
    let folder = Folder::new();
    let (run, _) = folder.result(&File::golden("bn2d_many_channels"), &["--backend", "reference"]);
    assert_eq!(run.stdout.matches("… 241 more of 257 channels").count(), 2);
    assert!(run.stdout.lines().count() < 60 && run.stdout.contains("\n    all "), "{run:?}");
}

#[test]
fn running_statistics_are_shown_when_they_moved() {
    let folder = Folder::new();
    let shown = |name: &str| {
        let (run, _) = folder.result(&File::golden(name), &["--backend", "reference"]);
        (run.stdout.contains("running_mean       → after"), run.stdout.contains("num_batches_tracked 3 → 4"))
    };
    assert_eq!(shown("bn2d_nchw_odd"), (true, true));
    assert_eq!(shown("bn1d_zero_batch"), (false, true));
    assert_eq!(shown("bn2d_eval"), (false, false));
}

#[test]
fn json_of_a_run() {
    let folder = Folder::new();
    let (run, file) = folder.result(&File::golden("bn2d_five_steps"), &["--json", "--backend", "gpu"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["output"], folder.path("out"));
    assert_eq!(report["adapter"], file.metadata["adapter"]);
    assert_eq!(report["steps"].as_array().unwrap().len(), 5);
    assert_eq!(report["steps"][4]["channels"].as_array().unwrap().len(), 6);
    assert_eq!(report["running"]["num_batches_tracked"]["after"], 8);
    assert_eq!(report["running"]["running_mean"]["after"][5], file.values("running_mean").unwrap()[[5]]);
    assert_eq!(report["check"]["passed"], true);
    let error = report["check"]["errors"]["y"].as_f64().unwrap();
    assert!(error > 0.0 && error < TOLERANCE);
    assert!(report["timing_ms"]["compute"].as_f64().unwrap() > 0.0);
}

// run: bad input

/// Runs the program on what must be refused with these words, with and without an output file there.
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
    // Sizes whose sum overflows: eight tensors of 2^61 - 1 bytes, and one of 7.
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
        ("cut in the header", &good[..40], "there are 32"),
        ("cut in the data", &good[..good.len() - 1], "take 96 bytes, there are 95"),
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
    for length in (0..good.len()).step_by(7) {
        refused(&folder, &folder.write("prefix", &good[..length]), &[], &[]);
    }
    // A changed header is refused, or says something else that is right; `run` finds panics.
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
        (of(words(Dtype::F16)), &["x is F16", "f32"]),
        (of(words(Dtype::BF16)), &["x is BF16"]),
        (of(words(Dtype::F64)), &["x is F64"]),
        (of(words(Dtype::I32)), &["x is I32"]),
        (of(words(Dtype::BOOL)), &["x is BOOL"]),
        (File::default().f32s("x", &[], &[1.0]), &["x: ", "2 to 5 dimensions", "0"]),
        (File::default().f32s("x", &[4], &[1.0; 4]), &["x: ", "2 to 5 dimensions", "[4]"]),
        (File::default().f32s("x", &[1, 1, 1, 1, 2, 2], &[1.0; 4]), &["x: ", "2 to 5 dimensions"]),
        (File::default().f32s("x", &[2, 0, 3], &[]), &["x: ", "no channels"]),
        (File::default().f32s("x", &[1, 3], &[1.0; 3]), &["x: ", "more than 1 value", "[1, 3]"]),
        (File::default().f32s("x", &[0, 4_294_967_295], &[]), &["x has shape", "4294967295", "empty"]),
        (File::default().f32s("x", &[0, usize::MAX], &[]), &["x"]),
        (File::default().f32s("x", &[0, 3, usize::MAX], &[]), &["x"]),
        (small().f32s("weight", &[3], &[1.0; 3]), &["weight is given without bias"]),
        (small().f32s("bias", &[3], &[1.0; 3]), &["bias is given without weight"]),
        (three("bias", small()).f32s("weight", &[4], &[1.0; 4]), &["weight has shape [4]", "[3]"]),
        (three("bias", small()).f32s("weight", &[3, 1], &[1.0; 3]), &["weight has shape [3, 1]", "[3]"]),
        (three("weight", small()).f32s("bias", &[0], &[]), &["bias has shape [0]", "[3]"]),
        (three("weight", small()).raw("bias", Dtype::F16, &[3], &[0; 6]), &["bias is F16"]),
        (three("running_mean", small()), &["running_mean is given without running_var"]),
        (three("running_var", small()), &["running_var is given without running_mean"]),
        (three("running_mean", small()).f32s("running_var", &[], &[1.0]), &["running_var has shape []"]),
        (running(small()).raw("running_mean", Dtype::F64, &[3], &[0; 24]), &["running_mean is F64"]),
        (small().raw("num_batches_tracked", Dtype::I64, &[], &[0; 8]), &["num_batches_tracked", "without"]),
        (running(small()).f32s("num_batches_tracked", &[], &[1.0]), &["num_batches_tracked is F32", "I64"]),
        (
            running(small()).raw("num_batches_tracked", Dtype::I64, &[2], &[0; 16]),
            &["num_batches_tracked has shape [2]"],
        ),
        (count(-1), &["num_batches_tracked is -1"]),
        (count(i64::MAX), &["num_batches_tracked is 9223372036854775807"]),
        (three("weight", three("bias", small())).key("affine", "false"), &["weight", "affine = false"]),
        (small().f32s("bias", &[3], &[1.0; 3]).key("affine", "false"), &["bias", "affine = false"]),
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
        (small().raw("dy", Dtype::F16, &[2, 3, 2, 2], &[0; 48]), &["dy", "F16"]),
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
        ("track_running_stats", "yes"),
        ("layout", "nhcw"),
        ("dtype", "f16"),
    ];
    for (key, value) in nonsense {
        let file = folder.write("in", &small().key(key, value).bytes());
        refused(&folder, &file, &[], &[&format!("metadata {key} is {value:?}")]);
    }
    // Where there are batch statistics, the variance may be 0.
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

/// The disk is full in the middle of the file, or so it seems: files may have one block, and what ends the
/// program when it wants more is ignored.
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

/// A reader that has seen enough is no reason to panic, nor is a full disk.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_cannot_be_written() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = run(command(&["verify", "--backend", "reference"]).stdout(writer));
    assert_eq!(closed.code, Some(2), "{closed:?}");
    assert!(!closed.stderr.contains("error"), "{closed:?}");
    let full = fs::File::create("/dev/full").unwrap();
    let full = run(command(&["verify", "--backend", "reference"]).stdout(full));
    assert_eq!(full.code, Some(2), "{full:?}");
    assert!(full.stderr.contains("error: cannot write to standard output: No space left"), "{full:?}");
}

// The adapter

/// Names of the adapters, best first; there must be one.
fn adapters() -> Vec<String> {
    let run = program(&["info", "--json"]);
    assert_eq!(run.code, Some(0), "the tests need a GPU adapter: {run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let list = report["adapters"].as_array().unwrap();
    assert_eq!(list.iter().filter(|adapter| adapter["taken"] == true).count(), 1);
    for adapter in list {
        assert!(adapter["largest_tensor_bytes"].as_u64().unwrap() >= 128 << 20, "{adapter}");
        assert!(adapter["features"]["subgroups"].is_boolean(), "{adapter}");
    }
    list.iter().map(|adapter| adapter["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn info_lists_what_there_is() {
    let names = adapters();
    let run = program(&["info"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.matches("[taken by default]").count(), 1);
    for text in
        names.iter().map(String::as_str).chain(["reductions by", "largest tensor", "offset alignment"])
    {
        assert!(run.stdout.contains(text), "{text}: {run:?}");
    }
    // Part of a name in other letters.
    let part = names[0].get(1..4).unwrap().to_uppercase();
    let run = program(&["--adapter", &part, "info"]);
    assert_eq!((run.code, run.stdout.matches("[taken]").count()), (Some(0), 1), "{run:?}");
}

#[test]
fn an_unknown_adapter_is_refused_with_the_known_ones() {
    let names = adapters();
    let folder = Folder::new();
    let output = folder.path("out");
    for backend in ["auto", "gpu"] {
        for command in [&["info"][..], &["verify"], &["run", &photos(), "--output", &output]] {
            let run = program(&[command, &["--adapter", "no such adapter", "--backend", backend]].concat());
            assert_eq!(run.code, Some(2), "{run:?}");
            assert!(
                run.stderr.contains("error: no GPU adapter") && run.stderr.contains(&names[0]),
                "{run:?}"
            );
        }
    }
    assert_eq!(folder.entries(), 0);
}

#[test]
fn without_an_adapter() {
    let folder = Folder::new();
    let (input, output) = (folder.write("in", &small().bytes()), folder.path("out"));
    let to = ["run", &input, "--output", &output];
    for arguments in
        [&["info"][..], &["verify", "--backend", "gpu"], &[&to[..], &["--backend", "gpu"]].concat()]
    {
        let run = run(without_adapter(&mut command(arguments)));
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains("error: no GPU adapter"), "{run:?}");
        assert!(run.stderr.contains("mesa-vulkan-drivers"), "{run:?}");
        assert!(run.stdout.is_empty() && folder.entries() == 1, "{run:?}");
    }
    let auto = run(without_adapter(&mut command(&to)));
    assert_eq!(auto.code, Some(0), "{auto:?}");
    assert!(
        auto.stderr.contains("note: no GPU adapter") && auto.stderr.contains("CPU reference"),
        "{auto:?}"
    );
    let by_auto = File::read(&output);
    assert_eq!(by_auto.metadata["adapter"], "CPU reference");
    assert_eq!(by_auto, folder.result(&small(), &["--backend", "reference"]).1);
}

// verify

#[test]
fn verify_passes_on_this_adapter() {
    let cases = wgpu_batchnorm::verify::table().len();
    let run = program(&["verify", "--backend", "gpu"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.lines().count(), cases + 1);
    assert_eq!(run.stdout.lines().filter(|line| line.ends_with("  PASS")).count(), cases);
    let summary = run.stdout.lines().last().unwrap();
    assert!(summary.starts_with(&format!("{cases} cases, {cases} passed, worst error y ")), "{summary}");
    assert!(summary.contains(&adapters()[0]), "{summary}");
}

#[test]
fn verify_as_json_without_subgroups() {
    let cases = wgpu_batchnorm::verify::table().len();
    let run = program(&["verify", "--json", "--no-subgroups", "--backend", "gpu"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(report["adapter"].as_str().unwrap().ends_with(", without subgroups"), "{report}");
    assert_eq!((&report["total"], &report["passed"]), (&cases.into(), &cases.into()));
    assert_eq!(report["cases"].as_array().unwrap().len(), cases);
    let worst = report["worst_errors"]["y"].as_f64().unwrap();
    assert!(worst > 0.0 && worst < TOLERANCE);
}

#[test]
fn the_reference_verifies_itself_and_says_so() {
    let run = program(&["verify", "--backend", "reference"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("against itself"), "{run:?}");
    assert!(run.stdout.lines().last().unwrap().ends_with("on CPU reference"), "{run:?}");
}

// bench

#[test]
fn bench_checks_and_times() {
    let folder = Folder::new();
    let file = folder.path("bench.json");
    let run = program(&["bench", "--set", "documents", "--runs", "3", "--json-file", &file]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let ceilings = [&report["shader_copy_gb_per_s"], &report["buffer_copy_gb_per_s"]];
    assert!(ceilings.iter().all(|rate| rate.as_f64().unwrap() > 0.0), "{report}");
    let cases = report["cases"].as_array().unwrap();
    // Four shapes, four passes.
    assert_eq!(cases.len(), 16);
    for case in cases {
        let ms = case["median_ms"].as_f64().unwrap();
        assert!(ms > 0.0 && case["min_ms"].as_f64().unwrap() <= ms, "{case}");
        let elements: u64 =
            case["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product();
        let tensors = match case["pass"].as_str().unwrap() {
            "forward_train" | "forward_eval" => 2,
            "backward" => 3,
            "forward_backward" => 5,
            other => panic!("{other}"),
        };
        let rate = (elements * 4 * tensors) as f64 / ms / 1e6;
        assert!((case["floor_gb_per_s"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9, "{case}");
    }
    let run = program(&["bench", "--backend", "reference"]);
    assert!(run.code == Some(2) && run.stderr.contains("bench times a GPU"), "{run:?}");
}
