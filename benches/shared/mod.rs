//! What the benchmarks share: buffers for plans.

use std::collections::BTreeMap;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::record::Binding;
use wgpu_batchnorm::{BoundPlan, Buffers, Gpu, Plan, Result, Tensor, wgpu};

/// A buffer for each binding of some plans.
pub(crate) struct Memory(BTreeMap<Binding, Tensor>);

impl Memory {
    /// Allocates tensors of numbers between -1 and 1, and vectors and scratch of ones. A kernel's results from
    /// these are finite, and it takes as long as with any other numbers.
    pub(crate) fn new(gpu: &Gpu, plans: &[Plan]) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (binding, bytes) in plans.iter().flat_map(Plan::buffers) {
            let is_tensor = matches!(binding, Binding::X | Binding::Dy);
            // Multiples of the golden ratio's fraction are spread evenly.
            let value = |k: usize| (k as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0;
            let values = (0..bytes as usize / 4).map(|k| if is_tensor { value(k) as f32 } else { 1.0 });
            if tensors.get(&binding).is_none_or(|tensor: &Tensor| tensor.bytes() < bytes) {
                tensors.insert(binding, Tensor::from_array(gpu, values.collect::<Array1<f32>>().view())?);
            }
        }
        Ok(Self(tensors))
    }

    pub(crate) fn buffer(&self, binding: Binding) -> Option<&wgpu::Buffer> {
        self.0.get(&binding).map(Tensor::buffer)
    }

    pub(crate) fn buffers(&self) -> Buffers<'_> {
        Buffers::from_fn(|binding| self.buffer(binding).map(Into::into))
    }

    /// Binds the plans to these buffers.
    pub(crate) fn bind(&self, gpu: &Gpu, plans: &[Plan]) -> Result<Vec<BoundPlan>> {
        plans.iter().map(|plan| gpu.prepare(plan)?.bind(&self.buffers())).collect()
    }
}
