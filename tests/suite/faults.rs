//! What the library makes of a driver's failures: out of memory, and a lost device, in any call.
//!
//! A Vulkan layer makes one call of the driver fail. Each entry point then meets each function's first to sixth call that
//! it makes at all. No entry point may panic or wait for ever. The error has a type, and afterwards the objects give right
//! results again, or say that the device is lost.
//!
//! The layer is loaded with the driver, so a process of its own runs this: the same test program, with the layer in its
//! environment.

use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use wgpu_batchnorm::internals::tests_are_exhaustive;
use wgpu_batchnorm::ndarray::{Array, Array4};
use wgpu_batchnorm::{
    BatchNorm, BatchNormConfig, BatchNormState, Checkpoint, Direction, Error, Gpu, GpuOptions, GradientMask,
    Mode, Plan, PlanInput, Problem, Result, Tensor, Tunings, wgpu,
};

/// The environment variable that tells the program that it is the one with the layer.
const WITH_LAYER: &str = "WGPU_BATCHNORM_FAULTS";

/// Longer than any entry point takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls of one function that fail in turn.
const CALLS: u32 = 6;

/// The tests of every day take every so many-th fault. The number has no common divisor with that of the codes, so that all
/// of them come.
const EVERY: usize = 25;

/// The layer, as this process opened it: the library that the Vulkan loader opened, too.
struct Layer(libloading::Library);

impl Layer {
    fn open() -> Self {
        #[expect(unsafe_code, reason = "it is this workspace's own library")]
        // SAFETY: nothing runs when the library is loaded.
        Self(unsafe { libloading::Library::new(fault_layer::library()).unwrap() })
    }

    /// Makes a function's call fail, counting from now on. 0: none fails.
    fn arm(&self, function: &str, call: u32, code: i32, lasting: bool) {
        type Arm = unsafe extern "C" fn(*const std::ffi::c_char, u32, i32, bool) -> bool;
        let name = CString::new(function).unwrap();
        #[expect(unsafe_code, reason = "it is this workspace's own library")]
        // SAFETY: the type is that of the library, and the name ends with a zero.
        let known =
            unsafe { self.0.get::<Arm>(b"fault_layer_arm").unwrap()(name.as_ptr(), call, code, lasting) };
        assert!(known, "{function}");
    }

    fn calls(&self, function: &str) -> u32 {
        type Calls = unsafe extern "C" fn(*const std::ffi::c_char) -> u32;
        let name = CString::new(function).unwrap();
        #[expect(unsafe_code, reason = "it is this workspace's own library")]
        // SAFETY: as above.
        unsafe {
            self.0.get::<Calls>(b"fault_layer_calls").unwrap()(name.as_ptr())
        }
    }
}

/// What an entry point works on.
struct Subject {
    gpu: Gpu,
    layer: BatchNorm,
    x: Tensor,
    values: Array4<f32>,
    /// y and dx.
    expected: (Array4<f32>, Array4<f32>),
}

impl Subject {
    /// Opens a device, and makes a layer that has run once.
    fn new(folder: &Path) -> Result<Self> {
        let gpu = Gpu::with_options(&GpuOptions::new().pipeline_cache(folder))?;
        let layer = BatchNorm::new(&gpu, BatchNormConfig::new(3))?;
        let values = Array::from_shape_fn((4, 3, 5, 7), |(n, c, h, w)| {
            ((n * 31 + c * 17 + h * 5 + w * 3) % 13) as f32
        });
        let x = Tensor::from_array(&gpu, values.view())?;
        let expected = (values.clone(), values.clone());
        let mut subject = Self { gpu, layer, x, values, expected };
        subject.expected = subject.result()?;
        subject.layer.forward(&subject.x)?;
        Ok(subject)
    }

    /// Runs the layer forward and backward, and returns the results.
    fn result(&mut self) -> Result<(Array4<f32>, Array4<f32>)> {
        self.layer.load_state(&BatchNormState::new(self.layer.config()))?;
        let y = self.layer.forward_array(self.values.view())?;
        let gradients = self.layer.backward_array(self.values.view())?;
        Ok((y, gradients.input))
    }
}

type Entry = (&'static str, fn(&mut Subject) -> Result<()>);

/// Every function of the library that calls wgpu.
fn entries() -> Vec<Entry> {
    vec![
        ("Gpu::with_options", |_| {
            let folder = tempfile::tempdir().unwrap();
            Gpu::with_options(&GpuOptions::new().pipeline_cache(folder.path())).map(drop)
        }),
        ("Gpu::from_wgpu", |s| {
            drop(Gpu::from_wgpu(s.gpu.device(), s.gpu.queue()));
            Ok(())
        }),
        ("Gpu::adapters", |_| {
            assert!(Gpu::adapters(None).len() < 100);
            Ok(())
        }),
        ("Gpu::save_pipeline_cache", |s| s.gpu.save_pipeline_cache()),
        ("BatchNorm::new", |s| BatchNorm::new(&s.gpu, BatchNormConfig::new(3)).map(drop)),
        ("Tensor::from_array", |s| Tensor::from_array(&s.gpu, s.values.view()).map(drop)),
        ("Tensor::zeros", |s| {
            Tensor::zeros(&s.gpu, &[3, 5], wgpu_batchnorm::Layout::ChannelsFirst).map(drop)
        }),
        ("Tensor::write_array", |s| s.x.write_array(s.values.view())),
        ("Tensor::to_array", |s| s.x.to_array().map(drop)),
        ("Tensor::to_array_async", |s| pollster::block_on(s.x.to_array_async()).map(drop)),
        ("forward", |s| s.layer.forward(&s.x).map(drop)),
        ("forward of a new shape", |s| {
            let x = Tensor::zeros(&s.gpu, &[2, 3, 40000], wgpu_batchnorm::Layout::ChannelsFirst)?;
            s.layer.forward(&x).map(drop)
        }),
        ("forward_add", |s| s.layer.forward_add(&s.x, &s.x.clone()).map(drop)),
        ("forward_in_place", |s| {
            let copy = Tensor::from_array(&s.gpu, s.values.view())?;
            s.layer.forward_in_place(&copy)
        }),
        ("record_forward", |s| {
            let mut encoder =
                s.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let y = Tensor::from_array(&s.gpu, s.values.view())?;
            s.layer.record_forward(&mut encoder, &s.x, &y)
        }),
        ("backward", |s| s.layer.backward(&s.x).map(drop)),
        ("backward_masked", |s| s.layer.backward_masked(&s.x, GradientMask::ALL.input(false)).map(drop)),
        ("forward_array", |s| s.layer.forward_array(s.values.view()).map(drop)),
        ("forward_array_async", |s| {
            pollster::block_on(s.layer.forward_array_async(s.values.view())).map(drop)
        }),
        ("forward_add_array", |s| s.layer.forward_add_array(s.values.view(), s.values.view()).map(drop)),
        ("backward_array", |s| s.layer.backward_array(s.values.view()).map(drop)),
        ("backward_array_async", |s| {
            pollster::block_on(s.layer.backward_array_async(s.values.view())).map(drop)
        }),
        ("batch_statistics", |s| s.layer.batch_statistics().map(drop)),
        ("state", |s| s.layer.state().map(drop)),
        ("load_state", |s| s.layer.load_state(&BatchNormState::new(s.layer.config()))),
        ("state_dict", |s| s.layer.state_dict(&mut Checkpoint::new(), "bn.")),
        ("scale_and_shift", |s| s.layer.scale_and_shift().map(drop)),
        ("prepare and bind", |s| {
            let problem = Problem::new(&[4, 3, 35], wgpu_batchnorm::Layout::ChannelsFirst)?;
            let input = PlanInput::new(&problem, s.layer.config(), Mode::Eval, s.gpu.profile());
            let prepared = s.gpu.prepare(&Plan::forward(&input, &Default::default())?)?;
            let parameters =
                [(); 4].map(|()| Tensor::zeros(&s.gpu, &[3], wgpu_batchnorm::Layout::ChannelsFirst));
            let [weight, bias, mean, var] = parameters;
            let y = Tensor::from_array(&s.gpu, s.values.view())?;
            let buffers = wgpu_batchnorm::Buffers::new().x(s.x.buffer()).y(y.buffer());
            let (weight, bias, mean, var) = (weight?, bias?, mean?, var?);
            let buffers = buffers.weight(weight.buffer()).bias(bias.buffer());
            prepared.bind(&buffers.running_mean(mean.buffer()).running_var(var.buffer())).map(drop)
        }),
        ("tune", |s| {
            let problem = Problem::new(&[4, 3, 35], wgpu_batchnorm::Layout::ChannelsFirst)?;
            let mut tunings = Tunings::new(s.gpu.profile());
            tunings.tune(&s.gpu, &problem, s.layer.config(), Mode::Train, Direction::Forward).map(drop)
        }),
    ]
}

/// What became of one fault.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The call worked, or returned an error, and the objects work.
    Usable,
    /// The objects return `Error::DeviceLost`.
    Lost,
    /// wgpu panicked, in a place that is known.
    OfWgpu,
    /// Something of the library's own went wrong.
    Wrong(String),
}

/// The places and messages of all panics so far.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Keeps panics in [`PANICS`] instead of printing them.
fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().map(ToString::to_string);
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        PANICS.lock().unwrap().push((place, message));
    }));
}

/// Lets an entry point meet a fault.
fn meet(entry: &Entry, layer: &Layer, fault: (&str, u32, i32), subject: &mut Subject) -> Outcome {
    let (function, call, code) = fault;
    layer.arm(function, call, code, false);
    let met = (entry.1)(subject);
    layer.arm(function, 0, 0, false);
    let lost = subject.gpu.is_lost();
    if let Err(error) = &met
        && lost
        && !matches!(error, Error::DeviceLost { .. })
    {
        return Outcome::Wrong(format!("lost, but the error is {error:?}"));
    }
    match subject.result() {
        Ok(found) if lost => Outcome::Wrong(format!("lost, but {found:?}")),
        Ok(found) if found == subject.expected => Outcome::Usable,
        Ok(found) => Outcome::Wrong(format!("{found:?} instead of {:?}", subject.expected)),
        Err(Error::DeviceLost { .. }) if lost => Outcome::Lost,
        Err(error) => Outcome::Wrong(format!("unusable afterwards: {error:?}, after {met:?}")),
    }
}

/// Lets an entry point meet a fault in a thread, so that a wait for ever ends here. Returns the subject if it is usable.
fn meet_in_time(entry: Entry, fault: (String, u32, i32), subject: Subject) -> (Outcome, Option<Subject>) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let layer = Layer::open();
        let (function, call, code) = &fault;
        let panics = PANICS.lock().unwrap().len();
        // The subject is dropped inside, since wgpu may panic there, too.
        let met = catch_unwind(AssertUnwindSafe(|| {
            let mut subject = subject;
            match meet(&entry, &layer, (function, *call, *code), &mut subject) {
                Outcome::Usable => (Outcome::Usable, Some(subject)),
                other => (other, None),
            }
        }));
        layer.arm(function, 0, 0, false);
        let _ = sender.send(met.unwrap_or_else(|_| {
            let panics = PANICS.lock().unwrap().split_off(panics);
            let is_known = |(place, message): &(String, String)| fault_layer::is_of_wgpu(place, message);
            let outcome = if panics.iter().all(is_known) {
                Outcome::OfWgpu
            } else {
                Outcome::Wrong(format!("panics: {panics:?}"))
            };
            (outcome, None)
        }));
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| (Outcome::Wrong("no end".to_owned()), None))
}

/// The part that runs with the layer.
fn sweep() {
    let layer = Layer::open();
    let functions: Vec<String> =
        fault_layer::functions().map(|name| name.to_str().unwrap().to_owned()).collect();
    let folder = tempfile::tempdir().unwrap();
    let every = if tests_are_exhaustive() { 1 } else { EVERY };
    let (mut outcomes, mut wrong, mut number) = ([0; 3], Vec::new(), 0);
    let mut usable: Option<Subject> = None;
    keep_panics();
    for entry in entries() {
        // Counts the calls without a fault.
        let mut counted = Subject::new(folder.path()).unwrap();
        functions.iter().for_each(|function| layer.arm(function, 0, 0, false));
        (entry.1)(&mut counted).unwrap();
        let calls: Vec<u32> = functions.iter().map(|function| layer.calls(function)).collect();
        drop(counted);
        for (function, calls) in functions.iter().zip(calls) {
            for call in 1..=calls.min(CALLS) {
                for code in fault_layer::CODES {
                    number += 1;
                    if number % every != 0 {
                        continue;
                    }
                    let subject = usable.take().unwrap_or_else(|| Subject::new(folder.path()).unwrap());
                    let (outcome, kept) = meet_in_time(entry, (function.clone(), call, code), subject);
                    usable = kept;
                    match outcome {
                        Outcome::Usable => outcomes[0] += 1,
                        Outcome::Lost => outcomes[1] += 1,
                        Outcome::OfWgpu => outcomes[2] += 1,
                        Outcome::Wrong(what) => {
                            wrong.push(format!("{} {function} {call} {code}: {what}", entry.0));
                        }
                    }
                }
            }
        }
    }
    let _ = std::panic::take_hook();
    let [harmless, lost, of_wgpu] = outcomes;
    let faults = harmless + lost + of_wgpu + wrong.len();
    println!(
        "{faults} faults: {harmless} left all usable, {lost} lost the device, {of_wgpu} made wgpu panic, {} went wrong",
        wrong.len()
    );
    assert!(faults > 1200 / every && lost > faults / 10, "the layer is not at work");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_entry_point_meets_every_fault() {
    if std::env::var_os(WITH_LAYER).is_some() {
        return sweep();
    }
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program
        .args(["--exact", "faults::every_entry_point_meets_every_fault", "--nocapture"])
        .env(WITH_LAYER, "1");
    let program = fault_layer::switch_on(&mut program, folder.path()).output().unwrap();
    let output = String::from_utf8_lossy(&program.stdout) + String::from_utf8_lossy(&program.stderr);
    assert!(program.status.success(), "{output}");
    assert!(output.contains("faults: "), "the test was not found: {output}");
    println!("{}", output.lines().find(|line| line.contains("faults: ")).unwrap_or_default());
}
