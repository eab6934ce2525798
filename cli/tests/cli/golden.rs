//! `run` on the golden files, which hold PyTorch's numbers.

use crate::support::{File, Folder, TOLERANCE, program, root};
use safetensors::Dtype;
use std::fs;
use wgpu_batchnorm::DType;
use wgpu_batchnorm::verify::{compare, compare_scaled, compare_stored, largest};

/// Runs every golden file on this backend, and compares with PyTorch's numbers in float64.
fn golden(backend: &str) {
    let folder = Folder::new();
    let (mut right, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(root().join("tests/golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let file = File::golden(name);
        let (input, output) = (folder.write("in", &file.bytes()), folder.path("out"));
        let run = program(&["run", &input, "--output", &output, "--backend", backend]);
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
    assert_eq!(right, 37);
}

/// Returns what is wrong with the output of a golden file.
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
        let dtype: DType = golden.metadata["dtype"].parse().unwrap();
        let result = match quantity {
            // Tensors of 16 bits may be off by a unit in the last place. Parameters and statistics are f32.
            _ if dtype != DType::F32 && (quantity.starts_with('y') || quantity.starts_with("dx")) => {
                assert_eq!(output.tensors[quantity].0.to_string(), dtype.to_string().to_uppercase());
                let scale = largest(exact.view());
                compare_stored(quantity, actual.view(), exact.view(), dtype, scale, TOLERANCE)
            }
            "num_batches_tracked" => compare(quantity, actual.view(), exact.view(), 0.0),
            // The error is relative to the mean or the standard deviation, whichever is larger.
            "running_mean" => {
                let var = golden.values("exact.running_var").unwrap();
                let scale = largest(exact.view()).max(largest(var.view()).sqrt());
                compare_scaled(quantity, actual.view(), exact.view(), scale, TOLERANCE)
            }
            // Gradients are the remainders of large terms. PyTorch's own error tells how much to expect.
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
        // The first value is a number. Flipping the exponent's last bit doubles or halves it.
        let (dtype, _, data) = wrong.tensors.get_mut(name).unwrap();
        if *dtype == Dtype::F32 {
            data[2] ^= 0x80;
        } else {
            data[0] ^= 1;
        }
        assert_eq!(differences(&golden, &wrong).len(), 1, "{name}");
    }
    // Replace a number by NaN, and NaN by a number.
    for byte in 0..100 * 3 {
        let mut wrong = output.clone();
        let data = &mut wrong.tensors.get_mut("y").unwrap().2;
        let value = data.as_chunks_mut::<4>().0.get_mut(byte).unwrap();
        let flipped = if f32::from_le_bytes(*value).is_nan() { 0.5 } else { f32::NAN };
        *value = flipped.to_le_bytes();
        assert_eq!(differences(&golden, &wrong).len(), 1);
    }
}
