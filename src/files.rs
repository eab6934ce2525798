//! Writes files, completely or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes a file. If that fails, an existing file stays unchanged. A link stays a link. A pipe or a device is written to,
/// not replaced.
pub(crate) fn write(path: &Path, contents: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    match target(path)? {
        Target::File(path) => {
            let mut file = temporary(&path)?;
            contents(file.as_file_mut())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|failed| failed.error)?;
        }
        Target::Stream => contents(&mut OpenOptions::new().write(true).open(path)?)?,
    }
    Ok(())
}

/// Writes bytes to a file, as [`write`] does. Creates the file's folder first.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write(path, |file| file.write_all(contents))
}

/// Checks early whether `path` can be written to at all.
#[cfg(feature = "internals")]
pub(crate) fn check_target(path: &Path) -> io::Result<()> {
    if let Target::File(path) = target(path)? {
        temporary(&path)?;
    }
    Ok(())
}

enum Target {
    /// A file to replace or to create. Links are resolved.
    File(PathBuf),
    /// A pipe or a device.
    Stream,
}

fn target(path: &Path) -> io::Result<Target> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() => Ok(Target::File(fs::canonicalize(path)?)),
        Ok(_) => Ok(Target::Stream),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link may lead to a file that is not there yet. Links in a circle are another error.
            let mut path = path.to_owned();
            while let Ok(next) = fs::read_link(&path) {
                path = path.parent().unwrap_or(Path::new("")).join(next);
            }
            Ok(Target::File(path))
        }
        Err(error) => Err(error),
    }
}

/// Creates a temporary file beside `path`, with the permissions that `path` has or would have. Dropping it removes the
/// file.
fn temporary(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wgpu-batchnorm-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder).map_err(|error| {
        // The original message names the temporary file, which the user does not know.
        io::Error::new(error.kind(), format!("folder {}: {}", folder.display(), error.kind()))
    })?;
    if let Ok(found) = fs::metadata(path) {
        file.as_file().set_permissions(found.permissions())?;
    }
    Ok(file)
}
