//! What all tests need: runs of the program, files, and a folder for them.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::ndarray::{ArrayD, IxDyn};

pub(crate) const TOLERANCE: f64 = 1e-6;

/// Exit code and output of a run of the program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn program(arguments: &[&str]) -> Run {
    run(&mut command(arguments))
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgpu-batchnorm"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.spawn().and_then(std::process::Child::wait_with_output).unwrap();
    let run = Run {
        code: output.status.code(),
        stdout: own_lines(String::from_utf8(output.stdout).unwrap()),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    run
}

/// Returns standard output without the line that Vulkan's validation layer prints there, if the tests run under it.
pub(crate) fn own_lines(stdout: String) -> String {
    let own = |line: &&str| !line.starts_with("Validation Layer Info - ");
    stdout.split_inclusive('\n').filter(own).collect()
}

/// Makes the program find no adapter.
pub(crate) fn without_adapter(command: &mut Command) -> &mut Command {
    command.env_remove("WGPU_ADAPTER_NAME").env_remove("WGPU_BACKEND");
    if cfg!(target_os = "linux") {
        let nowhere = "/nonexistent/icd.json";
        command.env("VK_ICD_FILENAMES", nowhere).env("VK_DRIVER_FILES", nowhere)
    } else {
        // A backend that this program is built without.
        command.env("WGPU_BACKEND", "gl")
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn photos() -> String {
    root().join("data/photos.safetensors").to_str().unwrap().to_owned()
}

/// Tensors and metadata of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct File {
    pub(crate) tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    pub(crate) metadata: HashMap<String, String>,
}

impl File {
    pub(crate) fn read(path: impl AsRef<Path>) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
        let tensors = tensors.map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())));
        Self { tensors: tensors.collect(), metadata: header.metadata().clone().unwrap_or_default() }
    }

    pub(crate) fn golden(name: &str) -> Self {
        Self::read(root().join("tests/golden").join(name).with_extension("safetensors"))
    }

    /// Removes dy, which asks for a backward pass.
    pub(crate) fn forward_only(mut self) -> Self {
        self.tensors.retain(|name, _| name != "dy" && !name.starts_with("dy."));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone());
        safetensors::serialize(views, metadata).unwrap()
    }

    pub(crate) fn f32s(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), data));
        self
    }

    pub(crate) fn raw(mut self, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Self {
        self.tensors.insert(name.to_owned(), (dtype, shape.to_vec(), data.to_vec()));
        self
    }

    pub(crate) fn key(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn values(&self, name: &str) -> Option<ArrayD<f64>> {
        let (dtype, shape, data) = self.tensors.get(name)?;
        let values = match dtype {
            Dtype::F32 => {
                data.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect()
            }
            Dtype::F64 => data.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word)).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word) as f64).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).into()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|half| bf16::from_le_bytes(*half).into()).collect(),
            dtype => panic!("{name} is {dtype}"),
        };
        Some(ArrayD::from_shape_vec(IxDyn(shape), values).unwrap())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }
}

/// A folder for one test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    pub(crate) fn entries(&self) -> usize {
        fs::read_dir(self.0.path()).unwrap().count()
    }

    /// Returns the name and the size of each file.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (String, u64)> {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        let entries = fs::read_dir(self.0.path()).unwrap().map(Result::unwrap);
        entries.map(move |entry| (entry.file_name().into_string().unwrap(), size(entry.path())))
    }

    /// Runs the program on a valid file, and reads its output.
    pub(crate) fn result(&self, file: &File, options: &[&str]) -> (Run, File) {
        let (input, output) = (self.write("in", &file.bytes()), self.path("out"));
        let run = program(&[&["run", &input, "--output", &output], options].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        (run, File::read(output))
    }
}

/// Two images of three channels.
pub(crate) fn small() -> File {
    let values: Vec<f32> = (0..24u16).map(|k| f32::from(k * k % 17)).collect();
    File::default().f32s("x", &[2, 3, 2, 2], &values)
}

/// Returns the names of the adapters, best first. There must be one.
pub(crate) fn adapters() -> Vec<String> {
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
