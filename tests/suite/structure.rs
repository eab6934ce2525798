//! The order of the library's modules, in floors. Each floor builds only on lower ones, so no dependencies are
//! circular.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules at the top of `src/`, lowest floor first. A module may use only modules of lower floors.
const FLOORS: &[&[&str]] = &[
    &["text"],
    &["activation", "dtype", "layout", "files", "lru", "mode", "profile"],
    &["error", "kernels"],
    &["shape"],
    &["config"],
    &["state", "plan"],
    &["tunings", "reference"],
    &["gpu"],
    &["tensor"],
    &["record"],
    &["layer", "tuner"],
    &["fold", "checkpoint", "verify"],
    &["internals", "guide"],
];

/// Returns the source files of the library except `lib.rs`, each with its top-level module and its code, without
/// comments and unit tests.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap();
            let module = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = module.trim_end_matches(".rs").to_owned();
            if module == "lib" {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code = code.lines().map(|line| line.split("//").next().unwrap());
            let code = code.collect::<Vec<_>>().join("\n");
            sources.push((inside.to_owned(), module, code));
        }
    }
    assert!(sources.len() > 50, "{} files", sources.len());
    sources
}

/// Returns the names that follow `crate::` in a text.
fn from_the_root(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..end.max(1)]
    })
}

#[test]
fn imports_name_the_module_that_defines_a_name() {
    let mut faults = Vec::new();
    for (path, _, code) in sources() {
        let roots = from_the_root(&code).filter(|name| !name.starts_with(|c: char| c.is_lowercase()));
        faults.extend(roots.map(|name| format!("{}: crate::{name}", path.display())));
    }
    assert!(faults.is_empty(), "lib.rs re-exports for users only:\n{}", faults.join("\n"));
}

#[test]
fn no_module_uses_one_of_its_own_or_a_higher_floor() {
    let floor: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(k, modules)| modules.iter().map(move |module| (*module, k)))
        .collect();
    let mut faults = Vec::new();
    for (path, module, code) in sources() {
        let Some(own) = floor.get(module.as_str()) else {
            faults.push(format!("{module} has no floor"));
            continue;
        };
        for used in from_the_root(&code).filter(|used| *used != module) {
            match floor.get(used) {
                Some(other) if other < own => {}
                Some(other) => {
                    faults.push(format!("{}: {used} is on floor {other}, not below {own}", path.display()));
                }
                None => faults.push(format!("{}: {used} has no floor", path.display())),
            }
        }
    }
    faults.dedup();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
