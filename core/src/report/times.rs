//! When sends go out: hours of the day by days of the week.

use maud::{html, Markup};

use super::format::{count, counted};
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::{plot, Frame, Result};
use super::scale::Axis;

/// Sends in an hour of a day of the week, in the zone of the campaign.
#[derive(Clone, Debug, Default)]
pub struct SendTime {
    /// Monday is 0.
    pub weekday: i32,
    pub hour: i32,
    pub sends: i64,
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn weekday(at: i32) -> &'static str {
    usize::try_from(at).ok().and_then(|at| WEEKDAYS.get(at)).copied().unwrap_or("–")
}

pub fn times(times: &[SendTime], zone: &str) -> Result<Option<Markup>> {
    let Some(most) = times.iter().max_by_key(|time| time.sends) else { return Ok(None) };
    let hours = (0..24).map(|hour| if hour % 3 == 0 { format!("{hour:02}") } else { String::new() });
    let x = Axis::labelled(-0.6, 23.6, hours);
    let y = Axis::labelled(6.6, -0.6, WEEKDAYS.map(str::to_owned));
    let frame = Frame { left: 34, right: 6, top: 4, height: 200, across: false, along: false, ..Frame::new(x, y) };
    let drawing = plot(&frame, |plot| {
        for time in times {
            let share = time.sends as f64 / most.sends.max(1) as f64;
            let (x, y) = (f64::from(time.hour), f64::from(time.weekday));
            // More is larger and darker: either can be seen without the other.
            let (wide, high) = (0.10 + 0.36 * share.sqrt(), 0.10 + 0.36 * share.sqrt());
            plot.rectangle((x - wide, y - high), (x + wide, y + high), Colour::Teal, 0.4 + 0.55 * share)?;
        }
        Ok(())
    })?;
    let busiest = format!("{}, {:02}:00 to {:02}:59", weekday(most.weekday), most.hour, most.hour);
    let rows: Vec<Vec<String>> = times
        .iter()
        .map(|time| vec![weekday(time.weekday).to_owned(), format!("{:02}:00", time.hour), count(time.sends)])
        .collect();
    let figure = Figure {
        id: "times".into(),
        title: format!("Sends by hour and weekday ({zone})"),
        description: format!(
            "Larger and darker is more. Most sends, {}, are planned for {busiest}.",
            count(most.sends)
        ),
        drawing,
        note: html! { p.note { "Busiest: " (busiest) ", " (counted(most.sends, "send", "sends")) ". Larger and darker is more." } },
        table: table("Sends", &[("weekday", false), ("hour", false), ("sends", true)], &rows),
    };
    Ok(Some(html! { div.grid { article.card { (figure.render()) } } }))
}
