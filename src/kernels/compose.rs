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

use include_dir::{Dir, include_dir};
use std::collections::HashMap;
use std::sync::OnceLock;

static FOLDER: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// Which case of which file a kernel takes.
pub(super) type Choice = (&'static str, &'static str);

/// Every shader file: its path without the ending, and its text.
pub fn files() -> &'static HashMap<String, &'static str> {
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
pub fn parts(text: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = text.split("\n// case ");
    let shared = parts.next().unwrap_or_default();
    (shared, parts.filter_map(|part| part.split_once(":\n")).collect())
}

/// What the lines of this kind (`uses`, `includes`, `needs`) list in a text.
pub fn listed<'a>(text: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let lines =
        text.lines().filter_map(move |line| line.strip_prefix("// ")?.strip_prefix(kind)?.strip_prefix(": "));
    lines.flat_map(|names| names.split(", "))
}

/// These files, a kernel's for example, behind all that they use; or what is wrong with the files or the choices.
pub(super) fn compose(files: &[&str], choices: &[Choice]) -> Result<String, String> {
    let mut composer = Composer { choices, seen: Vec::new(), text: String::new() };
    for file in files {
        composer.add(file)?;
    }
    Ok(composer.text)
}

struct Composer<'a> {
    choices: &'a [Choice],
    seen: Vec<&'a str>,
    text: String,
}

impl<'a> Composer<'a> {
    /// Writes a file behind all that it uses, once.
    fn add(&mut self, name: &'a str) -> Result<(), String> {
        if self.seen.contains(&name) {
            return Ok(());
        }
        self.seen.push(name);
        let file: &'static str = files().get(name).ok_or_else(|| format!("no shader file {name}.wgsl"))?;
        let (shared, cases) = parts(file);
        let (chosen, case) = self.case(name, &cases)?;
        for text in [shared, case] {
            for used in listed(text, "uses").chain(listed(text, "includes")) {
                self.add(used)?;
            }
        }
        self.text += &format!("\n// {name}.wgsl{chosen}\n");
        for text in [shared, case] {
            self.text += text;
        }
        Ok(())
    }

    /// The chosen case, as it is told in the shader, and its text; nothing where a file has no cases.
    fn case(&self, name: &str, cases: &[(&str, &'static str)]) -> Result<(String, &'static str), String> {
        let names = || cases.iter().map(|(case, _)| *case).collect::<Vec<_>>().join(", ");
        match self.choices.iter().find(|(file, _)| *file == name) {
            None if cases.is_empty() => Ok((String::new(), "")),
            None => Err(format!("no case of {name} was chosen: {}", names())),
            Some((_, wanted)) => match cases.iter().find(|(case, _)| case == wanted) {
                Some((_, text)) => Ok((format!(", {wanted}"), text)),
                None => Err(format!("{name} has no case {wanted}: {}", names())),
            },
        }
    }
}
