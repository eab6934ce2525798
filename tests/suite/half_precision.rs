//! Tensors of f16 and bf16: results are the same with and without f16 in shaders, and writes leave the neighbour in
//! a word unchanged.

use crate::gradients::case;
use crate::recorded::Recorded;
use crate::support::{self, gpu, gpu_without_f16};
use ndarray::{Array2, Array4, ArrayD, IxDyn};
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::verify::{Case, Implementation, check, table};
use wgpu_batchnorm::{
    BatchNorm, BatchNormConfig, DType, Element, Error, Gpu, GradientWrite, Gradients, Layout, Tensor, wgpu,
};

fn cases(dtype: DType) -> Vec<Case> {
    let mut cases = table();
    cases.retain(|case| case.dtype == dtype && case.shape.iter().product::<usize>() <= 50_000);
    assert!(cases.len() > 20, "{} cases", cases.len());
    cases
}

#[test]
fn words_hold_what_the_type_does() {
    assert!(!gpu_without_f16().profile().features.contains(wgpu::Features::SHADER_F16));
    for case in cases(DType::F16) {
        let report = check(&case, gpu_without_f16()).unwrap();
        assert!(report.passed(), "{report}");
    }
}

/// Compares to the last bit, with the geometry of a GPU: words, the type with values rounded by arithmetic, and the type
/// with the device's own conversion. Software drivers use words for loads of four even with the feature.
#[test]
fn f16_gives_the_same_with_and_without_the_feature() {
    let cases = cases(DType::F16);
    let ways = [
        Recorded::new(gpu_without_f16()).gpu_like(),
        Recorded::new(gpu()).gpu_like().in_pairs().by_arithmetic(),
        Recorded::new(gpu()).gpu_like(),
    ];
    let chosen = ways[1].chosen(cases.iter());
    assert!(chosen.len() > 10, "{} cases", chosen.len());
    let mut compared = 0;
    for case in chosen {
        // Planes that are not whole loads are read one by one with the feature only, and added in another order.
        let stems = ways.each_ref().map(|way| {
            let plans = way.plans(case).unwrap();
            plans
                .each_ref()
                .map(|plan| plan.steps().iter().map(|step| step.kernel.stem()).collect::<Vec<_>>())
        });
        if stems[0] != stems[1] {
            continue;
        }
        compared += 1;
        let inputs = case.inputs();
        let [words, others @ ..] = ways.each_ref().map(|way| way.run(case, &inputs).unwrap());
        for other in others {
            for (other, words) in other.steps.iter().zip(&words.steps) {
                // The sign of NaN is anybody's.
                let bits_of = |value: &f64| if value.is_nan() { f64::NAN } else { *value }.to_bits();
                let bits = |array: &ArrayD<f64>| array.iter().map(bits_of).collect::<Vec<_>>();
                assert_eq!(bits(&other.y), bits(&words.y), "{}", case.name);
                let [other, words] = [other, words].map(|step| step.gradients.as_ref().unwrap());
                assert_eq!(bits(&other.dx), bits(&words.dx), "{}", case.name);
            }
        }
    }
    assert!(compared > 10, "{compared} cases");
}

/// Returns a buffer of elements' bits, two in a word.
fn buffer(gpu: &Gpu, bits: &[u16]) -> wgpu::Buffer {
    support::buffer(gpu, &bytemuck::pod_collect_to_vec::<u16, f32>(bits))
}

fn bits(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<u16> {
    bytemuck::pod_collect_to_vec(&support::read(gpu, buffer))
}

/// Puts three tensors with odd numbers of elements one after the other in a buffer. The first and the third begin
/// in the middle of a word. Layers write to them in turn, and must leave the other tensors unchanged.
fn neighbours<T: Element>(gpu: &Gpu) {
    let counts = [5 * 3, 7 * 3, 9 * 3];
    let untouched = 0x3e3e;
    let memory = buffer(gpu, &[untouched; 64]);
    let mut begin = 1;
    let mut tensors = Vec::new();
    for count in counts {
        let shape = [count / 3, 3];
        let layout = Layout::ChannelsFirst;
        tensors.push(Tensor::from_buffer_of(gpu, T::DTYPE, &memory, begin * 2, &shape, layout).unwrap());
        begin += count as u64;
    }
    let mut expected = vec![untouched; 64];
    let mut begin = 1;
    for (k, (count, tensor)) in counts.into_iter().zip(&tensors).enumerate() {
        let value = |row: usize, column: usize| ((row * 7 + column * 5 + k) % 11) as f32 - 5.0;
        let x = Array2::from_shape_fn((count / 3, 3), |(row, column)| T::from_f32(value(row, column)));
        let mut layer = BatchNorm::new(gpu, BatchNormConfig::new(3)).unwrap();
        let y = layer.forward_array(x.view()).unwrap();
        // Write to the tensor in the buffer: y, then x from the host, then y in place.
        layer.train();
        layer.forward_into(&Tensor::from_array(gpu, x.view()).unwrap(), tensor).unwrap();
        let of = |array: &Array2<T>| -> Vec<u16> { bytemuck::cast_slice(array.as_slice().unwrap()).to_vec() };
        expected[begin..begin + count].copy_from_slice(&of(&y));
        assert_eq!(bits(gpu, &memory), expected);
        tensor.write_array(x.view()).unwrap();
        assert_eq!(tensor.to_array_of::<T>().unwrap(), x.clone().into_dyn());
        expected[begin..begin + count].copy_from_slice(&of(&x));
        assert_eq!(bits(gpu, &memory), expected);
        layer.forward_in_place(tensor).unwrap();
        expected[begin..begin + count].copy_from_slice(&of(&y));
        assert_eq!(bits(gpu, &memory), expected);
        begin += count;
    }
}

#[test]
fn neighbours_in_a_word_stay_as_they_are() {
    neighbours::<f16>(gpu());
    neighbours::<bf16>(gpu());
    neighbours::<f16>(gpu_without_f16());
}

/// Many workgroups write halves of words, and others write the other halves: planes of odd length, at an odd
/// offset. Runs often, so that a race would show.
#[test]
fn many_workgroups_share_words() {
    let (shape, count) = ([16, 33, 7, 9], 16 * 33 * 63);
    for gpu in [gpu(), gpu_without_f16()] {
        let mut exact = None;
        let x = Array4::from_shape_fn(shape, |(n, c, i, j)| {
            f16::from_f32(((n * 37 + c * 11 + i * 5 + j * 3) % 64) as f32 / 8.0 - 4.0)
        });
        let memory = buffer(gpu, &vec![0; count + 3]);
        let layout = Layout::ChannelsFirst;
        let at_odd = Tensor::from_buffer_of(gpu, DType::F16, &memory, 2, &shape, layout).unwrap();
        let x = Tensor::from_array(gpu, x.view()).unwrap();
        let mut layer = BatchNorm::new(gpu, BatchNormConfig::new(33)).unwrap();
        for _ in 0..20 {
            gpu.queue().write_buffer(&memory, 0, &vec![0xff; (count + 3) * 2 / 4 * 4]);
            layer.forward_into(&x, &at_odd).unwrap();
            let found = bits(gpu, &memory);
            assert_eq!([found[0], found[count + 1]], [0xffff; 2]);
            let expected = exact.get_or_insert_with(|| found.clone());
            assert!(found == *expected, "not the same every time");
        }
        let aligned = layer.forward(&x).unwrap().to_array_of::<f16>().unwrap();
        let found: Vec<f16> = exact.unwrap()[1..=count].iter().map(|bits| f16::from_bits(*bits)).collect();
        // Another kernel adds in another order.
        let off = aligned.iter().zip(&found).filter(|(a, b)| a.to_bits().abs_diff(b.to_bits()) > 1).count();
        assert_eq!(off, 0);
    }
}

#[test]
fn tensors_and_arrays_have_types() {
    let layout = Layout::ChannelsFirst;
    let array = ArrayD::from_elem(IxDyn(&[3, 5]), bf16::from_f32(1.5));
    let tensor = Tensor::from_array(gpu(), array.view()).unwrap();
    assert_eq!((tensor.dtype(), tensor.bytes()), (DType::BF16, 30));
    assert_eq!(tensor.to_array_of::<bf16>().unwrap(), array);
    assert_eq!(pollster::block_on(tensor.to_array_of_async::<bf16>()).unwrap(), array);
    assert_eq!(tensor.to_array().unwrap(), ArrayD::from_elem(IxDyn(&[3, 5]), 1.5));
    let error = tensor.to_array_of::<f16>().unwrap_err();
    assert!(matches!(error, Error::ElementType { expected: DType::BF16, found: DType::F16, .. }), "{error}");
    assert!(tensor.write_array(ArrayD::<f32>::zeros(IxDyn(&[3, 5])).view()).is_err());

    let mut layer = BatchNorm::new(gpu(), BatchNormConfig::new(5)).unwrap();
    let other = Tensor::zeros(gpu(), &[3, 5], layout).unwrap();
    let error = layer.forward_into(&tensor, &other).unwrap_err().to_string();
    assert!(error.contains("y must have elements of type bf16, got f32"), "{error}");
    let y = layer.forward(&tensor).unwrap();
    assert_eq!((y.dtype(), y.shape()), (DType::BF16, &[3, 5][..]));
    let error = layer.backward(&other).unwrap_err().to_string();
    assert!(error.contains("dy must have elements of type bf16, got f32"), "{error}");
    let saved = layer.saved().unwrap().clone();
    let half_vector = Tensor::zeros_of(gpu(), DType::F16, &[5], layout).unwrap();
    let gradients = Gradients::new().weight(half_vector);
    let error = layer.backward_into(&saved, &y, &gradients, GradientWrite::Replace).unwrap_err();
    assert!(matches!(error, Error::ElementType { name: "dweight", .. }), "{error}");
    assert_eq!(layer.backward(&y).unwrap().input.unwrap().dtype(), DType::BF16);

    // An offset must be a multiple of the element's size, and the last word must lie in the buffer.
    let memory = support::zeros(gpu(), 32);
    let at =
        |offset, shape: &[usize]| Tensor::from_buffer_of(gpu(), DType::F16, &memory, offset, shape, layout);
    assert!(at(2, &[15]).is_ok());
    assert!(matches!(at(1, &[15]), Err(Error::Misaligned { alignment: 2, .. })));
    assert!(matches!(at(4, &[15]), Err(Error::BufferTooSmall { .. })));
}

/// A layer keeps its state from one element type to the next, and separate plans for each.
#[test]
fn one_layer_takes_all_types_in_turn() {
    let case = case(&[4, 6, 5, 7], Layout::ChannelsFirst, 3);
    let inputs = case.inputs();
    let mut layer = BatchNorm::with_state(gpu(), case.config.clone(), &inputs.state).unwrap();
    layer.eval();
    let x = inputs.xs[0].mapv(|value| DType::BF16.round(DType::F16.round(value.into())) as f32);
    let y = layer.forward_array(x.view()).unwrap();
    for _ in 0..2 {
        let half = layer.forward_array(x.mapv(f16::from_f32).view()).unwrap();
        assert_eq!(half, y.mapv(f16::from_f32));
        let brain = layer.forward_array(x.mapv(bf16::from_f32).view()).unwrap();
        assert_eq!(brain, y.mapv(bf16::from_f32));
        assert_eq!(layer.forward_array(x.view()).unwrap(), y);
    }
}
