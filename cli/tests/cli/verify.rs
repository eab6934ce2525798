//! `verify`.

use crate::support::{TOLERANCE, adapters, command, program, run};
use serde_json::Value;
use std::fs;
use wgpu_batchnorm::internals::tests_are_exhaustive;

/// Returns options for the cases with this text in their names, and the number of these cases. Returns all cases if
/// the tests are exhaustive.
fn some(text: &str) -> (Vec<&str>, usize) {
    let cases = wgpu_batchnorm::verify::table();
    match tests_are_exhaustive() {
        true => (vec![], cases.len()),
        false => (vec!["--only", text], cases.iter().filter(|case| case.name.contains(text)).count()),
    }
}

#[test]
fn verify_passes_on_this_adapter() {
    let (only, cases) = some("channels last");
    assert!(cases > 60, "{cases} cases");
    let run = program(&[&["verify", "--backend", "gpu"], &only[..]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.lines().count(), cases + 1);
    assert_eq!(run.stdout.lines().filter(|line| line.ends_with("  PASS")).count(), cases);
    let summary = run.stdout.lines().last().unwrap();
    assert!(summary.starts_with(&format!("{cases} cases, {cases} passed, worst error y ")), "{summary}");
    assert!(summary.contains(&adapters()[0]), "{summary}");
}

#[test]
fn verify_as_json_without_subgroups() {
    let (only, cases) = some("mean");
    assert!(cases > 9, "{cases} cases");
    let run = program(&[&["verify", "--json", "--no-subgroups", "--backend", "gpu"], &only[..]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(report["adapter"].as_str().unwrap().ends_with(", without subgroups"), "{report}");
    assert_eq!((&report["total"], &report["passed"]), (&cases.into(), &cases.into()));
    assert_eq!(report["cases"].as_array().unwrap().len(), cases);
    let worst = report["worst_errors"]["y"].as_f64().unwrap();
    assert!(worst > 0.0 && worst < TOLERANCE);
}

/// Verifies all cases with one type and one activation. Leaves out the cases of the other types.
#[test]
fn all_cases_of_a_type_and_with_an_activation() {
    let (only, all) = some("eval");
    for backend in ["gpu", "reference"] {
        let options = ["verify", "--dtype", "bf16", "--activation", "leaky-relu=0.1", "--backend", backend];
        let run = program(&[&options, &only[..]].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        let cases = run.stdout.lines().count() - 1;
        assert!(cases > all / 2 && cases < all, "{cases} of {all}");
        assert!(!run.stdout.lines().any(|line| line.starts_with("f16")), "{run:?}");
    }
    for (options, word) in [(["--dtype", "f64"], "f64"), (["--activation", "elu"], "leaky-relu=SLOPE")] {
        let run = program(&[&["verify"], &options[..]].concat());
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(word), "{run:?}");
    }
    let run = program(&["verify", "--only", "no such case", "--backend", "reference"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("no case has \"no such case\" in its name"), "{run:?}");
}

#[test]
fn the_reference_verifies_itself_and_says_so() {
    let run = program(&["verify", "--backend", "reference"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("against itself"), "{run:?}");
    assert!(run.stdout.lines().last().unwrap().ends_with("on CPU reference"), "{run:?}");
}

/// Neither a closed reader nor a full disk makes the program panic.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_cannot_be_written() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = run(command(&["verify", "--backend", "reference"]).stdout(writer));
    assert_eq!(closed.code, Some(2), "{closed:?}");
    assert!(!closed.stderr.contains("error"), "{closed:?}");
    let full = fs::File::create("/dev/full").unwrap();
    let full = run(command(&["verify", "--backend", "reference"]).stdout(full));
    assert_eq!(full.code, Some(2), "{full:?}");
    assert!(full.stderr.contains("error: cannot write to standard output: No space left"), "{full:?}");
}
