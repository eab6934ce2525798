//! The command line: pairs of `--option value`.

use super::Result;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// The options that were given.
pub(crate) struct Args {
    given: Vec<(String, String)>,
}

impl Args {
    /// Parses `--option value` pairs. Every option must be among the known ones.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Self> {
        let known_ones = known.join(" VALUE, ");
        let mut arguments = arguments.into_iter();
        let mut given = Vec::new();
        while let Some(option) = arguments.next() {
            if !known.contains(&option.as_str()) {
                return Err(format!("there is no option {option}: there are {known_ones} VALUE").into());
            }
            let value = arguments.next().ok_or_else(|| format!("{option} lacks its value"))?;
            given.push((option, value));
        }
        Ok(Self { given })
    }

    /// Returns the value of an option, or `default`. If it was given several times, the last one counts.
    pub(crate) fn get<T: FromStr>(&self, option: &str, default: T) -> Result<T>
    where
        T::Err: Display,
    {
        match self.given.iter().rfind(|(name, _)| name == option) {
            None => Ok(default),
            Some((_, value)) => value.parse().map_err(|error| format!("{option} {value}: {error}").into()),
        }
    }

    /// Returns the value of an option that names a folder. `default` lies in this package.
    pub(crate) fn folder(&self, option: &str, default: &str) -> Result<PathBuf> {
        self.get(option, PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(default))
    }
}
