//! The batch norms of a ResNet's basic block and of a YOLO's convolution block, forward and backward in training,
//! against PyTorch's numbers in f64 (tests/networks/generate.py). Activations and sums, until they are fused, are
//! computed here.

use crate::fold::{array, file};
use crate::support::gpu;
use ndarray::{Array1, Array4, ArrayD, Ix4};
use wgpu_batchnorm::{ArrayGradients, BatchNorm, BatchNormConfig, Checkpoint};

/// One batch norm of a block.
struct Part {
    name: &'static str,
    bn: BatchNorm,
    /// Its output.
    normalized: Array4<f64>,
}

fn images(file: &Checkpoint, name: &str) -> Array4<f64> {
    array(file, name).unwrap().into_dimensionality::<Ix4>().unwrap()
}

/// Largest error beside the largest exact value: the bar of the golden cases.
fn assert_close(found: &ArrayD<f64>, file: &Checkpoint, name: &str) {
    let exact = array(file, name).unwrap();
    assert_eq!(found.shape(), exact.shape(), "{name}");
    let largest = exact.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let error = found.iter().zip(&exact).fold(0.0, |most: f64, (found, exact)| {
        // A NaN must not get lost in the maximum.
        let error = (found - exact).abs() / largest;
        if error <= most { most } else { error }
    });
    assert!(error <= 1e-6, "{name}: {error:e}");
}

impl Part {
    fn forward(file: &Checkpoint, name: &'static str) -> Self {
        let x = images(file, &format!("{name}.x")).mapv(|value| value as f32);
        let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(x.dim().1)).unwrap();
        bn.load_state_dict(file, format!("{name}.").as_str()).unwrap();
        let normalized = bn.forward_array(x.view()).unwrap().mapv(f64::from);
        let state = bn.state().unwrap();
        for (running, after) in [(state.running_mean, "mean"), (state.running_var, "var")] {
            let running = running.unwrap().mapv(f64::from).into_dyn();
            assert_close(&running, file, &format!("{name}.after.running_{after}"));
        }
        Self { name, bn, normalized }
    }

    /// The gradients that follow from that of the output.
    fn backward(&mut self, file: &Checkpoint, gradient: &Array4<f64>) {
        let gradient = gradient.mapv(|value| value as f32);
        let ArrayGradients { input, weight, bias, .. } = self.bn.backward_array(gradient.view()).unwrap();
        let vector = |vector: Option<Array1<f32>>| vector.unwrap().mapv(f64::from).into_dyn();
        assert_close(&input.mapv(f64::from).into_dyn(), file, &format!("{}.dx", self.name));
        assert_close(&vector(weight), file, &format!("{}.dweight", self.name));
        assert_close(&vector(bias), file, &format!("{}.dbias", self.name));
    }
}

/// The gradient where the output was positive, and `slope` of it elsewhere.
fn through(gradient: &Array4<f64>, before: &Array4<f64>, slope: f64) -> Array4<f64> {
    let passes = before.mapv(|value| if value > 0.0 { 1.0 } else { slope });
    gradient * &passes
}

#[test]
fn basic_block_of_a_resnet() {
    let file = file("basic_block.safetensors");
    let [mut first, mut second, mut shortcut] =
        ["bn1", "bn2", "downsample"].map(|name| Part::forward(&file, name));
    let relu = |values: &Array4<f64>| values.mapv(|value| value.max(0.0));
    assert_close(&relu(&first.normalized).into_dyn(), &file, "bn1.y");
    assert_close(&shortcut.normalized.clone().into_dyn(), &file, "downsample.y");
    let sum = &second.normalized + &shortcut.normalized;
    assert_close(&relu(&sum).into_dyn(), &file, "bn2.y");

    let gradient = through(&images(&file, "dy"), &sum, 0.0);
    second.backward(&file, &gradient);
    shortcut.backward(&file, &gradient);
    let gradient = through(&images(&file, "da"), &first.normalized, 0.0);
    first.backward(&file, &gradient);
}

#[test]
fn convolution_block_of_a_yolo() {
    let file = file("yolo_block.safetensors");
    let mut part = Part::forward(&file, "bn");
    let leaky_relu = |value: f64| if value > 0.0 { value } else { 0.1 * value };
    assert_close(&part.normalized.mapv(leaky_relu).into_dyn(), &file, "bn.y");
    let gradient = through(&images(&file, "dy"), &part.normalized, 0.1);
    part.backward(&file, &gradient);
}
