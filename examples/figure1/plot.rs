//! The figure as a picture, in three panels as in the paper.

use super::output::{Curves, Figure, curves};
use super::shared::Result;
use super::training::range;
use plotters::coord::Shift;
use plotters::coord::types::{RangedCoordf32, RangedCoordusize};
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordusize, RangedCoordf32>>;

/// Width and height of a panel.
const SIZE: (u32, u32) = (480, 400);
const WITHOUT: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const WITH: RGBColor = RGBColor(0x00, 0x72, 0xB2);

/// Draws accuracy against steps (a), and the input of a typical sigmoid of the last hidden layer: its 15th, 50th
/// and 85th percentiles, without (b) and with batch norm (c).
pub(crate) fn draw(figure: &Figure, file: &Path) -> Result<()> {
    let (without, with) = (curves(&figure.without), curves(&figure.with));
    let root = SVGBackend::new(file, (3 * SIZE.0, SIZE.1)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((1, 3));

    let lines = vec![accuracy("with batch norm", &with, WITH), accuracy("without", &without, WITHOUT)];
    let mut chart = panel(&panels[0], "(a) test accuracy", "accuracy", 0.0..1.0, lines)?;
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::LowerRight).background_style(WHITE).border_style(BLACK.mix(0.3));
    legend.draw()?;

    // Both panels have the same scale, so that they can be compared.
    let all = without.percentiles.iter().chain(&with.percentiles);
    let (low, high) = range(all.flat_map(|(_, values)| *values));
    let (y, scale) = ("15th, 50th, 85th percentile", low.floor()..high.ceil());
    let lines = percentiles(&without, WITHOUT);
    panel(&panels[1], "(b) into a sigmoid, without batch norm", y, scale.clone(), lines)?;
    panel(&panels[2], "(c) into a sigmoid, with batch norm", y, scale, percentiles(&with, WITH))?;
    root.present()?;
    Ok(())
}

struct Line {
    name: &'static str,
    style: ShapeStyle,
    points: Vec<(usize, f32)>,
}

fn accuracy(name: &'static str, curves: &Curves, color: RGBColor) -> Line {
    let points = curves.accuracy.iter().map(|&(step, accuracy)| (step, accuracy as f32)).collect();
    Line { name, style: color.stroke_width(2), points }
}

fn percentiles(curves: &Curves, color: RGBColor) -> Vec<Line> {
    let line = |(name, index, width)| {
        let points = curves.percentiles.iter().map(|(step, values)| (*step, values[index])).collect();
        Line { name, style: color.stroke_width(width), points }
    };
    [("15th percentile", 0, 1), ("median", 1, 3), ("85th percentile", 2, 1)].map(line).into()
}

fn panel<'a>(
    area: &Area<'a>,
    title: &str,
    y: &str,
    scale: Range<f32>,
    lines: Vec<Line>,
) -> Result<Panel<'a>> {
    let last = lines.iter().flat_map(|line| &line.points).map(|point| point.0).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0..last, scale)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("steps").y_desc(y).x_labels(5).y_labels(6).light_line_style(TRANSPARENT).draw()?;
    for Line { name, style, points } in lines {
        let series = chart.draw_series(LineSeries::new(points, style))?;
        series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    Ok(chart)
}
