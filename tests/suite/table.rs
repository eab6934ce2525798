//! The case table on the GPU, by every way there is to it.

use crate::support;
use wgpu_batchnorm::verify::{Implementation, check, table};

fn check_table(implementation: &dyn Implementation) {
    let mut failures = Vec::new();
    for case in table() {
        let report = check(&case, implementation).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        println!("{report}");
        if !report.passed() {
            failures.push(report.to_string());
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn gpu() {
    check_table(support::gpu());
}

#[test]
fn gpu_without_subgroups() {
    check_table(support::gpu_without_subgroups());
}
