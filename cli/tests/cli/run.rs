//! `run`: what it computes, writes and prints.

use crate::support::{File, Folder, TOLERANCE, photos, program, small};
use safetensors::Dtype;
use serde_json::Value;
use std::fs;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::ndarray::{ArrayD, IxDyn};
use wgpu_batchnorm::verify::{compare, compare_stored};
use wgpu_batchnorm::{Activation, BatchNormConfig, DType, reference};

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

            // Each step's state goes into the next step's file.
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
    // Without affine, no parameter has a gradient.
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

    // Check once more, in the plainest way: each channel of y has mean 0 and variance var / (var + eps).
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
        [
            "mode",
            "eps",
            "momentum",
            "affine",
            "weight",
            "bias",
            "track_running_stats",
            "layout",
            "activation",
            "dtype",
            "adapter",
        ]
        .map(|key| metadata[key].clone())
        .to_vec()
    };
    let file = small();
    let adapter = "CPU reference";
    let described = |before: &[&str], affine: &str, after: &[&str]| -> Vec<String> {
        let all = [before, &[affine; 3], after, &[adapter]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let default =
        described(&["train", "1e-5", "0.1"], "true", &["true", "channels_first", "identity", "f32"]);
    assert_eq!(describe(&file, &[]), default);

    let file = file.key("mode", "eval").key("eps", "0.5").key("momentum", "none").key("dtype", "f32");
    let file = file.key("affine", "false").key("track_running_stats", "false").key("layout", "channels_last");
    let file = file.key("activation", "leaky-relu=0.1");
    let after = ["false", "channels_last", "leaky-relu=0.1", "f32"];
    let expected = described(&["eval", "0.5", "none"], "false", &after);
    assert_eq!(describe(&file, &[]), expected);

    let given = [
        "--activation",
        "gelu",
        "--mode",
        "train",
        "--eps",
        "1e-3",
        "--momentum",
        "-1.2",
        "--layout",
        "channels-first",
    ];
    let after = ["false", "channels_first", "gelu", "f32"];
    let expected = described(&["train", "0.001", "-1.2"], "false", &after);
    assert_eq!(describe(&file, &given), expected);
    // The command line overrides the file, even nonsense in it.
    let file = file
        .key("eps", "abc")
        .key("mode", "?")
        .key("momentum", "?")
        .key("layout", "?")
        .key("activation", "?");
    assert_eq!(describe(&file, &given), expected);
    assert_eq!(describe(&file, &[&given[..7], &["none", "--layout", "channels_first"]].concat())[2], "none");
}

#[test]
fn only_a_weight_or_only_a_bias() {
    let folder = Folder::new();
    let (ones, zeros) = ([1.0; 3], [0.0; 3]);
    let values = [0.5, -2.0, 3.0];
    let dy: Vec<f32> = (0..24u16).map(|k| f32::from(k * 5 % 7) - 3.0).collect();
    let file = || small().f32s("dy", &[2, 3, 2, 2], &dy);
    for (own, other, neutral, gradient, without) in
        [("weight", "bias", zeros, "dweight", "--no-bias"), ("bias", "weight", ones, "dbias", "--no-weight")]
    {
        let one = || file().f32s(own, &[3], &values);
        let (_, by_option) = folder.result(&one(), &[without]);
        let (_, both) = folder.result(&one().f32s(other, &[3], &neutral), &[]);
        let of_other = format!("d{other}");
        assert!(by_option.tensors.contains_key(gradient) && !by_option.tensors.contains_key(&of_other));
        assert!(both.tensors.contains_key(&of_other));
        for name in ["y", "dx", gradient] {
            assert_eq!(by_option.tensors[name], both.tensors[name], "{name}, only {own}");
        }
        for (key, value) in [("affine", "true"), (own, "true"), (other, "false")] {
            assert_eq!(by_option.metadata[key], value, "{key}");
        }
        // The file may say it instead, as what the program wrote does.
        let by_file = ["affine", own, other].iter().fold(one(), |file, key| {
            let value = &by_option.metadata[*key];
            file.key(key, value)
        });
        let (run, by_file) = folder.result(&by_file, &["--json"]);
        assert_eq!(by_file, by_option);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(
            (&report[own], &report[other], &report["affine"]),
            (&true.into(), &false.into(), &true.into())
        );
    }
    // Without affine there is neither, as in PyTorch.
    let (_, neither) = folder.result(&file().key("affine", "false").key("bias", "true"), &[]);
    assert_eq!(neither.metadata["bias"], "false");
    assert!(!neither.tensors.contains_key("dweight") && !neither.tensors.contains_key("dbias"));
    let (_, neither) = folder.result(&file(), &["--no-weight", "--no-bias"]);
    assert_eq!(neither.metadata["affine"], "false");
}

/// In each type, with a sum and an activation: y, dx and dresidual have the type of x, and are right.
#[test]
fn every_type_with_a_sum_and_an_activation() {
    let folder = Folder::new();
    let shape = [3, 5, 3, 3];
    let values = |seed: usize| -> Vec<f64> {
        (0..135).map(|k| ((k * 37 + seed * 11) % 64) as f64 / 16.0 - 2.0).collect()
    };
    for (dtype, stored) in [(DType::F32, Dtype::F32), (DType::F16, Dtype::F16), (DType::BF16, Dtype::BF16)] {
        let bytes = |seed: usize| -> Vec<u8> {
            let of = |value: f64| match dtype {
                DType::F32 => (value as f32).to_le_bytes().to_vec(),
                DType::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
                DType::BF16 => bf16::from_f64(value).to_le_bytes().to_vec(),
                _ => panic!("{dtype} is not tested"),
            };
            values(seed).into_iter().flat_map(of).collect()
        };
        let mut file = File::default().key("activation", "relu6");
        for (seed, name) in ["x", "residual", "dy"].into_iter().enumerate() {
            file = file.raw(name, stored, &shape, &bytes(seed));
        }
        let output = folder.result(&file, &["--activation", "silu"]).1;
        assert_eq!(output.metadata["activation"], "silu");
        assert_eq!(output.metadata["dtype"], dtype.to_string());
        let mut layer =
            reference::BatchNorm::new(BatchNormConfig::new(5).activation(Activation::Silu)).unwrap();
        let tensor = |seed: usize| {
            let exact = values(seed).into_iter().map(|value| dtype.round(value)).collect();
            ArrayD::from_shape_vec(IxDyn(&shape), exact).unwrap()
        };
        let y = layer.forward_add(tensor(0).view(), tensor(1).view()).unwrap();
        let gradients = layer.backward(tensor(2).view()).unwrap();
        for (name, exact) in [("y", y), ("dx", gradients.dx), ("dresidual", gradients.dresidual.unwrap())] {
            assert_eq!(output.tensors[name].0, stored, "{name}");
            let found = output.values(name).unwrap();
            compare_stored(name, found.view(), exact.view(), dtype, 4.0, TOLERANCE).unwrap();
        }
        assert_eq!(output.tensors["dweight"].0, Dtype::F32);
    }
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
    // The running statistics of a new layer, mean 0 and variance 1, change x only by eps.
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
    // Equal to the last bit of an f32. Reading JSON may lose the last bit of an f64.
    let after = report["running"]["running_mean"]["after"][5].as_f64().unwrap();
    assert_eq!(after as f32, file.values("running_mean").unwrap()[[5]] as f32);
    assert_eq!(report["check"]["passed"], true);
    let error = report["check"]["errors"]["y"].as_f64().unwrap();
    assert!(error > 0.0 && error < TOLERANCE);
    assert!(report["timing_ms"]["compute"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_figure_shows_each_channel_before_and_after() {
    let folder = Folder::new();
    let (output, figure) = (folder.path("out"), folder.path("figure.svg"));
    for backend in ["gpu", "reference"] {
        let run = program(&["run", &photos(), "--output", &output, "--backend", backend, "--plot", &figure]);
        assert_eq!(run.code, Some(0), "{run:?}");
        let svg = fs::read_to_string(&figure).unwrap();
        assert!(svg.contains("x before, y after: 3 channels"), "{svg}");
        for channel in 0..3 {
            assert_eq!(svg.matches(&format!("x of channel {channel}: mean ")).count(), 1, "{svg}");
            // A batch of many values has mean 0 and deviation 1.
            let caption = format!("y of channel {channel}: mean 0.0000, deviation ");
            let deviation: f64 = svg.split(&caption).nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            // eps is added to a variance of 0.09 at least.
            assert!((deviation - 1.0).abs() < 1.1e-4, "{deviation}");
        }
    }
    // The figure may not take the place of the data.
    let before = fs::read(&output).unwrap();
    for data in [&output, &folder.path("new")] {
        let run = program(&["run", &photos(), "--output", data, "--backend", "reference", "--plot", data]);
        assert!(run.code == Some(2) && run.stderr.contains("name another file for --plot"), "{run:?}");
    }
    assert!(fs::read(&output).unwrap() == before && folder.entries() == 2);
}
