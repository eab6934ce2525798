//! Trains a small convolutional network with batch norm on handwritten digits, and shows why a trained one uses the
//! running averages.
//!
//!     cargo run --example cnn -- [--data DIR] [--steps N] [--rate R] [--seed S]
//!
//! conv 1→10, 5×5 · batch norm · relu · max-pool 2 · conv 10→20, 5×5 · batch norm · relu · max-pool 2 ·
//! dense 320→50 · relu · dense 50→10 · log-softmax and negative log-likelihood; gradient descent with
//! momentum, on batches of 60. Images are 28×28; smaller or larger ones are scaled to that.
//!
//! Batch norm runs on the GPU, on arrays `[N, channels, height, width]`. Everything else runs on the CPU with
//! `ndarray`, forward and backward. `--data` (default: `data/`) holds the four files of MNIST, unpacked.

mod convolution;
mod pool;
mod scale;
#[path = "../shared/mod.rs"]
mod shared;

use convolution::Convolution;
use ndarray::{Array2, Array4, Ix4};
use pool::MaxPool;
use shared::Result;
use shared::args::Args;
use shared::dense::Dense;
use shared::digits::{Batches, CLASSES, Digits};
use shared::loss::{accuracy, cross_entropy};
use shared::progress::Progress;
use shared::sgd::{Sgd, Velocities};
use wgpu_batchnorm::verify::Random;
use wgpu_batchnorm::{ArrayGradients, BatchNorm, BatchNormConfig, Gpu};

/// Width and height of an image.
const SIDE: usize = 28;
const BATCH: usize = 60;
const OPTIONS: [&str; 4] = ["--data", "--steps", "--rate", "--seed"];

fn main() -> Result<()> {
    let args = Args::parse(std::env::args().skip(1), &OPTIONS)?;
    let data = args.folder("--data", "data")?;
    let (steps, seed) = (args.get("--steps", 200)?, args.get("--seed", 1)?);
    let sgd = Sgd { rate: args.get("--rate", 0.02)?, momentum: 0.9 };
    let train = scale::to_side(Digits::read(&data, "train")?, SIDE);
    let test = scale::to_side(Digits::read(&data, "t10k")?, SIDE);
    let gpu = Gpu::new()?;
    println!("{} digits to learn from, {} to be tested with; {}", train.len(), test.len(), gpu.profile());

    let mut network = Network::new(&gpu, &mut Random::new(seed))?;
    let mut batches = Batches::new(train.len(), BATCH, seed)?;
    let mut progress = Progress::new("training", steps);
    for step in 1..=steps {
        let (x, labels) = train.batch(batches.draw());
        let logits = network.forward(x)?;
        let (loss, dlogits) = cross_entropy(logits.view(), &labels);
        network.backward(&dlogits)?;
        network.step(sgd)?;
        let accuracy = accuracy(logits.view(), &labels);
        progress.show(step, &format!("loss {loss:.4}, accuracy on the batch {accuracy:.3}"));
    }

    // Two orders: that of the test set, and one with all zeros first, then all ones …
    let mixed: Vec<usize> = (0..test.len()).collect();
    let mut by_digit = mixed.clone();
    by_digit.sort_by_key(|&index| test.labels[index]);

    println!("\naccuracy on the test set                  mixed batches    batches of one digit");
    network.eval();
    let (a, b) = (network.test(&test, &mixed)?, network.test(&test, &by_digit)?);
    println!("eval mode: the running averages               {a:.4}           {b:.4}");
    // This comes last, since in training mode each batch moves the running averages.
    network.train();
    let (a, b) = (network.test(&test, &mixed)?, network.test(&test, &by_digit)?);
    println!("training mode: the statistics of the batch    {a:.4}           {b:.4}");
    println!("\nBy its batch's statistics, what an image is taken for depends on its company.");
    Ok(())
}

/// The layers, in the order of the forward pass.
struct Network {
    first: Block,
    second: Block,
    hidden: Dense,
    /// Input of the relu after `hidden` in the last forward pass.
    hidden_y: Array2<f32>,
    output: Dense,
}

/// Convolution, batch norm, relu and max-pool.
struct Block {
    convolution: Convolution,
    batch_norm: BatchNorm,
    /// Of batch norm, in the last backward pass.
    gradients: Option<ArrayGradients<Ix4>>,
    velocities: Velocities,
    /// Input of the relu in the last forward pass.
    relu_x: Array4<f32>,
    pool: MaxPool,
}

impl Network {
    fn new(gpu: &Gpu, random: &mut Random) -> Result<Self> {
        // 28 → 24 by the convolution → 12 by the pool → 8 → 4: 20 channels of 4×4 are 320 numbers.
        Ok(Self {
            first: Block::new(gpu, 1, 10, random)?,
            second: Block::new(gpu, 10, 20, random)?,
            hidden: Dense::new(320, 50, (2.0f64 / 320.0).sqrt(), random),
            hidden_y: Array2::zeros((0, 50)),
            output: Dense::new(50, CLASSES, (1.0f64 / 50.0).sqrt(), random),
        })
    }

    /// Returns the logits of images, which are given as rows of pixels.
    fn forward(&mut self, x: Array2<f32>) -> Result<Array2<f32>> {
        let count = x.nrows();
        let x = x.into_shape_with_order((count, 1, SIDE, SIDE))?;
        let features = self.second.forward(self.first.forward(x)?)?;
        self.hidden_y = self.hidden.forward(features.into_shape_with_order((count, 320))?);
        Ok(self.output.forward(self.hidden_y.mapv(relu)))
    }

    /// Stores the gradients with the parameters of every layer.
    fn backward(&mut self, dlogits: &Array2<f32>) -> Result<()> {
        let mut dhidden = self.output.backward(dlogits);
        dhidden.zip_mut_with(&self.hidden_y, relu_backward);
        let dfeatures = self.hidden.backward(&dhidden).into_shape_with_order((dlogits.nrows(), 20, 4, 4))?;
        let dfirst = self.second.backward(&dfeatures)?;
        self.first.backward(&dfirst)?;
        Ok(())
    }

    fn step(&mut self, sgd: Sgd) -> Result<()> {
        for block in [&mut self.first, &mut self.second] {
            block.convolution.dense.step(sgd);
            let velocities = &mut block.velocities;
            if let Some(gradients) = &block.gradients {
                block.batch_norm.update_parameters(gradients, |name, value, gradient| {
                    velocities.step(sgd, name, value, gradient);
                })?;
            }
        }
        self.hidden.step(sgd);
        self.output.step(sgd);
        Ok(())
    }

    fn train(&mut self) {
        self.first.batch_norm.train();
        self.second.batch_norm.train();
    }

    fn eval(&mut self) {
        self.first.batch_norm.eval();
        self.second.batch_norm.eval();
    }

    /// Returns the fraction of images that are recognised, in the given order and the current mode.
    fn test(&mut self, test: &Digits, order: &[usize]) -> Result<f64> {
        let mut right = 0.0;
        for batch in order.chunks(BATCH) {
            let (x, labels) = test.batch(batch);
            right += accuracy(self.forward(x)?.view(), &labels) * batch.len() as f64;
        }
        Ok(right / order.len() as f64)
    }
}

impl Block {
    fn new(gpu: &Gpu, inputs: usize, outputs: usize, random: &mut Random) -> Result<Self> {
        Ok(Self {
            convolution: Convolution::new(inputs, outputs, 5, random),
            batch_norm: BatchNorm::new(gpu, BatchNormConfig::new(outputs))?,
            gradients: None,
            velocities: Velocities::default(),
            relu_x: Array4::zeros((0, 0, 0, 0)),
            pool: MaxPool::default(),
        })
    }

    fn forward(&mut self, x: Array4<f32>) -> Result<Array4<f32>> {
        self.relu_x = self.batch_norm.forward_array(self.convolution.forward(&x)?.view())?;
        self.pool.forward(&self.relu_x.mapv(relu))
    }

    fn backward(&mut self, dy: &Array4<f32>) -> Result<Array4<f32>> {
        let mut dy = self.pool.backward(dy)?;
        dy.zip_mut_with(&self.relu_x, relu_backward);
        let gradients = self.gradients.insert(self.batch_norm.backward_array(dy.view())?);
        self.convolution.backward(&gradients.input)
    }
}

fn relu(x: f32) -> f32 {
    x.max(0.0)
}

fn relu_backward(dy: &mut f32, x: &f32) {
    if *x <= 0.0 {
        *dy = 0.0;
    }
}
