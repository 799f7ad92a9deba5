//! Charts with a line for each of some names: bars, and estimates with their intervals.

use super::format::clipped;
use super::palette::Colour;
use super::plot::{plot, Drawing, Frame, Marker, Result, Side, WIDTH};
use super::scale::Axis;

/// Height of a line with its name.
const HEIGHT: u32 = 36;

/// Letters that fit into a line.
const LETTERS: usize = 56;

/// One line.
#[derive(Default)]
pub struct Row {
    pub name: String,
    /// Stands right of the name.
    pub note: String,
    /// Parts of a bar, one behind the other: how long, in what.
    pub bar: Vec<(f64, Option<Colour>)>,
    /// An estimate and the bounds of its interval.
    pub estimate: Option<(f64, f64, f64)>,
    /// What it is compared with, as an upright stroke.
    pub reference: Option<f64>,
    pub colour: Option<Colour>,
}

/// Draws the lines; at `zero` there is an upright line through all of them.
pub fn rows(rows: &[Row], x: Axis, zero: Option<f64>) -> Result<Drawing> {
    let count = rows.len() as u32;
    let frame = Frame {
        height: 30 + HEIGHT * count,
        left: 18,
        right: 18,
        top: 4,
        x: x.clone(),
        y: Axis::new(0.0, f64::from(count), Vec::new()),
        across: false,
        along: true,
    };
    plot(&frame, |plot| {
        if let Some(zero) = zero {
            plot.line(&[(zero, 0.0), (zero, f64::from(count))], Colour::Muted, 1.0)?;
        }
        for (row, at) in rows.iter().zip(0_u32..) {
            let colour = row.colour.unwrap_or(Colour::Blue);
            // Names are above of what they name.
            let (name, middle) = (f64::from(count - at) - 0.27, f64::from(count - at) - 0.72);
            let (low, high) = (middle - 0.16, middle + 0.16);
            let mut from = 0.0;
            for (length, shade) in &row.bar {
                let opacity = if shade.is_some() { 0.45 } else { 0.9 };
                plot.rectangle((from, low), (from + length, high), shade.unwrap_or(colour), opacity)?;
                from += length;
            }
            if let Some((estimate, lower, upper)) = row.estimate {
                let (lower, upper) = (lower.clamp(x.low, x.high), upper.clamp(x.low, x.high));
                plot.line(&[(lower, middle), (upper, middle)], colour, 2.5)?;
                for bound in [lower, upper] {
                    plot.line(&[(bound, low + 0.03), (bound, high - 0.03)], colour, 1.5)?;
                }
                plot.markers(&[(estimate.clamp(x.low, x.high), middle)], colour, Marker::Circle, 4)?;
            }
            if let Some(reference) = row.reference {
                plot.line(&[(reference, low - 0.08), (reference, high + 0.08)], Colour::Ink, 2.0)?;
            }
            let room = LETTERS.saturating_sub(row.note.chars().count() + 2);
            plot.text((x.low, name), (1, 0), clipped(&row.name, room), Colour::Ink, Side::Left)?;
            plot.text((x.high, name), (WIDTH as i32 / 40, 0), row.note.clone(), Colour::Muted, Side::Right)?;
        }
        Ok(())
    })
}
