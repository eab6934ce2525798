//! Mutants of activations, sums and half precision. Each normalises by the reference without an activation and
//! applies an activation of its own. It passes dy back through its own activation, and then through the reference.

use super::*;
use wgpu_batchnorm::ndarray::{ArrayD, Zip};
use wgpu_batchnorm::reference::{BatchNorm, Gradients};
use wgpu_batchnorm::verify::{GradientScales, Step, StepGradients, table};
use wgpu_batchnorm::{Activation, DType, Result};

const Y: &[&str] = &["y"];
const DZ: &[&str] = &["dresidual"];
/// Everything that depends on dy after it has passed the activation.
const GATED: &[&str] = &["dbias", "dresidual", "dweight", "dx"];
/// Everything that depends on the function itself.
const FUNCTION: &[&str] = &["dbias", "dresidual", "dweight", "dx", "y"];

faults! {
    // Forward.
    /// y = bn(x) + residual.
    ActivationForgotten => Y,
    /// y = activation(bn(x)).
    SumForgotten => Y,
    /// y = activation(bn(x)) + residual.
    SumAfterwards => Y,
    /// y = activation(bn(x) − residual).
    Subtracted => Y,
    /// LeakyReLU has PyTorch's default slope.
    DefaultSlope => FUNCTION,
    /// ReLU6 is ReLU.
    Unbounded => FUNCTION,
    /// The two GELUs are swapped.
    OtherGelu => FUNCTION,
    /// SiLU has 1.702 in the exponent, as one approximation of GELU.
    SiluScaled => FUNCTION,
    /// A NaN becomes 0, as max(NaN, 0) is on some GPUs.
    NanRectified => Y,
    /// Exponentials are in half precision.
    CoarseExponential => Y,

    // Backward.
    /// dy does not go through the activation.
    Ungated => GATED,
    /// dy goes through the activation twice.
    GatedTwice => GATED,
    /// The derivative is taken at bn(x), without the residual.
    GatedWithoutSum => GATED,
    /// The derivative is taken at y.
    GatedAtOutput => GATED,
    /// dresidual = dy.
    DzUngated => DZ,
    /// dresidual = dx.
    DzIsDx => DZ,
    /// dresidual is 0.
    DzUnwritten => DZ,
    /// There is no dresidual.
    DzMissing => DZ,

    // Half precision.
    /// Two bits fewer are kept.
    OneBitLess => &["dresidual", "dx", "y"],
    /// f16 is rounded as bf16.
    OtherType => &["dresidual", "dx", "y"],
    /// The second of two elements in a word is lost.
    NeighbourLost => &["dresidual", "dx", "y"],
    /// The two elements in a word are exchanged.
    NeighboursExchanged => &["dresidual", "dx", "y"],
    /// The last element is never written if it has a word to itself.
    OddOneUnwritten => &["dresidual", "dx", "y"],
    /// Results are not rounded to the type. A file could not hold them, but they are no less right.
    Accurate => &[],
}

struct Mutant(Fault);

impl Mutant {
    fn is(&self, fault: Fault) -> bool {
        self.0 == fault
    }

    fn activation(&self, activation: Activation) -> Activation {
        match (self.0, activation) {
            (Fault::DefaultSlope, Activation::LeakyRelu { .. }) => Activation::LeakyRelu { slope: 0.01 },
            (Fault::Unbounded, Activation::Relu6) => Activation::Relu,
            (Fault::OtherGelu, Activation::Gelu) => Activation::GeluTanh,
            (Fault::OtherGelu, Activation::GeluTanh) => Activation::Gelu,
            _ => activation,
        }
    }

    fn value(&self, activation: Activation, normalized: f64, residual: f64) -> f64 {
        let sum = match self.0 {
            Fault::SumForgotten | Fault::SumAfterwards => normalized,
            Fault::Subtracted => normalized - residual,
            _ => normalized + residual,
        };
        let after = if self.is(Fault::SumAfterwards) { residual } else { 0.0 };
        match self.0 {
            Fault::ActivationForgotten => sum,
            Fault::SiluScaled if activation == Activation::Silu => sum / (1.0 + (-1.702 * sum).exp()),
            Fault::NanRectified if activation == Activation::Relu && sum.is_nan() => 0.0,
            Fault::CoarseExponential if activation == Activation::Sigmoid => {
                1.0 / (1.0 + DType::F16.round((-sum).exp()))
            }
            _ => self.activation(activation).value(sum) + after,
        }
    }

    /// Returns dy after it has passed the activation.
    fn gated(&self, activation: Activation, dy: f64, normalized: f64, residual: f64) -> f64 {
        let sum = normalized + residual;
        let function = self.activation(activation);
        match self.0 {
            Fault::Ungated => dy,
            Fault::GatedTwice => function.backward(function.backward(dy, sum), sum),
            Fault::GatedWithoutSum => function.backward(dy, normalized),
            Fault::GatedAtOutput => function.backward(dy, function.value(sum)),
            Fault::SiluScaled if activation == Activation::Silu => {
                let sigmoid = |u: f64| 1.0 / (1.0 + (-1.702 * u).exp());
                dy * (sigmoid(sum) + 1.702 * sum * sigmoid(sum) * sigmoid(-sum))
            }
            _ => function.backward(dy, sum),
        }
    }

    /// Returns the tensor as it is stored.
    fn stored(&self, dtype: DType, mut tensor: ArrayD<f64>) -> ArrayD<f64> {
        let is_half = dtype != DType::F32;
        tensor.mapv_inplace(|value| match self.0 {
            Fault::Accurate => value,
            Fault::OneBitLess if is_half && value.is_finite() && value != 0.0 => {
                let unit = 4.0 * dtype.unit(value);
                (value / unit).round() * unit
            }
            Fault::OtherType if dtype == DType::F16 => DType::BF16.round(value),
            _ => dtype.round(value),
        });
        let Some(values) = tensor.as_slice_mut().filter(|_| is_half) else { return tensor };
        match self.0 {
            Fault::NeighbourLost => values.iter_mut().skip(1).step_by(2).for_each(|value| *value = 0.0),
            Fault::NeighboursExchanged => values.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1)),
            Fault::OddOneUnwritten => {
                values.chunks_exact_mut(2).into_remainder().iter_mut().for_each(|value| *value = 0.0);
            }
            _ => {}
        }
        tensor
    }
}

impl Mutated for Mutant {
    fn outputs(&self, case: &Case, inputs: &Inputs, right: &Outputs) -> Result<Outputs> {
        let (activation, dtype) = (case.config.activation, case.dtype);
        let plain = case.config.clone().activation(Activation::Identity);
        let mut layer = BatchNorm::with_state(plain, &inputs.state)?;
        if !case.training {
            layer.eval();
        }
        let mut steps = Vec::new();
        let mut right = right.steps.iter().cloned();
        for (k, (x, dy)) in inputs.xs.iter().zip(&inputs.dys).enumerate() {
            let normalized = layer.forward(x.mapv(f64::from).view())?;
            let residual = inputs
                .residuals
                .get(k)
                .map_or_else(|| ArrayD::zeros(x.raw_dim()), |residual| residual.mapv(f64::from));
            let y = Zip::from(&normalized)
                .and(&residual)
                .map_collect(|&bn, &residual| self.value(activation, bn, residual));
            let dy = dy.mapv(f64::from);
            let gated = Zip::from(&dy)
                .and(&normalized)
                .and(&residual)
                .map_collect(|&dy, &bn, &residual| self.gated(activation, dy, bn, residual));
            let Gradients { dx, dweight, dbias, .. } = layer.backward(gated.view())?;
            let dresidual = match self.0 {
                Fault::DzUngated => dy,
                Fault::DzIsDx => dx.clone(),
                Fault::DzUnwritten => ArrayD::zeros(dx.raw_dim()),
                _ => gated,
            };
            let has_dresidual = case.residual && !self.is(Fault::DzMissing);
            let gradients = StepGradients {
                dx: self.stored(dtype, dx),
                dresidual: has_dresidual.then(|| self.stored(dtype, dresidual)),
                dweight,
                dbias,
                scales: GradientScales::default(),
            };
            let right = right.next().expect("a step for each batch");
            steps.push(Step { y: self.stored(dtype, y), gradients: Some(gradients), ..right });
        }
        Ok(Outputs { steps })
    }
}

/// Returns the cases in which something is fused or stored in half precision, and no others.
fn cases() -> Vec<Case> {
    let mut cases = table();
    cases.retain(|case| !case.is_plain());
    cases.retain(|case| case.shape.iter().product::<usize>() <= 40_000);
    assert!(cases.len() > 100, "{} cases", cases.len());
    cases
}

#[test]
fn the_control_passes_every_case() -> Result<()> {
    assert_control_passes(cases(), &Mutant(Fault::None))
}

#[test]
fn every_mutant_is_rejected_for_its_fault() -> Result<()> {
    assert_blamed(cases(), FAULTS, Mutant)
}
