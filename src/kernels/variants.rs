//! Every variant there is of every kernel: what tests compile.

use super::{
    BackwardChannel, BackwardFinalize, BackwardHeld, BackwardInput, BackwardSums, ChannelGradients,
    CountBatch, Finalize, ForwardChannel, ForwardHeld, Held, InputGradient, Kernel, Lanes, Moments,
    MomentsResult, Normalize, Output, Statistics, Storage, Tracking, Upstream, Walk,
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
            ForwardChannel::every_variant(size, subgroup_sizes).into_iter().map(Self::ForwardChannel),
        );
        kernels.extend(ForwardHeld::every_variant(size, subgroup_sizes).into_iter().map(Self::ForwardHeld));
        kernels.extend(BackwardSums::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardSums));
        kernels.extend(BackwardFinalize::every_variant(size).into_iter().map(Self::BackwardFinalize));
        kernels.extend(BackwardInput::every_variant(size).into_iter().map(Self::BackwardInput));
        kernels.extend(
            BackwardChannel::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardChannel),
        );
        kernels.extend(BackwardHeld::every_variant(size, subgroup_sizes).into_iter().map(Self::BackwardHeld));
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
        let concluded = Tracking::ALL.map(MomentsResult::Statistics);
        for (walk, lanes) in Lanes::every_variant(workgroup_size, subgroup_sizes) {
            for result in [&[MomentsResult::Partials][..], &concluded].concat() {
                variants.push(Self { walk, lanes, storage: Storage::F32, result, workgroup_size });
            }
            for storage in Storage::ALL {
                let result = MomentsResult::Partials;
                variants.push(Self { walk, lanes, storage, result, workgroup_size });
            }
        }
        variants
    }
}

impl Finalize {
    fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for tracking in Tracking::ALL {
            for channels_per_workgroup in [1, workgroup_size] {
                variants.push(Self { tracking, channels_per_workgroup, workgroup_size });
            }
        }
        variants
    }
}

impl Normalize {
    fn every_variant(workgroup_size: u32) -> Vec<Self> {
        let mut variants = Vec::new();
        for walk in Walk::every_variant(workgroup_size) {
            for statistics in [Statistics::Batch, Statistics::Running] {
                for output in Output::every_plain().into_iter().chain(Output::every_fused()) {
                    variants.push(Self { walk, statistics, output, workgroup_size });
                }
            }
        }
        variants
    }
}

impl ForwardChannel {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, (walk, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            if matches!(walk, Walk::Ragged { .. }) {
                continue;
            }
            for tracking in Tracking::ALL {
                for output in Output::every_plain() {
                    variants.push(Self { walk, lanes, output, tracking, workgroup_size });
                }
            }
            // A third of what can be fused, in turn.
            for output in Output::every_fused().skip(index % 3).step_by(3) {
                let tracking = Tracking::Fixed;
                variants.push(Self { walk, lanes, output, tracking, workgroup_size });
            }
        }
        variants
    }
}

impl ForwardHeld {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, held) in Held::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate() {
            for tracking in Tracking::ALL {
                for output in Output::every_plain() {
                    variants.push(Self { held, output, tracking });
                }
            }
            // A third of what can be fused, in turn.
            for output in Output::every_fused().skip(index % 3).step_by(3) {
                let tracking = Tracking::Fixed;
                variants.push(Self { held, output, tracking });
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
        for (index, (walk, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            for &(result, statistics) in &results {
                let upstream = Upstream::plain(true);
                variants.push(Self { walk, lanes, statistics, upstream, result, workgroup_size });
            }
            // A half of what can be fused, in turn.
            for (k, upstream) in Upstream::every_activated().enumerate().skip(index % 2).step_by(2) {
                let statistics = [Statistics::Batch, Statistics::Running][k / 2 % 2];
                variants.push(Self { walk, lanes, statistics, upstream, result: None, workgroup_size });
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
        for walk in Walk::every_variant(workgroup_size) {
            let statistics =
                [(Statistics::Batch, false), (Statistics::Batch, true), (Statistics::Running, false)];
            for (statistics, exact_products) in statistics {
                if exact_products && !walk.has_exact_products() {
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
                    variants.push(Self { walk, statistics, gradient, workgroup_size });
                }
            }
        }
        variants
    }
}

impl BackwardChannel {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, (walk, lanes)) in
            Lanes::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate()
        {
            if matches!(walk, Walk::Ragged { .. }) {
                continue;
            }
            for bits in 0..8 {
                let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
                let exact_products = walk.has_exact_products() && dweight;
                let affine = dweight || dbias || in_place;
                let gradient = InputGradient::plain(affine, in_place, exact_products);
                variants.push(Self { walk, lanes, gradient, dweight, dbias, workgroup_size });
            }
            // A third of what can be fused, in turn.
            for gradient in
                InputGradient::every_activated(walk.has_exact_products()).skip(index % 3).step_by(3)
            {
                variants.push(Self { walk, lanes, gradient, dweight: true, dbias: true, workgroup_size });
            }
        }
        variants
    }
}

impl BackwardHeld {
    fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Self> {
        let mut variants = Vec::new();
        for (index, held) in Held::every_variant(workgroup_size, subgroup_sizes).into_iter().enumerate() {
            for bits in 0..8 {
                let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
                let exact_products = held.places.has_exact_products() && dweight;
                let affine = dweight || dbias || in_place;
                let gradient = InputGradient::plain(affine, in_place, exact_products);
                variants.push(Self { held, gradient, dweight, dbias });
            }
            // A third of what can be fused, in turn.
            for gradient in
                InputGradient::every_activated(held.places.has_exact_products()).skip(index % 3).step_by(3)
            {
                variants.push(Self { held, gradient, dweight: true, dbias: true });
            }
        }
        variants
    }
}
