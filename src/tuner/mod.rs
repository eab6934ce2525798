//! Tunings by measuring: [`Tunings::tune`].

mod measure;

use crate::config::BatchNormConfig;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::plan::{
    BackwardOptions, Direction, ForwardOptions, Plan, PlanInput, Tuning, backward_width, width,
};
use crate::shape::Problem;
use crate::tunings::Tunings;
use measure::Contest;

/// What [`Tunings::tune`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The tuning that was kept.
    pub tuning: Tuning,
    /// Its time for one pass, in milliseconds; 0 where there was nothing to time.
    pub milliseconds: f64,
    /// The tuning that is planned without measuring.
    pub heuristic: Tuning,
    /// Its time for one pass, in milliseconds, measured in turn with that of `tuning`.
    pub heuristic_milliseconds: f64,
}

impl Tunings {
    /// Times the [candidates](Tuning::candidates) for a pass, out of place and with all gradients, and keeps the
    /// fastest; the heuristic's, unless another one is faster by more than 3 %, and nearly always.
    ///
    /// The device's clock counts where there is one, else that of the host. The candidates run in turn, on
    /// buffers allocated here: several sets of them where they are small, so that a pass does not find its
    /// tensors in a cache. Nothing else should run on the device meanwhile. It takes seconds.
    ///
    /// # Errors
    /// [`Error::ForeignTunings`] unless these tunings are of the GPU's adapter; [`Error::OutOfMemory`];
    /// [`Error::Readback`]; [`Error::Gpu`]; as [`Plan::forward`].
    pub fn tune(
        &mut self,
        gpu: &Gpu,
        problem: &Problem,
        config: &BatchNormConfig,
        training: bool,
        direction: Direction,
    ) -> Result<Tuned> {
        let profile = gpu.profile();
        self.check(profile)?;
        let input = PlanInput::new(problem, config, training, profile);
        let plan = |tuning: Tuning| match direction {
            Direction::Forward => Plan::forward(&input.tuning(tuning), &ForwardOptions::default()),
            Direction::Backward => Plan::backward(&input.tuning(tuning), &BackwardOptions::default()),
        };
        let width = match direction {
            Direction::Forward => width(problem),
            Direction::Backward => backward_width(problem, config, training),
        };
        let mut candidates: Vec<(Tuning, Plan)> = Vec::new();
        for tuning in Tuning::candidates(problem, width, profile) {
            match plan(tuning) {
                Ok(plan) if candidates.iter().all(|(_, other)| *other != plan) => {
                    candidates.push((tuning, plan));
                }
                // The same plan by another tuning.
                Ok(_) => {}
                // The heuristic's plan must be possible; another one may exceed a limit.
                Err(error) if candidates.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        let tuned = match candidates.first() {
            Some((heuristic, _)) if problem.elements() == 0 => Tuned {
                tuning: *heuristic,
                milliseconds: 0.0,
                heuristic: *heuristic,
                heuristic_milliseconds: 0.0,
            },
            _ => Contest::new(gpu, &candidates)?.run()?,
        };
        self.insert(problem, config, training, direction, tuned.tuning);
        Ok(tuned)
    }
}
