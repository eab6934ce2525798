//! Variants of every kernel, for tests and compilers to check.

use super::loads::widen;
use crate::activation::ActivationKind;
use crate::kernels::{
    BackwardFinalize, BackwardInput, BackwardOneDispatch, BackwardResident, BackwardSums, ChannelGradients,
    CountBatch, Finalize, ForwardOneDispatch, ForwardResident, InputGradient, Kernel, Lanes, Moments,
    MomentsResult, Normalize, Output, PreActivation, RunningUpdate, Statistics, Storage, Tile, Traversal,
    VectorWidth,
};

const ACTIVATIONS: [ActivationKind; 9] = [
    ActivationKind::Identity,
    ActivationKind::Relu,
    ActivationKind::LeakyRelu,
    ActivationKind::Relu6,
    ActivationKind::Silu,
    ActivationKind::Sigmoid,
    ActivationKind::Tanh,
    ActivationKind::Gelu,
    ActivationKind::GeluTanh,
];

const STORAGES: [Storage; 5] =
    [Storage::F32, Storage::F16, Storage::ConvertedF16, Storage::PackedF16, Storage::PackedBf16];

const UPDATES: [RunningUpdate; 3] = [RunningUpdate::Off, RunningUpdate::Fixed, RunningUpdate::Cumulative];

/// Every combination of two switches.
const SWITCHES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// Returns variants of every kernel, for one workgroup size and the subgroup sizes of an adapter. Fused options take
/// turns: not every combination is included.
pub fn every_variant(workgroup_size: u32, subgroup_sizes: (u32, u32)) -> Vec<Kernel> {
    Variants { workgroup_size, subgroup_sizes }.all()
}

/// Returns whether a kernel reads and writes f32, with neither an activation nor a residual.
pub fn is_plain(kernel: &Kernel) -> bool {
    let pre_activation = |pre_activation: PreActivation| {
        pre_activation.storage == Storage::F32
            && pre_activation.activation == ActivationKind::Identity
            && !pre_activation.residual
    };
    let gradient = |gradient: InputGradient| pre_activation(gradient.pre_activation) && !gradient.dresidual;
    let output = |output: Output| {
        output.storage == Storage::F32 && output.activation == ActivationKind::Identity && !output.residual
    };
    match kernel {
        Kernel::CountBatch(_) | Kernel::Finalize(_) | Kernel::BackwardFinalize(_) => true,
        Kernel::Moments(kernel) => kernel.storage == Storage::F32,
        Kernel::Normalize(kernel) => output(kernel.output),
        Kernel::ForwardOneDispatch(kernel) => output(kernel.output),
        Kernel::ForwardResident(kernel) => output(kernel.output),
        Kernel::BackwardSums(kernel) => {
            pre_activation(kernel.pre_activation) && kernel.beside.is_none_or(gradient)
        }
        Kernel::BackwardInput(kernel) => gradient(kernel.gradient),
        Kernel::BackwardOneDispatch(kernel) => gradient(kernel.gradient),
        Kernel::BackwardResident(kernel) => gradient(kernel.gradient),
    }
}

/// The sizes that the variants are made for.
struct Variants {
    workgroup_size: u32,
    subgroup_sizes: (u32, u32),
}

impl Variants {
    fn all(&self) -> Vec<Kernel> {
        let mut kernels = vec![Kernel::CountBatch(CountBatch)];
        self.moments(&mut kernels);
        self.finalize(&mut kernels);
        self.normalize(&mut kernels);
        self.merging(&mut kernels);
        self.forward_passes(&mut kernels);
        self.backward_sums(&mut kernels);
        self.backward_finalize(&mut kernels);
        self.backward_input(&mut kernels);
        self.backward_passes(&mut kernels);
        // Kernels with loads of eight differ in few lines from those of four: a third of them, in turn.
        let widened = kernels.into_iter().enumerate().map(|(index, mut kernel)| {
            let is_wide = widen(&mut kernel);
            (kernel, !is_wide || index % 3 == 0)
        });
        widened.filter(|(_, is_chosen)| *is_chosen).map(|(kernel, _)| kernel).collect()
    }

    /// Returns the ways to visit every element.
    fn traversals(&self) -> [Traversal; 6] {
        [
            Traversal::Planes { width: VectorWidth::Scalar },
            Traversal::Planes { width: VectorWidth::Four },
            Traversal::Planes { width: VectorWidth::Eight },
            Traversal::PlanesMasked,
            Traversal::Columns { width: VectorWidth::Scalar, columns_per_lane: 1 },
            Traversal::Columns { width: VectorWidth::Four, columns_per_lane: 3 },
        ]
    }

    /// Returns the ways to visit every element and to reduce each channel.
    fn reductions(&self) -> Vec<(Traversal, Lanes)> {
        let (min_size, max_size) = self.subgroup_sizes;
        let mut reductions = Vec::new();
        for traversal in self.traversals() {
            match traversal {
                Traversal::Columns { .. } | Traversal::ColumnBlocks { .. } => {
                    reductions.push((traversal, Lanes::Separate));
                }
                Traversal::Planes { .. } | Traversal::PlanesMasked => {
                    reductions.push((traversal, Lanes::Rows { across: 1 }));
                    reductions.push((traversal, Lanes::Subgroup { min_size, max_size }));
                }
            }
        }
        // A number of lanes that is no power of two, where there are enough.
        let across = (self.workgroup_size / 3).max(1);
        for width in [VectorWidth::Scalar, VectorWidth::Four] {
            reductions.push((Traversal::ColumnBlocks { width }, Lanes::Rows { across }));
        }
        reductions
    }

    /// Returns the reductions of whole channels, each with its index.
    fn whole_channels(&self) -> impl Iterator<Item = (usize, (Traversal, Lanes))> {
        let all = self.reductions().into_iter().enumerate();
        all.filter(|(_, (traversal, _))| *traversal != Traversal::PlanesMasked)
    }

    /// Returns the tiles of resident kernels.
    fn tiles(&self) -> Vec<Tile> {
        let (workgroup_size, (min_size, max_size)) = (self.workgroup_size, self.subgroup_sizes);
        let columns = Lanes::Rows { across: workgroup_size / 2 };
        let mut tiles = Vec::new();
        for width in [VectorWidth::Scalar, VectorWidth::Four, VectorWidth::Eight] {
            for (traversal, lanes) in [
                (Traversal::Planes { width }, Lanes::Rows { across: 1 }),
                (Traversal::Planes { width }, Lanes::Subgroup { min_size, max_size }),
                (Traversal::ColumnBlocks { width }, columns),
            ] {
                let loads = match width {
                    VectorWidth::Scalar => [4, 5],
                    VectorWidth::Four => [16, Tile::MAX_VECTORS],
                    VectorWidth::Eight if traversal.is_columns() => continue,
                    VectorWidth::Eight => [2, 8],
                };
                for loads in loads {
                    tiles.push(Tile { traversal, lanes, loads, workgroup_size });
                }
            }
        }
        tiles
    }

    fn moments(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        for (traversal, lanes) in self.reductions() {
            let mut add = |storage, result| {
                kernels.push(Kernel::Moments(Moments { traversal, lanes, storage, result, workgroup_size }));
            };
            for running in UPDATES {
                add(Storage::F32, MomentsResult::Statistics(running));
            }
            for storage in STORAGES {
                add(storage, MomentsResult::Partials);
            }
        }
    }

    fn finalize(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        for running in UPDATES {
            for channels_per_workgroup in [1, workgroup_size] {
                kernels.push(Kernel::Finalize(Finalize { running, channels_per_workgroup, workgroup_size }));
            }
        }
    }

    fn normalize(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        for traversal in self.traversals() {
            for statistics in [Statistics::Batch, Statistics::Running] {
                for output in plain_outputs().into_iter().chain(fused_outputs()) {
                    let reversed = statistics == Statistics::Batch;
                    let vectors_at_once = if reversed { 4 } else { 1 };
                    let normalize = Normalize {
                        traversal,
                        statistics,
                        merge: None,
                        output,
                        vectors_at_once,
                        reversed,
                        workgroup_size,
                    };
                    kernels.push(Kernel::Normalize(normalize));
                }
            }
        }
    }

    /// Returns the reductions whose lanes merge, each with its index: elementwise kernels may merge their partial
    /// results.
    fn merges(&self) -> impl Iterator<Item = (usize, (Traversal, Lanes))> {
        self.reductions().into_iter().filter(|(_, lanes)| *lanes != Lanes::Separate).enumerate()
    }

    /// Adds the kernels that merge partial moments or sums and then compute elements.
    fn merging(&self, kernels: &mut Vec<Kernel>) {
        let (workgroup_size, vectors_at_once, reversed) = (self.workgroup_size, 4, true);
        let statistics = Statistics::Batch;
        for (index, (traversal, lanes)) in self.merges() {
            for (running, output) in whole_forward_passes(index) {
                let merge = Some((lanes, running));
                kernels.push(Kernel::Normalize(Normalize {
                    traversal,
                    statistics,
                    merge,
                    output,
                    vectors_at_once,
                    reversed,
                    workgroup_size,
                }));
            }
            let exact = has_exact_products(traversal.width(), traversal.is_columns());
            let through_batch =
                whole_backward_passes(index, exact).into_iter().map(|pass| (statistics, pass));
            // Where the reduction cannot write dx itself.
            let masked = [traversal].into_iter().filter(|traversal| *traversal == Traversal::PlanesMasked);
            let of_running = masked.flat_map(|_| whole_backward_passes(index, false));
            let of_running = of_running.map(|pass| (Statistics::Running, pass));
            for (statistics, (gradient, weight, bias)) in through_batch.chain(of_running) {
                let projection = statistics == Statistics::Batch;
                let merge = Some((lanes, ChannelGradients { weight, bias, projection }));
                kernels.push(Kernel::BackwardInput(BackwardInput {
                    traversal,
                    statistics,
                    merge,
                    gradient,
                    vectors_at_once,
                    reversed,
                    workgroup_size,
                }));
            }
        }
    }

    /// Adds the kernels of a whole forward pass.
    fn forward_passes(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        for (index, (traversal, lanes)) in self.whole_channels() {
            for (running, output) in whole_forward_passes(index) {
                let kernel = ForwardOneDispatch { traversal, lanes, output, running, workgroup_size };
                kernels.push(Kernel::ForwardOneDispatch(kernel));
            }
        }
        for (index, tile) in self.tiles().into_iter().enumerate() {
            for (running, output) in whole_forward_passes(index) {
                kernels.push(Kernel::ForwardResident(ForwardResident { tile, output, running }));
            }
        }
    }

    fn backward_sums(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        let mut results: Vec<_> = [Statistics::Batch, Statistics::Running, Statistics::None]
            .map(|statistics| (None, statistics))
            .to_vec();
        // Excludes dweight without statistics: this kernel needs x for dweight, and an empty batch has nothing to
        // sum.
        let of_channels = channel_gradients()
            .into_iter()
            .filter(|(gradients, statistics)| !gradients.weight || *statistics != Statistics::None);
        results.extend(of_channels.map(|(gradients, statistics)| (Some(gradients), statistics)));
        for (index, (traversal, lanes)) in self.reductions().into_iter().enumerate() {
            let mut add = |result, statistics, pre_activation, beside| {
                kernels.push(Kernel::BackwardSums(BackwardSums {
                    traversal,
                    lanes,
                    statistics,
                    pre_activation,
                    beside,
                    result,
                    workgroup_size,
                }));
            };
            for &(result, statistics) in &results {
                add(result, statistics, plain_pre_activation(true), None);
            }
            let besides = whole_backward_passes(index, false).into_iter();
            for (gradient, weight, bias) in besides.filter(|(_, weight, _)| *weight) {
                if traversal != Traversal::PlanesMasked {
                    let gradients = ChannelGradients { weight, bias, projection: false };
                    let result = Some(gradients).filter(|_| bias);
                    add(result, Statistics::Running, gradient.pre_activation, Some(gradient));
                }
            }
            // Takes every second fused variant, alternating by index.
            for (k, pre_activation) in activated().enumerate().skip(index % 2).step_by(2) {
                add(None, [Statistics::Batch, Statistics::Running][k / 2 % 2], pre_activation, None);
            }
        }
    }

    fn backward_finalize(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        for channels_per_workgroup in [1, workgroup_size] {
            for (gradients, statistics) in channel_gradients() {
                let kernel =
                    BackwardFinalize { statistics, gradients, channels_per_workgroup, workgroup_size };
                kernels.push(Kernel::BackwardFinalize(kernel));
            }
        }
    }

    fn backward_input(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        let mut variants = Vec::new();
        for traversal in self.traversals() {
            for (statistics, exact_products) in
                [(Statistics::Batch, false), (Statistics::Batch, true), (Statistics::Running, false)]
            {
                if exact_products && !has_exact_products(traversal.width(), traversal.is_columns()) {
                    continue;
                }
                let plain =
                    SWITCHES.map(|(in_place, weight)| plain_gradient(weight, in_place, exact_products));
                let without_dx = activated_gradients(false)
                    .filter(|gradient| gradient.dresidual && !gradient.in_place && !exact_products)
                    .map(|gradient| InputGradient { dx: false, ..gradient });
                let fused = activated_gradients(exact_products).chain(without_dx);
                // Takes every second fused variant, in turn.
                let fused = fused.skip(variants.len() % 2).step_by(2);
                for gradient in plain.into_iter().chain(fused) {
                    let reversed = statistics == Statistics::Batch;
                    variants.push(BackwardInput {
                        traversal,
                        statistics,
                        merge: None,
                        gradient,
                        vectors_at_once: if reversed { 4 } else { 1 },
                        reversed,
                        workgroup_size,
                    });
                }
            }
        }
        kernels.extend(variants.into_iter().map(Kernel::BackwardInput));
    }

    /// Adds the kernels of a whole backward pass.
    fn backward_passes(&self, kernels: &mut Vec<Kernel>) {
        let workgroup_size = self.workgroup_size;
        for (index, (traversal, lanes)) in self.whole_channels() {
            let exact = has_exact_products(traversal.width(), traversal.is_columns());
            for (gradient, dweight, dbias) in whole_backward_passes(index, exact) {
                let kernel =
                    BackwardOneDispatch { traversal, lanes, gradient, dweight, dbias, workgroup_size };
                kernels.push(Kernel::BackwardOneDispatch(kernel));
            }
        }
        for (index, tile) in self.tiles().into_iter().enumerate() {
            let exact = has_exact_products(tile.traversal.width(), tile.traversal.is_columns());
            for (gradient, dweight, dbias) in whole_backward_passes(index, exact) {
                kernels.push(Kernel::BackwardResident(BackwardResident { tile, gradient, dweight, dbias }));
            }
        }
    }
}

/// Returns whether all elements of a vector are of different channels. Kernels compute exact products for as many
/// elements at once as there are channels.
fn has_exact_products(width: VectorWidth, columns: bool) -> bool {
    width == VectorWidth::Scalar || columns
}

/// Returns outputs with nothing fused.
fn plain_outputs() -> [Output; 4] {
    SWITCHES.map(|(in_place, affine)| {
        let (storage, activation) = (Storage::F32, ActivationKind::Identity);
        Output { storage, in_place, weight: affine, bias: affine, activation, residual: false }
    })
}

/// Returns an output for every activation, and varies the other options in turn.
fn fused_outputs() -> impl Iterator<Item = Output> {
    ACTIVATIONS.into_iter().enumerate().map(|(k, activation)| {
        let storage = STORAGES[(k + 1) % STORAGES.len()];
        let (in_place, residual) = (k % 3 == 0, k % 2 == 0);
        Output { storage, in_place, weight: k % 4 != 0, bias: k % 3 != 2, activation, residual }
    })
}

/// Returns how dy arrives without an activation.
fn plain_pre_activation(weight: bool) -> PreActivation {
    let (storage, activation) = (Storage::F32, ActivationKind::Identity);
    PreActivation { storage, weight, bias: false, activation, residual: false }
}

/// Returns how dy arrives through every activation but the identity, and varies the other options in turn.
fn activated() -> impl Iterator<Item = PreActivation> {
    ACTIVATIONS.into_iter().enumerate().skip(1).map(|(k, activation)| {
        let storage = STORAGES[k % STORAGES.len()];
        PreActivation { storage, weight: k % 3 != 0, bias: k % 4 != 2, activation, residual: k % 2 == 0 }
    })
}

/// Returns dx alone, with nothing fused.
fn plain_gradient(weight: bool, in_place: bool, exact_products: bool) -> InputGradient {
    let pre_activation = plain_pre_activation(weight);
    InputGradient { pre_activation, in_place, dx: true, dresidual: false, exact_products }
}

/// Returns the gradients through every activation but the identity, with dresidual if there is a residual.
fn activated_gradients(exact_products: bool) -> impl Iterator<Item = InputGradient> {
    activated().enumerate().map(move |(k, pre_activation)| InputGradient {
        pre_activation,
        in_place: k % 3 == 1,
        dx: true,
        dresidual: pre_activation.residual,
        exact_products,
    })
}

/// Returns every nonempty combination of results per channel, with the statistics that it can use.
fn channel_gradients() -> Vec<(ChannelGradients, Statistics)> {
    let mut variants = Vec::new();
    for bits in 1..8 {
        let [weight, bias, projection] = [1, 2, 4].map(|bit| bits & bit != 0);
        let statistics: &[_] = match (weight, projection) {
            (_, true) => &[Statistics::Batch],
            // `Statistics::None` is for an empty batch, which has zero gradients.
            (true, false) => &[Statistics::Batch, Statistics::Running, Statistics::None],
            (false, false) => &[Statistics::None],
        };
        let gradients = ChannelGradients { weight, bias, projection };
        variants.extend(statistics.iter().map(|&statistics| (gradients, statistics)));
    }
    variants
}

/// Returns what kernels of a whole forward pass are compiled for, with their `index`-th traversal: running statistics
/// and output.
fn whole_forward_passes(index: usize) -> Vec<(RunningUpdate, Output)> {
    let plain = UPDATES.into_iter().flat_map(|running| plain_outputs().map(|output| (running, output)));
    // Takes every third fused variant, in turn.
    let fused = fused_outputs().skip(index % 3).step_by(3);
    plain.chain(fused.map(|output| (RunningUpdate::Fixed, output))).collect()
}

/// Returns what kernels of a whole backward pass are compiled for: dx and dresidual, dweight, dbias.
fn whole_backward_passes(index: usize, has_exact_products: bool) -> Vec<(InputGradient, bool, bool)> {
    let plain = (0..8).map(|bits| {
        let [in_place, dweight, dbias] = [1, 2, 4].map(|bit| bits & bit != 0);
        let weight = dweight || in_place;
        (plain_gradient(weight, in_place, has_exact_products && dweight), dweight, dbias)
    });
    // Takes every third fused variant, in turn.
    let fused = activated_gradients(has_exact_products).skip(index % 3).step_by(3);
    let with_parameters = |gradient: InputGradient| {
        let PreActivation { weight, bias, .. } = gradient.pre_activation;
        (gradient, weight, bias)
    };
    plain.chain(fused.map(with_parameters)).collect()
}
