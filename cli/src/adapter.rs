//! Chooses where to compute: on a GPU or with the CPU reference.

use crate::error::{Error, Result, line};
use crate::file;
use crate::terminal;
use clap::ValueEnum;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use wgpu_batchnorm::verify::{Case, Implementation, Inputs, Outputs, Reference};
use wgpu_batchnorm::{Gpu, GpuOptions, Tunings};

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Take the adapter with this in its name; upper and lower case are alike
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) adapter: Option<String>,
    /// Where to compute
    #[arg(long, global = true, value_enum, default_value_t = Backend::Auto)]
    pub(crate) backend: Backend,
    /// Keep compiled kernels in this folder, for the next run; it must be one that only you can write to.
    /// Without effect where the backend has no such cache
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) pipeline_cache: Option<PathBuf>,
    /// Plan by the tunings that `bench --tune` wrote to this file. Those of another adapter, driver or version
    /// are not used
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tunings: Option<PathBuf>,
    /// Compile kernels without the checks that wgpu adds to shaders
    #[arg(long, global = true)]
    pub(crate) unchecked: bool,
}

/// What `--backend` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// A GPU; an error where there is none
    Gpu,
    /// The CPU reference, in f64
    Reference,
    /// A GPU where there is one, else the CPU reference
    Auto,
}

/// The device that computes.
pub(crate) enum Device {
    Gpu(Gpu),
    Reference,
}

/// What computes in `run`.
pub(crate) trait Computer: Implementation {
    /// Returns whether this is the CPU reference itself, whose results are the exact ones.
    fn is_reference(&self) -> bool;

    /// Returns the GPU, if it is one.
    fn gpu(&self) -> Option<&Gpu> {
        None
    }
}

impl Computer for Device {
    fn is_reference(&self) -> bool {
        matches!(self, Self::Reference)
    }

    fn gpu(&self) -> Option<&Gpu> {
        if let Self::Gpu(gpu) = self { Some(gpu) } else { None }
    }
}

impl Common {
    pub(crate) fn gpu_options(&self) -> GpuOptions {
        let mut options = GpuOptions::new();
        options.adapter.clone_from(&self.adapter);
        options.pipeline_cache.clone_from(&self.pipeline_cache);
        options.unchecked = self.unchecked;
        options
    }

    /// Opens the device that the options ask for.
    pub(crate) fn device(&self, without_subgroups: bool) -> Result<Device> {
        let device = self.open(without_subgroups)?;
        if let (Device::Gpu(gpu), Some(file)) = (&device, &self.tunings) {
            load_tunings(gpu, file)?;
        }
        Ok(device)
    }

    /// Opens the device as `device` does, but allows a missing file of tunings. Checks that the file can be written.
    pub(crate) fn device_to_tune(&self) -> Result<Device> {
        let device = self.open(false)?;
        if let (Device::Gpu(gpu), Some(file)) = (&device, &self.tunings) {
            match load_tunings(gpu, file) {
                Err(Error::Library(wgpu_batchnorm::Error::ReadTunings { source, .. }))
                    if source.kind() == ErrorKind::NotFound => {}
                loaded => loaded?,
            }
            file::check_target(file)?;
        }
        Ok(device)
    }

    fn open(&self, without_subgroups: bool) -> Result<Device> {
        if self.backend == Backend::Reference {
            let options = [
                (self.adapter.is_some(), "--adapter"),
                (self.pipeline_cache.is_some(), "--pipeline-cache"),
                (self.tunings.is_some(), "--tunings"),
                (without_subgroups, "--no-subgroups"),
                (self.unchecked, "--unchecked"),
            ];
            let given = options.into_iter().find(|(is_given, _)| *is_given);
            return given.map_or(Ok(Device::Reference), |(_, option)| Err(Error::OptionOfReference(option)));
        }
        let mut options = self.gpu_options();
        options.without_subgroups = without_subgroups;
        match (Gpu::with_options(&options), self.backend) {
            (Ok(gpu), _) => {
                // Fails early if the folder cannot be written to. The kernels are written at the end.
                gpu.save_pipeline_cache()?;
                Ok(Device::Gpu(gpu))
            }
            // A name that matches no adapter is a mistake, whether or not there are other adapters.
            (Err(error @ wgpu_batchnorm::Error::NoAdapter { wanted: None, .. }), Backend::Auto) => {
                terminal::note(&format!("note: {}. Computing with the CPU reference.", line(&error)));
                Ok(Device::Reference)
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// Makes a GPU plan by a file of tunings. Ignores a file that was measured elsewhere, and tells the user.
fn load_tunings(gpu: &Gpu, file: &Path) -> Result<()> {
    match Tunings::load(file, gpu.profile()) {
        Ok(tunings) => Ok(gpu.set_tunings(tunings)?),
        Err(error @ wgpu_batchnorm::Error::ForeignTunings { .. }) => {
            terminal::note(&format!("note: {} is not used: {}", file.display(), line(&error)));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

impl Implementation for Device {
    fn name(&self) -> String {
        match self {
            Self::Gpu(gpu) => gpu.name(),
            Self::Reference => "CPU reference".to_owned(),
        }
    }

    fn run(&self, case: &Case, inputs: &Inputs) -> wgpu_batchnorm::Result<Outputs> {
        match self {
            Self::Gpu(gpu) => gpu.run(case, inputs),
            Self::Reference => Reference.run(case, inputs),
        }
    }
}
