//! Tunings that were measured, and the file that keeps them.
//!
//! Without measuring, [`Tuning::new`] lays out a plan. [`Tunings::tune`] times the [candidates](Tuning::candidates)
//! for a problem on the adapter at hand, and keeps the fastest one. [`Gpu::set_tunings`](crate::Gpu::set_tunings)
//! makes layers use the result. Callers that record plans themselves get them from [`Tunings::forward`] and
//! [`Tunings::backward`].
//!
//! A tuning belongs to a [`Problem`], a [`Direction`] and the kind of statistics, batch or running. Other options
//! (weight, bias, activation, element type, in place, which gradients are wanted) share the entry. They change what kernels
//! compute, but hardly how to split the work best.
//!
//! Another tuning adds in another order, and so may change the last bits. The same plan gives the same bits.
//!
//! ```no_run
//! use wgpu_batchnorm::{BatchNormConfig, Direction, Gpu, Layout, Mode, Problem, Tunings};
//!
//! let gpu = Gpu::new()?;
//! let problem = Problem::new(&[8, 64, 112, 112], Layout::ChannelsFirst)?;
//! let mut tunings = Tunings::new(gpu.profile());
//! tunings.tune(&gpu, &problem, &BatchNormConfig::new(64), Mode::Train, Direction::Forward)?;
//! tunings.save("tunings.txt")?;
//!
//! // In the next run of the program, before its layers run:
//! gpu.set_tunings(Tunings::load("tunings.txt", gpu.profile())?)?;
//! # Ok::<(), wgpu_batchnorm::Error>(())
//! ```

mod file;

use crate::config::BatchNormConfig;
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::plan::{BackwardOptions, Direction, ForwardOptions, Plan, PlanInput, Tuning};
use crate::profile::AdapterProfile;
use crate::shape::Problem;
use std::collections::HashMap;
use std::path::Path;

/// The key of a tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    batch_statistics: bool,
    problem: Problem,
}

impl Key {
    fn new(problem: &Problem, config: &BatchNormConfig, mode: Mode, direction: Direction) -> Self {
        Self { direction, batch_statistics: config.uses_batch_statistics(mode), problem: *problem }
    }
}

/// The tunings that were measured on one adapter, with one driver and one version of this crate. See the
/// [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Tunings {
    of: Identity,
    found: HashMap<Key, Tuning>,
}

/// Names and values of everything that tunings depend on, in the order of the file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity([(&'static str, String); 5]);

impl Identity {
    fn new(profile: &AdapterProfile) -> Self {
        // Each value takes one line in the file.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let subgroups = match profile.has_subgroups() {
            true => format!("{} to {}", profile.subgroup_min_size, profile.subgroup_max_size),
            false => "none".to_owned(),
        };
        Self([
            ("version", concat!(env!("CARGO_PKG_VERSION"), ", format 4").to_owned()),
            ("adapter", line(&profile.name)),
            ("driver", line(&profile.driver)),
            ("backend", format!("{:?}", profile.backend)),
            ("subgroups", subgroups),
        ])
    }

    /// Checks that tunings of `self` hold for `other`.
    fn check(&self, other: &Self) -> Result<()> {
        let mut pairs = self.0.iter().zip(&other.0);
        match pairs.find(|(found, expected)| found != expected) {
            None => Ok(()),
            Some(((what, found), (_, expected))) => {
                Err(Error::ForeignTunings { what, found: found.clone(), expected: expected.clone() })
            }
        }
    }
}

impl Tunings {
    /// Returns an empty set of tunings for this adapter.
    pub fn new(profile: &AdapterProfile) -> Self {
        Self { of: Identity::new(profile), found: HashMap::new() }
    }

    /// Reads a file that [`save`](Self::save) wrote.
    ///
    /// Uses a file as a whole or not at all. The numbers in it need not be trusted: any tuning makes a valid plan, so
    /// a wrong one can only be slow.
    ///
    /// # Errors
    /// - [`Error::ReadTunings`] if the file cannot be read.
    /// - [`Error::ForeignTunings`] if the file is of another adapter, driver, backend, subgroup size or version of
    ///   this crate.
    /// - [`Error::DamagedTunings`] if anything in it is not as `save` writes it.
    pub fn load(file: impl AsRef<Path>, profile: &AdapterProfile) -> Result<Self> {
        file::load(file.as_ref(), Identity::new(profile))
    }

    /// Reads the contents of a file, as [`load`](Self::load) does.
    #[cfg(feature = "internals")]
    pub(crate) fn read(bytes: &[u8], profile: &AdapterProfile) -> Result<Self> {
        file::read(bytes, "tunings".as_ref(), Identity::new(profile))
    }

    /// Writes all tunings to a file. Writes a temporary file beside it first, so that the file is never half written.
    /// The file holds the tunings of one adapter, and its previous contents are lost.
    ///
    /// # Errors
    /// Returns [`Error::WriteTunings`].
    pub fn save(&self, file: impl AsRef<Path>) -> Result<()> {
        file::save(self, file.as_ref())
    }

    /// Checks that the tunings were measured on this adapter, with this driver and version.
    ///
    /// # Errors
    /// Returns [`Error::ForeignTunings`] if they were not.
    pub fn check(&self, profile: &AdapterProfile) -> Result<()> {
        self.of.check(&Identity::new(profile))
    }

    /// Returns the number of tunings.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns whether there are no tunings.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns the tuning for a pass, or `None`. For the mode, see [`Plan::forward`] and [`Plan::backward`].
    pub fn get(
        &self,
        problem: &Problem,
        config: &BatchNormConfig,
        mode: Mode,
        direction: Direction,
    ) -> Option<Tuning> {
        self.found.get(&Key::new(problem, config, mode, direction)).copied()
    }

    /// Keeps a tuning for a pass. Replaces and returns the previous one.
    pub fn insert(
        &mut self,
        problem: &Problem,
        config: &BatchNormConfig,
        mode: Mode,
        direction: Direction,
        tuning: Tuning,
    ) -> Option<Tuning> {
        self.found.insert(Key::new(problem, config, mode, direction), tuning)
    }

    /// Plans as [`Plan::forward`] does, with the tuning for the pass if one was found.
    ///
    /// # Errors
    /// As [`Plan::forward`].
    pub fn forward(&self, input: &PlanInput<'_>, options: &ForwardOptions) -> Result<Plan> {
        self.plan(input, Direction::Forward, |input| Plan::forward(input, options))
    }

    /// Plans as [`Plan::backward`] does, with the tuning for the pass if one was found.
    ///
    /// # Errors
    /// As [`Plan::backward`].
    pub fn backward(&self, input: &PlanInput<'_>, options: &BackwardOptions) -> Result<Plan> {
        self.plan(input, Direction::Backward, |input| Plan::backward(input, options))
    }

    fn plan(
        &self,
        input: &PlanInput<'_>,
        direction: Direction,
        plan: impl Fn(&PlanInput<'_>) -> Result<Plan>,
    ) -> Result<Plan> {
        let PlanInput { problem, config, mode, .. } = input;
        match self.get(problem, config, *mode, direction).map(|tuning| plan(&input.tuning(tuning))) {
            // A tuning with too many splits needs more scratch than the device can bind. Then the default plan is
            // used.
            Some(Ok(plan)) => Ok(plan),
            Some(Err(_)) | None => plan(input),
        }
    }
}
