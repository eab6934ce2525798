//! The multilayer perceptron: hidden layers of sigmoids, and logits for a softmax.

use super::shared::Result;
use super::shared::dense::Dense;
use super::shared::sgd::{Sgd, Velocities};
use ndarray::{Array2, Ix2};
use wgpu_batchnorm::verify::Random;
use wgpu_batchnorm::{ArrayGradients, BatchNorm, BatchNormConfig, Gpu};

/// Standard deviation of the initial weights.
const WEIGHT_STD: f64 = 0.1;

/// Dense layers with a sigmoid after each but the last. Batch norm comes before each sigmoid, or nowhere.
pub(crate) struct Mlp {
    /// All layers but the last.
    pub(crate) hidden: Vec<Hidden>,
    /// Its outputs are the logits of the softmax.
    pub(crate) output: Dense,
}

/// sigmoid(dense(h)), or sigmoid(batch_norm(dense(h))).
pub(crate) struct Hidden {
    /// Has a bias only if no batch norm follows.
    pub(crate) dense: Dense,
    /// `None` in a network without batch norm.
    pub(crate) batch_norm: Option<BatchNorm>,
    /// Of batch norm, in the last backward pass.
    pub(crate) gradients: Option<ArrayGradients<Ix2>>,
    velocities: Velocities,
    /// Input of the sigmoid in the last forward pass.
    pub(crate) sigmoid_input: Array2<f32>,
}

impl Mlp {
    /// Returns a network with these units per layer, inputs included, and with batch norm if a GPU is given. The
    /// same seed gives the same weights, with batch norm and without.
    pub(crate) fn new(units: &[usize], gpu: Option<&Gpu>, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let mut dense: Vec<Dense> =
            units.windows(2).map(|pair| Dense::new(pair[0], pair[1], WEIGHT_STD, &mut random)).collect();
        let output = dense.pop().ok_or("a network needs at least its inputs and its outputs")?;
        let hidden: Result<Vec<Hidden>> = dense
            .into_iter()
            .zip(&units[1..])
            .map(|(dense, &units)| Hidden::new(dense, units, gpu))
            .collect();
        Ok(Self { hidden: hidden?, output })
    }

    /// Returns the logits.
    pub(crate) fn forward(&mut self, x: Array2<f32>) -> Result<Array2<f32>> {
        let last = self.hidden.iter_mut().try_fold(x, |h, layer| layer.forward(h))?;
        Ok(self.output.forward(last))
    }

    /// Stores the gradients with the parameters of every layer. Returns dx, the gradient of the input.
    pub(crate) fn backward(&mut self, dlogits: &Array2<f32>) -> Result<Array2<f32>> {
        let dlast = self.output.backward(dlogits);
        self.hidden.iter_mut().rev().try_fold(dlast, |dh, layer| layer.backward(dh))
    }

    /// Takes a step down the gradients of the last backward pass.
    pub(crate) fn step(&mut self, sgd: Sgd) -> Result<()> {
        for layer in &mut self.hidden {
            layer.dense.step(sgd);
            let velocities = &mut layer.velocities;
            if let (Some(batch_norm), Some(gradients)) = (&mut layer.batch_norm, &layer.gradients) {
                batch_norm.update_parameters(gradients, |name, value, gradient| {
                    velocities.step(sgd, name, value, gradient);
                })?;
            }
        }
        self.output.step(sgd);
        Ok(())
    }

    /// Switches to training: batch norm uses the statistics of each batch, and moves the running averages.
    pub(crate) fn train(&mut self) {
        self.batch_norms().for_each(BatchNorm::train);
    }

    /// Switches to evaluation: batch norm uses the running averages.
    pub(crate) fn eval(&mut self) {
        self.batch_norms().for_each(BatchNorm::eval);
    }

    /// Returns every batch-norm layer.
    pub(crate) fn batch_norms(&mut self) -> impl Iterator<Item = &mut BatchNorm> {
        self.hidden.iter_mut().filter_map(|layer| layer.batch_norm.as_mut())
    }
}

impl Hidden {
    fn new(dense: Dense, units: usize, gpu: Option<&Gpu>) -> Result<Self> {
        let batch_norm = gpu.map(|gpu| BatchNorm::new(gpu, BatchNormConfig::new(units))).transpose()?;
        let dense = if batch_norm.is_some() { dense.without_bias() } else { dense };
        let (gradients, velocities) = (None, Velocities::default());
        Ok(Self { dense, batch_norm, gradients, velocities, sigmoid_input: Array2::zeros((0, units)) })
    }

    fn forward(&mut self, h: Array2<f32>) -> Result<Array2<f32>> {
        let mut x = self.dense.forward(h);
        if let Some(batch_norm) = &mut self.batch_norm {
            x = batch_norm.forward_array(x.view())?;
        }
        let y = x.mapv(sigmoid);
        self.sigmoid_input = x;
        Ok(y)
    }

    fn backward(&mut self, mut dy: Array2<f32>) -> Result<Array2<f32>> {
        dy.zip_mut_with(&self.sigmoid_input, |dy, &x| *dy *= sigmoid(x) * (1.0 - sigmoid(x)));
        if let Some(batch_norm) = &mut self.batch_norm {
            let gradients = self.gradients.insert(batch_norm.backward_array(dy.view())?);
            return Ok(self.dense.backward(&gradients.input));
        }
        Ok(self.dense.backward(&dy))
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
