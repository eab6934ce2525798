//! Composes a kernel's shader.
//!
//! Shaders are plain WGSL in files. A comment at the beginning of a line has a meaning:
//!
//! | line | says |
//! |---|---|
//! | `// uses: data/params, lanes` | this file, or this case, takes names from these files |
//! | `// includes: iterate/range` | users of this case may take names from that file, too: several cases share it |
//! | `// needs: Partial, merge` | users of this file supply these names |
//! | `// case tree:` | begins one of several alternatives. A kernel takes one; all have the part before the first |
//!
//! The composer begins with the kernel's file. It writes every used file once, with its chosen case.

use super::{Access, Binding};
use include_dir::{Dir, include_dir};
use std::collections::HashMap;
use std::sync::OnceLock;

static FOLDER: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// A file, and the case of it that a kernel takes.
pub(crate) type Choice = (&'static str, &'static str);

/// Returns every shader file: its path without the extension, and its text.
pub(crate) fn files() -> &'static HashMap<String, &'static str> {
    static FILES: OnceLock<HashMap<String, &'static str>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = HashMap::new();
        let mut folders = vec![&FOLDER];
        while let Some(folder) = folders.pop() {
            folders.extend(folder.dirs());
            for file in folder.files() {
                let path = file.path().to_string_lossy().replace('\\', "/");
                if let (Some(name), Some(text)) = (path.strip_suffix(".wgsl"), file.contents_utf8()) {
                    files.insert(name.to_owned(), text);
                }
            }
        }
        files
    })
}

/// Returns the text of a file before its cases, and each case with its name.
pub(crate) fn parts(text: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = text.split("\n// case ");
    let shared = parts.next().unwrap_or_default();
    (shared, parts.filter_map(|part| part.split_once(":\n")).collect())
}

/// Returns the names that lines of this kind (`uses`, `includes`, `needs`) list in a text.
pub(crate) fn listed<'a>(text: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let lines =
        text.lines().filter_map(move |line| line.strip_prefix("// ")?.strip_prefix(kind)?.strip_prefix(": "));
    lines.flat_map(|names| names.split(", "))
}

/// The part of a file before its cases, or one case.
pub(crate) struct Section {
    pub(crate) text: &'static str,
    /// The files that it uses and includes.
    uses: Vec<&'static str>,
    /// Its bindings, from declarations such as `@group(0) @binding(1) var<storage, read> x: …`.
    pub(crate) bindings: Vec<(Binding, Access)>,
}

impl Section {
    fn new(text: &'static str) -> Self {
        let uses = listed(text, "uses").chain(listed(text, "includes")).collect();
        Self { text, uses, bindings: text.lines().filter_map(declared).collect() }
    }
}

/// Returns the binding that a line declares, and its access.
fn declared(line: &str) -> Option<(Binding, Access)> {
    let (number, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<")?;
    let access = match rest.split_once('>')?.0 {
        "uniform" => Access::Uniform,
        "storage, read" => Access::Read,
        _ => Access::ReadWrite,
    };
    Some((Binding::from_number(number.parse().ok()?)?, access))
}

/// A shader file: the part before its cases, and the cases.
type File = (Section, Vec<(&'static str, Section)>);

fn file(name: &str) -> Option<&'static File> {
    static FILES: OnceLock<HashMap<&'static str, File>> = OnceLock::new();
    let read = || {
        let file = |(name, text): (&'static String, &&'static str)| {
            let (shared, cases) = parts(text);
            let cases = cases.into_iter().map(|(case, text)| (case, Section::new(text))).collect();
            (name.as_str(), (Section::new(shared), cases))
        };
        files().iter().map(file).collect()
    };
    FILES.get_or_init(read).get(name)
}

/// Returns `files`, such as a kernel's, behind all files that they use, each with its heading. An error says what is
/// wrong with the files or the choices.
pub(crate) fn compose(files: &[&str], choices: &[Choice]) -> Result<Vec<(String, &'static Section)>, String> {
    let mut composer = Composer { choices, seen: Vec::new(), sections: Vec::new() };
    for file in files {
        composer.add(file)?;
    }
    Ok(composer.sections)
}

struct Composer<'a> {
    choices: &'a [Choice],
    seen: Vec<&'a str>,
    sections: Vec<(String, &'static Section)>,
}

impl<'a> Composer<'a> {
    /// Adds a file once, behind all files that it uses.
    fn add(&mut self, name: &'a str) -> Result<(), String> {
        if self.seen.contains(&name) {
            return Ok(());
        }
        self.seen.push(name);
        let (shared, cases) = file(name).ok_or_else(|| format!("no shader file {name}.wgsl"))?;
        let case = self.case(name, cases)?;
        let sections = std::iter::once(shared).chain(case.map(|(_, section)| section));
        for used in sections.flat_map(|section| &section.uses) {
            self.add(used)?;
        }
        let chosen = case.map_or(String::new(), |(case, _)| format!(", {case}"));
        self.sections.push((format!("\n// {name}.wgsl{chosen}\n"), shared));
        self.sections.extend(case.map(|(_, section)| (String::new(), section)));
        Ok(())
    }

    /// Returns the chosen case. `None` if the file has no cases.
    fn case(
        &self,
        name: &str,
        cases: &'static [(&'static str, Section)],
    ) -> Result<Option<&'static (&'static str, Section)>, String> {
        let names = || cases.iter().map(|(case, _)| *case).collect::<Vec<_>>().join(", ");
        match self.choices.iter().find(|(file, _)| *file == name) {
            None if cases.is_empty() => Ok(None),
            None => Err(format!("no case of {name} was chosen: {}", names())),
            Some((_, wanted)) => match cases.iter().find(|(case, _)| case == wanted) {
                Some(case) => Ok(Some(case)),
                None => Err(format!("{name} has no case {wanted}: {}", names())),
            },
        }
    }
}
