//! `run`: what becomes of numbers: of each type, too large, not finite, or none.

use crate::support::{File, Folder, small};
use safetensors::Dtype;
use serde_json::Value;
use wgpu_batchnorm::half::{bf16, f16};

#[test]
fn parameters_of_every_type_are_those_of_f32() {
    let folder = Folder::new();
    let values: [(&str, [f32; 3]); 4] = [
        ("weight", [1.5, -2.0, 0.25]),
        ("bias", [0.0, 3.0, -1.0]),
        ("running_mean", [8.0, 7.5, 5.0]),
        ("running_var", [1.0, 4.0, 30.0]),
    ];
    let with = |dtype: Dtype, bytes: &dyn Fn(f32) -> Vec<u8>, count: (Dtype, &[usize], &[u8])| {
        let file = small().key("mode", "eval").raw("num_batches_tracked", count.0, count.1, count.2);
        values.iter().fold(file, |file, (name, values)| {
            let data: Vec<u8> = values.iter().flat_map(|value| bytes(*value)).collect();
            file.raw(name, dtype, &[3], &data)
        })
    };
    let backend = ["--backend", "reference"];
    let counted = (Dtype::I64, &[][..], &7i64.to_le_bytes()[..]);
    let plain = with(Dtype::F32, &|value| value.to_le_bytes().to_vec(), counted);
    let (_, plain) = folder.result(&plain, &backend);
    assert_eq!(plain.values("num_batches_tracked").unwrap()[[]], 7.0);
    let files = [
        with(Dtype::F64, &|value| f64::from(value).to_le_bytes().to_vec(), (Dtype::U8, &[1], &[7])),
        with(
            Dtype::F16,
            &|value| f16::from_f32(value).to_le_bytes().to_vec(),
            (Dtype::F32, &[], &7f32.to_le_bytes()),
        ),
        with(
            Dtype::BF16,
            &|value| bf16::from_f32(value).to_le_bytes().to_vec(),
            (Dtype::U32, &[], &7u32.to_le_bytes()),
        ),
    ];
    for file in files {
        assert_eq!(folder.result(&file, &backend).1, plain);
    }
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

/// Runs a file of four rows and two channels on both backends, which must pass the check. Returns the outputs.
fn rows_of_two(file: &File, rows: [[f32; 2]; 4], options: &[&str]) -> [File; 2] {
    let folder = Folder::new();
    let dy = [[-4.0, 7.0], [2.0, -1.0], [0.5, 3.0], [1.0, -2.0]];
    let file = file.clone().f32s("x", &[4, 2], rows.as_flattened()).f32s("dy", &[4, 2], dy.as_flattened());
    ["gpu", "reference"].map(|backend| {
        let (run, output) = folder.result(&file, &[options, &["--backend", backend]].concat());
        assert!(run.stdout.contains("PASS"), "{run:?}");
        output
    })
}

const ROWS: [[f32; 2]; 4] = [[-2.0, 1.0], [3.0, 0.5], [-1.0, 2.0], [7.0, -4.0]];

#[test]
fn what_f32_cannot_hold_is_infinite() {
    let file = File::default().f32s("weight", &[2], &[3e38, 1.0]).f32s("bias", &[2], &[1.0, 2.0]);
    for activation in ["identity", "relu", "leaky-relu=0.1", "relu6", "silu", "sigmoid", "tanh", "gelu"] {
        for output in rows_of_two(&file, ROWS, &["--activation", activation]) {
            let y = output.values("y").unwrap();
            // Exact is 4.4e38.
            let bounded = match activation {
                "relu6" => 6.0,
                "sigmoid" | "tanh" => 1.0,
                _ => f64::INFINITY,
            };
            assert_eq!(y[[3, 0]], bounded, "{activation}");
            assert!(y[[1, 0]].is_finite() && y[[3, 1]].is_finite(), "{activation}: {y}");
        }
    }
    // The other sign, which leaves most activations: the leaky one multiplies infinity, SiLU makes NaN of it.
    let file = File::default().f32s("weight", &[2], &[-3e38, 1.0]).f32s("bias", &[2], &[1.0, 2.0]);
    for (activation, last) in [
        ("identity", f64::NEG_INFINITY),
        ("relu", 0.0),
        ("leaky-relu=0.1", f64::NEG_INFINITY),
        ("silu", f64::NAN),
    ] {
        for output in rows_of_two(&file, ROWS, &["--activation", activation]) {
            let y = output.values("y").unwrap()[[3, 0]];
            assert!(y == last || (y.is_nan() && last.is_nan()), "{activation}: {y}");
        }
    }
    // A momentum of −1 takes the batch from twice the running statistics.
    let file =
        File::default().f32s("running_mean", &[2], &[-2e38, 0.0]).f32s("running_var", &[2], &[3e38, 1.0]);
    for output in rows_of_two(&file, ROWS, &["--momentum", "-1"]) {
        for (name, expected) in [("running_mean", f64::NEG_INFINITY), ("running_var", f64::INFINITY)] {
            let values = output.values(name).unwrap();
            assert!(values[[0]] == expected && values[[1]].is_finite(), "{name}: {values}");
        }
    }
}

/// The sum of a negative running variance and eps is 0, negative, or loses most of its digits.
#[test]
fn eps_is_added_in_f32() {
    let file = File::default().f32s("running_mean", &[2], &[0.5, 0.0]);
    for (var, inv_std) in
        [(-1e-5f32, f64::INFINITY), (-2e-5, f64::NAN), (-9.9999e-6, 99_977.796_875), (-0.0, 316.227_766)]
    {
        let file = file.clone().f32s("running_var", &[2], &[var, 1.0]);
        for output in rows_of_two(&file, ROWS, &["--mode", "eval"]) {
            let y = output.values("y").unwrap()[[0, 0]];
            let expected = -2.5 * inv_std;
            assert!(
                (y - expected).abs() <= 1e-6 * expected.abs()
                    || y == expected
                    || (y.is_nan() && inv_std.is_nan()),
                "{var:e}: {y}, not {expected}"
            );
        }
    }
}

/// PyTorch's gradient of GELU's approximation is NaN where the square of its argument overflows.
#[test]
fn gelu_of_huge_values_is_that_of_pytorch() {
    let rows = [[1e30, 3.0], [-1e30, -4.0], [1.8e19, 2.0], [-1.8e19, -1.0]];
    for output in rows_of_two(&File::default(), rows, &["--mode", "eval", "--activation", "gelu-tanh"]) {
        let (y, dx) = (output.values("y").unwrap(), output.values("dx").unwrap());
        assert!(y[[0, 0]] > 9.99e29 && y[[1, 0]] == 0.0, "{y}");
        assert!(dx[[0, 0]].is_nan() && dx[[1, 0]].is_nan() && dx[[2, 0]] > 0.49 && dx[[3, 0]] == 0.0, "{dx}");
        assert!(output.values("dweight").unwrap()[[0]].is_nan());
    }
}
