//! `scripts/with-vulkan`, on a machine that only seems to lack a driver.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn script() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(root.join("scripts/with-vulkan"))
}

/// The script finds a loader and a driver, which nobody opens, so it has nothing to install.
#[test]
fn the_runtime_folder_is_there_when_the_command_runs() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("libvulkan.so.1"), "").unwrap();
    let manifest = folder.path().join("driver.json");
    fs::write(&manifest, "").unwrap();
    let gone = folder.path().join("gone");
    for before in [None, Some(gone.as_path()), Some(folder.path())] {
        let mut command = script();
        command.args(["sh", "-c", "test -d \"$XDG_RUNTIME_DIR\" && printf %s \"$XDG_RUNTIME_DIR\""]);
        command.env("LD_LIBRARY_PATH", folder.path()).env("VK_DRIVER_FILES", &manifest);
        command.env("TMPDIR", folder.path()).env_remove("XDG_RUNTIME_DIR");
        if let Some(before) = before {
            command.env("XDG_RUNTIME_DIR", before);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{before:?}: {output:?}");
        let runtime = String::from_utf8(output.stdout).unwrap();
        if before == Some(folder.path()) {
            assert_eq!(Path::new(&runtime), folder.path());
        } else {
            assert_eq!(fs::metadata(&runtime).unwrap().permissions().mode() & 0o777, 0o700, "{runtime}");
        }
    }
    // The two files, and the folder that runs share.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

/// Lists of packages that are newer than the system's packages make a partial upgrade, which Arch Linux does not
/// support.
#[test]
fn pacman_takes_the_lists_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (tools, log) = (folder.path().join("tools"), folder.path().join("log"));
    fs::create_dir(&tools).unwrap();
    for tool in ["bash", "cat", "env", "head", "mkdir", "mktemp", "rm", "sed", "sort", "tr", "uname"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(tool))
            .find(|path| path.exists());
        symlink(found.unwrap(), tools.join(tool)).unwrap();
    }
    for (name, text) in [
        ("sudo", "#!/usr/bin/env bash\nexec \"$@\"\n".to_owned()),
        ("pacman", format!("#!/usr/bin/env bash\necho \"$@\" >>'{}'\n", log.display())),
    ] {
        fs::write(tools.join(name), text).unwrap();
        fs::set_permissions(tools.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = script();
    let command = command.arg("true").env("PATH", &tools).env("VK_DRIVER_FILES", folder.path().join("none"));
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    // Nothing was installed after all.
    assert!(!output.status.success() && message.contains("there is still no Vulkan driver"), "{message}");
    let arguments = fs::read_to_string(&log).unwrap();
    assert!(arguments.starts_with("-S ") && arguments.contains("--needed"), "{arguments}");
    let usage = script().arg("--help").output().unwrap();
    assert!(String::from_utf8(usage.stdout).unwrap().contains("pacman -Syu"));
}
