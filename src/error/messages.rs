//! What messages say: advice, and lists of names.

use crate::text::cut;
use std::path::PathBuf;

/// The backends of this platform, as far as this crate has them.
const HERE: wgpu::Backends = if cfg!(target_vendor = "apple") {
    wgpu::Backends::METAL
} else if cfg!(windows) {
    wgpu::Backends::VULKAN.union(wgpu::Backends::DX12)
} else {
    wgpu::Backends::VULKAN
};

/// Says what helps where none of these backends has an adapter.
pub(super) fn advice(asked: wgpu::Backends) -> String {
    let usable = asked & HERE;
    if usable.is_empty() {
        format!("this platform has no such backend, ask for {}", names(HERE))
    } else if cfg!(target_os = "linux") {
        "install a Vulkan driver (on Debian or Ubuntu, `apt-get install mesa-vulkan-drivers` brings a software one)"
            .to_owned()
    } else {
        format!("install the driver of the GPU for {}", names(usable))
    }
}

/// Lists backends.
pub(super) fn names(backends: wgpu::Backends) -> String {
    let names: Vec<&str> = backends.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "no backend".to_owned() } else { names.join(", ") }
}

/// Buffers whose size grows with the batch.
pub(super) const GROWS_WITH_THE_BATCH: [&str; 8] =
    ["x", "y", "residual", "dy", "dx", "dresidual", "partials", "tensor"];

/// Says what is wrong with a tensor that is missing or surplus, and names the option of the configuration.
pub(super) fn presence(name: &str, expected: bool) -> String {
    let option = match name {
        "dresidual" => {
            return "given, but the forward pass added nothing: leave it out, or call forward_add".to_owned();
        }
        "weight" | "dweight" => "weight",
        "bias" | "dbias" => "bias",
        _ => "track_running_stats",
    };
    if expected {
        format!("missing, but the configuration asks for it: give it, or set {option} to false")
    } else {
        format!("given, but the configuration has none: leave it out, or set {option} to true")
    }
}

/// Lists up to eight names, then the number of the others.
pub(crate) fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(|name| cut(name)).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// Returns the names that differ from `tensor` only in a longer prefix, or else those with a shorter one, the longest
/// first.
pub(super) fn alike(tensor: &str, found: &[String]) -> Vec<String> {
    let longer: Vec<String> = found.iter().filter(|name| name.ends_with(tensor)).cloned().collect();
    if !longer.is_empty() {
        return longer;
    }
    let rest = |name: &str| tensor.strip_suffix(name).is_some_and(|prefix| prefix.ends_with('.'));
    let mut shorter: Vec<String> = found.iter().filter(|name| rest(name)).cloned().collect();
    shorter.sort_by_key(|name| std::cmp::Reverse(name.len()));
    shorter
}

/// Returns the name of a checkpoint.
pub(super) fn named(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "the checkpoint".to_owned(), |path| path.display().to_string())
}
