//! Parses the options into jobs: which passes on which shapes.

use crate::Result;
use serde_json::json;
use wgpu_batchnorm::internals::Pass;
use wgpu_batchnorm::{
    Activation, AdapterProfile, BackwardOptions, BatchNormConfig, DType, Error, ForwardOptions, Layout, Plan,
    PlanInput,
};

/// Shapes, element types and passes, as `wgpu-batchnorm bench` takes and lists them.
pub(crate) struct Options {
    pub(crate) shapes: Vec<(Vec<usize>, Layout)>,
    pub(crate) dtypes: Vec<DType>,
    pub(crate) passes: Vec<Pass>,
    pub(crate) runs: usize,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { shapes: Vec::new(), dtypes: Vec::new(), passes: Vec::new(), runs: 20 };
        for pair in args.chunks(2) {
            let [name, value] = pair else { return Err(format!("{pair:?} has no value").into()) };
            match name.as_str() {
                "--shape" => {
                    let sizes: Vec<usize> =
                        value.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
                    options.shapes.push((sizes, Layout::ChannelsFirst));
                }
                "--layout" => {
                    options.shapes.last_mut().ok_or("--layout before --shape")?.1 = value.parse()?;
                }
                "--dtype" => options.dtypes.push(value.parse()?),
                "--pass" => {
                    let pass = Pass::from_name(value).ok_or_else(|| format!("unknown pass {value}"))?;
                    options.passes.push(pass);
                }
                "--runs" => options.runs = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }

    /// Returns a job for each pass on each shape in each type.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for &dtype in &self.dtypes {
            for (sizes, layout) in &self.shapes {
                let job = |&pass| Job { sizes: sizes.clone(), layout: *layout, dtype, pass };
                jobs.extend(self.passes.iter().map(job));
            }
        }
        jobs
    }

    /// Hands the plans of the shapes to `add`, forward and backward: in every type, plain and with ReLU of a sum, in
    /// training and in eval; in place, not in place or both.
    pub(crate) fn plan_all(
        &self,
        profile: &AdapterProfile,
        in_place: &[bool],
        add: &mut impl FnMut(Planned) -> std::result::Result<(), Error>,
    ) -> Result<()> {
        for (sizes, layout) in &self.shapes {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                for (activation, residual) in [(Activation::Identity, false), (Activation::Relu, true)] {
                    let config =
                        BatchNormConfig::new(sizes[layout.channel_axis(sizes.len())]).activation(activation);
                    for training in [true, false] {
                        let shape = (sizes.as_slice(), *layout);
                        both_ways(profile, &config, shape, training, (dtype, residual), in_place, add)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A plan, or why there is none.
pub(crate) type Planned = std::result::Result<Plan, Error>;

/// Hands the forward and the backward plan to `add`, each for every item of `in_place`.
pub(crate) fn both_ways(
    profile: &AdapterProfile,
    config: &BatchNormConfig,
    (sizes, layout): (&[usize], Layout),
    training: bool,
    (dtype, residual): (DType, bool),
    in_place: &[bool],
    add: &mut impl FnMut(Planned) -> std::result::Result<(), Error>,
) -> Result<()> {
    let problem = config.problem(sizes, layout, training.into())?;
    let input = PlanInput::new(&problem, config, training.into(), profile);
    for &in_place in in_place {
        let forward = ForwardOptions::new().in_place(in_place).residual(residual).dtype(dtype);
        add(Plan::forward(&input, &forward))?;
        let backward = BackwardOptions::new().in_place(in_place).residual(residual).dtype(dtype);
        add(Plan::backward(&input, &backward))?;
    }
    Ok(())
}

/// One pass on one shape.
pub(crate) struct Job {
    sizes: Vec<usize>,
    layout: Layout,
    dtype: DType,
    pass: Pass,
}

impl Job {
    /// Returns the plans of the pass.
    pub(crate) fn plans(&self, profile: &AdapterProfile) -> Result<Vec<Plan>> {
        Ok(self.pass.plans(&self.sizes, self.layout, self.dtype, profile)?)
    }

    /// Returns the line of a result without the figures.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "peer": "ours", "shape": self.sizes, "layout": self.layout.to_string(), "dtype": self.dtype.to_string(),
            "pass": self.pass.name(),
        })
    }
}
