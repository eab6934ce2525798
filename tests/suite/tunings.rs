//! Tunings: the candidates are right, measuring keeps one of them, and the file is used only where it is valid.

use crate::support::changed;
use ndarray::ArrayD;
use std::fs;
use std::path::Path;
use wgpu_batchnorm::kernels::VectorWidth;
use wgpu_batchnorm::verify::{Case, check};
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNorm, BatchNormConfig, DType, Direction, Error, ForwardOptions,
    Gpu, GpuOptions, Layout, Mode, Plan, PlanInput, Problem, Tensor, Tuning, Tunings, wgpu,
};

/// Opens a GPU for one test, since tunings are set on all handles.
fn open() -> Gpu {
    let gpu = Gpu::with_options(&GpuOptions::new());
    gpu.unwrap_or_else(|error| panic!("the tests need a GPU adapter: {error}"))
}

fn case(shape: &[usize], layout: Layout) -> Case {
    let channels = shape[layout.channel_axis(shape.len())];
    Case {
        name: format!("{shape:?} {layout}"),
        shape: shape.to_vec(),
        config: BatchNormConfig::new(channels).layout(layout),
        training: true,
        steps: 2,
        mean: 3.0,
        std: 2.0,
        poison: None,
        dtype: DType::F32,
        residual: false,
        seed: 7,
    }
}

/// Returns a case of each kind for the planner: planes of whole loads, ragged planes, short planes, columns, and
/// few values.
fn cases() -> [Case; 5] {
    [
        case(&[9, 3, 20, 12], Layout::ChannelsFirst),
        case(&[5, 4, 7, 9], Layout::ChannelsFirst),
        case(&[40, 2, 2], Layout::ChannelsFirst),
        case(&[9, 11, 10, 6], Layout::ChannelsLast),
        case(&[3, 300], Layout::ChannelsFirst),
    ]
}

fn problem(case: &Case) -> Problem {
    Problem::new(&case.shape, case.config.layout).unwrap()
}

/// Returns tunings that plan every pass of the case by this one.
fn only(gpu: &Gpu, case: &Case, tuning: Tuning) -> Tunings {
    let mut tunings = Tunings::new(gpu.profile());
    for direction in [Direction::Forward, Direction::Backward] {
        for training in [true, false] {
            assert!(
                tunings.insert(&problem(case), &case.config, training.into(), direction, tuning).is_none(),
                "every pass has an entry of its own"
            );
        }
    }
    tunings
}

/// Returns the bits of y, dx, dweight, dbias and the running mean after a step.
fn bits(gpu: &Gpu, case: &Case) -> Vec<u32> {
    let inputs = case.inputs();
    let mut layer = BatchNorm::with_state(gpu, case.config.clone(), &inputs.state).unwrap();
    let tensor =
        |array: &ArrayD<f32>| Tensor::from_array(gpu, array.view()).unwrap().with_layout(case.config.layout);
    let y = layer.forward(&tensor(&inputs.xs[0])).unwrap();
    let gradients = layer.backward(&tensor(&inputs.dys[0])).unwrap();
    let all = [gradients.input.unwrap(), gradients.weight.unwrap(), gradients.bias.unwrap(), y];
    let mut values: Vec<f32> = all.iter().flat_map(|tensor| tensor.to_array().unwrap()).collect();
    values.extend(layer.state().unwrap().running_mean.unwrap());
    assert!(values.iter().all(|value| value.is_finite()), "{}", case.name);
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_candidate_for_planes_is_right_and_gives_the_same_bits_again() {
    let [whole, masked, short, ..] = cases();
    check_candidates([whole, masked, short]);
}

#[test]
fn every_candidate_for_columns_is_right_and_gives_the_same_bits_again() {
    let [.., columns, few] = cases();
    check_candidates([columns, few]);
}

fn check_candidates<const N: usize>(cases: [Case; N]) {
    for case in cases {
        let mut plans = Vec::new();
        let gpu = open();
        for tuning in Tuning::candidates(&problem(&case), VectorWidth::Four, gpu.profile()) {
            let tunings = only(&gpu, &case, tuning);
            // Candidates that make the same plans are checked once.
            let (problem, options) = (problem(&case), BackwardOptions::new());
            let input = PlanInput::new(&problem, &case.config, Mode::Train, gpu.profile());
            let forward = tunings.forward(&input, &ForwardOptions::new()).unwrap();
            let backward = tunings.backward(&input, &options).unwrap();
            if plans.contains(&(forward.clone(), backward.clone())) {
                continue;
            }
            plans.push((forward, backward));
            gpu.set_tunings(tunings).unwrap();
            for training in [true, false] {
                let report = check(&Case { training, ..case.clone() }, &gpu).unwrap();
                assert!(report.passed(), "{tuning}: {report}");
            }
            assert_eq!(bits(&gpu, &case), bits(&gpu, &case), "{}, {tuning}", case.name);
        }
        assert!(plans.len() > 2, "{}: the candidates make different plans", case.name);
    }
}

#[test]
fn plans_follow_the_tunings_that_are_set() {
    let gpu = open();
    let case = case(&[64, 2, 32, 32], Layout::ChannelsFirst);
    let problem = problem(&case);
    let heuristic = Tuning::new(&problem, VectorWidth::Four, gpu.profile());
    let tuning =
        changed(heuristic, |tuning| (tuning.splits, tuning.one_dispatch) = (tuning.splits * 2 + 7, false));
    let input = PlanInput::new(&problem, &case.config, Mode::Train, gpu.profile());
    let tuned = |gpu: &Gpu| gpu.tunings().forward(&input, &ForwardOptions::new()).unwrap();
    assert!(gpu.tunings().is_empty());
    let heuristic = Plan::forward(&input, &ForwardOptions::new()).unwrap();
    assert_eq!(tuned(&gpu), heuristic);
    gpu.set_tunings(only(&gpu, &case, tuning)).unwrap();
    assert_eq!(gpu.tunings().len(), 4);
    let expected = Plan::forward(&input.tuning(tuning), &ForwardOptions::new()).unwrap();
    assert_eq!(tuned(&gpu), expected);
    assert_ne!(expected, heuristic);
}

#[test]
fn a_tuning_beyond_the_limits_is_left_alone() {
    // The limit is enough for the tensor, but not for partial results of every value.
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 16, ..wgpu::Limits::default() };
    let profile = changed(open().profile().clone(), |profile| profile.limits = limits);
    let problem = Problem::new(&[1 << 12, 4], Layout::ChannelsFirst).unwrap();
    let config = BatchNormConfig::new(4);
    let input = PlanInput::new(&problem, &config, Mode::Train, &profile);
    let heuristic = Plan::forward(&input, &ForwardOptions::new()).unwrap();
    let mut tunings = Tunings::new(&profile);
    let tuning = changed(Tuning::new(&problem, VectorWidth::Four, &profile), |tuning| {
        (tuning.workgroup_size, tuning.splits) = (1, u32::MAX);
        (tuning.one_dispatch, tuning.groups, tuning.tile_loads) = (false, 1, 0);
        (tuning.loads_per_lane_planes, tuning.loads_per_lane_columns) = (u32::MAX, u32::MAX);
        tuning.columns_per_lane = 1;
    });
    tunings.insert(&problem, &config, Mode::Train, Direction::Forward, tuning);
    let planned = tunings.forward(&input, &ForwardOptions::new()).unwrap();
    let tuned = Plan::forward(&input.tuning(tuning), &ForwardOptions::new());
    assert!(matches!(tuned, Err(Error::BindingTooLarge { .. })), "{tuned:?}");
    assert_eq!(planned, heuristic);
}

#[test]
fn tuning_keeps_a_candidate_that_is_no_slower() {
    let gpu = open();
    let mut tunings = Tunings::new(gpu.profile());
    let config = BatchNormConfig::new(3);
    let problem = Problem::new(&[4, 3, 16, 16], Layout::ChannelsFirst).unwrap();
    for (direction, training) in
        [(Direction::Forward, true), (Direction::Forward, false), (Direction::Backward, true)]
    {
        let tuned = tunings.tune(&gpu, &problem, &config, training.into(), direction).unwrap();
        let candidates = Tuning::candidates(&problem, VectorWidth::Four, gpu.profile());
        assert!(candidates.contains(&tuned.tuning), "{tuned:?}");
        assert_eq!(tuned.heuristic, candidates[0]);
        let times = [tuned.milliseconds, tuned.heuristic_milliseconds];
        assert!(times.iter().all(|time| *time > 0.0 && time.is_finite()), "{tuned:?}");
        let is_heuristic = tuned.tuning == tuned.heuristic;
        assert!(is_heuristic || tuned.milliseconds < 0.97 * tuned.heuristic_milliseconds, "{tuned:?}");
        assert_eq!(tunings.get(&problem, &config, training.into(), direction), Some(tuned.tuning));
    }
    assert_eq!(tunings.len(), 3);
    assert_eq!(tunings.get(&problem, &config, Mode::Eval, Direction::Backward), None);
    // Without running statistics, eval is planned like training.
    let config = config.track_running_stats(false);
    assert!(tunings.get(&problem, &config, Mode::Eval, Direction::Backward).is_some());

    // A pass with nothing to measure, and one that cannot be planned.
    let empty = Problem::new(&[0, 3], Layout::ChannelsFirst).unwrap();
    let tuned = tunings.tune(&gpu, &empty, &config, Mode::Train, Direction::Forward).unwrap();
    assert_eq!((tuned.milliseconds, tuned.tuning), (0.0, tuned.heuristic));
    let single = Problem::new(&[1, 3], Layout::ChannelsFirst).unwrap();
    let refused = tunings.tune(&gpu, &single, &config, Mode::Train, Direction::Forward);
    assert!(matches!(refused, Err(Error::OneValuePerChannel { .. })), "{refused:?}");
}

/// Writes a file with a few tunings.
fn write(file: &Path, profile: &AdapterProfile) -> Tunings {
    let mut tunings = Tunings::new(profile);
    for (size, shape) in [(16, [4, 3, 5]), (32, [8, 3, 50])] {
        let problem = Problem::new(&shape, Layout::ChannelsFirst).unwrap();
        for (one_dispatch, direction) in [(true, Direction::Forward), (false, Direction::Backward)] {
            let tuning = changed(Tuning::new(&problem, VectorWidth::Four, profile), |tuning| {
                (tuning.workgroup_size, tuning.splits) = (size, 3);
                (tuning.one_dispatch, tuning.groups, tuning.tile_loads) = (one_dispatch, 3, 4);
                (tuning.loads_per_lane_planes, tuning.loads_per_lane_columns) = (5, 6);
                tuning.columns_per_lane = 7;
            });
            tunings.insert(&problem, &BatchNormConfig::new(3), one_dispatch.into(), direction, tuning);
        }
    }
    tunings.save(file).unwrap();
    tunings
}

#[test]
fn a_file_gives_back_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not/yet/there.txt");
    let gpu = open();
    let tunings = write(&file, gpu.profile());
    assert_eq!(tunings.len(), 4);
    assert_eq!(Tunings::load(&file, gpu.profile()).unwrap(), tunings);
    // Nothing else is left in the folder, and the same tunings give the same file.
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains(&gpu.profile().name), "{text}");
    tunings.save(&file).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    let none = Tunings::new(gpu.profile());
    none.save(&file).unwrap();
    assert_eq!(Tunings::load(&file, gpu.profile()).unwrap(), none);
}

#[test]
fn a_file_that_is_foreign_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tunings.txt");
    let gpu = open();
    let here = gpu.profile().clone();
    let tunings = write(&file, &here);
    let others = [
        ("adapter", changed(here.clone(), |profile| profile.name = "another".to_owned())),
        ("driver", changed(here.clone(), |profile| profile.driver = "another".to_owned())),
        ("backend", changed(here.clone(), |profile| profile.backend = wgpu::Backend::Noop)),
        ("subgroups", changed(here.clone(), |profile| profile.features = wgpu::Features::empty())),
    ];
    for (name, other) in others {
        let refused = Tunings::load(&file, &other);
        let is_foreign = matches!(&refused, Err(Error::ForeignTunings { what, .. }) if *what == name);
        assert!(is_foreign || (name == "subgroups" && !here.has_subgroups()), "{name}: {refused:?}");
        // A device does not accept them, and adds nothing to them.
        if is_foreign {
            let mut foreign = Tunings::new(&other);
            let problem = Problem::new(&[4, 3, 5], Layout::ChannelsFirst).unwrap();
            let config = BatchNormConfig::new(3);
            let refused = foreign.tune(&gpu, &problem, &config, Mode::Train, Direction::Forward);
            assert!(matches!(refused, Err(Error::ForeignTunings { .. })), "{refused:?}");
            let refused = gpu.set_tunings(foreign);
            assert!(matches!(refused, Err(Error::ForeignTunings { .. })), "{refused:?}");
        }
    }
    gpu.set_tunings(tunings).unwrap();

    // The file is of another version, and may look different below its first line.
    let text = fs::read_to_string(&file).unwrap();
    let first = text.lines().next().unwrap();
    for rest in ["", "\nanything"] {
        fs::write(&file, format!("{first}.9{rest}")).unwrap();
        let refused = Tunings::load(&file, &here);
        assert!(matches!(&refused, Err(Error::ForeignTunings { what: "version", .. })), "{refused:?}");
    }
}

#[test]
fn a_file_that_is_damaged_is_refused_with_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tunings.txt");
    let gpu = open();
    write(&file, gpu.profile());
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        match Tunings::load(&file, gpu.profile()) {
            Err(Error::DamagedTunings { path, line, reason }) => {
                assert!(path == file && !reason.is_empty());
                line
            }
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
        }
    };
    // Cut off after any line, with an entry twice, and with a line after the end.
    for end in 0..lines.len() {
        assert_eq!(refused(lines[..end].join("\n").as_bytes()), end + 1);
    }
    let last = lines.len() - 1;
    let entry = lines[last - 1];
    assert_eq!(refused([&lines[..last], &[entry, "end"]].concat().join("\n").as_bytes()), last + 1);
    assert_eq!(refused(format!("{text}more\n").as_bytes()), last + 2);
    // Wrong words in an entry.
    for (from, to) in [
        ("forward ", "sideways "),
        ("backward", "forward batch"),
        (" batch ", " some "),
        ("outer=", "outer=-"),
        ("outer=4", "outer=99999999999999999999999"),
        ("channels=3", "channels=NaN"),
        ("workgroup_size=16", "workgroup_size=0"),
        ("groups=3", "groups=8.5"),
        ("splits=3", "splits="),
        ("splits=3", "split=3"),
        ("one_dispatch=1", "one_dispatch=2"),
        ("loads_per_lane_planes=5", ""),
        ("columns_per_lane=7", "columns_per_lane=4000000000"),
        ("columns_per_lane=7", "columns_per_lane=7 more=8"),
        ("columns_per_lane=7", ""),
    ] {
        assert!(text.contains(from), "{from}");
        let line = refused(text.replace(from, to).as_bytes());
        assert!((6..=last).contains(&line), "{from}: {line}");
    }
    // Files that are no tunings at all.
    for bytes in [&b""[..], b"\0\xff\xfe\x80", b"{}", b"end\n"] {
        assert_eq!(refused(bytes), 1);
    }
    fs::remove_file(&file).unwrap();
    let missing = Tunings::load(&file, gpu.profile());
    assert!(matches!(&missing, Err(Error::ReadTunings { path, .. }) if *path == file), "{missing:?}");
    // A folder is where the file should be.
    fs::create_dir(&file).unwrap();
    let refused = Tunings::new(gpu.profile()).save(&file);
    assert!(matches!(&refused, Err(Error::WriteTunings { path, .. }) if *path == file), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
