//! The file of tunings: a header with one line per part of the identity, one line per tuning, and `end`.

use super::{Identity, Key, Tunings};
use crate::error::{Error, Result};
use crate::plan::{Direction, Setting, Tuning};
use crate::shape::Problem;
use crate::text::cut;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The beginning of the first line, before the version.
const TITLE: &str = "wgpu-batchnorm tunings, version";

/// The last line, which shows that the file is complete.
const END: &str = "end";

pub(super) fn load(path: &Path, expected: Identity) -> Result<Tunings> {
    let bytes = fs::read(path).map_err(|source| Error::ReadTunings { path: path.to_owned(), source })?;
    read(&bytes, path, expected)
}

/// Reads the contents of a file. `path` is for errors.
pub(super) fn read(bytes: &[u8], path: &Path, expected: Identity) -> Result<Tunings> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().zip(1..);
    let damaged = |line, reason: String| Error::DamagedTunings { path: path.to_owned(), line, reason };

    // Checks the version first, since the rest of another version's file may look different.
    let mut of = expected.clone();
    for (index, (what, value)) in of.0.iter_mut().enumerate() {
        let wanted = if index == 0 { TITLE } else { *what };
        let Some((line, number)) = lines.next() else {
            return Err(damaged(index + 1, format!("{wanted:?} is missing")));
        };
        let Some(found) = line.strip_prefix(wanted) else {
            return Err(damaged(number, format!("it does not begin with {wanted:?}")));
        };
        found.trim().clone_into(value);
        let is_other = *value != expected.0[index].1;
        if index == 0 && is_other {
            break;
        }
    }
    of.check(&expected)?;

    let mut found = HashMap::new();
    let mut last = of.0.len();
    for (line, number) in lines.by_ref() {
        last = number;
        if line == END {
            return match lines.next() {
                None => Ok(Tunings { of, found }),
                Some((_, number)) => Err(damaged(number, format!("there is more after {END:?}"))),
            };
        }
        let (key, tuning) = parse(line).map_err(|reason| damaged(number, reason))?;
        if found.insert(key, tuning).is_some() {
            return Err(damaged(number, "there is a tuning for this pass already".to_owned()));
        }
    }
    Err(damaged(last + 1, format!("{END:?} is missing")))
}

pub(super) fn save(tunings: &Tunings, path: &Path) -> Result<()> {
    let [(_, version), rest @ ..] = &tunings.of.0;
    let mut lines: Vec<String> = tunings.found.iter().map(|(key, tuning)| entry(key, tuning)).collect();
    lines.sort_unstable();
    let mut text = format!("{TITLE} {version}\n");
    for line in rest.iter().map(|(what, value)| format!("{what} {value}")).chain(lines) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    crate::files::replace(path, text.as_bytes())
        .map_err(|source| Error::WriteTunings { path: path.to_owned(), source })
}

fn entry(key: &Key, tuning: &Tuning) -> String {
    let Key { direction, batch_statistics, problem: Problem { outer, channels, inner } } = key;
    let direction = match direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    };
    let statistics = if *batch_statistics { "batch" } else { "running" };
    let settings = Tuning::SETTINGS.iter();
    let values =
        settings.map(|Setting { name, get, .. }| format!(" {name}={}", get(tuning))).collect::<String>();
    format!("{direction} {statistics} outer={outer} channels={channels} inner={inner}{values}")
}

/// Parses a line that [`entry`] wrote, or says what is wrong with it.
fn parse(line: &str) -> std::result::Result<(Key, Tuning), String> {
    let mut words = line.split(' ');
    let mut next = |name: &str| words.next().ok_or_else(|| format!("{name} is missing"));
    let direction = match next("the direction")? {
        "forward" => Direction::Forward,
        "backward" => Direction::Backward,
        other => return Err(format!("{:?} is neither forward nor backward", cut(other))),
    };
    let batch_statistics = match next("the kind of statistics")? {
        "batch" => true,
        "running" => false,
        other => return Err(format!("{:?} is neither batch nor running", cut(other))),
    };
    let mut value = |name: &str| {
        let word = next(name)?;
        let value = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        value.ok_or_else(|| format!("{:?} is not {name}", cut(word)))
    };
    let mut problem = Problem { outer: 0, channels: 0, inner: 0 };
    for (name, size) in
        [("outer", &mut problem.outer), ("channels", &mut problem.channels), ("inner", &mut problem.inner)]
    {
        *size = value(name)?.parse().map_err(|_| format!("{name} is no number"))?;
    }
    let tuning = Tuning::from_values(|setting| number(setting, value(setting.name)?))?;
    if let Some(word) = words.next() {
        return Err(format!("{:?} is one too many", cut(word)));
    }
    Ok((Key { direction, batch_statistics, problem }, tuning))
}

/// Parses a number within the range of a setting.
fn number(setting: &Setting, text: &str) -> std::result::Result<u32, String> {
    let Setting { name, least, most, .. } = *setting;
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} is {:?}, not {least} to {most}", cut(text))),
    }
}
