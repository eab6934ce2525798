//! The first lines of a shader file can be trusted: every file and every case is used, every `uses` is needed, and
//! none is missing.

use crate::shaders::kernels;
use std::collections::{BTreeMap, BTreeSet};
use wgpu_batchnorm::internals::{composed, listed, parts, shader_files as files};
use wgpu_batchnorm::kernels::Kernel;

type Names<'a> = BTreeSet<&'a str>;

/// Returns the text before the cases of a file (with an empty name), and its cases.
fn sections(file: &str) -> Vec<(&'static str, &'static str)> {
    let (shared, cases) = parts(files()[file]);
    std::iter::once(("", shared)).chain(cases).collect()
}

fn sorted() -> BTreeSet<&'static str> {
    files().keys().map(String::as_str).collect()
}

/// Returns the code without comments.
fn code(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the words of a line, each with the text before and after it.
fn words(line: &str) -> Vec<(&str, &str, &str)> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(begin) = line[at..].find(is_word).map(|k| at + k) {
        let end = line[begin..].find(|c| !is_word(c)).map_or(line.len(), |k| begin + k);
        words.push((line[..begin].trim_end(), &line[begin..end], line[end..].trim_start()));
        at = end;
    }
    words
}

/// Returns the names that a text defines at the top level.
fn defined(text: &str) -> Names<'_> {
    let mut names = Names::new();
    for line in code(text).into_iter().filter(|line| !line.starts_with(' ')) {
        let words = words(line);
        let keyword =
            words.iter().position(|(_, word, _)| ["fn", "alias", "struct", "const", "var"].contains(word));
        let Some(keyword) = keyword.filter(|&k| k == 0 || line.starts_with("@group")) else { continue };
        // The address space follows `var<`, and the name comes after it.
        let name = words[keyword + 1..].iter().find(|(before, ..)| {
            let is_space = line.trim_start().contains("var<") && !before.ends_with('>');
            !is_space
        });
        names.extend(name.map(|(_, name, _)| *name));
    }
    names
}

/// Returns the names that a text takes, or may take, from elsewhere: all but members, parameters and variables of
/// functions.
fn named(text: &str) -> Names<'_> {
    let (mut all, mut called, mut own) = (Names::new(), Names::new(), Names::new());
    let mut in_struct = false;
    for line in code(text) {
        in_struct = (in_struct || line.starts_with("struct")) && !line.starts_with('}');
        for (before, word, behind) in words(line) {
            let declares = |keyword: &str| before.ends_with(keyword);
            if before.ends_with('.')
                || before.ends_with('@')
                || word.starts_with(|c: char| c.is_ascii_digit())
            {
                continue;
            }
            if in_struct && behind.starts_with(':') {
                continue;
            }
            if declares("let") || declares("var") || (behind.starts_with(':') && !line.starts_with('@')) {
                own.insert(word);
            }
            if behind.starts_with('(') {
                called.insert(word);
            }
            all.insert(word);
        }
    }
    // A variable is never called.
    called.into_iter().chain(all.difference(&own).copied()).collect()
}

/// Returns the files that define each name.
fn homes() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut homes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for file in sorted() {
        for (_, text) in sections(file) {
            for name in defined(text) {
                homes.entry(name).or_default().insert(file);
            }
        }
    }
    homes
}

/// Returns the names that users of a file can take: what it defines, and what its cases include.
fn offered(file: &str) -> Names<'static> {
    let mut names = Names::new();
    for (_, text) in sections(file) {
        names.extend(defined(text));
        for included in listed(text, "includes") {
            names.extend(offered(included));
        }
    }
    names
}

#[test]
fn every_file_and_every_case_is_used() {
    let all: BTreeSet<String> = kernels()
        .values()
        .flat_map(|kernel| {
            kernel.wgsl().lines().filter(|line| line.contains(".wgsl")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let mut missing = Vec::new();
    for file in sorted() {
        for (case, _) in sections(file).into_iter().skip(usize::from(sections(file).len() > 1)) {
            let case = if case.is_empty() { String::new() } else { format!(", {case}") };
            let heading = format!("// {file}.wgsl{case}");
            if !all.contains(&heading) {
                missing.push(heading);
            }
        }
    }
    assert!(missing.is_empty(), "in no kernel: {missing:?}");
}

#[test]
fn every_use_is_needed_and_none_is_lacking() {
    let homes = homes();
    let mut faults = Vec::new();
    for file in sorted() {
        let all = sections(file);
        let shared = all[0].1;
        for &(case, text) in &all {
            let place = if case.is_empty() { file.to_owned() } else { format!("{file}, {case}") };
            let uses: Names<'_> = listed(text, "uses").chain(listed(shared, "uses")).collect();
            let needs: Names<'_> = listed(text, "needs").chain(listed(shared, "needs")).collect();
            let includes: Names<'_> = listed(text, "includes").collect();
            for unknown in uses.iter().chain(&includes).filter(|name| !files().contains_key(**name)) {
                faults.push(format!("{place} uses {unknown}, which is no file"));
            }
            let mut own = defined(text);
            own.extend(defined(shared));
            let taken: Names<'_> =
                named(text).difference(&own).copied().filter(|name| homes.contains_key(name)).collect();
            let of_uses: Names<'_> = uses
                .iter()
                .chain(&includes)
                .filter(|name| files().contains_key(**name))
                .flat_map(|name| offered(name))
                .collect();
            for &name in &taken {
                if !of_uses.contains(name) && !needs.contains(name) {
                    faults.push(format!("{place} names {name} without a use of one of {:?}", homes[name]));
                }
            }
            // A use at the head must be needed by the head or by some case.
            let whole: Names<'_> = match case {
                "" => all.iter().flat_map(|(_, text)| named(text)).collect(),
                _ => taken.clone(),
            };
            for used in listed(text, "uses").filter(|name| files().contains_key(*name)) {
                if offered(used).is_disjoint(&whole) {
                    faults.push(format!("{place} uses {used} without need"));
                }
            }
            for name in listed(text, "needs") {
                if !named(text).contains(name) && !all.iter().any(|(_, text)| named(text).contains(name)) {
                    faults.push(format!("{place} needs {name} without naming it"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Every kernel defines what its files need of their users.
#[test]
fn kernels_bring_what_their_files_need() {
    for kernel in kernels().values() {
        let text = Kernel::wgsl(kernel);
        let (names, defined) = (listed(&text, "needs").collect::<Names<'_>>(), defined(&text));
        let missing: Vec<_> = names.difference(&defined).collect();
        assert!(missing.is_empty(), "{}{} lacks {missing:?}", kernel.stem(), kernel.variant());
    }
}

#[test]
fn what_is_wrong_with_choices_is_told() {
    let error =
        |files: &[&str], choices: &[(&'static str, &'static str)]| composed(files, choices).unwrap_err();
    assert_eq!(error(&["kernel/none"], &[]), "no shader file kernel/none.wgsl");
    let choice = "no case of data/per_channel was chosen: one, four";
    assert_eq!(error(&["numerics/float_float"], &[]), choice);
    let case = "data/per_channel has no case three: one, four";
    assert_eq!(error(&["numerics/float_float"], &[("data/per_channel", "three")]), case);
}

#[test]
fn a_file_is_written_once_and_behind_what_it_uses() {
    let choices = [("data/per_channel", "four"), ("data/vector", "four_channels")];
    let text = composed(&["numerics/tanh", "numerics/exponential"], &choices).unwrap();
    let headings: Vec<&str> =
        text.lines().filter(|line| line.starts_with("// ") && line.contains(".wgsl")).collect();
    let expected = [
        "// data/params.wgsl",
        "// data/per_channel.wgsl, four",
        "// numerics/float_float.wgsl",
        "// data/vector.wgsl, four_channels",
        "// numerics/exponential.wgsl",
        "// numerics/tanh.wgsl",
    ];
    assert_eq!(headings, expected);
}

#[test]
fn cases_begin_at_the_beginning_of_a_line() {
    let text = "// a // case b:\n\n// case c:\nd\n\n// case e:\nf\n";
    assert_eq!(parts(text), ("// a // case b:\n", vec![("c", "d\n"), ("e", "f\n")]));
}
