//! The chart: each phase's ratio to the best peer, on a logarithmic axis, as SVG.

use crate::engine::Outcome;
use crate::json::Circumstances;
use crate::report::Row;
use crate::table::times;
use plotters::prelude::*;
use std::path::Path;

/// Pixels per row.
const ROW: u32 = 22;

/// Draws the ratios.
///
/// # Errors
/// If there is no ratio to draw, and of the file system.
pub fn draw(path: &Path, rows: &[Row], circumstances: &Circumstances) -> Outcome {
    let bars: Vec<(&Row, f64)> = rows
        .iter()
        .filter_map(|row| Some((row, row.ratio?)))
        .filter(|bar| bar.1 > 0.0 && bar.1.is_finite())
        .collect();
    if bars.is_empty() {
        return Err("there is no ratio to draw; measure highwater beside a peer".into());
    }
    let top = bars.iter().map(|bar| bar.1).fold(2.0, f64::max) * 5.0;
    let bottom = bars.iter().map(|bar| bar.1).fold(0.5, f64::min) / 1.8;
    let count = bars.len();
    let root = SVGBackend::new(path, (960, ROW * count as u32 + 110)).into_drawing_area();
    root.fill(&WHITE)?;
    let caption = format!(
        "Highwater over the best peer ({}; right of 1 is faster or smaller)",
        circumstances.date
    );
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(260)
        .build_cartesian_2d((bottom..top).log_scale(), 0.0..count as f64)?;
    let title = |place: &f64| {
        let place = count as f64 - place;
        bars.get(place as usize).map_or_else(String::new, |bar| bar.0.phase.title.to_owned())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_label_formatter(&|ratio| ((ratio * 1e6).round() / 1e6).to_string())
        .draw()?;
    let label = ("sans-serif", 13).into_font();
    for (place, (row, ratio)) in bars.iter().enumerate() {
        let (low, high) = ((count - place) as f64 - 0.85, (count - place) as f64 - 0.15);
        let colour = if *ratio >= 1.0 { RGBColor(38, 110, 160) } else { RGBColor(190, 80, 50) };
        let shape = [(1.0_f64.min(*ratio), low), (1.0_f64.max(*ratio), high)];
        chart.draw_series([Rectangle::new(shape, colour.filled())])?;
        let peer = row.best_peer.unwrap_or("");
        let text = format!("{} ({peer})", times(*ratio));
        let at = (1.0_f64.max(*ratio) * 1.04, (low + high) / 2.0 + 0.25);
        chart.draw_series([Text::new(text, at, label.clone())])?;
        let (x, y) = chart.backend_coord(&(bottom, (low + high) / 2.0 + 0.25));
        let name = title(&(count as f64 - place as f64));
        root.draw(&Text::new(name, (x - 255, y), label.clone()))?;
    }
    let line = [(1.0, 0.0), (1.0, count as f64)];
    chart.draw_series([PathElement::new(line, BLACK)])?;
    root.present()?;
    Ok(())
}
