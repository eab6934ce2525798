//! `bench --gpu-report`: one folder with all figures of an adapter, which its user can send.

use super::report::{Report, UNCHECKED, plot};
use crate::adapter::Common;
use crate::error::{Error, Result};
use crate::file;
use crate::info;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use wgpu_batchnorm::AdapterProfile;

/// What the folder lacks, and where to get it.
const LACKS: &str = "\
Not here: registers, spills and what else the driver tells of each kernel, copies without wgpu's checks in the shader,
and how the device rounds to f16. The first two need Vulkan itself, or unsafe code. `benches/gpu/probe` in the repository
prints all of them: `cargo run --release -p probe -- kernels OPTIONS`, with shapes as `wgpu-batchnorm bench --list`
prints them, `--dtype` and `--pass`; and `cargo run --release -p probe -- limits`.
";

/// A folder that was empty or did not exist, and has only what this run wrote.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder unless it is there. It must be empty.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let failed = |source: io::Error| Error::Write { path: path.to_owned(), source };
        match fs::read_dir(path).map(Iterator::count) {
            Ok(0) => {}
            Ok(_) => return Err(Error::FolderNotEmpty { path: path.to_owned() }),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir(path).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(Error::NoFolder { path: path.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        file::write(&self.0.join(name), |file| file.write_all(text))
    }

    /// Writes all adapters as `info` prints them, and a guide to the folder.
    pub(crate) fn adapters(&self, common: &Common, profile: &AdapterProfile, checked: bool) -> Result<()> {
        for (name, as_json) in [("adapters.txt", false), ("adapters.json", true)] {
            let mut text = Vec::new();
            info::info(&info::Args::new(as_json), common, &mut text)?;
            self.write(name, &text)?;
        }
        self.write("README.md", guide(profile, checked).as_bytes())
    }

    /// Writes what the adapter can do at all.
    pub(crate) fn limits(&self, profile: &AdapterProfile, figures: &[Value]) -> Result<()> {
        let limits = json!({ "adapter": profile.name, "driver": profile.driver, "limits": figures });
        self.write("limits.json", format!("{limits:#}\n").as_bytes())
    }

    /// Writes the times and plans so far, over those before.
    pub(crate) fn times(&self, report: &Report<'_>) -> Result<()> {
        self.write("times.json", format!("{:#}\n", report.json()).as_bytes())?;
        self.write("times.md", report.markdown().as_bytes())?;
        self.write("plans.txt", report.plans().as_bytes())
    }

    /// Draws the times.
    pub(crate) fn plot(&self, report: &Report<'_>) -> Result<()> {
        let path = self.0.join("times.svg");
        file::write(&path, |file| file.write_all(plot::svg(report).map_err(io::Error::other)?.as_bytes()))
    }
}

/// Says what times on a software driver are worth. `None` on a GPU.
pub(crate) fn software(profile: &AdapterProfile) -> Option<String> {
    let name = &profile.name;
    profile.is_cpu().then(|| format!("{name} is a driver in software: its times tell nothing about a GPU"))
}

fn guide(profile: &AdapterProfile, checked: bool) -> String {
    let mut text = format!(
        "# Batch norm on {}\n\n{profile}, wgpu-batchnorm {}.\n",
        profile.name,
        env!("CARGO_PKG_VERSION")
    );
    for note in software(profile).into_iter().chain((!checked).then(|| UNCHECKED.to_owned())) {
        text += &format!("\n**{note}.**\n");
    }
    text += "\n| file | has |\n|---|---|\n\
        | `adapters.txt`, `adapters.json` | every adapter of the machine and what is used of it, as `info` prints it |\n\
        | `limits.json` | what a dispatch costs that waits for another one; GB/s of copies and reads by element, workgroup and loads at once; what of a tensor is still in the cache |\n\
        | `times.md`, `times.json` | each pass on each shape: alone, in a row, and beside plain copies |\n\
        | `times.svg` | the same as a figure |\n\
        | `plans.txt` | the plan of each pass in full |\n\n";
    text + LACKS
}

#[cfg(test)]
mod tests {
    use super::{Folder, guide};
    use crate::bench::report::tests::profile;
    use crate::error::Error;
    use std::fs;

    #[test]
    fn only_a_new_or_an_empty_folder_is_written_to() -> Result<(), Box<dyn std::error::Error>> {
        let parent = tempfile::tempdir()?;
        let path = parent.path().join("report");
        assert!(Folder::new(&path).is_ok() && path.is_dir());
        assert!(Folder::new(&path).is_ok());
        let file = path.join("mine");
        fs::write(&file, "mine")?;
        let refused = |path| Folder::new(path).map(|_| ()).map_err(|error| (error.line(), error));
        let error = refused(&path);
        assert!(
            matches!(&error, Err((line, Error::FolderNotEmpty { .. })) if line.contains("new folder")),
            "{error:?}"
        );
        let error = refused(&file);
        assert!(
            matches!(&error, Err((line, Error::NoFolder { .. })) if line.contains("new folder")),
            "{error:?}"
        );
        let error = refused(&parent.path().join("nowhere/report"));
        assert!(matches!(&error, Err((_, Error::Write { .. }))), "{error:?}");
        assert_eq!((fs::read_dir(&path)?.count(), fs::read_to_string(&file)?.as_str()), (1, "mine"));
        Ok(())
    }

    #[test]
    fn the_guide_says_what_the_times_are_worth() {
        let gpu = profile("A");
        let text = guide(&gpu, true);
        assert!(text.starts_with("# Batch norm on A\n") && text.contains("registers, spills"), "{text}");
        assert!(!text.contains("NOT CHECKED") && !text.contains("software"), "{text}");
        let mut software = gpu;
        software.device_type = wgpu_batchnorm::wgpu::DeviceType::Cpu;
        let text = guide(&software, false);
        assert!(text.contains("NOT CHECKED") && text.contains("A is a driver in software"), "{text}");
    }
}
