//! What a layer keeps from call to call: plans, scratch, and the buffers of its array passes. None of this may show
//! in a result, and none may be reused while somebody else has it.

use crate::support::{allocated, allocations, gpu, runner};
use ndarray::{Array1, Array3, ArrayD, IxDyn};
use proptest::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use wgpu_batchnorm::{
    ArrayGradients, BatchNorm, BatchNormConfig, Error, Gpu, GradientMask, GradientWrite, Gradients, Layout,
    Saved, Tensor, wgpu,
};

use Layout::ChannelsFirst;

/// Returns x of three channels, and dy: numbers without a pattern, different for each seed.
fn inputs(outer: usize, inner: usize, seed: u32) -> [ArrayD<f32>; 2] {
    let mut state = seed.wrapping_mul(2_654_435_761);
    [(); 2].map(|()| {
        ArrayD::from_shape_simple_fn(IxDyn(&[outer, 3, inner]), || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
    })
}

fn layer(gpu: &Gpu) -> BatchNorm {
    BatchNorm::new(gpu, BatchNormConfig::new(3)).unwrap()
}

fn upload(gpu: &Gpu, array: &ArrayD<f32>) -> Tensor {
    Tensor::from_array(gpu, array.view()).unwrap()
}

fn read(tensor: Option<&Tensor>) -> ArrayD<f32> {
    let array = tensor.unwrap().to_array().unwrap();
    assert!(array.iter().all(|value| value.is_finite()));
    array
}

/// Returns what a new layer with the same parameters computes, from tensors.
fn fresh(bn: &BatchNorm, x: &ArrayD<f32>, dy: &ArrayD<f32>) -> (ArrayD<f32>, ArrayGradients<IxDyn>) {
    let mut new = BatchNorm::with_state(bn.gpu(), bn.config().clone(), &bn.state().unwrap()).unwrap();
    if !bn.is_training() {
        new.eval();
    }
    let (y, saved) = new.forward_saved(&upload(bn.gpu(), x)).unwrap();
    let gradients = new.backward_saved(&saved, &upload(bn.gpu(), dy), GradientMask::ALL).unwrap();
    (read(Some(&y)), arrays(&gradients))
}

fn arrays(gradients: &Gradients) -> ArrayGradients<IxDyn> {
    let vector = |tensor: Option<&Tensor>| tensor.map(|_| read(tensor).into_iter().collect::<Array1<f32>>());
    ArrayGradients {
        residual: None,
        input: read(gradients.input.as_ref()),
        weight: vector(gradients.weight.as_ref()),
        bias: vector(gradients.bias.as_ref()),
    }
}

/// Checks that forward and backward give the bits of a new layer.
fn assert_fresh(bn: &mut BatchNorm, x: &ArrayD<f32>, dy: &ArrayD<f32>, asynchronous: bool) {
    let (y, gradients) = fresh(bn, x, dy);
    if asynchronous {
        assert_eq!(pollster::block_on(bn.forward_array_async(x.view())).unwrap(), y);
        assert_eq!(pollster::block_on(bn.backward_array_async(dy.view())).unwrap(), gradients);
    } else {
        assert_eq!(bn.forward_array(x.view()).unwrap(), y);
        assert_eq!(bn.backward_array(dy.view()).unwrap(), gradients);
    }
}

/// What happens to a layer between two calls with arrays.
#[derive(Clone, Copy, Debug)]
enum Event {
    Arrays,
    ArraysAsync,
    Tensors,
    InPlace,
    Eval,
    Train,
    Forget,
    Release,
    Refused,
}

/// A pass gives the same bits after any earlier calls, in any sizes.
#[test]
fn nothing_of_an_earlier_call_shows() {
    let event = prop_oneof![
        6 => Just(Event::Arrays),
        3 => Just(Event::ArraysAsync),
        2 => Just(Event::Tensors),
        1 => Just(Event::InPlace),
        1 => Just(Event::Eval),
        1 => Just(Event::Train),
        1 => Just(Event::Forget),
        1 => Just(Event::Release),
        1 => Just(Event::Refused),
    ];
    let events = prop::collection::vec((event, 0usize..6, 1usize..60, any::<u32>()), 1..12);
    let property = |events: Vec<(Event, usize, usize, u32)>| {
        let mut bn = layer(gpu());
        for (event, outer, inner, seed) in events {
            // One value per channel is refused, but an empty batch is not.
            let [x, dy] = inputs(if inner == 1 && outer == 1 { 2 } else { outer }, inner, seed);
            match event {
                Event::Arrays => assert_fresh(&mut bn, &x, &dy, false),
                Event::ArraysAsync => assert_fresh(&mut bn, &x, &dy, true),
                Event::Tensors => {
                    let (y, gradients) = fresh(&bn, &x, &dy);
                    let x = upload(bn.gpu(), &x);
                    assert_eq!(read(Some(&bn.forward(&x).unwrap())), y);
                    // Backward on an array, after a forward pass on a tensor. Of one in eval, the layer keeps nothing.
                    let found = bn.backward_array(dy.view());
                    match bn.is_training() {
                        true => assert_eq!(found.unwrap(), gradients),
                        false => assert!(matches!(found, Err(Error::NoForward))),
                    }
                }
                Event::InPlace => {
                    let (y, _) = fresh(&bn, &x, &dy);
                    let x = upload(bn.gpu(), &x);
                    bn.forward_in_place(&x).unwrap();
                    assert_eq!(read(Some(&x)), y);
                }
                Event::Eval => bn.eval(),
                Event::Train => bn.train(),
                Event::Forget => bn.clear_saved(),
                Event::Release => bn.release_buffers(),
                Event::Refused => {
                    bn.forward_array(Array3::<f32>::zeros((2, 4, inner)).view()).unwrap_err();
                    bn.backward_array(Array3::<f32>::zeros((2, 4, inner)).view()).unwrap_err();
                }
            }
        }
        Ok(())
    };
    runner(40).run(&events, property).unwrap_or_else(|error| panic!("{error}"));
}

/// Compares the device's own reports, taken before anything that was dropped can be freed.
#[test]
fn a_call_like_one_before_allocates_its_results_only() {
    let gpu = Gpu::new().unwrap();
    // Large enough to keep a software device busy for a while.
    let [x, dy] = inputs(16, 40_000, 1).map(|array| upload(&gpu, &array));
    let zeros = |shape: &[usize]| Tensor::zeros(&gpu, shape, ChannelsFirst).unwrap();
    let (y, dx, dweight, dbias) = (zeros(x.shape()), zeros(x.shape()), zeros(&[3]), zeros(&[3]));
    let gradients = Gradients::new().input(dx).weight(dweight).bias(dbias);
    let mut bn = layer(&gpu);
    let step = |bn: &mut BatchNorm| {
        bn.train();
        bn.forward_into(&x, &y).unwrap();
        let saved = bn.saved().unwrap().clone();
        bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
        drop(saved);
        bn.eval();
        bn.forward_into(&x, &y).unwrap();
    };
    step(&mut bn);
    allocated(&gpu);
    let before = allocations(&gpu);
    let names = |list: &[(String, u64)], name: &str| list.iter().filter(|(other, _)| other == name).count();
    // The uniforms of three passes.
    assert_eq!(names(&before, "uniform_params"), 3, "{before:?}");
    for _ in 0..5 {
        step(&mut bn);
        assert_eq!(allocations(&gpu), before);
    }

    // Each pass allocates y, and statistics if those of the pass before are still in use.
    bn.train();
    let results: Vec<(Tensor, Saved)> = (0..3).map(|_| bn.forward_saved(&x).unwrap()).collect();
    let after = allocations(&gpu);
    assert_eq!(after.len(), before.len() + 3 + 2, "{before:?} {after:?}");
    let gradients: Vec<Gradients> =
        results.iter().map(|(_, saved)| bn.backward_saved(saved, &dy, GradientMask::ALL).unwrap()).collect();
    assert_eq!(allocations(&gpu).len(), after.len() + 3 * 3, "{after:?}");
    drop((results, gradients));
    allocated(&gpu);
    step(&mut bn);
    allocated(&gpu);
    assert_eq!(allocations(&gpu).len(), before.len());

    // A dropped layer frees everything that it has.
    drop(bn);
    allocated(&gpu);
    let left = allocations(&gpu);
    assert!(["params", "partials", "projections"].iter().all(|name| names(&left, name) == 0), "{left:?}");
}

#[test]
fn array_passes_keep_four_buffers_until_released() {
    let gpu = Gpu::new().unwrap();
    let small = 1 << 16;
    let [x, dy] = inputs(8, 50_000, 2);
    let bytes = x.len() as u64 * 4;
    let half = x.slice(ndarray::s![..4, .., ..]).into_dyn();
    let mut bn = layer(&gpu);
    let empty = allocated(&gpu);
    for [x, dy] in [[half.view(), half.view()], [x.view(), dy.view()]] {
        bn.forward_array(x).unwrap();
        bn.backward_array(dy).unwrap();
    }
    let kept = allocated(&gpu);
    assert!(kept >= empty + 4 * bytes && kept <= empty + 4 * bytes + small, "{empty} {kept} {bytes}");
    for round in 0..6 {
        let x = if round % 3 == 1 { &half } else { &x.view() };
        bn.forward_array(x.view()).unwrap();
        bn.backward_array(x.view()).unwrap();
        pollster::block_on(bn.forward_array_async(x.view())).unwrap();
        pollster::block_on(bn.backward_array_async(x.view())).unwrap();
        assert_eq!(allocated(&gpu), kept, "round {round}");
    }
    // x stays, since backward needs it.
    let saved = bn.saved().unwrap().clone();
    bn.release_buffers();
    let released = allocated(&gpu);
    assert!(released >= empty + bytes && released <= empty + bytes + small, "{empty} {released} {bytes}");
    let gradients = bn.backward_array(dy.view()).unwrap();
    assert_eq!(gradients, arrays(&bn.backward_saved(&saved, &upload(&gpu, &dy), GradientMask::ALL).unwrap()));
    drop(saved);
    bn.release_buffers();
    bn.clear_saved();
    assert!(allocated(&gpu) <= empty + small, "{empty} {}", allocated(&gpu));
    let kept = ["params", "partials", "projections", "upload", "readback"];
    let left = allocations(&gpu);
    assert!(left.iter().all(|(name, _)| !kept.contains(&name.as_str())), "{left:?}");

    assert_fresh(&mut bn, &x, &dy, false);
    drop(bn);
    assert!(allocated(&gpu) < empty);
}

#[test]
fn what_the_caller_has_is_not_overwritten() {
    let [first, first_dy] = inputs(4, 50, 3);
    let [second, second_dy] = inputs(5, 50, 4);
    let mut bn = layer(gpu());
    let (_, gradients) = fresh(&bn, &first, &first_dy);

    // A forward pass that is kept for later.
    bn.forward_array(first.view()).unwrap();
    let saved = bn.saved().unwrap().clone();
    for _ in 0..2 {
        assert_fresh(&mut bn, &second, &second_dy, false);
    }
    assert_eq!(read(Some(saved.x())), first);
    let dy = upload(gpu(), &first_dy);
    assert_eq!(arrays(&bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap()), gradients);

    // The same, with what the last pass saved.
    drop(saved);
    bn.forward_array(first.view()).unwrap();
    bn.forward(&upload(gpu(), &second)).unwrap();
    bn.forward_array(first.view()).unwrap();
    assert_eq!(bn.backward_array(first_dy.view()).unwrap(), gradients);

    // Keep only the bare buffers, without their tensors.
    let saved = bn.saved().unwrap();
    let buffers = [saved.x(), saved.statistics().unwrap()].map(|tensor| {
        let (buffer, shape) = (tensor.buffer().clone(), tensor.shape().to_vec());
        (buffer, shape, read(Some(tensor)))
    });
    for _ in 0..2 {
        assert_fresh(&mut bn, &second, &second_dy, false);
    }
    for (buffer, shape, contents) in buffers {
        let tensor = Tensor::from_buffer(gpu(), &buffer, 0, &shape, ChannelsFirst).unwrap();
        assert_eq!(read(Some(&tensor)), contents);
    }
}

/// Commands may be recorded now and submitted after other passes.
#[test]
fn what_recorded_commands_use_is_not_overwritten() {
    let [first, first_dy] = inputs(4, 50, 5);
    let [second, second_dy] = inputs(4, 50, 6);
    let zeros = |shape: &[usize]| Tensor::zeros(gpu(), shape, ChannelsFirst).unwrap();
    for (from_array, backward) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut bn = layer(gpu());
        let (y, gradients) = fresh(&bn, &first, &first_dy);
        if from_array {
            bn.forward_array(first.view()).unwrap();
        } else {
            bn.forward(&upload(gpu(), &first)).unwrap();
        }
        let x = bn.saved().unwrap().x().clone();
        let dy = upload(gpu(), &first_dy);
        let (other, [weight, bias]) = (zeros(first.shape()), [(); 2].map(|()| Some(zeros(&[3]))));
        let results = Gradients::new().input(zeros(first.shape())).weight(weight).bias(bias);
        let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if !backward {
            bn.record_forward(&mut encoder, &x, &other).unwrap();
        }
        let saved = bn.saved().unwrap().clone();
        if backward {
            bn.record_backward(&mut encoder, &saved, &dy, &results, GradientWrite::Replace).unwrap();
        }
        drop((x, saved));
        for _ in 0..2 {
            assert_fresh(&mut bn, &second, &second_dy, false);
            bn.forward(&upload(gpu(), &second)).unwrap();
        }
        gpu().queue().submit([encoder.finish()]);
        let what = format!("from array: {from_array}, backward: {backward}");
        if backward {
            assert_eq!(arrays(&results), gradients, "{what}");
        } else {
            assert_eq!(read(Some(&other)), y, "{what}");
        }
        assert_fresh(&mut bn, &second, &second_dy, false);
    }
}

/// A recorded pass leaves its own statistics, and not those of a later pass that is submitted before or after it.
#[test]
fn recorded_passes_leave_their_own_statistics() {
    let [first, dy] = inputs(4, 50, 10);
    let [second, _] = inputs(4, 50, 11);
    let [first, second, dy] = [first, second, dy].map(|array| upload(gpu(), &array));
    let mut bn = layer(gpu());
    let y = Tensor::zeros(gpu(), first.shape(), ChannelsFirst).unwrap();
    bn.forward_into(&first, &y).unwrap();
    let exact = bn.batch_statistics().unwrap().unwrap();
    let expected = arrays(&bn.backward(&dy).unwrap());
    let in_place = Tensor::zeros(gpu(), first.shape(), ChannelsFirst).unwrap();
    for on_its_own in [false, true] {
        let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if on_its_own {
            bn.record_forward_in_place(&mut encoder, &in_place).unwrap();
        } else {
            bn.record_forward(&mut encoder, &second, &y).unwrap();
        }
        // Nothing references the statistics of the recorded pass now, but it will still write them.
        bn.forward_into(&first, &y).unwrap();
        gpu().queue().submit([encoder.finish()]);
        assert_eq!(bn.batch_statistics().unwrap().unwrap(), exact, "in place: {on_its_own}");
        assert_eq!(arrays(&bn.backward(&dy).unwrap()), expected);
    }
}

/// Polls a future at most `times` times, and drops it.
fn poll_and_drop<T>(future: impl Future<Output = T>, times: usize) {
    let mut future = pin!(future);
    for _ in 0..times {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
    }
}

#[test]
fn futures_dropped_on_the_way_leave_everything_usable() {
    let [first, first_dy] = inputs(8, 5000, 7);
    let [second, second_dy] = inputs(8, 5000, 8);
    let mut bn = layer(gpu());
    let mut passes = 0;
    for times in [0, 1, 2, 50, 1] {
        for _ in 0..3 {
            poll_and_drop(bn.forward_array_async(first.view()), times);
            passes += u64::from(times > 0);
            assert_eq!(bn.state().unwrap().num_batches_tracked, Some(passes));
            // Backward knows of the pass, even if nobody read its result.
            if times > 0 {
                let (_, gradients) = fresh(&bn, &first, &first_dy);
                poll_and_drop(bn.backward_array_async(second_dy.view()), times);
                assert_eq!(bn.backward_array(first_dy.view()).unwrap(), gradients);
            }
            // Run a full pass directly afterwards, and one after two more dropped passes.
            assert_fresh(&mut bn, &second, &second_dy, times == 2);
            poll_and_drop(bn.forward_array_async(first.view()), times);
            poll_and_drop(bn.forward_array_async(second.view()), times);
            passes += 1 + 2 * u64::from(times > 0);
            assert_fresh(&mut bn, &first, &first_dy, times == 1);
            passes += 1;
        }
    }
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(passes));
}

#[test]
fn futures_of_several_layers_may_run_in_turns() {
    let all: Vec<_> = (0..3).map(|k| inputs(6, 3000 + 1000 * k, 9 + k as u32)).collect();
    let mut layers: Vec<BatchNorm> = all.iter().map(|_| layer(gpu())).collect();
    for _ in 0..3 {
        let expected: Vec<_> = layers.iter().zip(&all).map(|(bn, [x, dy])| fresh(bn, x, dy)).collect();
        let mut futures: Vec<_> = layers
            .iter_mut()
            .zip(&all)
            .map(|(bn, [x, dy])| {
                Box::pin(async {
                    let y = bn.forward_array_async(x.view()).await.unwrap();
                    (y, bn.backward_array_async(dy.view()).await.unwrap())
                })
            })
            .collect();
        let mut results: Vec<Option<_>> = futures.iter().map(|_| None).collect();
        while results.iter().any(Option::is_none) {
            for (future, result) in futures.iter_mut().zip(&mut results) {
                if result.is_none()
                    && let Poll::Ready(ready) = future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                {
                    *result = Some(ready);
                }
            }
            std::thread::yield_now();
        }
        assert_eq!(results.into_iter().flatten().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn threads_do_not_disturb_one_another() {
    // One layer for each thread, and one for all of them.
    let shared = Mutex::new(BatchNorm::new(gpu(), BatchNormConfig::new(3).momentum(0.0)).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let shared = &shared;
            scope.spawn(move || {
                let mut own = layer(gpu());
                for k in 0..6 {
                    let [x, dy] = inputs(4, 2000 + 700 * (k + thread as usize) % 5000, 20 + thread);
                    assert_fresh(&mut own, &x, &dy, k % 2 == 0);
                    assert_fresh(&mut shared.lock().unwrap(), &x, &dy, k % 2 == 1);
                }
            });
        }
    });
}
