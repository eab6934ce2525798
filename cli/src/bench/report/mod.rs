//! Prints and writes the results of `bench`.

pub(super) mod plot;

use super::measure::ceiling::Ceilings;
use super::measure::pass::PlannedPass;
use super::measure::timing::{PassTimes, median};
use crate::bench::sets::{Shape, Variant};
use serde_json::{Value, json};
use std::fmt::Write;
use wgpu_batchnorm::internals::Pass;
use wgpu_batchnorm::{AdapterProfile, DType, Layout};

/// What text and figures say when nothing was compared with the CPU reference.
pub(crate) const UNCHECKED: &str = "NOT CHECKED: with --no-check, a wrong pass is timed like a right one";

/// A pass that was timed.
pub(crate) struct Measurement {
    pub(crate) shape: Shape,
    pub(crate) pass: Pass,
    /// Bytes that any such pass must move.
    pub(crate) floor_bytes: u64,
    /// Bytes that this pass reads and writes.
    moved_bytes: u64,
    pub(crate) median_ms: f64,
    min_ms: f64,
    wall_ms: f64,
    /// Milliseconds per run of runs in a row.
    back_to_back_ms: f64,
    /// Whether the buffers of all runs fit into a cache. Runs in a row then read from there. The others do not, since
    /// the benchmark copies other memory between them.
    is_cached: bool,
    /// The plan in full.
    plan: String,
    /// The plan in brief, one line per part.
    lines: Vec<String>,
}

impl Measurement {
    pub(crate) fn new(shape: &Shape, planned: &PlannedPass, times: &PassTimes, is_cached: bool) -> Self {
        let PassTimes { alone, back_to_back } = times;
        Self {
            shape: shape.clone(),
            pass: planned.pass,
            floor_bytes: planned.floor_bytes(),
            moved_bytes: planned.moved_bytes(),
            median_ms: median(&alone.device),
            min_ms: alone.device.first().copied().unwrap_or(f64::NAN),
            wall_ms: median(&alone.wall),
            back_to_back_ms: *back_to_back,
            is_cached,
            plan: planned.text(),
            lines: planned.lines(),
        }
    }

    /// Returns the rate in GB/s, counting the floor's bytes.
    pub(crate) fn rate(&self) -> f64 {
        self.floor_bytes as f64 / self.median_ms / 1e6
    }

    fn json(&self, ceilings: &Ceilings) -> Value {
        json!({
            "shape": self.shape.sizes,
            "layout": self.shape.layout.to_string(),
            "dtype": self.shape.variant.dtype.to_string(),
            "activation": self.shape.variant.activation.to_string(),
            "add": self.shape.variant.add,
            "fused": !self.shape.variant.apart,
            "pass": self.pass.name(),
            "moved_bytes": self.moved_bytes,
            "median_ms": self.median_ms,
            "min_ms": self.min_ms,
            "wall_ms": self.wall_ms,
            "back_to_back_ms": self.back_to_back_ms,
            "back_to_back_cached": self.is_cached,
            "floor_bytes": self.floor_bytes,
            "floor_gb_per_s": self.rate(),
            "shader_copy_fraction": self.rate() / ceilings.shader,
            "plan": self.plan,
        })
    }
}

/// All results.
pub(crate) struct Report<'a> {
    pub(crate) profile: &'a AdapterProfile,
    pub(crate) ceilings: Ceilings,
    /// Whether each pass was compared with the CPU reference before it was timed.
    pub(crate) checked: bool,
    pub(crate) cases: &'a [Measurement],
    /// Passes that were not timed because they are wrong, with the reason.
    pub(crate) failures: &'a [String],
}

impl Report<'_> {
    /// Returns the table, with the plans of each shape below its rows.
    pub(crate) fn text(&self) -> String {
        let Self {
            profile,
            ceilings: Ceilings { shader, buffer, geometry, bytes },
            checked,
            cases,
            failures,
        } = self;
        let unchecked = if *checked { String::new() } else { format!("{UNCHECKED}\n") };
        let mut text = format!(
            "{profile}\n{unchecked}best WGSL copy {} GB/s ({geometry}), copy_buffer_to_buffer {} GB/s, of {} MiB\n\n\
             ms: median and least of runs alone, each between two timestamps of the device; in a row: all runs between\n\
             two timestamps, per run (*: all buffers fit into a cache); wall: as the host sees it, with submission\n\
             GB/s: bytes that any such pass must move, in the median time; beside the rates of both copies\n\
             below: the plans, each kernel with its workgroups × the invocations in one\n\n",
            digits(*shader),
            digits(*buffer),
            bytes >> 20
        );
        let widest = cases.iter().map(|case| case.shape.name().chars().count()).max().unwrap_or(0).max(5);
        let _ = writeln!(
            text,
            "{:<widest$}  {:<14}  {:<16} {:>9} {:>9} {:>9}  {:>9} {:>8} {:>7} {:>7}",
            "shape",
            "layout",
            "pass",
            "median ms",
            "min ms",
            "in a row",
            "wall ms",
            "GB/s",
            "/WGSL",
            "/buffer"
        );
        let is_labelled = cases.iter().any(|case| case.shape.variant != Variant::default());
        for cases in cases.chunk_by(|one, next| one.shape == next.shape) {
            let mut plans: Vec<&String> = Vec::new();
            if let Some(case) = cases.first().filter(|_| is_labelled) {
                let _ = writeln!(text, "{}:", case.shape.variant);
            }
            for case in cases {
                let rate = case.rate();
                let _ = writeln!(
                    text,
                    "{:<widest$}  {:<14}  {:<16} {:>9.3} {:>9.3} {:>9.3}{} {:>9.3} {:>8} {:>7.3} {:>7.3}",
                    case.shape.name(),
                    case.shape.layout.to_string(),
                    case.pass.name(),
                    case.median_ms,
                    case.min_ms,
                    case.back_to_back_ms,
                    if case.is_cached { '*' } else { ' ' },
                    case.wall_ms,
                    digits(rate),
                    rate / shader,
                    rate / buffer
                );
                plans.extend(&case.lines);
            }
            // The pass `forward_backward` repeats the plans of the other passes.
            let mut shown: Vec<&String> = Vec::new();
            for plan in plans {
                if !shown.contains(&plan) {
                    let _ = writeln!(text, "    {plan}");
                    shown.push(plan);
                }
            }
        }
        let lines = side_by_side(cases);
        if !lines.is_empty() {
            let _ = writeln!(text, "\nside by side: median ms, and their ratio");
            lines.iter().for_each(|line| _ = writeln!(text, "{line}"));
        }
        for failure in *failures {
            let _ = writeln!(text, "FAIL {failure}");
        }
        text.push_str(&unchecked);
        text
    }

    /// Returns the times as a table in Markdown, with what was found wrong.
    pub(crate) fn markdown(&self) -> String {
        let Self { profile, ceilings: Ceilings { shader, buffer, geometry, bytes }, .. } = self;
        let mut text = format!("# Batch norm on {}\n\n{profile}\n\n", profile.name);
        if !self.checked {
            let _ = writeln!(text, "**{UNCHECKED}.**\n");
        }
        let _ = writeln!(
            text,
            "Best WGSL copy {} GB/s ({geometry}), `copy_buffer_to_buffer` {} GB/s, of {} MiB. Times in ms: alone, each \
             run between two timestamps, median and least; in a row, all runs between two timestamps, per run (*: all \
             buffers fit into a cache); wall, as the host sees it. GB/s: bytes that any such pass must move, in the \
             median time.\n",
            digits(*shader),
            digits(*buffer),
            bytes >> 20
        );
        text += "| shape | layout | variant | pass | median | least | in a row | wall | GB/s | of the WGSL copy |\n\
                 |---|---|---|---|---|---|---|---|---|---|\n";
        for case in self.cases {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.4} | {:.4} | {:.4}{} | {:.4} | {} | {:.3} |",
                case.shape.name(),
                case.shape.layout,
                case.shape.variant,
                case.pass.name(),
                case.median_ms,
                case.min_ms,
                case.back_to_back_ms,
                if case.is_cached { "*" } else { "" },
                case.wall_ms,
                digits(case.rate()),
                case.rate() / shader
            );
        }
        if self.checked {
            let _ = writeln!(
                text,
                "\nEach pass was compared with the CPU reference first: {} right, {} wrong.\n",
                self.cases.len(),
                self.failures.len()
            );
        }
        self.failures.iter().for_each(|failure| _ = writeln!(text, "```text\nFAIL {failure}\n```"));
        text
    }

    /// Returns the plan of each pass in full.
    pub(crate) fn plans(&self) -> String {
        let plan = |case: &Measurement| {
            let Measurement { shape, pass, plan, .. } = case;
            format!("{shape} {} {}\n{plan}\n\n", shape.variant, pass.name())
        };
        self.cases.iter().map(plan).collect()
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "adapter": self.profile.name,
            "driver": self.profile.driver,
            "checked": self.checked,
            "shader_copy_gb_per_s": self.ceilings.shader,
            "buffer_copy_gb_per_s": self.ceilings.buffer,
            "copy_bytes": self.ceilings.bytes,
            "cases": self.cases.iter().map(|case| case.json(&self.ceilings)).collect::<Vec<_>>(),
        })
    }
}

/// Compares fused with apart, and 16-bit types with f32. Returns a line for each shape and pass that was timed both
/// ways.
fn side_by_side(cases: &[Measurement]) -> Vec<String> {
    let mut lines = Vec::new();
    for case in cases {
        let of = |variant: Variant| {
            let shape = Shape { variant, ..case.shape.clone() };
            cases.iter().find(|other| other.shape == shape && other.pass == case.pass)
        };
        let Variant { dtype, activation, apart, .. } = case.shape.variant;
        let megabytes = |bytes: u64| digits(bytes as f64 / 1e6);
        let line = |name: String, other: &Measurement, other_name: &str| {
            let (ms, other_ms) = (case.median_ms, other.median_ms);
            let (shape, pass) = (&case.shape, case.pass.name());
            format!("{shape} {pass}: {name} {ms:.3}, {other_name} {other_ms:.3}: {:.2}", ms / other_ms)
        };
        if let Some(other) = of(Variant { apart: true, ..case.shape.variant }).filter(|_| !apart) {
            let moved = format!(
                "; moves {} MB, saves {} of {}",
                megabytes(case.moved_bytes),
                megabytes(other.moved_bytes - case.moved_bytes),
                megabytes(other.moved_bytes)
            );
            lines.push(line(format!("{dtype} {activation} fused"), other, "apart") + &moved);
        }
        if let Some(other) =
            of(Variant { dtype: DType::F32, ..case.shape.variant }).filter(|_| dtype != DType::F32 && !apart)
        {
            lines.push(line(dtype.to_string(), other, "f32"));
        }
    }
    lines
}

impl Shape {
    /// Returns the sizes, such as `8×64×112×112`.
    pub(crate) fn name(&self) -> String {
        self.sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
    }
}

impl std::fmt::Display for Shape {
    /// Writes the sizes, and the layout if it is not the default.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())?;
        if self.layout == Layout::ChannelsLast { write!(f, " {}", self.layout) } else { Ok(()) }
    }
}

/// Formats a number with three digits.
pub(crate) fn digits(value: f64) -> String {
    let decimals = if value > 0.0 { 2 - value.log10().floor() as i32 } else { 2 };
    format!("{value:.0$}", decimals.clamp(0, 5) as usize)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::measure::ceiling::Ceilings;
    use super::super::measure::pass::PlannedPass;
    use super::super::measure::timing::{PassTimes, Times};
    use super::{Measurement, Report, UNCHECKED, digits};
    use crate::bench::sets::Shape;
    use wgpu_batchnorm::internals::Pass;
    use wgpu_batchnorm::{AdapterProfile, Layout, Result, Tunings, wgpu};

    pub(crate) fn profile(name: &str) -> AdapterProfile {
        let mut info = wgpu::AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan);
        info.name = name.to_owned();
        let limits = wgpu::Limits { max_storage_buffer_binding_size: 1 << 31, ..wgpu::Limits::default() };
        AdapterProfile::new(&info, wgpu::Features::empty(), limits)
    }

    /// Returns all passes on images in this layout, as if each took 2 ms.
    pub(crate) fn cases(profile: &AdapterProfile, layout: Layout) -> Result<Vec<Measurement>> {
        let shape = Shape::new(vec![128, 112, 112, 256], layout);
        let alone = Times { device: vec![1.0, 2.0, 4.0], wall: vec![123.0] };
        let times = PassTimes { alone, back_to_back: 1.5 };
        let tunings = Tunings::new(profile);
        let planned = |pass| PlannedPass::new(&shape, pass, profile, &tunings);
        let measure = |pass| Ok(Measurement::new(&shape, &planned(pass)?, &times, false));
        Pass::ALL.map(measure).into_iter().collect()
    }

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [(4812.3, "4812"), (101.5, "102"), (15.64, "15.6"), (3.2, "3.20"), (0.0252, "0.0252")];
        for (value, text) in numbers {
            assert_eq!(digits(value), text);
        }
        assert_eq!((digits(0.0).as_str(), digits(1e-9).as_str()), ("0.00", "0.00000"));
    }

    #[test]
    fn the_table_has_every_pass_and_each_plan_once() -> Result<()> {
        let profile = profile("A");
        let cases = cases(&profile, Layout::ChannelsLast)?;
        let bytes = cases[0].floor_bytes as f64;
        assert_eq!(cases[0].rate(), bytes / 2e6);
        let ceilings = Ceilings {
            shader: bytes / 1e6,
            buffer: bytes / 4e6,
            geometry: "workgroups of 64".to_owned(),
            bytes: 1 << 26,
        };
        let failures = vec!["4×5: y is wrong".to_owned()];
        let mut report =
            Report { profile: &profile, ceilings, checked: true, cases: &cases, failures: &failures };
        let text = report.text();
        assert!(!text.contains("NOT CHECKED"), "{text}");
        for pass in Pass::ALL {
            assert_eq!(text.matches(&format!("  {} ", pass.name())).count(), 1, "{text}");
        }
        for plan in ["\n    forward_train: moments ", "\n    backward: backward_sums "] {
            assert_eq!(text.matches(plan).count(), 1, "{text}");
        }
        assert!(text.contains("128×112×112×256  channels-last "), "{text}");
        assert!(text.contains("   0.500   2.000\n") && text.ends_with("FAIL 4×5: y is wrong\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");

        let json = report.json();
        assert_eq!(json["cases"][0]["shader_copy_fraction"], 0.5);
        assert_eq!(
            (&json["cases"][0]["back_to_back_ms"], text.matches("     1.500  ").count()),
            (&1.5.into(), 4)
        );
        assert_eq!(json["cases"][3]["plan"].as_str().map(|plan| plan.lines().count()), Some(8));
        assert_eq!(json["checked"], true);
        let markdown = report.markdown();
        assert_eq!(markdown.matches("| 128×112×112×256 | channels-last | f32 | ").count(), 4, "{markdown}");
        assert!(
            markdown.contains("4 right, 1 wrong") && markdown.contains("FAIL 4×5: y is wrong"),
            "{markdown}"
        );
        assert_eq!(report.plans().matches("128×112×112×256 channels-last f32 ").count(), 4);

        report.checked = false;
        let markdown = report.markdown();
        assert!(markdown.contains(UNCHECKED) && !markdown.contains("right, "), "{markdown}");
        let text = report.text();
        assert_eq!(
            (text.matches(UNCHECKED).count(), &report.json()["checked"]),
            (2, &false.into()),
            "{text}"
        );
        Ok(())
    }
}
