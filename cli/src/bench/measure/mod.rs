//! Checks and times passes on their buffers, and times plain copies beside them.

pub(super) mod ceiling;
pub(super) mod check;
pub(super) mod limits;
pub(super) mod memory;
pub(super) mod pass;
mod reference;
pub(super) mod timing;
pub(super) mod tune;
