//! `info`, and the choice of the adapter in every command.

use crate::support::{File, Folder, adapters, command, photos, program, run, small, without_adapter};
use std::fs;

#[test]
fn info_lists_what_there_is() {
    let names = adapters();
    let run = program(&["info"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.matches("[taken by default]").count(), 1);
    for text in
        names.iter().map(String::as_str).chain(["shaders", "reductions by", "f16 tensors", "largest tensor"])
    {
        assert!(run.stdout.contains(text), "{text}: {run:?}");
    }
    // Every adapter here supports everything.
    assert!(!run.stdout.contains("nothing: ") && !run.stdout.contains("not at all: "), "{run:?}");
    // Part of a name, in upper case.
    let part = names[0].get(1..4).unwrap().to_uppercase();
    let run = program(&["--adapter", &part, "info"]);
    assert_eq!((run.code, run.stdout.matches("[taken]").count()), (Some(0), 1), "{run:?}");
}

#[test]
fn compiled_kernels_are_kept_where_the_backend_has_a_cache() {
    let folder = Folder::new();
    let kept = folder.path("kept");
    let options = ["--backend", "gpu", "--pipeline-cache", &kept];
    let (_, without) = folder.result(&small(), &options[..2]);
    let contents = || -> Vec<Vec<u8>> {
        let files = fs::read_dir(&kept).into_iter().flatten();
        files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    };
    let (_, cold) = folder.result(&small(), &options);
    let files = contents();
    // One file for the adapter, or none if the backend has no cache.
    assert!(files.len() <= 1 && (files.len() == 1 || !cfg!(target_os = "linux")), "{} files", files.len());
    let (_, warm) = folder.result(&small(), &options);
    assert_eq!(contents().len(), files.len());
    assert_eq!((&cold, &warm), (&without, &without));

    if cfg!(target_os = "linux") {
        // A path that is no folder cannot take a file.
        let (input, output) = (folder.path("in"), folder.path("new"));
        let run = program(&[&["run", &input, "--output", &output][..], &options[..3], &[&input]].concat());
        assert!(run.code == Some(2) && run.stderr.contains("cannot write the pipeline cache"), "{run:?}");
        assert!(!fs::exists(output).unwrap());
    }
}

#[test]
fn an_unknown_adapter_is_refused_with_the_known_ones() {
    let names = adapters();
    let folder = Folder::new();
    let output = folder.path("out");
    for backend in ["auto", "gpu"] {
        for command in [&["info"][..], &["verify"], &["run", &photos(), "--output", &output]] {
            let run = program(&[command, &["--adapter", "no such adapter", "--backend", backend]].concat());
            assert_eq!(run.code, Some(2), "{run:?}");
            assert!(
                run.stderr.contains("error: no GPU adapter") && run.stderr.contains(&names[0]),
                "{run:?}"
            );
        }
    }
    assert_eq!(folder.entries(), 0);
}

#[test]
fn without_an_adapter() {
    let folder = Folder::new();
    let (input, output) = (folder.write("in", &small().bytes()), folder.path("out"));
    let to = ["run", &input, "--output", &output];
    for arguments in
        [&["info"][..], &["verify", "--backend", "gpu"], &[&to[..], &["--backend", "gpu"]].concat()]
    {
        let run = run(without_adapter(&mut command(arguments)));
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains("error: no GPU adapter"), "{run:?}");
        assert!(run.stderr.contains("mesa-vulkan-drivers"), "{run:?}");
        assert!(run.stdout.is_empty() && folder.entries() == 1, "{run:?}");
    }
    let auto = run(without_adapter(&mut command(&to)));
    assert_eq!(auto.code, Some(0), "{auto:?}");
    assert!(
        auto.stderr.contains("note: no GPU adapter") && auto.stderr.contains("CPU reference"),
        "{auto:?}"
    );
    let by_auto = File::read(&output);
    assert_eq!(by_auto.metadata["adapter"], "CPU reference");
    assert_eq!(by_auto, folder.result(&small(), &["--backend", "reference"]).1);
}
