//! Every shader as it is composed at run time, without a GPU: it is valid, it is what the host expects, and every
//! backend can write it.
//!
//! The composed shaders are left in target/shaders, for other WGSL compilers to try.

use naga::valid::{Capabilities, FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Function, Module, ShaderStage, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;
use wgpu_batchnorm::internals::{
    covering_pairs, every_variant, is_plain, parts, shader_files as files, tests_are_exhaustive,
};
use wgpu_batchnorm::kernels::{
    Access, BackwardInput, BackwardSums, Kernel, Normalize, PARTIAL_BYTES, PROJECTION_BYTES, Params,
    STATISTICS_BYTES,
};

/// Returns every variant for CPU-like and GPU-like adapters, by a name of its own.
pub(crate) fn kernels() -> BTreeMap<String, Kernel> {
    let sizes = [(4, (4, 4)), (8, (8, 8)), (128, (8, 32)), (256, (4, 128))];
    let mut kernels = BTreeMap::new();
    for (k, (workgroup_size, subgroup_sizes)) in sizes.into_iter().enumerate() {
        for kernel in every_variant(workgroup_size, subgroup_sizes) {
            // Fused code is the same for all sizes.
            if k % 2 == 1 && !is_plain(&kernel) {
                continue;
            }
            let name = format!("{}, {}, {}", kernel.stem(), kernel.workgroup_size(), kernel.variant());
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            kernels.insert(name, kernel);
        }
    }
    assert!(kernels.len() > 100, "{} variants", kernels.len());
    kernels
}

/// A shader as naga sees it, or what is wrong with it.
type Parsed = Result<(Module, ModuleInfo), String>;

/// Returns variants, parsed and validated once for all tests: all of them, or few in which any two shader files meet
/// that meet anywhere.
fn shaders() -> &'static BTreeMap<String, (Kernel, Parsed)> {
    static SHADERS: OnceLock<BTreeMap<String, (Kernel, Parsed)>> = OnceLock::new();
    SHADERS.get_or_init(|| {
        let mut chosen: Vec<(String, Kernel)> = kernels().into_iter().collect();
        if !tests_are_exhaustive() {
            chosen = covering_pairs(chosen.into_iter().map(|named| (named.clone(), vec![named.1])));
        }
        chosen.into_iter().map(|(name, kernel)| (name, (kernel, parse(&kernel)))).collect()
    })
}

/// Runs a check on every shader, and reports all failures together.
fn for_every_shader(check: impl Fn(&Kernel, &Module, &ModuleInfo) -> Result<(), String>) {
    let failures: Vec<String> = shaders()
        .iter()
        .filter_map(|(name, (kernel, parsed))| {
            let result = match parsed {
                Ok((module, info)) => check(kernel, module, info),
                Err(error) => Err(error.clone()),
            };
            result.err().map(|error| format!("{name}: {error}"))
        })
        .collect();
    let first = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} shaders failed, the first of them:\n{first}", failures.len());
}

fn parse(kernel: &Kernel) -> Parsed {
    let text = kernel.wgsl();
    let module = naga::front::wgsl::parse_str(&text).map_err(|error| error.emit_to_string(&text))?;
    // Allow nothing beyond what the kernel says it needs.
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP, kernel.uses_subgroups());
    capabilities.set(Capabilities::SHADER_FLOAT16, kernel.uses_f16());
    // For unpack2x16float and its counterpart, which WebGPU has everywhere.
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, text.contains("unpack2x16float"));
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(&text))?;
    Ok((module, info))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what} is {actual:?}, expected {expected:?}")) }
}

#[test]
fn shaders_are_valid() {
    for_every_shader(|_, _, _| Ok(()));
}

#[test]
fn every_kernel_has_one_entry_point() {
    for_every_shader(|kernel, module, _| {
        expect("number of entry points", &module.entry_points.len(), &1)?;
        let entry = &module.entry_points[0];
        expect("name", &entry.name.as_str(), &Kernel::ENTRY_POINT)?;
        expect("stage", &entry.stage, &ShaderStage::Compute)?;
        expect("workgroup size", &entry.workgroup_size, &[kernel.workgroup_size(), 1, 1])
    });
}

#[test]
fn bindings_are_what_the_host_binds() {
    for_every_shader(|kernel, module, info| {
        let mut actual = BTreeMap::new();
        for (handle, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            expect("group", &binding.group, &0)?;
            let access = match variable.space {
                AddressSpace::Uniform => Access::Uniform,
                AddressSpace::Storage { access } if access == StorageAccess::LOAD => Access::Read,
                AddressSpace::Storage { .. } => Access::ReadWrite,
                space => return Err(format!("{:?} is in {space:?}", variable.name)),
            };
            // A binding that no code uses would be a mistake of the composition.
            if info.get_entry_point(0)[handle].is_empty() {
                return Err(format!("{:?} is not used", variable.name));
            }
            actual.insert((binding.binding, variable.name.clone().unwrap()), access);
        }
        let expected: BTreeMap<_, _> = kernel
            .bindings()
            .into_iter()
            .map(|(binding, access)| ((binding as u32, binding.variable().to_owned()), access))
            .collect();
        let same = actual.iter().map(|(key, access)| (key, format!("{access:?}"))).collect::<Vec<_>>();
        let wanted = expected.iter().map(|(key, access)| (key, format!("{access:?}"))).collect::<Vec<_>>();
        expect("bindings", &same, &wanted)?;
        let storage = expected.values().filter(|access| **access != Access::Uniform).count();
        expect("number of storage buffers", &kernel.storage_buffers(), &(storage as u32))?;
        // This is the default limit of WebGPU and wgpu. Sums and merges take more if a device has more, and plans check
        // that.
        let is_sum = expected.keys().any(|(_, name)| name == "residual" || name == "dresidual");
        let merges = matches!(
            kernel,
            Kernel::Normalize(Normalize { merge: Some(_), .. })
                | Kernel::BackwardInput(BackwardInput { merge: Some(_), .. })
                | Kernel::BackwardSums(BackwardSums { beside: Some(_), .. })
        );
        if storage > 8 && !is_sum && !merges { Err(format!("{storage} storage buffers")) } else { Ok(()) }
    });
}

/// Returns the name and offset of each member of a struct, and its size.
fn layout(module: &Module, name: &str) -> Option<(Vec<(String, usize)>, u64)> {
    module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name)).map(|(_, ty)| match &ty.inner {
        TypeInner::Struct { members, span } => {
            let members = members.iter().map(|m| (m.name.clone().unwrap(), m.offset as usize)).collect();
            (members, u64::from(*span))
        }
        other => panic!("{name} is {other:?}"),
    })
}

#[test]
fn structs_have_the_host_layout() {
    let mut seen = BTreeSet::new();
    for (module, _) in shaders().values().filter_map(|(_, parsed)| parsed.as_ref().ok()) {
        if let Some((members, size)) = layout(module, "Params") {
            let fields: Vec<(String, usize)> =
                Params::FIELDS.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect();
            assert_eq!(members, fields);
            assert_eq!(size, size_of::<Params>() as u64);
            seen.insert("Params");
        }
        // An entry per channel or split is four words. The readers and writers name the parts.
        let tables = [
            ("partials", PARTIAL_BYTES),
            ("projections", PROJECTION_BYTES),
            ("statistics", STATISTICS_BYTES),
        ];
        for (_, variable) in module.global_variables.iter() {
            let table = tables.iter().find(|(name, _)| variable.name.as_deref() == Some(name));
            let (Some((name, bytes)), AddressSpace::Storage { .. }) = (table, variable.space) else {
                continue;
            };
            let TypeInner::Array { stride, .. } = module.types[variable.ty].inner else {
                panic!("{name} is no array")
            };
            assert_eq!(u64::from(stride), *bytes, "{name}");
            seen.insert(*name);
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn workgroup_memory_is_what_the_plan_counts() {
    for_every_shader(|kernel, module, _| {
        let sizes = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()));
        expect("workgroup memory", &sizes.sum(), &kernel.workgroup_memory())
    });
}

#[test]
fn every_backend_can_be_written() {
    for_every_shader(|_, module, info| {
        let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        let words =
            naga::back::spv::write_vec(module, info, &spirv, None).map_err(|e| format!("SPIR-V: {e}"))?;
        expect("the first word of SPIR-V", &words[0], &0x0723_0203)?;

        let msl = naga::back::msl::Options {
            lang_version: (2, 4),
            fake_missing_bindings: true,
            ..Default::default()
        };
        let (text, translation) =
            naga::back::msl::write_string(module, info, &msl, &naga::back::msl::PipelineOptions::default())
                .map_err(|error| format!("MSL: {error}"))?;
        let name = translation.entry_point_names[0].clone().map_err(|error| format!("MSL: {error}"))?;
        if !text.contains(&format!("kernel void {name}(")) {
            return Err(format!("MSL has no kernel {name}"));
        }

        let hlsl = naga::back::hlsl::Options {
            shader_model: naga::back::hlsl::ShaderModel::V6_2,
            fake_missing_bindings: true,
            ..Default::default()
        };
        let mut text = String::new();
        let pipeline = naga::back::hlsl::PipelineOptions::default();
        let reflection = naga::back::hlsl::Writer::new(&mut text, &hlsl, &pipeline)
            .write(module, info, None)
            .map_err(|error| format!("HLSL: {error}"))?;
        let name = reflection.entry_point_names[0].clone().map_err(|error| format!("HLSL: {error}"))?;
        if text.contains(&format!("void {name}(")) { Ok(()) } else { Err(format!("HLSL has no {name}")) }
    });
}

/// FXC compiles a component with an index unknown at compile time as the sum of all components times 0 or 1. In
/// that sum, NaN and infinity spread from one channel to the others.
#[test]
fn no_component_is_chosen_at_run_time() {
    for_every_shader(|_, module, info| {
        let indexed = |function: &Function, info: &FunctionInfo| {
            function.expressions.iter().any(|(_, expression)| match expression {
                Expression::Access { base, .. } => match info[*base].ty.inner_with(&module.types) {
                    TypeInner::Vector { .. } => true,
                    TypeInner::Pointer { base, .. } => {
                        matches!(module.types[*base].inner, TypeInner::Vector { .. })
                    }
                    TypeInner::ValuePointer { size, .. } => size.is_some(),
                    _ => false,
                },
                _ => false,
            })
        };
        for (handle, function) in module.functions.iter() {
            if indexed(function, &info[handle]) {
                return Err(format!("{:?} indexes a vector", function.name));
            }
        }
        Ok(())
    });
}

/// naga does not rename the names that are namespaces in DXC.
#[test]
fn no_name_is_a_namespace_to_a_compiler() {
    for_every_shader(|_, module, _| {
        let names = module.global_variables.iter().map(|(_, variable)| &variable.name);
        let names = names.chain(module.functions.iter().map(|(_, function)| &function.name));
        match names.flatten().find(|name| ["dx", "vk", "hlsl"].contains(&name.as_str())) {
            Some(name) => Err(format!("{name} is a namespace to DXC")),
            None => Ok(()),
        }
    });
}

#[test]
fn composed_shaders_are_left_for_other_compilers() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/shaders");
    // Shaders of earlier versions must not be mistaken for current ones.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, kernel) in kernels() {
        // WebGPU requires the directive. naga works without it, and does not know it.
        let enable = if kernel.uses_subgroups() { "enable subgroups;\n" } else { "" };
        let path = folder.join(format!("{name}.wgsl"));
        std::fs::write(path, format!("{enable}{}", kernel.wgsl())).unwrap();
    }
}

#[test]
fn every_vector_that_is_kept_is_visited_once() {
    let (shared, cases) = parts(files()["iterate/resident"]);
    let calls = |text: &str, name: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with(name));
        lines.map(|line| line.split(", ").nth(1).unwrap().trim_end_matches([')', ';']).to_owned()).collect()
    };
    let of_case =
        |case: &str, name: &str| calls(cases.iter().find(|(found, _)| *found == case).unwrap().1, name);
    let after_k = |numbers: &[u32]| -> Vec<String> {
        numbers.iter().map(|n| if *n == 0 { "k".to_owned() } else { format!("k + {n}u") }).collect()
    };
    assert_eq!(calls(shared, "process_one(stage"), after_k(&[0, 1]));
    assert_eq!(calls(shared, "process_two(stage"), after_k(&[0, 2]));
    assert_eq!(of_case("up_to_4", "process_four("), ["0u"]);
    assert_eq!(of_case("up_to_16", "process_four("), ["0u", "4u", "8u", "12u"]);
    assert_eq!(of_case("up_to_64", "process_sixteen("), ["0u", "16u", "32u", "48u"]);
    assert_eq!(of_case("up_to_64", "process_four("), after_k(&[0, 4, 8, 12]));
}
