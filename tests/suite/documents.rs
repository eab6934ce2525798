//! The examples of the documents that this crate follows, as their readers would run them.

use crate::support::gpu;
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayView, Axis, Dimension, array};
use wgpu_batchnorm::verify::{Case, compare};
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, DType};

/// Returns normal numbers, as in the case table.
fn randn<D: Dimension>(shape: D) -> Array<f32, D> {
    let dimensions = shape.slice().to_vec();
    let case = Case {
        name: String::new(),
        config: BatchNormConfig::new(dimensions[1]),
        shape: dimensions,
        training: true,
        steps: 1,
        mean: 0.0,
        std: 1.0,
        poison: None,
        dtype: DType::F32,
        residual: false,
        seed: 2015,
    };
    case.inputs().xs.remove(0).into_dimensionality().unwrap()
}

/// Returns mean and biased variance of every channel, in f64.
fn moments<D: ndarray::RemoveAxis>(x: &ArrayView<'_, f32, D>) -> (Array1<f64>, Array1<f64>) {
    let of = |channel: ArrayView<'_, f32, D::Smaller>| {
        let channel = channel.mapv(f64::from);
        let mean = channel.mean().unwrap();
        (mean, channel.mapv(|value| (value - mean).powi(2)).mean().unwrap())
    };
    let (mean, var): (Vec<f64>, Vec<f64>) = x.axis_iter(Axis(1)).map(of).unzip();
    (mean.into(), var.into())
}

/// Checks that every channel of y has mean 0 and variance 1, except for the effect of eps.
fn assert_standardised<D: ndarray::RemoveAxis>(x: &Array<f32, D>, y: &Array<f32, D>) {
    let (mean, var) = moments(&y.view());
    assert!(mean.iter().all(|mean| mean.abs() < 1e-6), "{mean}");
    let exact = moments(&x.view()).1.mapv(|var| var / (var + 1e-5));
    compare("variance of y", var.view(), exact.view(), 1e-6).unwrap();
}

/// `nn.BatchNorm2d(100)` and `nn.BatchNorm2d(100, affine=False)` on `torch.randn(20, 100, 35, 45)`.
#[test]
fn pytorch_batch_norm_2d() {
    let input = randn(ndarray::Dim([20, 100, 35, 45]));
    for affine in [true, false] {
        let mut m = BatchNorm::new(gpu(), BatchNormConfig::new(100).affine(affine)).unwrap();
        let output = m.forward_array(input.view()).unwrap();
        assert_eq!(output.dim(), (20, 100, 35, 45));
        assert_standardised(&input, &output);
        assert_eq!(m.weight().is_some(), affine);
    }
}

/// `nn.BatchNorm1d(16)` on flattened images, (100, 16, 784), and its running statistics afterwards.
#[test]
fn batch_norm_1d_on_flat_images() {
    let x = randn(ndarray::Dim([100, 16, 784]));
    let mut m = BatchNorm::new(gpu(), BatchNormConfig::new(16)).unwrap();
    assert_standardised(&x, &m.forward_array(x.view()).unwrap());
    let state = m.state().unwrap();
    let (running_mean, running_var) = (state.running_mean.unwrap(), state.running_var.unwrap());
    println!("running_mean {running_mean:.4}\nrunning_var {running_var:.4}");
    let (mean, var) = moments(&x.view());
    let n = 78_400.0;
    compare("running_mean", running_mean.view(), (mean * 0.1).view(), 1e-6).unwrap();
    compare("running_var", running_var.view(), (0.9 + var * (0.1 * n / (n - 1.0))).view(), 1e-6).unwrap();
    assert_eq!(state.num_batches_tracked, Some(1));
}

/// `nn.BatchNorm2d(16)` on one image, (1, 16, 7, 7): weight, bias, and train against eval.
#[test]
fn batch_norm_2d_on_one_image() {
    let x = randn(ndarray::Dim([1, 16, 7, 7]));
    let mut m = BatchNorm::new(gpu(), BatchNormConfig::new(16)).unwrap();
    assert!(m.is_training());
    let state = m.state().unwrap();
    println!("weight {}\nbias {}", state.weight.as_ref().unwrap(), state.bias.as_ref().unwrap());
    assert_eq!(state.weight, Some(Array1::ones(16)));
    assert_eq!(state.bias, Some(Array1::zeros(16)));
    let trained = m.forward_array(x.view()).unwrap();
    assert_standardised(&x, &trained);
    let after_training = m.state().unwrap();

    m.eval();
    assert!(!m.is_training());
    let evaluated = m.forward_array(x.view()).unwrap();
    // One batch has moved the running statistics by a tenth only.
    let (mean, var) = moments(&x.view());
    let exact = Array4::from_shape_fn(x.raw_dim(), |(n, c, h, w)| {
        let running_var = 0.9 + 0.1 * var[c] * 49.0 / 48.0;
        (f64::from(x[[n, c, h, w]]) - 0.1 * mean[c]) / (running_var + 1e-5).sqrt()
    });
    compare("y", evaluated.view(), exact.view(), 1e-6).unwrap();
    assert_eq!(m.state().unwrap(), after_training, "eval moved the running statistics");
    m.train();
    assert_eq!(m.forward_array(x.view()).unwrap(), trained);
}

/// RGB batches, (N, 3, 28, 28), for N from 1 to 64, through one layer.
#[test]
fn rgb_batches() {
    let mut m = BatchNorm::new(gpu(), BatchNormConfig::new(3)).unwrap();
    for (batches, n) in [1, 2, 5, 16, 33, 64].into_iter().enumerate() {
        let x = randn(ndarray::Dim([n, 3, 28, 28]));
        assert_standardised(&x, &m.forward_array(x.view()).unwrap());
        assert_eq!(m.state().unwrap().num_batches_tracked, Some(batches as u64 + 1));
    }
}

/// Four rows of five features, as in the numpy class: forward(x, is_training).
#[test]
fn four_rows_of_five() {
    let x = randn(ndarray::Dim([4, 5]));
    let mut m = BatchNorm::new(gpu(), BatchNormConfig::new(5)).unwrap();
    assert_standardised(&x, &m.forward_array(x.view()).unwrap());
}

/// A column small enough to check by hand: 1, 2, 3, 4 has mean 2.5, variance 1.25, unbiased 5/3.
#[test]
fn by_hand() {
    let config = BatchNormConfig::new(1).eps(1e-9).momentum(0.5);
    let mut m = BatchNorm::new(gpu(), config).unwrap();
    let y: Array2<f32> = m.forward_array(array![[1.0f32], [2.0], [3.0], [4.0]].view()).unwrap();
    let unit = 1.25f64.sqrt();
    compare("y", y.view(), (array![[-1.5], [-0.5], [0.5], [1.5]] / unit).view(), 1e-6).unwrap();
    let state = m.state().unwrap();
    compare("running_mean", state.running_mean.unwrap().view(), array![1.25].view(), 1e-6).unwrap();
    compare("running_var", state.running_var.unwrap().view(), array![0.5 + 2.5 / 3.0].view(), 1e-6).unwrap();
}

/// The running statistics approach those of the data, and eval then agrees with training.
#[test]
fn running_statistics_converge() {
    let x: Array3<f32> = randn(ndarray::Dim([8, 4, 100])).mapv(|value| 3.0 * value + 5.0);
    let mut m = BatchNorm::new(gpu(), BatchNormConfig::new(4)).unwrap();
    let mut trained = Array3::zeros((0, 0, 0));
    for _ in 0..200 {
        trained = m.forward_array(x.view()).unwrap();
    }
    m.eval();
    let evaluated = m.forward_array(x.view()).unwrap();
    // The difference comes from the unbiased variance in place of the biased one: a factor of 1 - 1/1600.
    compare("y", evaluated.view(), trained.mapv(f64::from).view(), 1e-3).unwrap();
}

/// The README's first program prints what the README says. That it compiles is a doctest.
#[test]
fn readme_shows_its_own_output() {
    let readme = include_str!("../../README.md");
    let block = |fence: &str| readme.split(fence).nth(1).unwrap().split("```").next().unwrap();
    let program = block("```rust\n");
    for line in
        ["BatchNormConfig::new(2)", "array![[1.0f32, 10.0], [2.0, 20.0], [3.0, 30.0]]", "{:.4}\\n{bn}"]
    {
        assert!(program.contains(line), "{line} is not in the program any more");
    }
    let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(2)).unwrap();
    let y = bn.forward_array(array![[1.0f32, 10.0], [2.0, 20.0], [3.0, 30.0]].view()).unwrap();
    assert_eq!(block("```text\n"), format!("{y:.4}\n{bn}\n"));
}
