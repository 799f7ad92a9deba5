//! Charts with lines over days.

use jiff::civil::Date;

use super::format::{clipped, Unit};
use super::marks::Marks;
use super::palette::Colour;
use super::plot::{plot, Drawing, Frame, Marker, Plot, Result, Side};
use super::scale::{number, Axis};

/// Room that two names need, one below the other.
const APART: f64 = 13.0;

/// A line over days, with its name at its end.
pub struct Series {
    pub name: String,
    pub colour: Colour,
    pub marker: Marker,
    pub points: Vec<(Date, f64)>,
}

impl Series {
    fn places(&self) -> Vec<(f64, f64)> {
        let finite = self.points.iter().filter(|point| point.1.is_finite());
        finite.map(|(day, value)| (number(*day), *value)).collect()
    }
}

/// What bounds a line, by day.
pub type Bounds = [(Date, f64, f64)];

/// Draws lines, the values `always` within sight, over a band if there are bounds.
pub fn lines(
    series: &[Series],
    bounds: &Bounds,
    always: &[f64],
    unit: &Unit,
    span: (Date, Date),
    marks: &Marks,
) -> Result<Drawing> {
    let band: Vec<(f64, f64, f64)> = bounds
        .iter()
        .filter(|(_, lower, upper)| lower.is_finite() && upper.is_finite())
        .map(|(day, lower, upper)| (number(*day), *lower, *upper))
        .collect();
    let values = series.iter().flat_map(|one| one.points.iter().map(|point| point.1));
    let y = Axis::around(values.chain(band.iter().flat_map(|at| [at.1, at.2])), always, 4, unit);
    let x = Axis::days(span.0, span.1);
    let mut frame = Frame::new(x.clone(), y.clone());
    if series.len() > 1 {
        frame.right = 62;
    }
    let height = f64::from(frame.height - frame.top - 24);
    plot(&frame, |plot| {
        plot.band(&band, Colour::Blue, 0.18)?;
        if always.contains(&0.0) && y.low < 0.0 {
            plot.line(&[(x.low, 0.0), (x.high, 0.0)], Colour::Muted, 1.0)?;
        }
        marks.draw(plot, &x, &y, Colour::Muted)?;
        for one in series {
            let places = one.places();
            plot.line(&places, one.colour, 2.0)?;
            // Many points hide the line; a few say where the days are.
            let every = places.len().div_ceil(16).max(1);
            let shown: Vec<(f64, f64)> = places.iter().rev().step_by(every).copied().collect();
            plot.markers(&shown, one.colour, one.marker, 3)?;
        }
        if series.len() > 1 {
            names(plot, series, &x, &y, height)?;
        }
        Ok(())
    })
}

/// Names at the right edge, apart from each other.
fn names(plot: &mut Plot<'_, '_>, series: &[Series], x: &Axis, y: &Axis, height: f64) -> Result<()> {
    let pixel = height / (y.high - y.low);
    let mut ends: Vec<(f64, &Series)> =
        series.iter().filter_map(|one| one.places().last().map(|last| ((y.high - last.1) * pixel, one))).collect();
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = 4.0_f64;
    let places: Vec<f64> = ends
        .iter()
        .map(|end| {
            let place = end.0.max(free);
            free = place + APART;
            place
        })
        .collect();
    // What was pushed out of the plane moves up again, and what is in its way.
    let mut limit = height;
    let mut places: Vec<f64> = places
        .into_iter()
        .rev()
        .map(|place| {
            let place = place.min(limit);
            limit = place - APART;
            place
        })
        .collect();
    places.reverse();
    for ((_, one), place) in ends.iter().zip(places) {
        let at = (x.high, y.high);
        plot.text(at, (12, place as i32), clipped(&one.name, 9), Colour::Ink, Side::Left)?;
        plot.marker_at(at, (5, place as i32), one.colour, one.marker)?;
    }
    Ok(())
}
