//! How to use this crate, beyond what each item says. The text is that of the repository's `docs/`.

#[doc = include_str!("../docs/usage.md")]
pub mod usage {}

#[doc = include_str!("../docs/semantics.md")]
pub mod semantics {}

#[doc = include_str!("../docs/accuracy.md")]
pub mod accuracy {}
