//! Puts a kernel's shader together.
//!
//! Shaders are plain WGSL in files. A comment at the beginning of a line has a meaning:
//!
//! | line | says |
//! |---|---|
//! | `// uses: data/params, lanes` | this file, or this case, takes names from these files |
//! | `// includes: iterate/range` | whoever uses this case may take names from that file, too: what several cases share |
//! | `// needs: Partial, merge` | these names come from whoever uses this file |
//! | `// case tree:` | here begins one of several alternatives, of which a kernel takes one; what stands before the first is in all |
//!
//! The composer begins with the kernel's file and writes every file that is used once, with the case that was chosen.

use super::{Access, Binding};
use include_dir::{Dir, include_dir};
use std::collections::HashMap;
use std::sync::OnceLock;

static FOLDER: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// Which case of which file a kernel takes.
pub(crate) type Choice = (&'static str, &'static str);

/// Every shader file: its path without the ending, and its text.
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

/// The text of a file before its cases, and each case with its name.
pub(crate) fn parts(text: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = text.split("\n// case ");
    let shared = parts.next().unwrap_or_default();
    (shared, parts.filter_map(|part| part.split_once(":\n")).collect())
}

/// What the lines of this kind (`uses`, `includes`, `needs`) list in a text.
pub(crate) fn listed<'a>(text: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let lines =
        text.lines().filter_map(move |line| line.strip_prefix("// ")?.strip_prefix(kind)?.strip_prefix(": "));
    lines.flat_map(|names| names.split(", "))
}

/// What stands before the cases of a file, or one of them.
pub(crate) struct Section {
    pub(crate) text: &'static str,
    /// The files that it uses and includes.
    uses: Vec<&'static str>,
    /// What it binds: declarations such as `@group(0) @binding(1) var<storage, read> x: …`.
    pub(crate) bindings: Vec<(Binding, Access)>,
}

impl Section {
    fn new(text: &'static str) -> Self {
        let uses = listed(text, "uses").chain(listed(text, "includes")).collect();
        Self { text, uses, bindings: text.lines().filter_map(declared).collect() }
    }
}

/// What a line declares to be bound.
fn declared(line: &str) -> Option<(Binding, Access)> {
    let (number, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<")?;
    let access = match rest.split_once('>')?.0 {
        "uniform" => Access::Uniform,
        "storage, read" => Access::Read,
        _ => Access::ReadWrite,
    };
    Some((Binding::from_number(number.parse().ok()?)?, access))
}

/// A shader file: what stands before its cases, and these.
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

/// These files, a kernel's for example, behind all that they use, each with its heading; or what is wrong with the files
/// or the choices.
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
    /// Adds a file behind all that it uses, once.
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

    /// The chosen case; none where a file has none.
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
