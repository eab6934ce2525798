//! The batch norms of a ResNet's basic block and of a YOLO's convolution block, with the activations and the sum
//! after them. They run forward and backward in training, all on the GPU, and must match PyTorch's numbers in f64
//! (tests/networks/generate.py).

use crate::fold::{array, file};
use crate::support::gpu;
use ndarray::{Array1, Array4, ArrayD, Ix4};
use wgpu_batchnorm::{Activation, BatchNorm, BatchNormConfig, Checkpoint};

/// One batch norm of a block.
struct Part {
    name: &'static str,
    bn: BatchNorm,
}

fn images(file: &Checkpoint, name: &str) -> Array4<f32> {
    let array = array(file, name).unwrap().into_dimensionality::<Ix4>().unwrap();
    array.mapv(|value| value as f32)
}

/// Checks the largest error relative to the largest exact value, by the bar of the golden cases.
fn assert_close(found: ArrayD<f32>, file: &Checkpoint, name: &str) {
    let exact = array(file, name).unwrap();
    assert_eq!(found.shape(), exact.shape(), "{name}");
    let largest = exact.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let error = found.iter().zip(&exact).fold(0.0, |most: f64, (found, exact)| {
        // A NaN must not get lost in the maximum.
        let error = (f64::from(*found) - exact).abs() / largest;
        if error <= most { most } else { error }
    });
    assert!(error <= 1e-6, "{name}: {error:e}");
}

impl Part {
    /// Loads the parameters of the file.
    fn new(file: &Checkpoint, name: &'static str, activation: Activation) -> Self {
        let channels = array(file, &format!("{name}.weight")).unwrap().len();
        let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(channels).activation(activation)).unwrap();
        bn.load_state_dict(file, format!("{name}.").as_str()).unwrap();
        Self { name, bn }
    }

    /// Returns y for the file's x and the `residual`. Checks y and the running statistics.
    fn forward(&mut self, file: &Checkpoint, residual: Option<&Array4<f32>>) -> Array4<f32> {
        let x = images(file, &format!("{}.x", self.name));
        let y = match residual {
            Some(residual) => self.bn.forward_add_array(x.view(), residual.view()).unwrap(),
            None => self.bn.forward_array(x.view()).unwrap(),
        };
        assert_close(y.clone().into_dyn(), file, &format!("{}.y", self.name));
        let state = self.bn.state().unwrap();
        for (running, after) in [(state.running_mean, "mean"), (state.running_var, "var")] {
            let name = format!("{}.after.running_{after}", self.name);
            assert_close(running.unwrap().into_dyn(), file, &name);
        }
        y
    }

    /// Checks the gradients that follow from dy. Returns dresidual, the gradient of the residual.
    fn backward(&mut self, file: &Checkpoint, dy: &Array4<f32>) -> Option<Array4<f32>> {
        let gradients = self.bn.backward_array(dy.view()).unwrap();
        let vector = |vector: Option<Array1<f32>>| vector.unwrap().into_dyn();
        assert_close(gradients.input.into_dyn(), file, &format!("{}.dx", self.name));
        assert_close(vector(gradients.weight), file, &format!("{}.dweight", self.name));
        assert_close(vector(gradients.bias), file, &format!("{}.dbias", self.name));
        gradients.residual
    }
}

#[test]
fn basic_block_of_a_resnet() {
    let file = file("basic_block.safetensors");
    let mut first = Part::new(&file, "bn1", Activation::Relu);
    let mut second = Part::new(&file, "bn2", Activation::Relu);
    let mut shortcut = Part::new(&file, "downsample", Activation::Identity);
    first.forward(&file, None);
    let residual = shortcut.forward(&file, None);
    second.forward(&file, Some(&residual));

    let dresidual = second.backward(&file, &images(&file, "dy")).unwrap();
    shortcut.backward(&file, &dresidual);
    first.backward(&file, &images(&file, "da"));
}

#[test]
fn convolution_block_of_a_yolo() {
    let file = file("yolo_block.safetensors");
    let mut part = Part::new(&file, "bn", Activation::LeakyRelu { slope: 0.1 });
    part.forward(&file, None);
    part.backward(&file, &images(&file, "dy"));
}
