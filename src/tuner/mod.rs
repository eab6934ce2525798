//! Measures tunings: [`Tunings::tune`].

mod measure;

use crate::config::BatchNormConfig;
use crate::dtype::DType;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::mode::Mode;
use crate::plan::{
    BackwardOptions, Direction, ForwardOptions, Plan, PlanInput, Tuning, backward_width, width,
};
use crate::shape::Problem;
use crate::tunings::Tunings;
use measure::Contest;

/// The result of [`Tunings::tune`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The tuning that was kept.
    pub tuning: Tuning,
    /// Its time for one pass, in milliseconds; 0 for an empty tensor.
    pub milliseconds: f64,
    /// The tuning of plans without measuring.
    pub heuristic: Tuning,
    /// Its time for one pass, in milliseconds, measured in turn with `tuning`'s.
    pub heuristic_milliseconds: f64,
}

impl Tunings {
    /// Times the [candidates](Tuning::candidates) for a pass, out of place and with all gradients, and keeps the
    /// fastest. Keeps the heuristic's unless another one is faster by more than 3 %, and in at least 7 of the 9 final
    /// rounds.
    ///
    /// Uses the device's clock, or the host's if the device has none. The candidates run in turn, on buffers that
    /// this function allocates. Small tensors get several sets of buffers, so that a pass does not find its tensors
    /// in a cache. Nothing else should run on the device meanwhile. Tuning takes seconds.
    ///
    /// # Errors
    /// [`Error::ForeignTunings`] unless these tunings are of the GPU's adapter; [`Error::OutOfMemory`];
    /// [`Error::Readback`]; [`Error::Gpu`]; as [`Plan::forward`].
    pub fn tune(
        &mut self,
        gpu: &Gpu,
        problem: &Problem,
        config: &BatchNormConfig,
        mode: Mode,
        direction: Direction,
    ) -> Result<Tuned> {
        let profile = gpu.profile();
        self.check(profile)?;
        let input = PlanInput::new(problem, config, mode, profile);
        let plan = |tuning: Tuning| match direction {
            Direction::Forward => Plan::forward(&input.tuning(tuning), &ForwardOptions::default()),
            Direction::Backward => Plan::backward(&input.tuning(tuning), &BackwardOptions::default()),
        };
        let width = match direction {
            Direction::Forward => width(problem, DType::F32, profile),
            Direction::Backward => backward_width(&input, DType::F32),
        };
        let mut candidates: Vec<(Tuning, Plan)> = Vec::new();
        for tuning in Tuning::candidates(problem, width, profile) {
            match plan(tuning) {
                Ok(plan) if candidates.iter().all(|(_, other)| *other != plan) => {
                    candidates.push((tuning, plan));
                }
                // Another tuning gave the same plan already.
                Ok(_) => {}
                // The heuristic's plan must be possible. Another one may exceed a limit.
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
        self.insert(problem, config, mode, direction, tuned.tuning);
        Ok(tuned)
    }
}
