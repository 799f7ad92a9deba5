//! Does what was predicted happen as often?

use maud::{html, Markup};

use super::format::{count, Unit};
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::{plot, Frame, Marker, Result};
use super::scale::Axis;

/// Decisions with about the same prediction.
#[derive(Clone, Debug, Default)]
pub struct Bin {
    pub decisions: i64,
    pub predicted: f64,
    pub observed: f64,
    pub lower: f64,
    pub upper: f64,
    pub calibrated: bool,
}

pub fn calibration(bins: &[Bin]) -> Result<Option<Markup>> {
    if bins.is_empty() {
        return Ok(None);
    }
    let x = Axis::around(bins.iter().map(|bin| bin.predicted), &[0.0], 5, &Unit::Share);
    let y = Axis::around(bins.iter().flat_map(|bin| [bin.upper, bin.predicted]), &[0.0], 5, &Unit::Share);
    let frame = Frame { height: 240, right: 22, top: 8, along: true, ..Frame::new(x.clone(), y.clone()) };
    let drawing = plot(&frame, |plot| {
        let end = x.high.min(y.high);
        plot.dashes((0.0, 0.0), (end, end), 20, Colour::Muted)?;
        for bin in bins {
            let (colour, marker) =
                if bin.calibrated { (Colour::Blue, Marker::Circle) } else { (Colour::Bad, Marker::Square) };
            plot.line(&[(bin.predicted, bin.lower), (bin.predicted, bin.upper)], colour, 1.5)?;
            plot.markers(&[(bin.predicted, bin.observed)], colour, marker, 4)?;
        }
        Ok(())
    })?;
    let off = bins.iter().filter(|bin| !bin.calibrated).count();
    let finding = match off {
        0 => "Every prediction lies within the interval of what was observed.".to_owned(),
        off => format!(
            "In {off} of {} classes the prediction lies outside of the interval of what was observed.",
            bins.len()
        ),
    };
    let share = |value| Unit::Share.value(value);
    let rows: Vec<Vec<String>> = bins
        .iter()
        .map(|bin| {
            vec![
                share(bin.predicted),
                share(bin.observed),
                share(bin.lower),
                share(bin.upper),
                count(bin.decisions),
                if bin.calibrated { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let figure = Figure {
        id: "calibration".into(),
        title: "Observed response rate (up) by predicted (across)".into(),
        description: format!("On the dashed line, what happens is what was predicted. {finding}"),
        drawing,
        note: html! { p.note { (finding) " Circles: as predicted, within chance. Squares: not. The dashed line is what a perfect prediction would be." } },
        table: table(
            "Predicted and observed",
            &[
                ("predicted", true),
                ("observed", true),
                ("lower", true),
                ("upper", true),
                ("decisions", true),
                ("within the interval", false),
            ],
            &rows,
        ),
    };
    Ok(Some(html! { div.grid { article.card { (figure.render()) } } }))
}
