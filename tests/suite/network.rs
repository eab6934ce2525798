//! A network with batch norm inside. Runs the code of `examples/figure1` for a short while.

#[path = "../../examples/figure1/mlp.rs"]
mod mlp;
#[path = "../../examples/shared/mod.rs"]
#[expect(dead_code, reason = "the examples use the rest")]
mod shared;
#[path = "../../examples/figure1/training.rs"]
#[expect(dead_code, reason = "the example uses the rest")]
mod training;

use crate::support::gpu;
use mlp::Mlp;
use ndarray::{Array1, Array2, Axis, s};
use shared::digits::{CLASSES, Digits};
use shared::loss::{accuracy, cross_entropy};
use std::path::{Path, PathBuf};
use training::Training;
use wgpu_batchnorm::verify::Random;
use wgpu_batchnorm::{BatchNorm, BatchNormConfig};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

#[test]
fn batch_norm_learns_sooner_and_is_tested_by_its_running_averages() {
    let train = Digits::read(&data(), "train").unwrap();
    let test = Digits::read(&data(), "t10k").unwrap();
    let training = Training { steps: 200, evaluate_every: 200, batch: 60, rate: 1.0, seed: 1 };
    let units = [train.pixels(), 100, 100, 100, CLASSES];
    let mut plain = Mlp::new(&units, None, 1).unwrap();
    let mut normalised = Mlp::new(&units, Some(gpu()), 1).unwrap();
    for (a, b) in plain.hidden.iter().zip(&normalised.hidden) {
        assert_eq!(a.dense.weight.value, b.dense.weight.value, "both begin with the same weights");
    }
    let learn = |network: &mut Mlp| {
        training.run(network, &train, &test, |_, _, _| ()).unwrap().last().unwrap().accuracy
    };
    let (without, with) = (learn(&mut plain), learn(&mut normalised));
    println!("test accuracy after 200 steps: {without} without batch norm, {with} with");
    // Ten classes: 0.1 is chance. A few other seeds gave 0.1 to 0.4 without, and 0.89 to 0.92 with.
    assert!(with > 0.85, "{with}");
    assert!(with > without + 0.3, "{with} with batch norm, {without} without");

    // With the running averages, each image is judged by itself, and nothing moves.
    let (x, labels) = test.batch(&(0..test.len()).collect::<Vec<_>>());
    let states = |network: &mut Mlp| network.batch_norms().map(|bn| bn.state().unwrap()).collect::<Vec<_>>();
    let before = states(&mut normalised);
    assert!(before.iter().all(|state| state.num_batches_tracked == Some(200)));
    normalised.eval();
    let together = normalised.forward(x.clone()).unwrap();
    assert_eq!(accuracy(together.view(), &labels), with, "what the training reported is of eval mode");
    for (index, logits) in together.axis_iter(Axis(0)).enumerate().take(5) {
        let alone = normalised.forward(x.slice(s![index..=index, ..]).to_owned()).unwrap();
        let difference = (&alone.row(0) - &logits).mapv(f32::abs);
        // The sums of the dense layers may be formed in another order.
        assert!(difference.iter().all(|&difference| difference < 1e-4), "image {index}: {difference}");
    }
    assert_eq!(states(&mut normalised), before, "eval moved the running averages");

    normalised.train();
    let first = normalised.forward(x.slice(s![..2, ..]).to_owned()).unwrap();
    let difference = (&first - &together.slice(s![..2, ..])).mapv(f32::abs);
    assert!(difference.iter().any(|&difference| difference > 0.1), "two images have other statistics");
    assert_ne!(states(&mut normalised), before);
}

/// Adds an amount to the value at an index of some tensor, of the network or the input.
type Shift = Box<dyn Fn(&mut Mlp, &mut Array2<f32>, usize, f32)>;

/// Compares every gradient of a network with three batch-norm layers with central differences.
///
/// The tolerance is a fraction of the largest gradient of its tensor, which is 0.003 to 0.1. The logits are
/// computed in f32, so the loss errs by about 1e-7. Divided by the distance, 0.02, that is 5e-6, or 0.002 of the
/// smallest. The differences themselves err by the square of the step. The worst measured error is 5e-4.
#[test]
fn gradients_of_a_network_are_those_of_its_loss() {
    const STEP: f32 = 0.01;
    const TOLERANCE: f64 = 0.005;
    let mut random = Random::new(3);
    let mut network = Mlp::new(&[8, 6, 5, 4, 3], Some(gpu()), 2).unwrap();
    // Weights are as large as the inputs, so that nothing is nearly linear.
    for layer in &mut network.hidden {
        layer.dense.weight.value *= 10.0;
    }
    network.output.weight.value *= 10.0;
    for batch_norm in network.batch_norms() {
        let channels = batch_norm.config().num_features;
        let mut draw =
            |mean: f64| Array1::from_shape_simple_fn(channels, || (mean + 0.3 * random.normal()) as f32);
        batch_norm.set_weight(draw(1.5).view()).unwrap();
        batch_norm.set_bias(draw(0.0).view()).unwrap();
    }
    let mut x = Array2::from_shape_simple_fn((16, 8), || random.normal() as f32);
    let labels: Vec<usize> = (0..16).map(|n| n % 3).collect();

    let logits = network.forward(x.clone()).unwrap();
    let dx = network.backward(&cross_entropy(logits.view(), &labels).1).unwrap();

    // Every tensor with its gradient, and a function that shifts one of its values.
    let mut groups: Vec<(String, Vec<f32>, Shift)> = Vec::new();
    let values = |array: &Array2<f32>| array.iter().copied().collect::<Vec<_>>();
    for (index, layer) in network.hidden.iter().enumerate() {
        let gradients = layer.gradients.as_ref().unwrap();
        assert!(layer.dense.bias.is_none());
        groups.push((
            format!("weight of dense layer {index}"),
            values(&layer.dense.weight.gradient),
            Box::new(move |network, _, at, by| {
                *network.hidden[index].dense.weight.value.iter_mut().nth(at).unwrap() += by;
            }),
        ));
        groups.push((
            format!("weight of batch norm {index}"),
            gradients.weight.as_ref().unwrap().to_vec(),
            Box::new(move |network, _, at, by| {
                let batch_norm = network.hidden[index].batch_norm.as_mut().unwrap();
                let mut weight = batch_norm.state().unwrap().weight.unwrap();
                weight[at] += by;
                batch_norm.set_weight(weight.view()).unwrap();
            }),
        ));
        groups.push((
            format!("bias of batch norm {index}"),
            gradients.bias.as_ref().unwrap().to_vec(),
            Box::new(move |network, _, at, by| {
                let batch_norm = network.hidden[index].batch_norm.as_mut().unwrap();
                let mut bias = batch_norm.state().unwrap().bias.unwrap();
                bias[at] += by;
                batch_norm.set_bias(bias.view()).unwrap();
            }),
        ));
    }
    groups.push((
        "weight of the output".to_owned(),
        values(&network.output.weight.gradient),
        Box::new(|network, _, at, by| *network.output.weight.value.iter_mut().nth(at).unwrap() += by),
    ));
    groups.push((
        "bias of the output".to_owned(),
        network.output.bias.as_ref().unwrap().gradient.to_vec(),
        Box::new(|network, _, at, by| network.output.bias.as_mut().unwrap().value[at] += by),
    ));
    // The first three rows of x are enough.
    groups.push((
        "x".to_owned(),
        values(&dx.slice(s![..3, ..]).to_owned()),
        Box::new(|_, x, at, by| *x.iter_mut().nth(at).unwrap() += by),
    ));

    for (name, gradient, shift) in groups {
        let largest = gradient.iter().fold(0.0f64, |largest, value| largest.max(f64::from(value.abs())));
        assert!(largest > 1e-3, "{name}: the gradients are too small to be checked, {largest:e}");
        let mut worst = 0.0f64;
        for (at, &exact) in gradient.iter().enumerate() {
            let mut loss_at = |by: f32| {
                shift(&mut network, &mut x, at, by);
                let loss = cross_entropy(network.forward(x.clone()).unwrap().view(), &labels).0;
                shift(&mut network, &mut x, at, -by);
                loss
            };
            let slope = (loss_at(STEP) - loss_at(-STEP)) / f64::from(2.0 * STEP);
            let error = (slope - f64::from(exact)).abs() / largest;
            assert!(error < TOLERANCE, "{name}, {at}: {exact} by backward, {slope} by differences");
            worst = worst.max(error);
        }
        println!("{name}: worst error {worst:.1e} of the largest gradient, {largest:.4}");
    }
}

/// A bias before batch norm does nothing, since the mean takes it away again. If normalisation lies outside the
/// gradient, that is, with statistics that are treated as constants, the bias still gets a gradient. It then grows
/// at every step for nothing (the paper, section 2).
#[test]
fn a_bias_before_batch_norm_does_not_grow() {
    const RATE: f32 = 0.1;
    const STEPS: u16 = 100;
    let mut random = Random::new(5);
    let x = Array2::from_shape_simple_fn((32, 3), || random.normal() as f32);
    // loss = −Σ gain·y. Any y that grows would lower it.
    let gain = Array2::from_shape_simple_fn((32, 3), || (1.0 + 0.3 * random.normal()) as f32);
    let dy = -&gain;

    let train = |constant_statistics: bool| {
        let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(3)).unwrap();
        let mut bias = Array1::<f32>::zeros(3);
        let (mut losses, mut biases) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            let y = bn.forward_array((&x + &bias).view()).unwrap();
            losses.push(-(&gain * &y).sum());
            let dx = if constant_statistics {
                // weight is 1
                &dy * &bn.batch_statistics().unwrap().unwrap().inv_std
            } else {
                bn.backward_array(dy.view()).unwrap().input
            };
            bias.scaled_add(-RATE, &dx.sum_axis(Axis(0)));
            biases.push(bias.clone());
        }
        (losses, biases)
    };

    let (_, biases) = train(false);
    let bias = biases.last().unwrap();
    println!("through the statistics, the bias after {STEPS} steps: {bias}");
    // dy is about 1, so rounding may leave each of the 32 values of dx off by some 2e-7. The error is always in the
    // same direction, since nothing moves. 100 steps of 0.1 make 6.4e-5 of that.
    assert!(bias.iter().all(|bias| bias.abs() < 1e-4), "{bias}");

    let (losses, biases) = train(true);
    let (first, last) = (&biases[0], biases.last().unwrap());
    println!("around them: {first} after the first step, {last} after the last");
    for (first, last) in first.iter().zip(last) {
        // The bias grows by as much at every step, without end ...
        assert!((last / (first * f32::from(STEPS)) - 1.0).abs() < 1e-2, "{first} {last}");
        assert!(*last > 100.0, "{last}");
    }
    // ... and the loss does not change.
    let (first, last) = (losses[0], losses.last().unwrap());
    assert!((first - last).abs() < 1e-2 * first.abs(), "{first} {last}");
}

#[test]
fn digits_that_cannot_be_read_are_refused_with_the_numbers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("digits");
    std::fs::create_dir_all(&folder).unwrap();
    let images =
        [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3][..], &[0, 51, 102, 153, 204, 255]].concat();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 7, 9];
    let read = |images: &[u8], labels: &[u8]| {
        std::fs::write(folder.join("train-images-idx3-ubyte"), images).unwrap();
        std::fs::write(folder.join("train-labels-idx1-ubyte"), labels).unwrap();
        Digits::read(&folder, "train")
    };
    let refused = |images: &[u8], labels: &[u8], file: &str, parts: &[&str]| {
        let message = read(images, labels).unwrap_err().to_string();
        println!("{message}");
        for part in [&[file], parts].concat() {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    };
    let (image_file, label_file) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");

    refused(&labels, &labels, image_file, &["[0, 0, 8, 1]", "[0, 0, 8, 3]"]);
    refused(&images, &images, label_file, &["[0, 0, 8, 3]", "[0, 0, 8, 1]"]);
    refused(&[0x1F, 0x8B, 8, 0, 0], &labels, image_file, &["compressed", "gunzip"]);
    refused(&images[..10], &labels, image_file, &["10 bytes", "16", "truncated"]);
    refused(&[], &labels, image_file, &["0 bytes", "16", "truncated"]);
    refused(&images[..20], &labels, image_file, &["4 bytes", "[2, 1, 3]", "6 bytes", "truncated"]);
    refused(&[&images[..], &[1]].concat(), &labels, image_file, &["7 bytes", "6 bytes", "too many"]);
    let three = [0, 0, 8, 1, 0, 0, 0, 3, 7, 9, 1];
    refused(&images, &three, label_file, &[image_file, "2 images", "3 labels"]);
    refused(&images, &[0, 0, 8, 1, 0, 0, 0, 2, 7, 10], label_file, &["10", "0 to 9"]);
    let huge = [&[0, 0, 8, 3][..], &[0xFF; 12], &[1]].concat();
    refused(&huge, &labels, image_file, &["4294967295", "truncated"]);
    let missing = Digits::read(&folder, "t10k").unwrap_err().to_string();
    assert!(missing.contains("t10k-images-idx3-ubyte") && missing.contains("--data"), "{missing}");

    let digits = read(&images, &labels).unwrap();
    assert_eq!((digits.images.dim(), digits.labels.as_slice()), ((2, 1, 3), &[7, 9][..]));
    let (x, labels) = digits.batch(&[1, 0]);
    assert_eq!((x.row(0).to_vec(), labels), (vec![0.6, 0.8, 1.0], vec![9, 7]));
}
