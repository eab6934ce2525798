//! Writes files, completely or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes a file. If that fails, an existing file stays unchanged. A link stays a link, a file keeps its permissions. A
/// pipe or a device is written to, not replaced. The data is on the disk when the function returns.
pub(crate) fn write(path: &Path, contents: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    match target(path)? {
        Target::File(path) => {
            let Temporary { mut file, listed } = Temporary::beside(&path)?;
            contents(file.as_file_mut())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|failed| failed.error)?;
            drop(listed);
            sync_name(&path);
        }
        Target::Stream => contents(&mut OpenOptions::new().write(true).open(path)?)?,
    }
    Ok(())
}

/// Writes bytes to a file, as [`write`] does. Creates the file's folder first.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    create_folder(path)?;
    write(path, |file| file.write_all(contents))
}

/// Creates the folder that a file is in, unless it is there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(folder(path))
}

/// Checks early whether `path` can be written to at all.
#[cfg(feature = "internals")]
pub(crate) fn check_target(path: &Path) -> io::Result<()> {
    if let Target::File(path) = target(path)? {
        Temporary::beside(&path)?;
    }
    Ok(())
}

/// Removes the temporary files of all writes in progress, for a program that ends before they do. From then on every
/// write waits: the program must end.
#[cfg(feature = "internals")]
pub(crate) fn abandon() {
    let unfinished = unfinished();
    for path in unfinished.iter() {
        // A file that was finished meanwhile has its own name already.
        let _ = fs::remove_file(path);
    }
    std::mem::forget(unfinished);
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

/// Returns the folder that a file is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts a file's new name on the disk. Ignores failure: the file has its name already, and not every file system can.
fn sync_name(path: &Path) {
    if cfg!(unix)
        && let Ok(folder) = fs::File::open(folder(path))
    {
        let _ = folder.sync_all();
    }
}

/// The temporary files of all writes in progress.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file with a random name. Dropping it removes the file.
struct Temporary {
    file: tempfile::NamedTempFile,
    listed: Listed,
}

/// An entry of [`UNFINISHED`]. Dropping it removes the entry.
struct Listed(PathBuf);

impl Temporary {
    /// Creates a file in the folder of `path`, with the permissions that `path` has or would have.
    fn beside(path: &Path) -> io::Result<Self> {
        let folder = folder(path);
        let found = fs::metadata(path).ok().map(|found| found.permissions());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wgpu-batchnorm-");
        #[cfg(unix)]
        builder.permissions(
            // From the beginning: nobody may open the new file who may not open the old one.
            found.clone().unwrap_or_else(|| std::os::unix::fs::PermissionsExt::from_mode(0o666)),
        );
        // The lock is held until the file is listed, so that `abandon` misses none.
        let mut unfinished = unfinished();
        let file = builder.tempfile_in(folder).map_err(|error| {
            // The original message names the temporary file, which the user does not know.
            io::Error::new(error.kind(), format!("folder {}: {}", folder.display(), error.kind()))
        })?;
        let listed = Listed(file.path().to_owned());
        unfinished.push(listed.0.clone());
        drop(unfinished);
        if let Some(found) = found {
            file.as_file().set_permissions(found)?;
        }
        Ok(Self { file, listed })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, Temporary, check_target, replace, target, write};
    use std::collections::HashSet;
    use std::env;
    use std::error::Error;
    use std::fs;
    use std::io::{self, Read, Write};
    use std::path::Path;
    use std::process::{Command, Stdio};

    fn entries(folder: &Path) -> io::Result<usize> {
        Ok(fs::read_dir(folder)?.count())
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        for before in [None, Some("before")] {
            if let Some(before) = before {
                fs::write(&path, before)?;
            }
            let there = entries(folder.path())?;
            let half = write(&path, |file| file.write_all(b"half").and(Err(io::Error::other("no more"))));
            assert_eq!(half.map_err(|error| error.to_string()), Err("no more".to_owned()));
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), before);
            assert_eq!(entries(folder.path())?, there);
        }
        check_target(&path)?;
        assert_eq!((fs::read_to_string(&path)?.as_str(), entries(folder.path())?), ("before", 1));
        Ok(())
    }

    #[test]
    fn temporary_files_have_names_of_their_own() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        let files: Vec<Temporary> = (0..100).map(|_| Temporary::beside(&path)).collect::<Result<_, _>>()?;
        let names: HashSet<_> = files.iter().map(|temporary| temporary.file.path().to_owned()).collect();
        assert_eq!((names.len(), entries(folder.path())?), (100, 100));
        assert!(names.iter().all(|name| super::unfinished().contains(name)));
        drop(files);
        assert_eq!(entries(folder.path())?, 0);
        assert!(!names.iter().any(|name| super::unfinished().contains(name)));
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() -> Result<(), Box<dyn Error>> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir()?;
        let [file, link, chain] = ["file", "link", "chain"].map(|name| folder.path().join(name));
        symlink("file", &link)?;
        symlink("link", &chain)?;
        // The file is not there yet.
        replace(&chain, b"one")?;
        assert_eq!(fs::read(&file)?, b"one");
        for mode in [0o600, 0o640, 0o755, 0o606] {
            fs::set_permissions(&file, PermissionsExt::from_mode(mode))?;
            replace(&chain, b"two")?;
            assert!(chain.is_symlink() && link.is_symlink() && !file.is_symlink());
            let found = fs::metadata(&file)?;
            assert_eq!((found.permissions().mode() & 0o777, fs::read(&file)?), (mode, b"two".to_vec()));
        }
        symlink("there", folder.path().join("here"))?;
        symlink("here", folder.path().join("there"))?;
        assert!(replace(&folder.path().join("here"), b"").is_err());
        assert_eq!(entries(folder.path())?, 5);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays_one() -> Result<(), Box<dyn Error>> {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir()?;
        let [pipe, link] = ["pipe", "link"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
        symlink(&pipe, &link)?;
        // Open at both ends: nobody waits for the other end.
        let mut ends = fs::OpenOptions::new().read(true).write(true).open(&pipe)?;
        for path in [&pipe, &link] {
            replace(path, b"through")?;
            assert!(fs::symlink_metadata(&pipe)?.file_type().is_fifo() && link.is_symlink());
            let mut found = [0; 7];
            ends.read_exact(&mut found)?;
            assert_eq!(&found, b"through");
        }
        assert_eq!(entries(folder.path())?, 2);
        Ok(())
    }

    /// Only looks at the device: a mistake in this test must not replace it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_no_file_to_replace() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/full", &link)?;
        for path in [Path::new("/dev/full"), &link] {
            assert!(matches!(target(path)?, Target::Stream));
        }
        Ok(())
    }

    /// Two processes replace one file 300 times each, while a third reads it.
    #[test]
    fn one_of_several_writers_wins() -> Result<(), Box<dyn Error>> {
        const VARIABLE: &str = "WGPU_BATCHNORM_TEST_WRITER";
        let writes = |path: &Path, writer: u8| {
            (0..300u16).try_for_each(|k| replace(path, &vec![writer; 40_000 + usize::from(k)]))
        };
        if let Some(path) = env::var_os(VARIABLE) {
            return Ok(writes(Path::new(&path), 2)?);
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        replace(&path, &[1; 40_000])?;
        let name = "files::tests::one_of_several_writers_wins";
        let mut other = Command::new(env::current_exe()?);
        let mut other = other.args(["--exact", name]).env(VARIABLE, &path).stdout(Stdio::null()).spawn()?;
        let this = std::thread::spawn({
            let path = path.clone();
            move || writes(&path, 1)
        });
        let mut found = HashSet::new();
        while !this.is_finished() || other.try_wait()?.is_none() {
            let bytes = fs::read(&path)?;
            assert!(bytes.len() >= 40_000 && bytes.iter().all(|byte| *byte == bytes[0]));
            found.insert(bytes[0]);
        }
        this.join().map_err(|_| "the writer panicked")??;
        assert!(other.wait()?.success());
        assert_eq!((found, entries(folder.path())?), (HashSet::from([1, 2]), 1));
        Ok(())
    }
}
