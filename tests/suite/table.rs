//! The case table on the GPU, in every way to run it. Its slices run side by side.

use crate::recorded::Recorded;
use crate::support;
use wgpu_batchnorm::Gpu;
use wgpu_batchnorm::verify::{Case, check, table};

/// Returns every third case, from this one on.
fn slice(first: usize) -> Vec<Case> {
    table().into_iter().skip(first).step_by(3).collect()
}

fn check_all<'a>(gpu: &Gpu, cases: impl IntoIterator<Item = &'a Case>) {
    let mut failures = Vec::new();
    for case in cases {
        let report = check(case, gpu).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        println!("{report}");
        if !report.passed() {
            failures.push(report.to_string());
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn gpu_first_slice() {
    check_all(support::gpu(), &slice(0));
}

#[test]
fn gpu_second_slice() {
    check_all(support::gpu(), &slice(1));
}

#[test]
fn gpu_third_slice() {
    check_all(support::gpu(), &slice(2));
}

/// Checks the cases of a slice that are chosen for this device.
fn check_chosen(gpu: &'static Gpu, first: usize) {
    let cases = slice(first);
    check_all(gpu, Recorded::new(gpu).chosen(cases.iter()));
}

#[test]
fn gpu_without_subgroups_first_slice() {
    check_chosen(support::gpu_without_subgroups(), 0);
}

#[test]
fn gpu_without_subgroups_second_slice() {
    check_chosen(support::gpu_without_subgroups(), 1);
}

#[test]
fn gpu_without_subgroups_third_slice() {
    check_chosen(support::gpu_without_subgroups(), 2);
}
