//! Stochastic gradient descent.

use ndarray::{Array, Array1, Dimension};
use std::collections::BTreeMap;

/// The options of [`Parameter::step`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sgd {
    /// The learning rate.
    pub(crate) rate: f32,
    /// Fraction of the last step that is kept, 0 for plain gradient descent. Not the momentum of batch norm.
    pub(crate) momentum: f32,
}

/// What SGD keeps of a batch norm, whose parameters are on the GPU: the velocity of each by its name.
#[derive(Default)]
pub(crate) struct Velocities(BTreeMap<&'static str, Array1<f32>>);

impl Velocities {
    /// velocity = momentum · velocity + gradient; value = value − rate · velocity.
    pub(crate) fn step(
        &mut self,
        sgd: Sgd,
        name: &'static str,
        value: &mut Array1<f32>,
        gradient: &Array1<f32>,
    ) {
        let velocity = self.0.entry(name).or_insert_with(|| Array1::zeros(gradient.len()));
        *velocity *= sgd.momentum;
        *velocity += gradient;
        value.scaled_add(-sgd.rate, velocity);
    }
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
