//! Binding buffers to plans. Errors name the wrong buffer before any GPU call, and the plan still works afterwards.

use crate::support::{self, buffer, changed, read};
use wgpu_batchnorm::kernels::{Binding, VectorWidth};
use wgpu_batchnorm::verify::table;
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNormConfig, Buffers, DType, Error, ForwardOptions, Layout, Mode,
    Plan, PlanInput, Problem, Tuning, wgpu,
};

/// Returns a prepared plan for the problem that the tests of binding use.
fn prepared(training: bool, in_place: bool) -> wgpu_batchnorm::PreparedPlan {
    let gpu = support::gpu();
    let problem = Problem::new(&[4, 3, 5, 5], Layout::ChannelsFirst).unwrap();
    let config = BatchNormConfig::new(3);
    gpu.prepare(
        &Plan::forward(
            &PlanInput::new(&problem, &config, training.into(), gpu.profile()),
            &ForwardOptions::new().in_place(in_place),
        )
        .unwrap(),
    )
    .unwrap()
}

/// All buffers of a plan, by role.
struct All(Vec<(Binding, wgpu::Buffer)>);

impl All {
    fn new(plan: &Plan) -> Self {
        let buffers = plan.buffers().into_iter();
        Self(buffers.map(|(binding, bytes)| (binding, support::zeros(support::gpu(), bytes))).collect())
    }

    fn buffers(&self) -> Buffers<'_> {
        let mut buffers = Buffers::default();
        for (binding, buffer) in &self.0 {
            set(&mut buffers, *binding, Some(buffer.into()));
        }
        buffers
    }
}

fn set<'a>(buffers: &mut Buffers<'a>, binding: Binding, region: Option<wgpu_batchnorm::BufferRegion<'a>>) {
    let field = match binding {
        Binding::X => &mut buffers.x,
        Binding::Y => &mut buffers.y,
        Binding::Statistics => &mut buffers.statistics,
        Binding::Weight => &mut buffers.weight,
        Binding::Bias => &mut buffers.bias,
        Binding::RunningMean => &mut buffers.running_mean,
        Binding::RunningVar => &mut buffers.running_var,
        Binding::NumBatchesTracked => &mut buffers.num_batches_tracked,
        Binding::Partials => &mut buffers.partials,
        Binding::Dy => &mut buffers.dy,
        Binding::Dx => &mut buffers.dx,
        Binding::DWeight => &mut buffers.dweight,
        Binding::DBias => &mut buffers.dbias,
        Binding::Projections => &mut buffers.projections,
        other => panic!("{other:?} is no buffer"),
    };
    *field = region;
}

#[test]
fn a_plan_tells_every_buffer_it_needs() {
    let names = |training, in_place| -> Vec<&str> {
        prepared(training, in_place).plan().buffers().iter().map(|(binding, _)| binding.name()).collect()
    };
    let training = ["x", "y", "statistics", "weight", "bias", "running_mean", "running_var"];
    assert_eq!(names(true, false), [&training[..], &["num_batches_tracked"]].concat());
    assert_eq!(names(true, true), [&training[1..], &["num_batches_tracked"]].concat());
    assert_eq!(names(false, false), ["x", "y", "weight", "bias", "running_mean", "running_var"]);
    assert_eq!(names(false, true), ["y", "weight", "bias", "running_mean", "running_var"]);
}

#[test]
fn missing_small_and_wrong_buffers_are_named() {
    let gpu = support::gpu();
    let prepared = prepared(true, false);
    let all = All::new(prepared.plan());
    for (binding, bytes) in prepared.plan().buffers() {
        let mut buffers = all.buffers();
        set(&mut buffers, binding, None);
        let error = prepared.bind(&buffers).unwrap_err();
        assert!(
            matches!(error, Error::MissingBuffer { name, bytes: b } if name == binding.name() && b == bytes),
            "{error}"
        );

        let small = support::zeros(gpu, bytes - 4);
        set(&mut buffers, binding, Some((&small).into()));
        let error = prepared.bind(&buffers).unwrap_err();
        assert!(
            matches!(error, Error::BufferTooSmall { name, needed, available, offset: 0 }
                if name == binding.name() && needed == bytes && available == bytes - 4),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("{bytes} bytes")), "{error}");

        let useless = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        set(&mut buffers, binding, Some((&useless).into()));
        let error = prepared.bind(&buffers).unwrap_err();
        assert!(matches!(error, Error::BufferUsage { name, .. } if name == binding.name()), "{error}");

        let large = support::zeros(gpu, bytes + 4096);
        set(&mut buffers, binding, Some((&large, 2).into()));
        let error = prepared.bind(&buffers).unwrap_err();
        assert!(
            matches!(error, Error::Misaligned { name, offset: 2, .. } if name == binding.name()),
            "{error}"
        );

        set(&mut buffers, binding, Some((&large, 1 << 40).into()));
        let error = prepared.bind(&buffers).unwrap_err();
        assert!(matches!(error, Error::BufferTooSmall { available: 0, .. }), "{error}");

        // The same plan still binds.
        set(&mut buffers, binding, Some((&large, 4096).into()));
        prepared.bind(&buffers).unwrap();
    }
}

#[test]
fn shared_buffers_are_refused_where_wgpu_cannot_have_them() {
    let gpu = support::gpu();
    let prepared = prepared(true, false);
    let all = All::new(prepared.plan());
    let shared = support::zeros(gpu, 1 << 16);
    let bind = |first: (Binding, u64), second: (Binding, u64)| {
        let mut buffers = all.buffers();
        set(&mut buffers, first.0, Some((&shared, first.1).into()));
        set(&mut buffers, second.0, Some((&shared, second.1).into()));
        prepared.bind(&buffers)
    };
    let error = bind((Binding::X, 0), (Binding::Y, 0)).unwrap_err();
    assert!(matches!(error, Error::SharedBuffer { first: "x", second: "y", overlap: true }), "{error}");
    let error = bind((Binding::X, 0), (Binding::Y, 4096)).unwrap_err();
    assert!(matches!(error, Error::SharedBuffer { first: "x", second: "y", overlap: false }), "{error}");
    let error = bind((Binding::RunningMean, 0), (Binding::RunningVar, 0)).unwrap_err();
    assert!(matches!(error, Error::SharedBuffer { overlap: true, .. }), "{error}");
    // Parameters that are only read may lie in one buffer, and so may two that are written.
    bind((Binding::Weight, 0), (Binding::Bias, 256)).unwrap();
    bind((Binding::RunningMean, 0), (Binding::RunningVar, 256)).unwrap();
}

#[test]
fn a_bound_plan_can_be_recorded_again_and_gives_the_same_bits() {
    let gpu = support::gpu();
    let case = table().into_iter().find(|case| case.name.starts_with("odd planes")).unwrap();
    let problem = Problem::new(&case.shape, case.config.layout).unwrap();
    let plan = Plan::forward(
        &PlanInput::new(&problem, &case.config, Mode::Train, gpu.profile()),
        &ForwardOptions::new(),
    )
    .unwrap();
    assert_eq!(
        plan,
        Plan::forward(
            &PlanInput::new(&problem, &case.config, Mode::Train, gpu.profile()),
            &ForwardOptions::new()
        )
        .unwrap()
    );
    let prepared = gpu.prepare(&plan).unwrap();
    let x: Vec<f32> = case.inputs().xs[0].iter().copied().collect();
    let x = buffer(gpu, &x);
    let all = All::new(&plan);
    let mut buffers = all.buffers();
    buffers.x = Some((&x).into());
    let weight = buffer(gpu, &vec![1.5; problem.channels()]);
    buffers.weight = Some((&weight).into());
    let bound = prepared.bind(&buffers).unwrap();
    let bits = |times: usize| -> Vec<u32> {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        (0..times).for_each(|_| bound.record_in(&mut pass));
        drop(pass);
        gpu.queue().submit([encoder.finish()]);
        let y = buffers.y.unwrap().buffer;
        read(gpu, y).into_iter().map(f32::to_bits).collect()
    };
    let first = bits(1);
    assert!(first.iter().any(|bits| *bits != 0));
    assert_eq!(first, bits(3));
    // All four batches were counted.
    assert_eq!(read(gpu, buffers.num_batches_tracked.unwrap().buffer)[0].to_bits(), 4);
}

#[test]
fn the_batch_counter_carries_into_its_second_word() {
    let gpu = support::gpu();
    let prepared = prepared(true, false);
    let all = All::new(prepared.plan());
    let mut buffers = all.buffers();
    let count = buffer(gpu, bytemuck::cast_slice(&[u32::MAX, 6]));
    buffers.num_batches_tracked = Some((&count).into());
    let bound = prepared.bind(&buffers).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    bound.record(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    assert_eq!(read(gpu, &count).into_iter().map(f32::to_bits).collect::<Vec<u32>>(), [0, 7]);
}

/// What a pass writes must not be anything else of the pass, whether one dispatch uses both or two do: every pair of
/// buffers, however the problem is planned.
#[test]
fn what_a_pass_writes_is_nothing_else() {
    use Binding as B;
    let gpu = support::gpu();
    let (mut refused, mut accepted) = (0, 0);
    for shape in [&[2, 3, 40_000][..], &[64, 3, 64, 64], &[20_000, 3], &[8, 8, 14, 14]] {
        let config = BatchNormConfig::new(shape[1]);
        let problem = Problem::new(shape, Layout::ChannelsFirst).unwrap();
        let shared = support::zeros(gpu, problem.elements() as u64 * 4 + 4096);
        let mut plans = Vec::new();
        for (training, discrete) in [(true, false), (true, true), (false, false)] {
            let mut profile = gpu.profile().clone();
            if discrete {
                profile.device_type = wgpu::DeviceType::DiscreteGpu;
            }
            let base = Tuning::new(&problem, VectorWidth::Four, &profile);
            for (one_dispatch, splits, tile_loads) in
                [(true, 1, 64), (true, 1, 0), (false, 1, 0), (false, 8, 0)]
            {
                let tuning = changed(base, |tuning: &mut Tuning| {
                    (tuning.one_dispatch, tuning.splits) = (one_dispatch, splits);
                    tuning.tile_loads = tile_loads;
                });
                let input = PlanInput::new(&problem, &config, training.into(), &profile).tuning(tuning);
                for in_place in [false, true] {
                    let (forward, backward) =
                        (ForwardOptions::new().in_place(in_place), BackwardOptions::new().in_place(in_place));
                    plans.push((Plan::forward(&input, &forward).unwrap(), training));
                    plans.push((Plan::backward(&input, &backward).unwrap(), training));
                }
            }
        }
        for (plan, training) in plans {
            let writes = |binding: &Binding| match binding {
                B::Y | B::Dx | B::DWeight | B::DBias | B::Partials | B::Projections => true,
                B::Statistics | B::RunningMean | B::RunningVar => training && plan.is_forward(),
                B::NumBatchesTracked => true,
                _ => false,
            };
            let all = All::new(&plan);
            let prepared = gpu.prepare(&plan).unwrap();
            for (k, (first, _)) in all.0.iter().enumerate() {
                for (second, _) in &all.0[k + 1..] {
                    let mut buffers = all.buffers();
                    set(&mut buffers, *first, Some((&shared).into()));
                    set(&mut buffers, *second, Some((&shared).into()));
                    match prepared.bind(&buffers) {
                        Err(Error::SharedBuffer { first: a, second: b, overlap: true }) => {
                            assert_eq!([a, b], [first.name(), second.name()], "{plan}");
                            assert!(writes(first) || writes(second), "{a} and {b}: {plan}");
                            refused += 1;
                        }
                        Ok(_) => {
                            let names = (first.name(), second.name());
                            assert!(!writes(first) && !writes(second), "{names:?}: {plan}");
                            accepted += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            prepared.bind(&all.buffers()).unwrap();
        }
    }
    assert!(refused > 1000 && accepted > 200, "{refused} refused, {accepted} accepted");
}

/// A plan for another device is refused by name, the second time as the first, and before anything is compiled.
#[test]
fn plans_for_other_devices_are_refused_again_and_again() {
    let gpu = support::gpu_without_subgroups();
    let problem = Problem::new(&[64, 8, 32, 32], Layout::ChannelsFirst).unwrap();
    let config = BatchNormConfig::new(8);
    let refused = |change: fn(&mut AdapterProfile), dtype: DType| {
        let profile = changed(gpu.profile().clone(), |profile| {
            profile.device_type = wgpu::DeviceType::DiscreteGpu;
            change(profile);
        });
        let tuning = changed(Tuning::new(&problem, VectorWidth::Four, &profile), |tuning: &mut Tuning| {
            tuning.workgroup_size = profile.limits.max_compute_invocations_per_workgroup;
        });
        let input = PlanInput::new(&problem, &config, Mode::Train, &profile).tuning(tuning);
        let plan = Plan::forward(&input, &ForwardOptions::new().dtype(dtype)).unwrap();
        let [first, second] = [(); 2].map(|()| gpu.prepare(&plan).map(drop).unwrap_err());
        assert_eq!(first.to_string(), second.to_string());
        first
    };
    let error = refused(|profile| profile.features |= wgpu::Features::SUBGROUP, DType::F32);
    assert!(matches!(error, Error::MissingFeatures { needed: wgpu::Features::SUBGROUP, .. }), "{error}");
    let error = refused(
        |profile| {
            profile.limits.max_compute_invocations_per_workgroup = 4096;
            profile.limits.max_compute_workgroup_size_x = 4096;
            profile.limits.max_compute_workgroup_storage_size = 1 << 20;
        },
        DType::F32,
    );
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let gpu = support::gpu_without_f16();
    let profile = changed(gpu.profile().clone(), |profile| {
        profile.device_type = wgpu::DeviceType::DiscreteGpu;
        profile.features |= wgpu::Features::SHADER_F16;
        profile.rounds_f16 = true;
    });
    let input = PlanInput::new(&problem, &config, Mode::Train, &profile);
    let plan = Plan::forward(&input, &ForwardOptions::new().dtype(DType::F16)).unwrap();
    for _ in 0..2 {
        let error = gpu.prepare(&plan).map(drop).unwrap_err();
        assert!(
            matches!(error, Error::MissingFeatures { needed: wgpu::Features::SHADER_F16, .. }),
            "{error}"
        );
    }
    // Subgroups of other sizes would be merged in part.
    let gpu = support::gpu();
    if gpu.profile().has_subgroups() {
        let profile = changed(gpu.profile().clone(), |profile| {
            profile.device_type = wgpu::DeviceType::DiscreteGpu;
            (profile.subgroup_min_size, profile.subgroup_max_size) = (32, 32);
        });
        let input = PlanInput::new(&problem, &config, Mode::Train, &profile);
        let plan = Plan::forward(&input, &ForwardOptions::new()).unwrap();
        let error = gpu.prepare(&plan).map(drop).unwrap_err();
        assert!(matches!(error, Error::SubgroupSizes { planned: (32, 32), .. }), "{error}");
    }
}
