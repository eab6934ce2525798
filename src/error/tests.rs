//! Tests of the messages.

use super::{BadCheckpoint, Error, shortened};
use std::io;
use std::path::PathBuf;

#[test]
fn long_lists_are_shortened() {
    let names: Vec<String> = (0..10).map(|k| k.to_string()).collect();
    assert_eq!(shortened(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
    assert_eq!(shortened(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
}

/// Every error that another one caused.
fn caused() -> Vec<Error> {
    let (path, source) = (|| PathBuf::from("file"), || io::Error::other("the disk is on fire"));
    let json = serde_json::from_str::<bool>("maybe").map_err(BadCheckpoint::Header);
    let inner = || Box::new(io::Error::other("the lowest cause"));
    let description = "Validation Error\n\nCaused by:\n  the lowest cause".to_owned();
    let bad = |source| Error::BadCheckpoint { path: Some(path()), source };
    vec![
        Error::ReadCheckpoint { path: Some(path()), source: source() },
        bad(BadCheckpoint::Short { found: 3 }),
        bad(json.err().unwrap_or(BadCheckpoint::Surplus { length: 1 })),
        Error::WriteCheckpoint { path: Some(path()), source: source() },
        Error::PipelineCache { path: path(), source: source() },
        Error::ReadTunings { path: path(), source: source() },
        Error::WriteTunings { path: path(), source: source() },
        Error::Gpu(wgpu::Error::Validation { source: inner(), description }),
    ]
}

#[test]
fn each_cause_is_told_once() {
    for error in caused() {
        let mut texts = vec![error.to_string()];
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            texts.push(cause.to_string());
            source = cause.source();
        }
        for (k, text) in texts.iter().enumerate() {
            assert!(!texts[..k].iter().any(|above| above.contains(text.as_str())), "{texts:?}");
        }
        let whole = texts.join(": ");
        let lowest = ["on fire", "lowest cause", "3 of the 8 bytes", "expected value"];
        assert_eq!(lowest.iter().map(|cause| whole.matches(cause).count()).sum::<usize>(), 1, "{whole}");
    }
}

#[test]
fn the_advice_fits_the_backends() {
    use wgpu::Backends;
    let error = |backends, wanted: Option<&str>, found: &[&str]| {
        let found = found.iter().map(|&name| name.to_owned()).collect();
        Error::NoAdapter { backends, wanted: wanted.map(str::to_owned), found }.to_string()
    };
    if cfg!(target_os = "linux") {
        for backends in [Backends::METAL, Backends::DX12, Backends::METAL | Backends::DX12] {
            let text = error(backends, None, &[]);
            assert!(!text.contains("install") && text.contains("ask for VULKAN"), "{text}");
        }
        for backends in [Backends::VULKAN, Backends::all()] {
            let text = error(backends, None, &[]);
            assert!(text.contains("install a Vulkan driver") && text.contains("VULKAN"), "{text}");
        }
    }
    let text = error(Backends::METAL, Some("Voodoo"), &["llvmpipe"]);
    assert!(text.contains("\"Voodoo\"") && text.contains("take one of [\"llvmpipe\"]"), "{text}");
}

#[test]
fn long_values_are_cut() {
    let long = "ä".repeat(10_000);
    let errors = [
        Error::MissingTensor { tensor: long.clone(), found: vec![long.clone(); 8] },
        Error::SurplusTensor { tensor: long.clone(), option: "affine" },
        Error::TensorShape { tensor: long.clone(), shape: vec![1; 10_000], expected: "[1]".to_owned() },
        Error::TensorType { tensor: long.clone(), dtype: safetensors::Dtype::U8, expected: "F32" },
        Error::TensorCount { tensor: long.clone(), count: "-1".to_owned() },
        Error::Rank { rank: 10_000, shape: vec![1; 10_000] },
        Error::NoAdapter {
            backends: wgpu::Backends::VULKAN,
            wanted: Some(long.clone()),
            found: vec![long.clone()],
        },
        Error::ForeignTunings { what: "adapter", found: long, expected: "llvmpipe".to_owned() },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.chars().count() < 800 && text.contains('…'), "{} characters: {text}", text.len());
    }
}
