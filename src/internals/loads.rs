//! What a variant's loads ask of it.

use crate::kernels::{
    BackwardInput, BackwardOneDispatch, BackwardResident, BackwardSums, ForwardOneDispatch, ForwardResident,
    Kernel, Moments, Normalize, Storage, Tile, Traversal, VectorWidth,
};

/// The parts of a kernel that follow from how it loads.
struct OfLoads<'a> {
    traversal: Traversal,
    vectors_at_once: Option<&'a mut u32>,
    storages: Vec<&'a mut Storage>,
}

/// Returns these parts of a kernel that visits a tensor.
fn of_loads(kernel: &mut Kernel) -> Option<OfLoads<'_>> {
    let (traversal, vectors_at_once, storages) = match kernel {
        Kernel::CountBatch(_) | Kernel::Finalize(_) | Kernel::BackwardFinalize(_) => return None,
        Kernel::Moments(Moments { traversal, storage, .. }) => (*traversal, None, vec![storage]),
        Kernel::Normalize(Normalize { traversal, vectors_at_once, output, .. }) => {
            (*traversal, Some(vectors_at_once), vec![&mut output.storage])
        }
        Kernel::ForwardOneDispatch(ForwardOneDispatch { traversal, output, .. })
        | Kernel::ForwardResident(ForwardResident { tile: Tile { traversal, .. }, output, .. }) => {
            (*traversal, None, vec![&mut output.storage])
        }
        Kernel::BackwardSums(BackwardSums { traversal, pre_activation, beside, .. }) => {
            let beside = beside.iter_mut().map(|gradient| &mut gradient.pre_activation.storage);
            (*traversal, None, [&mut pre_activation.storage].into_iter().chain(beside).collect())
        }
        Kernel::BackwardInput(BackwardInput { traversal, vectors_at_once, gradient, .. }) => {
            (*traversal, Some(vectors_at_once), vec![&mut gradient.pre_activation.storage])
        }
        Kernel::BackwardOneDispatch(BackwardOneDispatch { traversal, gradient, .. })
        | Kernel::BackwardResident(BackwardResident { tile: Tile { traversal, .. }, gradient, .. }) => {
            (*traversal, None, vec![&mut gradient.pre_activation.storage])
        }
    };
    Some(OfLoads { traversal, vectors_at_once, storages })
}

/// Gives kernels with loads of eight elements what these need: 16 bits, and four vectors at once. Returns whether the
/// kernel has such loads.
pub(super) fn widen(kernel: &mut Kernel) -> bool {
    let Some(of_loads) = of_loads(kernel).filter(|found| found.traversal.width() == VectorWidth::Eight)
    else {
        return false;
    };
    of_loads.vectors_at_once.into_iter().for_each(|at_once| *at_once = 4);
    for storage in of_loads.storages.into_iter().filter(|storage| **storage == Storage::F32) {
        *storage = Storage::ConvertedF16;
    }
    true
}
