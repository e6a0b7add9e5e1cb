//! The chart of a comparison: one bar per program in each row, to the scale of that row.

use std::fmt::Write;

use super::{Comparison, Measured, how};
use crate::circumstances::Circumstances;
use crate::load::carriage::Carriage;
use crate::load::process::Placement;
use crate::load::program::Program;
use crate::report;

const WIDTH: u32 = 900;
const LEFT: u32 = 130;
const BAR: u32 = 16;
const GAP: u32 = 4;
const TITLE: u32 = 34;
const HEADING: u32 = 40;
/// Space at the top for when and where the figures were taken.
const NOTE: u32 = 22;
/// Space on the right for the figure next to the longest bar.
const RIGHT: u32 = 150;

/// Draws the chart, readable on light and on dark pages: the programs in their defaults first, then apart from the load.
pub fn draw(comparison: &Comparison, circumstances: &Circumstances) -> String {
    let mut rows = String::new();
    let mut y = NOTE;
    let _ = writeln!(
        rows,
        "<text x=\"12\" y=\"{}\" font-size=\"10\" fill=\"#666\">{}</text>",
        NOTE - 6,
        escape(&circumstances.brief())
    );
    for placement in [Placement::Shared, Placement::Apart] {
        if !comparison.has(placement) {
            continue;
        }
        let _ = writeln!(
            rows,
            "<text x=\"12\" y=\"{}\" font-size=\"14\" fill=\"#222\">{}</text>",
            y + HEADING - 8,
            how(placement)
        );
        y += HEADING;
        for measured in comparison.rows(placement) {
            draw_row(&mut rows, comparison, measured, y);
            y += height(comparison, measured);
        }
    }
    let height = y + 20;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{rows}</svg>\n"
    )
}

fn bars<'a>(
    comparison: &'a Comparison,
    measured: &'a Measured,
) -> impl Iterator<Item = (&'a Program, f64)> {
    comparison
        .programs
        .iter()
        .zip(&measured.figures)
        .filter_map(|(program, figure)| Some((program, (*figure)?)))
}

fn height(comparison: &Comparison, measured: &Measured) -> u32 {
    TITLE + bars(comparison, measured).count() as u32 * (BAR + GAP) + GAP
}

fn draw_row(out: &mut String, comparison: &Comparison, measured: &Measured, top: u32) {
    let title = escape(measured.row.title);
    let unit = measured.row.metric.unit();
    let _ = writeln!(
        out,
        "<text x=\"12\" y=\"{}\" font-weight=\"bold\" fill=\"#222\">{title} <tspan font-weight=\"normal\" \
         fill=\"#666\">{unit}, less is better</tspan></text>",
        top + 24
    );
    let most = bars(comparison, measured)
        .map(|(_, figure)| figure)
        .fold(f64::MIN_POSITIVE, f64::max);
    let reference = match measured.row.carriage {
        Carriage::Tcp => "bare",
        _ => "own tcp",
    };
    for (nth, (program, figure)) in bars(comparison, measured).enumerate() {
        let y = top + TITLE + nth as u32 * (BAR + GAP);
        let width = (figure / most * f64::from(WIDTH - LEFT - RIGHT)).max(1.0);
        let times = comparison.reference(measured, program);
        let times = times.map_or(String::new(), |other| {
            format!(" · {:.2} × {reference}", figure / other)
        });
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222\">{}</text><rect x=\"{LEFT}\" y=\"{y}\" \
             width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{}\" \
             fill=\"#222\">{}{times}</text>",
            LEFT - 8,
            y + 12,
            escape(&super::short(program)),
            colour(program),
            f64::from(LEFT) + width + 6.0,
            y + 12,
            report::figure(figure),
        );
    }
}

fn colour(program: &Program) -> &'static str {
    match program {
        Program::Voltlane => "#2463c9",
        Program::VoltlaneSmol => "#6d9ae6",
        Program::OneShard => "#9bb8e8",
        Program::Bare => "#444",
        _ => "#b5b5b5",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
