//! `run --plot`: how the values of each channel are distributed, before and after.

use crate::batch::Batch;
use plotters::prelude::*;
use std::error::Error;

/// Most channels that a figure shows.
pub(crate) const MOST_CHANNELS: usize = 8;
/// Bars of a histogram.
const BARS: usize = 48;
/// Width of a panel, height of a channel's row, and height of the title.
const WIDTH: u32 = 440;
const ROW: u32 = 150;
const TITLE: u32 = 34;

/// The values of a channel over all batches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    low: f64,
    high: f64,
    mean: f64,
    std: f64,
    /// Values in each of equal parts of the range.
    counts: [u64; BARS],
    /// NaN and infinities, which are in no part.
    not_finite: u64,
}

impl Histogram {
    /// Counts the values of a channel.
    fn of(batches: &[Batch], channel: usize) -> Self {
        let (mut low, mut high, mut sum, mut count, mut not_finite) =
            (f64::INFINITY, -f64::INFINITY, 0.0, 0u64, 0);
        each(batches, channel, |value| {
            if !value.is_finite() {
                not_finite += 1;
                return;
            }
            (low, high, sum, count) = (low.min(value), high.max(value), sum + value, count + 1);
        });
        let mean = sum / count.max(1) as f64;
        let (mut counts, mut squares) = ([0; BARS], 0.0);
        let width = (high - low) / BARS as f64;
        each(batches, channel, |value| {
            if value.is_finite() {
                squares += (value - mean).powi(2);
                // A constant channel has one bar.
                let bar = if width > 0.0 { ((value - low) / width) as usize } else { 0 };
                counts[bar.min(BARS - 1)] += 1;
            }
        });
        if count == 0 {
            (low, high) = (0.0, 0.0);
        }
        Self { low, high, mean, std: (squares / count.max(1) as f64).sqrt(), counts, not_finite }
    }

    fn caption(&self, name: &str) -> String {
        let others =
            if self.not_finite > 0 { format!(", {} not finite", self.not_finite) } else { String::new() };
        let mean = format!("{:.4}", self.mean);
        // What is nearly 0 has no sign.
        let mean = if mean == "-0.0000" { "0.0000" } else { &mean };
        format!("{name}: mean {mean}, deviation {:.4}{others}", self.std)
    }
}

/// Visits the values of a channel in all batches, a piece at a time.
fn each(batches: &[Batch], channel: usize, mut visit: impl FnMut(f64)) {
    const PIECE: usize = 1 << 16;
    for batch in batches {
        let length = batch.of_channel();
        for start in (0..length).step_by(PIECE) {
            let values = batch.piece(channel, &(start..length.min(start + PIECE)));
            values.into_iter().for_each(|value| visit(f64::from(value)));
        }
    }
}

/// Returns the histograms of the first channels.
pub(crate) fn histograms(batches: &[Batch], channels: usize) -> Vec<Histogram> {
    (0..channels.min(MOST_CHANNELS)).map(|channel| Histogram::of(batches, channel)).collect()
}

/// Returns an SVG with a row for each channel: x on the left, y on the right.
pub(crate) fn svg(
    before: &[Histogram],
    after: &[Histogram],
    channels: usize,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    let rows = before.len().max(1);
    let size = (2 * WIDTH, ROW * rows as u32 + TITLE);
    draw(before, after, channels, SVGBackend::with_string(&mut svg, size).into_drawing_area())
        .map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw(
    before: &[Histogram],
    after: &[Histogram],
    channels: usize,
    root: DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> Result<(), Box<dyn Error>> {
    root.fill(&WHITE)?;
    let shown = before.len();
    let which = if shown < channels {
        format!("the first {shown} of {channels} channels")
    } else {
        format!("{channels} channels")
    };
    root.draw(&Text::new(format!("x before, y after: {which}"), (14, 10), ("sans-serif", 17)))?;
    let (_, rows) = root.split_vertically(TITLE);
    for (channel, row) in rows.split_evenly((shown.max(1), 1)).iter().enumerate().take(shown) {
        // Blue and green that every kind of colour vision can tell apart (Okabe and Ito).
        let sides = [
            (&before[channel], format!("x of channel {channel}"), RGBColor(0x00, 0x72, 0xB2)),
            (&after[channel], format!("y of channel {channel}"), RGBColor(0x00, 0x9E, 0x73)),
        ];
        for ((histogram, name, color), area) in sides.into_iter().zip(row.split_evenly((1, 2))) {
            let highest = histogram.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
            // A constant channel has a range, too.
            let (low, width) = (histogram.low, (histogram.high - histogram.low) / BARS as f64);
            let width = if width > 0.0 { width } else { 1.0 };
            let mut chart = ChartBuilder::on(&area)
                .caption(histogram.caption(&name), ("sans-serif", 13))
                .margin(6)
                .x_label_area_size(24)
                .y_label_area_size(8)
                .build_cartesian_2d(low..low + width * BARS as f64, 0.0..highest * 1.05)?;
            chart
                .configure_mesh()
                .disable_mesh()
                .x_labels(6)
                .y_labels(0)
                .x_label_formatter(&|value| {
                    format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
                })
                .label_style(("sans-serif", 11))
                .draw()?;
            let bars =
                histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bar, count)| {
                    let left = low + width * bar as f64;
                    Rectangle::new([(left, 0.0), (left + width, *count as f64)], color.mix(0.8).filled())
                });
            chart.draw_series(bars)?;
        }
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BARS, Batch, histograms, svg};
    use wgpu_batchnorm::{DType, Layout, Problem, Result};

    fn batch(values: &[f32], shape: &[usize]) -> Result<Batch> {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(Batch::new(shape.to_vec(), &Problem::new(shape, Layout::ChannelsFirst)?, DType::F32, data))
    }

    #[test]
    fn values_are_counted_by_channel() -> Result<()> {
        // Channel 0 has 0, 2, 4 and infinity; channel 1 is constant.
        let batches =
            [batch(&[0.0, 7.0, 2.0, 7.0], &[2, 2])?, batch(&[4.0, 7.0, f32::INFINITY, 7.0], &[2, 2])?];
        let found = histograms(&batches, 2);
        let [first, second] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((first.low, first.high, first.mean, first.not_finite), (0.0, 4.0, 2.0, 1));
        assert!((first.std - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!((first.counts[0], first.counts[BARS / 2], first.counts[BARS - 1]), (1, 1, 1));
        assert_eq!((second.mean, second.std, second.counts[0]), (7.0, 0.0, 4));
        Ok(())
    }

    #[test]
    fn a_figure_has_two_panels_a_channel() -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>
    {
        let values: Vec<f32> = (0..30).map(|k| k as f32).collect();
        let before = histograms(&[batch(&values, &[3, 10])?], 10);
        let svg = svg(&before, &before, 10)?;
        assert!(svg.contains("the first 8 of 10 channels"), "{svg}");
        for text in ["x of channel 0: mean 10.0000, deviation 8.1650", "y of channel 7"] {
            assert_eq!(svg.matches(text).count(), 1, "{text}: {svg}");
        }
        assert!(!svg.contains("channel 8") && svg.matches("<rect ").count() > 8 * 2 * 3, "{svg}");
        Ok(())
    }
}
