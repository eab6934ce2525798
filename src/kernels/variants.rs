//! Every variant there is of every kernel: what tests compile.

use super::{
    BackwardFinalize, BackwardInput, BackwardOneDispatch, BackwardResident, BackwardSums, ChannelGradients,
    CountBatch, Finalize, ForwardOneDispatch, ForwardResident, InputGradient, Kernel, Lanes, Moments,
    MomentsResult, Normalize, Output, PreActivation, RunningUpdate, Statistics, Storage, Tile, Traversal,
};

impl Kernel {
    /// Every variant there is, for the given workgroup size and subgroup sizes.
    pub fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let size = workgroup_size;
        let mut kernels = vec![Self::CountBatch(CountBatch)];
        kernels.extend(Moments::every_variant(size, subgroup_sizes).into_iter().map(Self::Moments));
        kernels.extend(Finalize::every_variant(size).into_iter().map(Self::Finalize));
        kernels.extend(Normalize::every_variant(size).into_iter().map(Self::Normalize));
        kernels.extend(
            ForwardOneDispatch::every_variant(size, subgroup_sizes).into_iter().map(Self::ForwardOneDispatch),
        );
        kernels.extend(
            ForwardResident::every_variant(size, subgroup_sizes).into_iter().map(Self::ForwardResident),
        );
        kernels.extend(BackwardSums::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardSums));
        kernels.extend(BackwardFinalize::every_variant(size).into_iter().map(Self::BackwardFinalize));
        kernels.extend(BackwardInput::every_variant(size).into_iter().map(Self::BackwardInput));
        kernels.extend(
            BackwardOneDispatch::every_variant(size, subgroup_sizes)
                .into_iter()
                .map(Self::BackwardOneDispatch),
        );
        kernels.extend(
            BackwardResident::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardResident),
        );
        kernels
    }

    /// Whether it reads and writes f32, without an activation and a sum.
    pub fn is_plain(&self) -> bool {
        let source = self.source();
        let plain = [
            ("data/storage", "f32"),
            ("epilogue/activation", "identity"),
            ("epilogue/residual", "none"),
            ("tensors/dz", "none"),
        ];
        plain.iter().all(|(file, plain)| source.chosen(file).is_none_or(|case| case == *plain))
    }
}

impl Moments {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        let concluded = RunningUpdate::ALL.map(MomentsResult::Statistics);
        for (traversal, lanes) in Lanes::every_variant(workgroup_size, subgroup_sizes) {
            for result in [&[MomentsResult::Partials][..], &concluded].concat() {
                variants.push(Self { traversal, lanes, storage: Storage::F32, result, workgroup_size });
            }
            for storage in Storage::ALL {
                let result = MomentsResult::Partials;
                variants.push(Self { traversal, lanes, storage, result, workgroup_size });
            }
        }
        variants
    }
}

impl Finalize {
    fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for running in RunningUpdate::ALL {
            for channels_per_workgroup in [1, workgroup_size] {
                variants.push(Self { running, channels_per_workgroup, workgroup_size });
            }
        }
        variants
    }
}

impl Normalize {
    fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for traversal in Traversal::every_variant(workgroup_size) {
            for statistics in [Statistics::Batch, Statistics::Running] {
                for output in Output::every_plain().into_iter().chain(Output::every_fused()) {
                    variants.push(Self { traversal, statistics, output, workgroup_size });
                }
            }
        }
        variants
    }
}

/// What kernels of a whole forward pass are compiled for, of their `index`-th geometry: running statistics and output.
fn forward_passes(index: usize) -> Vec<(RunningUpdate, Output)> {
    let plain = RunningUpdate::ALL
        .into_iter()
        .flat_map(|running| Output::every_plain().map(|output| (running, output)));
    // A third of what can be fused, in turn.
    let fused = Output::every_fused().skip(index % 3).step_by(3);
    plain.chain(fused.map(|output| (RunningUpdate::Fixed, output))).collect()
}

/// The same of a whole backward pass: dx and dz, dweight, dbias.
fn backward_passes(index: usize, has_exact_products: bool) -> Vec<(InputGradient, bool, bool)> {
    let plain = (0..8).map(|bits| {
        let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
        let affine = dweight || dbias || in_place;
        (InputGradient::plain(affine, in_place, has_exact_products && dweight), dweight, dbias)
    });
    // A third of what can be fused, in turn.
    let fused = InputGradient::every_activated(has_exact_products).skip(index % 3).step_by(3);
    plain.chain(fused.map(|gradient| (gradient, true, true))).collect()
}

/// How channels can be visited by workgroups or lanes that have them whole.
fn whole_channels(
    workgroup_size: u32,
    subgroup_sizes: (u32, u32),
) -> impl Iterator<Item = (usize, (Traversal, Lanes))> {
    let all = Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate();
    all.filter(|(_, (traversal, _))| !matches!(traversal, Traversal::PlanesMasked { .. }))
}

impl ForwardOneDispatch {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, (traversal, lanes)) in whole_channels(workgroup_size, subgroup_sizes) {
            for (running, output) in forward_passes(index) {
                variants.push(Self { traversal, lanes, output, running, workgroup_size });
            }
        }
        variants
    }
}

impl ForwardResident {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, tile) in Tile::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate() {
            for (running, output) in forward_passes(index) {
                variants.push(Self { tile, output, running });
            }
        }
        variants
    }
}

impl BackwardSums {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut results: Vec<_> = [Statistics::Batch, Statistics::Running, Statistics::None]
            .map(|statistics| (None, statistics))
            .to_vec();
        // dweight needs x here: of an empty batch, nothing is summed.
        let concluded = ChannelGradients::every_variant()
            .into_iter()
            .filter(|(gradients, statistics)| !gradients.weight || *statistics != Statistics::None);
        results.extend(concluded.map(|(gradients, statistics)| (Some(gradients), statistics)));
        let mut variants = Vec::new();
        for (index, (traversal, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            for &(result, statistics) in &results {
                let pre_activation = PreActivation::plain(true);
                variants.push(Self { traversal, lanes, statistics, pre_activation, result, workgroup_size });
            }
            // A half of what can be fused, in turn.
            for (k, pre_activation) in PreActivation::every_activated().enumerate().skip(index % 2).step_by(2)
            {
                let statistics = [Statistics::Batch, Statistics::Running][k / 2 % 2];
                variants.push(Self {
                    traversal,
                    lanes,
                    statistics,
                    pre_activation,
                    result: None,
                    workgroup_size,
                });
            }
        }
        variants
    }
}

impl BackwardFinalize {
    fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for channels_per_workgroup in [1, workgroup_size] {
            for (gradients, statistics) in ChannelGradients::every_variant() {
                variants.push(Self { statistics, gradients, channels_per_workgroup, workgroup_size });
            }
        }
        variants
    }
}

impl BackwardInput {
    fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for traversal in Traversal::every_variant(workgroup_size) {
            let statistics =
                [(Statistics::Batch, false), (Statistics::Batch, true), (Statistics::Running, false)];
            for (statistics, exact_products) in statistics {
                if exact_products && !traversal.has_exact_products() {
                    continue;
                }
                let plain = [(false, false), (false, true), (true, false), (true, true)]
                    .map(|(in_place, affine)| InputGradient::plain(affine, in_place, exact_products));
                let without_dx = InputGradient::every_activated(false)
                    .filter(|gradient| gradient.dz && !gradient.in_place && !exact_products)
                    .map(|gradient| InputGradient { dx: false, ..gradient });
                let fused = InputGradient::every_activated(exact_products).chain(without_dx);
                // A half of what can be fused, in turn.
                let fused = fused.skip(variants.len() % 2).step_by(2);
                for gradient in plain.into_iter().chain(fused) {
                    variants.push(Self { traversal, statistics, gradient, workgroup_size });
                }
            }
        }
        variants
    }
}

impl BackwardOneDispatch {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, (traversal, lanes)) in whole_channels(workgroup_size, subgroup_sizes) {
            for (gradient, dweight, dbias) in backward_passes(index, traversal.has_exact_products()) {
                variants.push(Self { traversal, lanes, gradient, dweight, dbias, workgroup_size });
            }
        }
        variants
    }
}

impl BackwardResident {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, tile) in Tile::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate() {
            for (gradient, dweight, dbias) in backward_passes(index, tile.layout.has_exact_products()) {
                variants.push(Self { tile, gradient, dweight, dbias });
            }
        }
        variants
    }
}
