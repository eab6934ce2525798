//! Binding buffers to plans. Errors name the wrong buffer before any GPU call, and the plan still works afterwards.

use crate::support::{self, buffer, read};
use wgpu_batchnorm::kernels::Binding;
use wgpu_batchnorm::verify::table;
use wgpu_batchnorm::{
    BatchNormConfig, Buffers, Error, ForwardOptions, Layout, Plan, PlanInput, Problem, wgpu,
};

/// Returns a prepared plan for the problem that the tests of binding use.
fn prepared(training: bool, in_place: bool) -> wgpu_batchnorm::PreparedPlan {
    let gpu = support::gpu();
    let problem = Problem::new(&[4, 3, 5, 5], Layout::ChannelsFirst).unwrap();
    let config = BatchNormConfig::new(3);
    gpu.prepare(
        &Plan::forward(
            &PlanInput::new(&problem, &config, training, gpu.profile()),
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
    let plan =
        Plan::forward(&PlanInput::new(&problem, &case.config, true, gpu.profile()), &ForwardOptions::new())
            .unwrap();
    assert_eq!(
        plan,
        Plan::forward(&PlanInput::new(&problem, &case.config, true, gpu.profile()), &ForwardOptions::new())
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
