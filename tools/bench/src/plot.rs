//! Draws the figures: the time to a response over size, and throughput over processes, both with the baseline.

use plotters::{
    coord::{
        Shift,
        ranged1d::{AsRangedCoord, ValueFormatter},
    },
    prelude::*,
};

use crate::figures::{Figures, LatencyFigures, Side};

/// A line of a chart: its name, whether it is a baseline, and its points.
struct Line {
    name: String,
    is_baseline: bool,
    points: Vec<(f64, f64)>,
}

/// How a chart is labelled.
struct Labels {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Formats a value of x.
    format_x: fn(&f64) -> String,
    legend: SeriesLabelPosition,
}

/// A function and its baseline share a colour.
const COLOURS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 140, 60)];

/// Returns the plot as SVG text.
pub fn draw(figures: &Figures) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (1100, 440)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(550);
        let (acks, rates) = (acks(figures), rates(figures));
        let labels = Labels {
            title: "Time to the response (p50)",
            x: "event of ingest, payload of archive",
            y: "ms",
            format_x: |bytes| format!("{} KB", (bytes / 1024.0).round()),
            legend: SeriesLabelPosition::UpperLeft,
        };
        let (x, y) = ((2048.0..8e6).log_scale().base(4.0), (0.1..100.0).log_scale());
        chart(&left, &labels, x, y, &acks)?;
        let labels = Labels {
            title: "Ingest, processes side by side",
            x: "processes",
            y: "MB/s",
            format_x: f64::to_string,
            legend: SeriesLabelPosition::LowerRight,
        };
        let most = rates.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(1.0, f64::max);
        chart(&right, &labels, (1.0..16.0).log_scale().base(2.0), 0.0..most * 1.1, &rates)?;
        root.present()?;
    }
    Ok(text)
}

fn acks(figures: &Figures) -> Vec<Line> {
    let mut lines = Vec::new();
    for function in ["ingest", "archive"] {
        let cases: Vec<_> = figures.latency.iter().filter(|case| case.function == function).collect();
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        let points = |side: fn(&LatencyFigures) -> Option<&Side>| {
            let point =
                |case: &&LatencyFigures| Some((case.size_bytes as f64, side(case)?.times.ack_us.p50 / 1e3));
            cases.iter().filter_map(point).collect()
        };
        let measured = points(|case| Some(&case.measured));
        let baseline = points(|case| case.baseline.as_ref());
        lines.push(Line { name: function.to_owned(), is_baseline: false, points: measured });
        lines.push(Line { name: format!("{function} baseline"), is_baseline: true, points: baseline });
    }
    lines
}

fn rates(figures: &Figures) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for rate in &figures.throughput {
        let name = format!("{}, {}", rate.program, rate.size);
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let point = (rate.processes as f64, rate.megabytes_per_second);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => {
                lines.push(Line {
                    name,
                    is_baseline: rate.program.ends_with("baseline"),
                    points: vec![point],
                });
            }
        }
    }
    lines
}

/// Draws one chart. The lines come in pairs of a function and its baseline. The baseline is paler.
fn chart<X, Y>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    labels: &Labels,
    x: X,
    y: Y,
    lines: &[Line],
) -> anyhow::Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(labels.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)
        .map_err(drawing_error)?;
    chart
        .configure_mesh()
        .x_desc(labels.x)
        .y_desc(labels.y)
        .x_label_formatter(&labels.format_x)
        .light_line_style(WHITE)
        .draw()
        .map_err(drawing_error)?;
    for (at, line) in lines.iter().enumerate() {
        let colour = COLOURS[at / 2 % COLOURS.len()];
        let style =
            if line.is_baseline { colour.mix(0.45).stroke_width(2) } else { colour.mix(1.0).stroke_width(3) };
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))
            .map_err(drawing_error)?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(labels.legend.clone())
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()
        .map_err(drawing_error)
}

fn drawing_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
