//! ONNX's batch-norm node cases: `BatchNormalization` on 2×3×4×5, with the default epsilon and with 1e-2,
//! for inference and in training mode.
//!
//! The expected values come from the formulas of the operator's specification (opset 15), computed here
//! in f64. ONNX differs from PyTorch in two conventions, and the tests show the conversion:
//! - its momentum weighs the *running* value: running = running · momentum + batch · (1 − momentum);
//! - its running variance moves with the *biased* variance of the batch.

use crate::support::gpu;
use ndarray::{Array1, Array4, Axis};
use wgpu_batchnorm::verify::{Case, compare};
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, BatchNormState, DType};

const SHAPE: [usize; 4] = [2, 3, 4, 5];
/// The operator's default.
const ONNX_MOMENTUM: f64 = 0.9;

struct Node {
    x: Array4<f64>,
    state: BatchNormState,
    epsilon: f64,
}

struct Expected {
    y: Array4<f64>,
    running_mean: Array1<f64>,
    running_var: Array1<f64>,
}

impl Node {
    fn new(epsilon: f64, seed: u64) -> Self {
        let case = Case {
            name: String::new(),
            shape: SHAPE.to_vec(),
            config: BatchNormConfig::new(3),
            training: true,
            steps: 1,
            mean: 0.0,
            std: 1.0,
            poison: None,
            dtype: DType::F32,
            residual: false,
            seed,
        };
        let inputs = case.inputs();
        let x = inputs.xs[0].mapv(f64::from).into_dimensionality().unwrap();
        Self { x, state: inputs.state, epsilon }
    }

    fn vector(vector: &Option<Array1<f32>>) -> Array1<f64> {
        vector.as_ref().unwrap().mapv(f64::from)
    }

    /// Returns Y = (X − mean) / sqrt(var + epsilon) · scale + B.
    fn normalised(&self, mean: &Array1<f64>, var: &Array1<f64>) -> Array4<f64> {
        let (scale, b) = (Self::vector(&self.state.weight), Self::vector(&self.state.bias));
        Array4::from_shape_fn(self.x.raw_dim(), |index| {
            let c = index.1;
            (self.x[index] - mean[c]) / (var[c] + self.epsilon).sqrt() * scale[c] + b[c]
        })
    }

    fn inference(&self) -> Expected {
        let (mean, var) = (Self::vector(&self.state.running_mean), Self::vector(&self.state.running_var));
        Expected { y: self.normalised(&mean, &var), running_mean: mean, running_var: var }
    }

    fn training(&self) -> Expected {
        let channels = self.x.axis_iter(Axis(1));
        let mean: Array1<f64> = channels.map(|channel| channel.mean().unwrap()).collect();
        let channels = self.x.axis_iter(Axis(1)).zip(&mean);
        let var: Array1<f64> =
            channels.map(|(channel, mean)| channel.mapv(|x| (x - mean).powi(2)).mean().unwrap()).collect();
        let moved = |input: &Option<Array1<f32>>, batch: &Array1<f64>| {
            Self::vector(input) * ONNX_MOMENTUM + batch * (1.0 - ONNX_MOMENTUM)
        };
        Expected {
            y: self.normalised(&mean, &var),
            running_mean: moved(&self.state.running_mean, &mean),
            running_var: moved(&self.state.running_var, &var),
        }
    }

    /// Runs the node on the GPU and compares. Converts the running variance to ONNX's convention.
    fn check(&self, training: bool) {
        let expected = if training { self.training() } else { self.inference() };
        let config = BatchNormConfig::new(3).eps(self.epsilon).momentum(1.0 - ONNX_MOMENTUM);
        let mut bn = BatchNorm::with_state(gpu(), config, &self.state).unwrap();
        if !training {
            bn.eval();
        }
        let y = bn.forward_array(self.x.mapv(|value| value as f32).view()).unwrap();
        compare("Y", y.view(), expected.y.view(), 1e-6).unwrap();
        let state = bn.state().unwrap();
        compare("running_mean", state.running_mean.unwrap().view(), expected.running_mean.view(), 1e-6)
            .unwrap();

        let moved = Self::vector(&state.running_var);
        if !training {
            compare("running_var", moved.view(), expected.running_var.view(), 0.0).unwrap();
            return;
        }
        // The batch's contribution is n / (n − 1) times the one in ONNX.
        let n = (SHAPE[0] * SHAPE[2] * SHAPE[3]) as f64;
        let retained = Self::vector(&self.state.running_var) * ONNX_MOMENTUM;
        let converted = (&moved - &retained) * ((n - 1.0) / n) + retained;
        compare("running_var", converted.view(), expected.running_var.view(), 1e-6).unwrap();
        assert!(
            compare("running_var", moved.view(), expected.running_var.view(), 1e-6).is_err(),
            "without the conversion the two must differ"
        );
    }
}

#[test]
fn batchnorm_example() {
    Node::new(1e-5, 1).check(false);
}

#[test]
fn batchnorm_epsilon() {
    Node::new(1e-2, 2).check(false);
}

#[test]
fn batchnorm_example_training_mode() {
    Node::new(1e-5, 3).check(true);
}

#[test]
fn batchnorm_epsilon_training_mode() {
    Node::new(1e-2, 4).check(true);
}
