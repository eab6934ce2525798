//! Reads bytes that nobody has checked. The fuzz targets in `fuzz/` use this file, too.

use std::io::Cursor;
use wgpu_batchnorm::checkpoint::CheckpointReader;
use wgpu_batchnorm::internals::{known_gpus, read_tunings};
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNormConfig, Checkpoint, Direction, ForwardOptions, Layout,
    PlanInput, Problem, StateNames,
};

/// Reads a safetensors file whole and tensor by tensor, which must agree, and the state of several layers from it.
/// Returns whether it is valid.
pub(crate) fn checkpoint(bytes: &[u8]) -> bool {
    let (whole, reader) = match (Checkpoint::from_bytes(bytes), CheckpointReader::new(Cursor::new(bytes))) {
        (Ok(whole), Ok(reader)) => (whole, reader),
        (Err(one), Err(other)) => {
            // Of two faults in a header, safetensors tells one or the other: it keeps the header in a hash map.
            let reason = |error| format!("{error:?}").split("Header(").next().map(str::to_owned);
            assert_eq!(reason(one), reason(other));
            return false;
        }
        (one, other) => panic!("one of two readers failed: {one:?}, {other:?}"),
    };
    assert!(whole.names().eq(reader.names()));
    for name in whole.names() {
        assert_eq!(reader.tensor(name).unwrap().as_ref(), whole.tensor(name));
        let values = whole.array(name).map(|array| array.map_or(0, |array| array.len()));
        assert!(values.is_ok_and(|values| values <= bytes.len()) || whole.array(name).is_err());
        let count = whole.count(name);
        assert!(count.is_err() || whole.tensor(name).is_some_and(|tensor| !tensor.data.is_empty()));
    }
    for names in [
        StateNames::from("layer.bn."),
        StateNames::from("layer.bn"),
        StateNames::from(""),
        StateNames::keras("keras/"),
        StateNames::flax("params.", "batch_stats."),
        StateNames::onnx("layer.bn"),
    ] {
        for config in [
            BatchNormConfig::new(3),
            BatchNormConfig::new(3).affine(false),
            BatchNormConfig::new(3).track_running_stats(false),
            BatchNormConfig::new(u32::MAX as usize),
        ] {
            let (one, other) = (whole.state(names.clone(), &config), reader.state(names.clone(), &config));
            // NaN is not equal to itself.
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
    }
    let again = Checkpoint::from_bytes(&whole.to_bytes().unwrap()).unwrap();
    assert_eq!(again, whole);
    true
}

/// Returns the adapter of the tunings.
pub(crate) fn profile() -> AdapterProfile {
    known_gpus().remove(0).1
}

/// Returns passes that have a tuning in the file: problem, configuration, training.
pub(crate) fn passes() -> [(Problem, BatchNormConfig, bool); 3] {
    let problem = |shape: &[usize], layout| Problem::new(shape, layout).unwrap();
    [
        (problem(&[4, 3, 5], Layout::ChannelsFirst), BatchNormConfig::new(3), true),
        (problem(&[4, 3, 5], Layout::ChannelsFirst), BatchNormConfig::new(3), false),
        (
            problem(&[90, 7, 64], Layout::ChannelsLast),
            BatchNormConfig::new(64).layout(Layout::ChannelsLast),
            true,
        ),
    ]
}

/// Reads a file of tunings, and plans by it. Returns whether it is valid.
pub(crate) fn tunings(bytes: &[u8]) -> bool {
    let profile = profile();
    let Ok(tunings) = read_tunings(bytes, &profile) else { return false };
    for (problem, config, training) in passes() {
        let input = PlanInput::new(&problem, &config, training.into(), &profile);
        let forward = tunings.forward(&input, &ForwardOptions::new());
        let backward = tunings.backward(&input, &BackwardOptions::new());
        for plan in [forward, backward] {
            assert!(!plan.unwrap().to_string().is_empty());
        }
        for direction in [Direction::Forward, Direction::Backward] {
            let _ = tunings.get(&problem, &config, training.into(), direction);
        }
    }
    true
}
