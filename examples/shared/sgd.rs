//! Stochastic gradient descent.

use ndarray::{Array, Dimension};

/// The options of [`Parameter::step`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sgd {
    /// The learning rate.
    pub(crate) rate: f32,
    /// Fraction of the last step that is kept, 0 for plain gradient descent. Not the momentum of batch norm.
    pub(crate) momentum: f32,
}

/// A trainable array.
pub(crate) struct Parameter<D: Dimension> {
    /// Used by the forward pass.
    pub(crate) value: Array<f32, D>,
    /// Result of the last backward pass.
    pub(crate) gradient: Array<f32, D>,
    velocity: Array<f32, D>,
}

impl<D: Dimension> Parameter<D> {
    /// Starts with this value.
    pub(crate) fn new(value: Array<f32, D>) -> Self {
        let zeros = Array::zeros(value.raw_dim());
        Self { value, gradient: zeros.clone(), velocity: zeros }
    }

    /// velocity = momentum · velocity + gradient; value = value − rate · velocity.
    pub(crate) fn step(&mut self, sgd: Sgd) {
        self.velocity *= sgd.momentum;
        self.velocity += &self.gradient;
        self.value.scaled_add(-sgd.rate, &self.velocity);
    }
}
