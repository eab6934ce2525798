//! Draws the figures: a panel for each pass, with the fraction of the best copy that each shape reaches.

use super::{Measurement, Report, digits};
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::ops::Range;
use wgpu_batchnorm::Layout;
use wgpu_batchnorm::internals::Pass;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Width and height of a panel.
const PANEL: (u32, u32) = (560, 380);
/// Height of the title, and of the legend.
const TITLE: u32 = 36;
const LEGEND: u32 = 28;
/// Half the size of a marker.
const SIZE_OF_MARK: i32 = 5;
/// Colour of the copies' lines.
const COPY: RGBColor = RGBColor(0x40, 0x40, 0x40);
/// Most shapes that a panel names: those that lie lowest.
const NAMED: usize = 3;

/// Returns the colour of a layout. Every kind of colour vision can tell the colours apart (Okabe and Ito).
fn color(layout: Layout) -> RGBColor {
    match layout {
        Layout::ChannelsFirst => RGBColor(0x00, 0x72, 0xB2),
        Layout::ChannelsLast => RGBColor(0xD5, 0x5E, 0x00),
    }
}

/// Returns an SVG with a panel for each pass that was timed: the bytes of each shape, and its rate as a fraction of the best
/// copy's. The lowest shapes are named.
pub(crate) fn svg(report: &Report<'_>) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    let passes: Vec<Pass> =
        Pass::ALL.into_iter().filter(|pass| report.cases.iter().any(|case| case.pass == *pass)).collect();
    let columns = passes.len().clamp(1, 2);
    let rows = passes.len().div_ceil(columns).max(1);
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + TITLE + LEGEND);
    draw(report, &passes, (rows, columns), SVGBackend::with_string(&mut svg, size).into_drawing_area())
        .map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw(
    report: &Report<'_>,
    passes: &[Pass],
    (rows, columns): (usize, usize),
    root: Area<'_>,
) -> Result<(), Box<dyn Error>> {
    root.fill(&WHITE)?;
    let checked = if report.checked { "" } else { ", not checked" };
    let title = format!("Batch norm on {}{checked}", report.profile.name);
    let (_, below) = root.split_vertically(TITLE);
    root.draw(&Text::new(title, (20, 12), ("sans-serif", 20)))?;
    let (panels, legend) = below.split_vertically(PANEL.1 * rows as u32);
    let bytes = around(report.cases.iter().map(|case| case.floor_bytes as f64), 1.6);
    let fractions = report.cases.iter().map(|case| fraction(report, case));
    let highest = fractions.filter(|fraction| fraction.is_finite()).fold(1.0, f64::max);
    for (pass, area) in passes.iter().zip(panels.split_evenly((rows, columns))) {
        draw_panel(report, *pass, &bytes, 0.0..highest * 1.1, &area)?;
    }
    draw_legend(report, &legend)?;
    root.present()?;
    Ok(())
}

/// Returns the rate of a pass as a fraction of the best copy's.
fn fraction(report: &Report<'_>, case: &Measurement) -> f64 {
    case.rate() / report.ceilings.shader
}

fn draw_panel(
    report: &Report<'_>,
    pass: Pass,
    x: &Range<f64>,
    y: Range<f64>,
    area: &Area<'_>,
) -> Result<(), Box<dyn Error>> {
    let x_ticks = ticks(x);
    let mut chart = ChartBuilder::on(area)
        .caption(pass.name(), ("sans-serif", 17))
        .margin(10)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(x.clone().log_scale().with_key_points(x_ticks.clone()), y.clone())?;
    chart
        .configure_mesh()
        .x_desc("bytes that the pass must move")
        .y_desc("fraction of the best copy")
        .x_labels(x_ticks.len())
        .y_labels(6)
        .x_label_formatter(&|bytes| size(*bytes))
        .y_label_formatter(&|fraction| format!("{fraction:.1}"))
        .label_style(("sans-serif", 12))
        .axis_desc_style(("sans-serif", 13))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;

    let copy = PathElement::new([(x.start, 1.0), (x.end, 1.0)], COPY.stroke_width(2));
    chart.draw_series([copy])?;
    let label = format!("best WGSL copy, {} GB/s", digits(report.ceilings.shader));
    let style = ("sans-serif", 12).into_font().color(&COPY);
    chart.draw_series([EmptyElement::at((x.start, 1.0)) + Text::new(label, (6, 4), style)])?;

    let mut points: Vec<(f64, &Measurement)> = report
        .cases
        .iter()
        .filter(|case| case.pass == pass)
        .map(|case| (fraction(report, case), case))
        .filter(|(fraction, _)| fraction.is_finite())
        .collect();
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (fraction, case) in &points {
        let (point, style) =
            ((case.floor_bytes as f64, *fraction), color(case.shape.layout).mix(0.75).filled());
        match case.shape.layout {
            Layout::ChannelsFirst => chart.draw_series([Circle::new(point, SIZE_OF_MARK, style)])?,
            Layout::ChannelsLast => {
                chart.draw_series([TriangleMarker::new(point, SIZE_OF_MARK + 1, style)])?
            }
        };
    }
    let point = |fraction: f64, case: &Measurement| (case.floor_bytes as f64, fraction);
    let place = |fraction: f64, case: &Measurement| chart.backend_coord(&point(fraction, case));
    let mut taken: Vec<Label> = points
        .iter()
        .map(|(fraction, case)| Label::around(place(*fraction, case), SIZE_OF_MARK, SIZE_OF_MARK))
        .collect();
    let (left, right) = (chart.backend_coord(&(x.start, 1.0)).0, chart.backend_coord(&(x.end, 1.0)).0);
    let mut names = Vec::new();
    for (fraction, case) in points.iter().take(NAMED) {
        let (name, at) = (case.shape.name(), place(*fraction, case));
        let half = 4 * name.chars().count() as i32;
        // Beside the mark, or below or above it: the first place where the name covers nothing.
        let offsets = [(half + 9, 0), (-half - 9, 0), (0, 13), (0, -13), (half + 9, 13), (-half - 9, 13)];
        let free = offsets.into_iter().find(|offset| {
            let label = Label::around((at.0 + offset.0, at.1 + offset.1), half, 6);
            let fits = label.left >= left && label.right <= right;
            fits && !taken.iter().any(|other| other.overlaps(&label))
        });
        if let Some(offset) = free {
            taken.push(Label::around((at.0 + offset.0, at.1 + offset.1), half, 6));
            names.push((point(*fraction, case), name, offset));
        }
    }
    for (point, name, offset) in names {
        let style = ("sans-serif", 11).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Center));
        chart.draw_series([EmptyElement::at(point) + Text::new(name, offset, style)])?;
    }
    Ok(())
}

/// The place of a name or a mark, in pixels.
struct Label {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Label {
    /// Returns what reaches so far to both sides of a point.
    fn around((x, y): (i32, i32), half_width: i32, half_height: i32) -> Self {
        Self { left: x - half_width, right: x + half_width, top: y - half_height, bottom: y + half_height }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (apart, above) = (
            self.right < other.left || other.right < self.left,
            self.bottom < other.top || other.bottom < self.top,
        );
        !(apart || above)
    }
}

/// Draws the legend below the panels, where it hides nothing: the layouts that were timed, and what else a reader needs.
fn draw_legend(report: &Report<'_>, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let layouts = [Layout::ChannelsFirst, Layout::ChannelsLast];
    let is_there = |layout: &Layout| report.cases.iter().any(|case| case.shape.layout == *layout);
    let mut left = 20;
    for layout in layouts.into_iter().filter(is_there) {
        let style = color(layout).mix(0.75).filled();
        match layout {
            Layout::ChannelsFirst => area.draw(&Circle::new((left, 12), SIZE_OF_MARK, style))?,
            Layout::ChannelsLast => area.draw(&TriangleMarker::new((left, 12), SIZE_OF_MARK + 1, style))?,
        }
        area.draw(&Text::new(layout.to_string(), (left + 11, 6), ("sans-serif", 13)))?;
        left += 130;
    }
    let buffer = digits(report.ceilings.buffer);
    let note = format!("the lowest are named; copy_buffer_to_buffer: {buffer} GB/s");
    area.draw(&Text::new(note, (left + 11, 6), ("sans-serif", 13)))?;
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
    fn every_pass_has_a_panel_with_both_layouts() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let profile = profile("A <B> & C");
        let mut cases_of_both = cases(&profile, Layout::ChannelsFirst)?;
        cases_of_both.extend(cases(&profile, Layout::ChannelsLast)?);
        let ceilings = Ceilings { shader: 4000.0, buffer: 4400.0, geometry: String::new(), bytes: 0 };
        let mut report =
            Report { profile: &profile, ceilings, checked: true, cases: &cases_of_both, failures: &[] };
        let svg = svg(&report)?;
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("Batch norm on A &lt;B&gt; &amp; C"), "{svg}");
        // Each layout has four passes, each once in its panel; the legend has one mark of each layout.
        assert_eq!((svg.matches("<circle ").count(), svg.matches("<polygon ").count()), (5, 5), "{svg}");
        for (text, times) in [
            ("best WGSL copy, 4000 GB/s", 4),
            ("copy_buffer_to_buffer: 4400 GB/s", 1),
            ("\nforward_backward\n", 1),
            ("channels-last", 1),
        ] {
            assert_eq!(svg.matches(text).count(), times, "{text}: {svg}");
        }
        // Each panel names its shape, once or in both layouts: where both marks have one place, one name has none.
        let names = svg.matches(cases_of_both[0].shape.name().as_str()).count();
        assert!((4..=8).contains(&names), "{names}: {svg}");
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
