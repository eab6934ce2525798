//! `bench`.

use crate::support::{Folder, program};
use serde_json::Value;
use std::fs;

#[test]
fn bench_checks_and_times() {
    let folder = Folder::new();
    let file = folder.path("bench.json");
    let run = program(&["bench", "--set", "documents", "--runs", "3", "--json", &file]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let ceilings = [&report["shader_copy_gb_per_s"], &report["buffer_copy_gb_per_s"]];
    assert!(ceilings.iter().all(|rate| rate.as_f64().unwrap() > 0.0), "{report}");
    let cases = report["cases"].as_array().unwrap();
    // Four shapes, four passes.
    assert_eq!(cases.len(), 16);
    for case in cases {
        let ms = case["median_ms"].as_f64().unwrap();
        assert!(ms > 0.0 && case["min_ms"].as_f64().unwrap() <= ms, "{case}");
        let elements: u64 =
            case["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product();
        let tensors = match case["pass"].as_str().unwrap() {
            "forward_train" | "forward_eval" => 2,
            "backward" => 3,
            "forward_backward" => 5,
            other => panic!("{other}"),
        };
        let rate = (elements * 4 * tensors) as f64 / ms / 1e6;
        assert!((case["floor_gb_per_s"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9, "{case}");
    }
    let run = program(&["bench", "--backend", "reference"]);
    assert!(run.code == Some(2) && run.stderr.contains("bench times a GPU"), "{run:?}");
}
