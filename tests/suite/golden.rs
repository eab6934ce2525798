//! Compares with PyTorch's own results: tests/golden/*.safetensors, written by tests/golden/generate.py.
//!
//! The bar for each quantity, against PyTorch in float64 (`exact.*`), is max(4 × PyTorch's own f32 error, 1e-6),
//! relative to the largest exact value. For y of `bn2d_large_mean`, it is 1e-6. For tensors of f16 and bf16, it is
//! a unit in the last place of the exact value, which is rounded to the type, and 1e-6 beside it.

use crate::recorded::Recorded;
use crate::support;
use ndarray::{Array1, ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::PathBuf;
use wgpu_batchnorm::half::f16;
use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Reference, Step, compare_stored, largest};
use wgpu_batchnorm::{BatchNormConfig, BatchNormState, DType};

struct Golden {
    case: Case,
    inputs: Inputs,
    /// PyTorch's results in the case's element type and in float64, by the names in the file.
    expected: BTreeMap<String, ArrayD<f64>>,
    exact: BTreeMap<String, ArrayD<f64>>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn array(view: &safetensors::tensor::TensorView<'_>) -> ArrayD<f64> {
    let bytes = view.data();
    let values: Vec<f64> = match view.dtype() {
        Dtype::F64 => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        Dtype::I64 => {
            bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
        }
        Dtype::BF16 => bytes
            .chunks_exact(2)
            .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b.try_into().unwrap())) << 16).into())
            .collect(),
        Dtype::F16 => {
            bytes.chunks_exact(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        other => panic!("element type {other:?}"),
    };
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
}

fn load(name: &str) -> Golden {
    let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all: BTreeMap<String, ArrayD<f64>> =
        tensors.iter().map(|(name, view)| (name.to_owned(), array(&view))).collect();
    let with_prefix = |prefix: &str| -> BTreeMap<String, ArrayD<f64>> {
        let named = |(name, array): (&String, &ArrayD<f64>)| {
            name.strip_prefix(prefix).map(|name| (name.to_owned(), array.clone()))
        };
        all.iter().filter_map(named).collect()
    };
    let vector =
        |name: &str| all.get(name).map(|values| Array1::from_iter(values.iter().map(|value| *value as f32)));
    let single = |array: &ArrayD<f64>| array.mapv(|value| value as f32);
    let xs: Vec<ArrayD<f32>> = match all.get("x") {
        Some(x) => vec![single(x)],
        None => (0..).map_while(|k| all.get(&format!("x.{k}"))).map(single).collect(),
    };
    let layout: wgpu_batchnorm::Layout = metadata["layout"].parse().unwrap();
    let shape = xs[0].shape().to_vec();
    let momentum = metadata["momentum"].as_str();
    let config = BatchNormConfig::new(shape[layout.channel_axis(shape.len())])
        .eps(metadata["eps"].parse().unwrap())
        .momentum(if momentum == "none" { None } else { Some(momentum.parse().unwrap()) })
        .affine(metadata["affine"] == "true")
        .track_running_stats(metadata["track_running_stats"] == "true")
        .layout(layout);
    let state = BatchNormState {
        weight: vector("weight"),
        bias: vector("bias"),
        running_mean: vector("running_mean"),
        running_var: vector("running_var"),
        num_batches_tracked: all.get("num_batches_tracked").map(|count| count.sum() as u64),
    };
    let dys = if all.contains_key("dy") {
        vec![single(&all["dy"])]
    } else {
        (0..).map_while(|k| all.get(&format!("dy.{k}"))).map(single).collect()
    };
    Golden {
        case: Case {
            name: name.to_owned(),
            shape,
            config,
            training: metadata["mode"] == "train",
            steps: xs.len(),
            mean: 0.0,
            std: 1.0,
            poison: None,
            dtype: metadata["dtype"].parse().unwrap(),
            residual: false,
            seed: 0,
        },
        inputs: Inputs { xs, dys, residuals: Vec::new(), state },
        expected: with_prefix("expected."),
        exact: with_prefix("exact."),
    }
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names.len(), 37, "golden cases");
    names
}

/// Returns the results under the names of the files.
fn named(steps: &[Step]) -> BTreeMap<String, ArrayD<f64>> {
    let mut results = BTreeMap::new();
    for (k, step) in steps.iter().enumerate() {
        let mut insert = |name: &str, array: Option<ArrayD<f64>>| {
            let key = if steps.len() > 1 { format!("{name}.{k}") } else { name.to_owned() };
            array.map(|array| results.insert(key, array));
        };
        insert("y", Some(step.y.clone()));
        let gradients = step.gradients.as_ref().unwrap();
        insert("dx", Some(gradients.dx.clone()));
        insert("dweight", gradients.dweight.clone().map(Array1::into_dyn));
        insert("dbias", gradients.dbias.clone().map(Array1::into_dyn));
    }
    let last = steps.last().unwrap();
    let mut insert = |name: &str, vector: Option<ArrayD<f64>>| {
        if let Some(vector) = vector {
            results.insert(name.to_owned(), vector);
        }
    };
    insert("running_mean", last.running_mean.clone().map(Array1::into_dyn));
    insert("running_var", last.running_var.clone().map(Array1::into_dyn));
    let count = last.num_batches_tracked.map(|count| ArrayD::from_elem(IxDyn(&[]), count as f64));
    insert("num_batches_tracked", count);
    results
}

/// Compares one implementation with all results of all files. Prints the worst error of each quantity beside
/// PyTorch's own.
fn check_all(implementation: &dyn Implementation) {
    let mut failures = Vec::new();
    let mut worst: BTreeMap<String, (f64, String, f64)> = BTreeMap::new();
    for name in names() {
        let golden = load(&name);
        let outputs = implementation.run(&golden.case, &golden.inputs).unwrap();
        let results = named(&outputs.steps);
        assert_eq!(
            results.keys().collect::<Vec<_>>(),
            golden.exact.keys().collect::<Vec<_>>(),
            "{name}: the results there are"
        );
        for (quantity, actual) in &results {
            let (exact, expected) = (&golden.exact[quantity], &golden.expected[quantity]);
            let scale = largest(exact.view());
            // Parameters and statistics are f32, whatever the tensors are.
            let is_tensor = quantity.starts_with('y') || quantity.starts_with("dx");
            let dtype = if is_tensor { golden.case.dtype } else { DType::F32 };
            let compare = |actual: &ArrayD<f64>, bar: f64| {
                compare_stored(quantity, actual.view(), exact.view(), dtype, scale, bar)
            };
            let pytorch = compare(expected, f64::INFINITY).unwrap();
            let bar =
                if name == "bn2d_large_mean" && quantity == "y" { 1e-6 } else { (4.0 * pytorch).max(1e-6) };
            let bar = if dtype == DType::F32 { bar } else { 1e-6 };
            match compare(actual, bar) {
                Ok(error) => {
                    if name == "bn2d_large_mean" {
                        println!("{name}, {quantity}: {error:.2e} (PyTorch itself: {pytorch:.2e})");
                    }
                    // With two values, dx is a hundred thousandth of its terms, so it has a class of its own.
                    let class = match name.as_str() {
                        "bn1d_two_values" => " of two values",
                        _ if dtype != DType::F32 => " in half precision",
                        _ => "",
                    };
                    let key = format!("{}{class}", quantity.split('.').next().unwrap());
                    let entry = worst.entry(key).or_insert((-1.0, String::new(), 0.0));
                    if error > entry.0 {
                        *entry = (error, name.clone(), pytorch);
                    }
                }
                Err(mismatch) => failures.push(format!("{name}: {mismatch}")),
            }
        }
    }
    println!("worst errors against PyTorch in float64, {}:", implementation.name());
    for (quantity, (error, name, pytorch)) in worst {
        println!("  {quantity:<20} {error:.2e} in {name} (PyTorch itself: {pytorch:.2e})");
    }
    assert!(failures.is_empty(), "{} of the golden results missed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn gpu() {
    check_all(support::gpu());
}

#[test]
fn gpu_without_subgroups() {
    check_all(support::gpu_without_subgroups());
}

/// Uses the plans of a GPU, with f16 in shaders if the adapter has it.
#[test]
fn gpu_like() {
    check_all(&Recorded::new(support::gpu()).gpu_like());
}

#[test]
fn gpu_without_f16() {
    check_all(support::gpu_without_f16());
}

#[test]
fn reference() {
    check_all(&Reference);
}
