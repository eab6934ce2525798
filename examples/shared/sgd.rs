//! Stochastic gradient descent.

use ndarray::{Array, Dimension};

/// The options of [`Parameter::step`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sgd {
    /// The learning rate.
    pub(crate) rate: f32,
    /// How much of the last step goes on; 0 for plain gradient descent. Not that of batch norm.
    pub(crate) momentum: f32,
}

/// An array that learns.
pub(crate) struct Parameter<D: Dimension> {
    /// What the forward pass uses.
    pub(crate) value: Array<f32, D>,
    /// What the last backward pass found.
    pub(crate) gradient: Array<f32, D>,
    velocity: Array<f32, D>,
}

impl<D: Dimension> Parameter<D> {
    /// Begins with this value.
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
