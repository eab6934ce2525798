//! Draws the figures as a roofline.

use super::{Measurement, Report, digits};
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;
use wgpu_batchnorm::Layout;
use wgpu_batchnorm::internals::Pass;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Width and height.
const SIZE: (u32, u32) = (960, 640);
/// Half the size of a marker.
const SIZE_OF_MARK: i32 = 5;
/// Height of a row of the legend.
const ROW: i32 = 20;
/// Colour of the ceilings' lines.
const CEILING: RGBColor = RGBColor(0x40, 0x40, 0x40);

/// Returns the colour of a pass. Every kind of colour vision can tell the colours apart (Okabe and Ito).
fn color(pass: Pass) -> RGBColor {
    match pass {
        Pass::ForwardTrain => RGBColor(0x00, 0x72, 0xB2),
        Pass::ForwardEval => RGBColor(0x00, 0x9E, 0x73),
        Pass::Backward => RGBColor(0xD5, 0x5E, 0x00),
        Pass::ForwardBackward => RGBColor(0xCC, 0x79, 0xA7),
    }
}

/// Returns an SVG of each pass on each shape: its bytes and its rate, below the rates of the best copies.
pub(crate) fn svg(report: &Report<'_>) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    draw(report, SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
        .map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw(report: &Report<'_>, root: Area<'_>) -> Result<(), Box<dyn Error>> {
    root.fill(&WHITE)?;
    let (picture, legend) = root.split_vertically(SIZE.1 - 2 * ROW as u32 - 4);
    let ceilings = [
        (format!("copy_buffer_to_buffer, {} GB/s", digits(report.ceilings.buffer)), report.ceilings.buffer),
        (format!("best WGSL copy, {} GB/s", digits(report.ceilings.shader)), report.ceilings.shader),
    ];
    let x = around(report.cases.iter().map(|case| case.floor_bytes as f64), 1.6);
    let rates = report.cases.iter().map(Measurement::rate);
    let y = around(rates.chain(ceilings.iter().map(|(_, rate)| *rate)), 1.6);
    let (x_ticks, y_ticks) = (ticks(&x), ticks(&y));

    let mut chart = ChartBuilder::on(&picture)
        .caption(
            format!(
                "Batch norm on {}{}",
                report.profile.name,
                if report.checked { "" } else { ", not checked" }
            ),
            ("sans-serif", 20),
        )
        .margin(16)
        .margin_right(28)
        .x_label_area_size(48)
        .y_label_area_size(68)
        .build_cartesian_2d(
            x.clone().log_scale().with_key_points(x_ticks.clone()),
            y.clone().log_scale().with_key_points(y_ticks.clone()),
        )?;
    chart
        .configure_mesh()
        .x_desc("bytes that any such pass must move")
        .y_desc("GB/s of these bytes")
        .x_labels(x_ticks.len())
        .y_labels(y_ticks.len())
        .x_label_formatter(&|bytes| size(*bytes))
        .y_label_formatter(&|rate| short(*rate))
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 15))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;

    let is_higher = report.ceilings.buffer >= report.ceilings.shader;
    for ((label, rate), above) in ceilings.into_iter().zip([is_higher, !is_higher]) {
        chart.draw_series([PathElement::new([(x.start, rate), (x.end, rate)], CEILING.stroke_width(2))])?;
        // The two ceilings may be close to each other, so their labels lie outside of both.
        let offset = if above { -17 } else { 5 };
        let style = ("sans-serif", 14).into_font().color(&CEILING);
        chart.draw_series([EmptyElement::at((x.start, rate)) + Text::new(label, (8, offset), style)])?;
    }

    for case in report.cases {
        let point = (case.floor_bytes as f64, case.rate());
        match Mark::new(case.pass, case.shape.layout) {
            Mark::Circle(style) => chart.draw_series([Circle::new(point, SIZE_OF_MARK, style)])?,
            Mark::Triangle(style) => {
                chart.draw_series([TriangleMarker::new(point, SIZE_OF_MARK + 1, style)])?
            }
        };
    }
    draw_legend(report, &legend)?;
    root.present()?;
    Ok(())
}

/// The mark of a pass.
enum Mark {
    Circle(ShapeStyle),
    Triangle(ShapeStyle),
}

impl Mark {
    fn new(pass: Pass, layout: Layout) -> Self {
        let style = color(pass).mix(0.75).filled();
        match layout {
            Layout::ChannelsFirst => Self::Circle(style),
            Layout::ChannelsLast => Self::Triangle(style),
        }
    }
}

/// Draws the legend below the picture, where it hides nothing: one row per layout that was timed.
fn draw_legend(report: &Report<'_>, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let is_there =
        |pass, layout| report.cases.iter().any(|case| case.pass == pass && case.shape.layout == layout);
    let layouts = [Layout::ChannelsFirst, Layout::ChannelsLast];
    let rows = layouts.into_iter().filter(|&layout| Pass::ALL.iter().any(|&pass| is_there(pass, layout)));
    for (row, layout) in rows.enumerate() {
        let passes = Pass::ALL.into_iter().filter(|&pass| is_there(pass, layout));
        for (column, pass) in passes.enumerate() {
            let (x, y) = (84 + 216 * column as i32, 6 + ROW * row as i32);
            match Mark::new(pass, layout) {
                Mark::Circle(style) => area.draw(&Circle::new((x, y), SIZE_OF_MARK, style))?,
                Mark::Triangle(style) => area.draw(&TriangleMarker::new((x, y), SIZE_OF_MARK + 1, style))?,
            }
            let name = match layout {
                Layout::ChannelsFirst => pass.name().to_owned(),
                Layout::ChannelsLast => format!("{}, {layout}", pass.name()),
            };
            area.draw(&Text::new(name, (x + 11, y - 6), ("sans-serif", 13)))?;
        }
    }
    Ok(())
}

/// Returns the range of the positive values, with a margin of this factor.
fn around(values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let positive = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) =
        positive.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)));
    // Without values, any range will do.
    if high > 0.0 { low / margin..high * margin } else { 1.0..10.0 }
}

/// Returns the numbers at an axis: 1, 2 and 5 of each power of ten, or only 1 on a long axis.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let decades = (range.end / range.start).log10();
    let digits: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let ticks = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
    ticks.filter(|tick| range.contains(tick)).collect()
}

/// Formats bytes, such as `20 MB`.
fn size(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    // The factor keeps 10^6 from becoming 1000 kB.
    let unit = (((bytes * 1.0001).log10() / 3.0).floor() as usize).min(units.len() - 1);
    format!("{} {}", short(bytes / 1000f64.powi(unit as i32)), units[unit])
}

/// Formats a number of one digit and zeros.
fn short(value: f64) -> String {
    let decimals = (-(value * 1.0001).log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::tests::{cases, profile};
    use super::{around, short, size, svg, ticks};
    use crate::bench::measure::ceiling::Ceilings;
    use wgpu_batchnorm::Layout;

    #[test]
    fn every_pass_and_both_ceilings_are_drawn() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let profile = profile("A <B> & C");
        let mut cases_of_both = cases(&profile, Layout::ChannelsFirst)?;
        cases_of_both.extend(cases(&profile, Layout::ChannelsLast)?);
        let ceilings = Ceilings { shader: 4000.0, buffer: 4400.0, geometry: String::new(), bytes: 0 };
        let mut report =
            Report { profile: &profile, ceilings, checked: true, cases: &cases_of_both, failures: &[] };
        let svg = svg(&report)?;
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("Batch norm on A &lt;B&gt; &amp; C"), "{svg}");
        // Each layout has four passes, each once in the picture and once in the legend.
        assert_eq!((svg.matches("<circle ").count(), svg.matches("<polygon ").count()), (8, 8), "{svg}");
        for text in [
            "best WGSL copy, 4000 GB/s",
            "copy_buffer_to_buffer, 4400 GB/s",
            "forward_backward, channels-last",
        ] {
            assert_eq!(svg.matches(text).count(), 1, "{text}: {svg}");
        }
        assert!(!svg.contains("not checked"), "{svg}");
        report.checked = false;
        let svg = super::svg(&report)?;
        assert_eq!(svg.matches(", not checked").count(), 1, "{svg}");
        Ok(())
    }

    #[test]
    fn there_may_be_nothing_to_draw() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let profile = profile("A");
        let ceilings = Ceilings { shader: f64::NAN, buffer: 0.0, geometry: String::new(), bytes: 0 };
        let svg = svg(&Report { profile: &profile, ceilings, checked: true, cases: &[], failures: &[] })?;
        assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("<circle "), "{svg}");
        Ok(())
    }

    #[test]
    fn axes() {
        assert_eq!(around([2.0, f64::NAN, 8.0, 0.0].into_iter(), 2.0), 1.0..16.0);
        assert_eq!(around([f64::NAN].into_iter(), 2.0), 1.0..10.0);
        assert_eq!(ticks(&(0.4..25.0)), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(ticks(&(0.5..2e3)), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(size(80.0), "80 B");
        assert_eq!(
            (size(1e6), size(10f64.powi(7)), size(5e9)),
            ("1 MB".into(), "10 MB".into(), "5 GB".into())
        );
        assert_eq!(
            (short(0.002), short(0.1), short(1.0), short(5000.0)),
            ("0.002".into(), "0.1".into(), "1".into(), "5000".into())
        );
    }
}
