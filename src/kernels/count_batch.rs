use super::{Access, Binding, Source};

/// Adds 1 to `num_batches_tracked`. One invocation; no uniform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountBatch;

impl CountBatch {
    pub(super) fn source(self) -> Source {
        Source {
            stem: "count_batch",
            constants: vec![],
            choices: vec![],
            bindings: vec![(Binding::NumBatchesTracked, Access::ReadWrite)],
        }
    }
}
