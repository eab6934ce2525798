//! What plans for kinds of adapters have in common.

use super::*;
use wgpu_batchnorm::{ForwardOptions, Mode};

#[test]
fn software_drivers_get_one_subgroup_a_workgroup_and_gpus_get_many() {
    let problem = Problem::new(&[32, 64, 56, 56], Layout::ChannelsFirst).unwrap();
    let sizes: Vec<u32> = profiles()
        .iter()
        .map(|profile| training(&problem, profile).steps()[0].kernel.workgroup_size())
        .collect();
    assert_eq!(sizes, [8, 4, 16, 256, 256, 256, 256, 256, 128]);
}

#[test]
fn channels_that_fit_are_held() {
    let shapes = [
        (&[32, 2048, 7, 7][..], Layout::ChannelsFirst),
        (&[32, 1024, 14, 14], Layout::ChannelsFirst),
        (&[8, 7, 7, 2048], Layout::ChannelsLast),
        (&[256, 4096], Layout::ChannelsFirst),
    ];
    let (nvidia, intel) = (&profiles()[3], &profiles()[5]);
    for (shape, layout) in shapes {
        let problem = Problem::new(shape, layout).unwrap();
        let plan = training(&problem, nvidia);
        let [step] = plan.steps() else { panic!("{plan}") };
        let Kernel::ForwardResident(ForwardResident { tile, .. }) = step.kernel else { panic!("{plan}") };
        let registers = tile.workgroup_size * tile.loads * tile.traversal.width().elements();
        assert!(registers <= 1 << 15 && tile.loads <= 16, "{plan}");
        assert_eq!(plan.bytes_moved(), plan.floor_bytes());
        for step in training(&problem, intel).steps() {
            if let Kernel::ForwardResident(ForwardResident { tile, .. }) = step.kernel {
                assert!(tile.loads <= 4, "{} on Intel", tile.loads);
            }
        }
    }
    // These channels are too long, or too few for a whole GPU.
    for shape in [[32, 64, 112, 112], [2048, 3, 4, 4]] {
        let problem = Problem::new(&shape, Layout::ChannelsFirst).unwrap();
        let plan = training(&problem, nvidia);
        let is_resident = |step: &Step| matches!(step.kernel, Kernel::ForwardResident(_));
        assert!(!plan.steps().iter().any(is_resident), "{plan}");
    }
}

/// FXC takes seconds to compile many loads. Only plans for software adapters have many.
#[test]
fn plans_for_fxc_hold_few_loads() {
    let problem = Problem::new(&[8, 1024, 14, 14], Layout::ChannelsFirst).unwrap();
    let loads = |profile: &AdapterProfile| {
        let plan = training(&problem, profile);
        let tiles = plan.steps().iter().filter_map(|step| match step.kernel {
            Kernel::ForwardResident(kernel) => Some(kernel.tile.loads),
            _ => None,
        });
        tiles.max().unwrap_or_default()
    };
    let with_dxc = changed(profiles().remove(0), |profile| profile.backend = wgpu::Backend::Dx12);
    assert!(!with_dxc.is_fxc() && loads(&with_dxc) > 16, "{} loads", loads(&with_dxc));
    let with_fxc = changed(with_dxc, |profile| profile.features = wgpu::Features::empty());
    assert!(with_fxc.is_fxc() && loads(&with_fxc) <= 16, "{} loads", loads(&with_fxc));
    let vulkan = changed(with_fxc, |profile| profile.backend = wgpu::Backend::Vulkan);
    assert!(!vulkan.is_fxc());
}

#[test]
fn few_channels_with_many_values_are_split() {
    let shapes = [
        ([8, 3, 512, 512], Layout::ChannelsFirst),
        ([8, 3, 511, 513], Layout::ChannelsFirst),
        ([8, 512, 512, 3], Layout::ChannelsLast),
    ];
    for (shape, layout) in shapes {
        let problem = Problem::new(&shape, layout).unwrap();
        for profile in profiles() {
            let plan = training(&problem, &profile);
            let splits = plan.params().reduction.count;
            assert!(splits >= 16, "{} splits on {}: {plan}", splits, profile.name);
            // The scratch is also large enough for the plan for unaligned tensors, which may need more splits.
            let scratch = u64::from(splits) * 3 * 16;
            match plan.width() {
                VectorWidth::Scalar => assert_eq!(plan.scratch_bytes(), scratch),
                VectorWidth::Four | VectorWidth::Eight => {
                    assert!((scratch..=4 * scratch).contains(&plan.scratch_bytes()), "{plan}");
                }
            }
        }
    }
    // Many channels need no splitting.
    let problem = Problem::new(&[8, 4096, 7, 7], Layout::ChannelsFirst).unwrap();
    for profile in profiles() {
        assert_eq!(training(&problem, &profile).params().reduction.count, 1, "{}", profile.name);
    }
}

/// Shapes of networks, channels first: stages of a ResNet-50, a perceptron, a single image, few and odd channels.
pub(super) const NETWORKS: [[usize; 4]; 14] = [
    [32, 64, 112, 112],
    [32, 64, 56, 56],
    [32, 256, 56, 56],
    [32, 128, 28, 28],
    [32, 512, 28, 28],
    [32, 256, 14, 14],
    [32, 1024, 14, 14],
    [32, 512, 7, 7],
    [32, 2048, 7, 7],
    [256, 64, 112, 112],
    [256, 2048, 7, 7],
    [4096, 1024, 1, 1],
    [16, 3, 512, 512],
    [20, 100, 35, 45],
];

/// Partial results are written and read again: they must be few beside the tensor.
#[test]
fn plans_for_gpus_have_little_scratch() {
    for [n, c, h, w] in NETWORKS {
        for (shape, layout) in [([n, c, h, w], Layout::ChannelsFirst), ([n, h, w, c], Layout::ChannelsLast)] {
            let problem = Problem::new(&shape, layout).unwrap();
            let config = BatchNormConfig::new(c).layout(layout);
            for mut profile in profiles().into_iter().filter(|profile| !profile.is_cpu()) {
                profile.limits.max_storage_buffer_binding_size = 1 << 31;
                let input = PlanInput::new(&problem, &config, Mode::Train, &profile);
                let forward = Plan::forward(&input, &ForwardOptions::new()).unwrap();
                let backward = Plan::backward(&input, &BackwardOptions::new()).unwrap();
                for plan in [forward, backward] {
                    let (scratch, tensor) = (plan.scratch_bytes(), problem.elements() as u64 * 4);
                    // Projections of a few bytes a channel are there whatever the plan.
                    assert!(
                        scratch <= tensor / 16 + 16 * c as u64,
                        "{scratch} of {tensor}, {}: {plan}",
                        profile.name
                    );
                }
            }
        }
    }
}
