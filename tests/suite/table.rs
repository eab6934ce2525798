//! The case table on the GPU, by every way there is to it: in slices, which run side by side.

use crate::support;
use wgpu_batchnorm::verify::{Implementation, check, table};

/// Checks every third case of the table, from this one on.
fn check_table(implementation: &dyn Implementation, slice: usize) {
    let mut failures = Vec::new();
    for case in table().iter().skip(slice).step_by(3) {
        let report = check(case, implementation).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        println!("{report}");
        if !report.passed() {
            failures.push(report.to_string());
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn gpu_first_slice() {
    check_table(support::gpu(), 0);
}

#[test]
fn gpu_second_slice() {
    check_table(support::gpu(), 1);
}

#[test]
fn gpu_third_slice() {
    check_table(support::gpu(), 2);
}

#[test]
fn gpu_without_subgroups_first_slice() {
    check_table(support::gpu_without_subgroups(), 0);
}

#[test]
fn gpu_without_subgroups_second_slice() {
    check_table(support::gpu_without_subgroups(), 1);
}

#[test]
fn gpu_without_subgroups_third_slice() {
    check_table(support::gpu_without_subgroups(), 2);
}
