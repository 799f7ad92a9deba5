//! Drawing: what all charts share. Charts are SVG of a width that can be read on a telephone; everything else follows from the
//! style sheet of the page.

use std::io;

use plotters::chart::ChartContext;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, Circle, Cross, EmptyElement, IntoDrawingArea, IntoFont, LineSeries, PathElement,
    Polygon, Rectangle, SVGBackend, Text, TriangleMarker,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, ShapeStyle, TextStyle};

use super::palette::Colour;
use super::scale::Axis;

/// Width of every chart, in units of its view box that are about a pixel on a telephone.
pub const WIDTH: u32 = 360;

/// Coordinates are whole numbers: drawing larger makes them finer.
const FINER: u32 = 2;

/// Height of letters.
const LETTERS: u32 = 11;

/// What the drawing library calls the size of a font is this much more than the height it writes into the SVG.
const FONT_SIZE: f64 = 1.24;

/// A chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a chart could not be drawn: {0}")]
pub struct DrawError(String);

impl From<DrawingAreaErrorKind<io::Error>> for DrawError {
    fn from(error: DrawingAreaErrorKind<io::Error>) -> Self {
        DrawError(error.to_string())
    }
}

pub type Result<T> = std::result::Result<T, DrawError>;

/// The inside of an SVG element.
pub struct Drawing {
    pub width: u32,
    pub height: u32,
    pub content: String,
}

/// Where a chart has what.
pub struct Frame {
    pub height: u32,
    /// Room for what is written left, right and above of the plane.
    pub left: u32,
    pub right: u32,
    pub top: u32,
    pub x: Axis,
    pub y: Axis,
    /// Lines across at the ticks of y, along at those of x.
    pub across: bool,
    pub along: bool,
}

impl Frame {
    /// A plane whose y-axis has numbers and lines.
    pub fn new(x: Axis, y: Axis) -> Self {
        Frame { height: 210, left: 46, right: 12, top: 16, x, y, across: true, along: false }
    }
}

/// How a point looks: series differ by shape, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    None,
    Circle,
    Triangle,
    Cross,
    Square,
}

#[derive(Clone, Copy)]
pub enum Side {
    Left,
    Middle,
    Right,
}

pub struct Plot<'r, 's> {
    chart: ChartContext<'r, SVGBackend<'s>, Cartesian2d<Axis, Axis>>,
}

/// Draws the axes and what `paint` adds.
pub fn plot(frame: &Frame, paint: impl FnOnce(&mut Plot<'_, '_>) -> Result<()>) -> Result<Drawing> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH * FINER, frame.height * FINER)).into_drawing_area();
        let below = if frame.x.ticks() > 0 { 24 } else { 4 };
        let mut chart = ChartBuilder::on(&root)
            .margin_top(frame.top * FINER)
            .margin_right(frame.right * FINER)
            .x_label_area_size(below * FINER)
            .y_label_area_size(frame.left * FINER)
            .build_cartesian_2d(frame.x.clone(), frame.y.clone())?;
        let thin = ShapeStyle { color: Colour::Line.drawn().to_rgba(), filled: false, stroke_width: FINER };
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(thin)
            .axis_style(thin)
            .label_style(letters(Colour::Muted))
            .set_all_tick_mark_size(3 * FINER);
        let (x, y) = (frame.x.clone(), frame.y.clone());
        let x_label = move |value: &f64| x.label(*value);
        let y_label = move |value: &f64| y.label(*value);
        mesh.x_label_formatter(&x_label).y_label_formatter(&y_label);
        if !frame.across {
            mesh.disable_y_mesh();
        }
        if !frame.along {
            mesh.disable_x_mesh();
        }
        if frame.y.ticks() == 0 {
            mesh.disable_y_axis();
        }
        if frame.x.ticks() == 0 {
            mesh.disable_x_axis();
        }
        mesh.draw()?;
        drop(mesh);
        paint(&mut Plot { chart })?;
        root.present()?;
    }
    // The element itself is written by the page, which gives it a title and a description.
    let content = svg.split_once('>').map_or("", |(_, rest)| rest);
    let content = content.trim_end().strip_suffix("</svg>").unwrap_or(content).to_owned();
    Ok(Drawing { width: WIDTH * FINER, height: frame.height * FINER, content })
}

fn letters(colour: Colour) -> TextStyle<'static> {
    ("sans-serif", f64::from(LETTERS * FINER) * FONT_SIZE).into_font().color(&colour.drawn())
}

fn stroke(colour: Colour, width: f64) -> ShapeStyle {
    ShapeStyle {
        color: colour.drawn().to_rgba(),
        filled: false,
        stroke_width: (width * f64::from(FINER)).round() as u32,
    }
}

impl Plot<'_, '_> {
    pub fn line(&mut self, points: &[(f64, f64)], colour: Colour, width: f64) -> Result<()> {
        self.chart.draw_series(LineSeries::new(points.iter().copied(), stroke(colour, width)))?;
        Ok(())
    }

    pub fn markers(&mut self, points: &[(f64, f64)], colour: Colour, marker: Marker, radius: u32) -> Result<()> {
        let size = (radius * FINER) as i32;
        let filled = colour.drawn().filled();
        let points = points.iter().copied();
        match marker {
            Marker::None => {}
            Marker::Circle => {
                self.chart.draw_series(points.map(|at| Circle::new(at, size, filled)))?;
            }
            Marker::Triangle => {
                self.chart.draw_series(points.map(|at| TriangleMarker::new(at, size + 2, filled)))?;
            }
            Marker::Cross => {
                self.chart.draw_series(points.map(|at| Cross::new(at, size, stroke(colour, 1.5))))?;
            }
            Marker::Square => {
                self.chart.draw_series(
                    points.map(|at| EmptyElement::at(at) + Rectangle::new([(-size, -size), (size, size)], filled)),
                )?;
            }
        }
        Ok(())
    }

    /// A single marker, `nudge` to the right of and below a point.
    pub fn marker_at(&mut self, at: (f64, f64), nudge: (i32, i32), colour: Colour, marker: Marker) -> Result<()> {
        let pixel = |n: i32| f64::from(n * FINER as i32);
        let (across, along) = (self.chart.plotting_area().dim_in_pixel(), (self.chart.x_range(), self.chart.y_range()));
        let x = at.0 + pixel(nudge.0) / f64::from(across.0.max(1)) * (along.0.end - along.0.start);
        let y = at.1 - pixel(nudge.1) / f64::from(across.1.max(1)) * (along.1.end - along.1.start);
        self.markers(&[(x, y)], colour, marker, 3)
    }

    /// What lies between two lines.
    pub fn band(&mut self, bounds: &[(f64, f64, f64)], colour: Colour, opacity: f64) -> Result<()> {
        let lower = bounds.iter().map(|(x, lower, _)| (*x, *lower));
        let upper = bounds.iter().rev().map(|(x, _, upper)| (*x, *upper));
        let outline: Vec<(f64, f64)> = lower.chain(upper).collect();
        if outline.len() > 2 {
            self.chart.draw_series([Polygon::new(outline, colour.drawn().mix(opacity).filled())])?;
        }
        Ok(())
    }

    pub fn rectangle(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour, opacity: f64) -> Result<()> {
        self.chart.draw_series([Rectangle::new([from, to], colour.drawn().mix(opacity).filled())])?;
        Ok(())
    }

    /// A text beside a point, `nudge` to the right of and below it.
    pub fn text(&mut self, at: (f64, f64), nudge: (i32, i32), text: String, colour: Colour, side: Side) -> Result<()> {
        let side = match side {
            Side::Left => HPos::Left,
            Side::Middle => HPos::Center,
            Side::Right => HPos::Right,
        };
        let style = letters(colour).pos(Pos::new(side, VPos::Center));
        let nudge = (nudge.0 * FINER as i32, nudge.1 * FINER as i32);
        self.chart.draw_series([EmptyElement::at(at) + Text::new(text, nudge, style)])?;
        Ok(())
    }

    /// A line that is broken into dashes, upright or level.
    pub fn dashes(&mut self, from: (f64, f64), to: (f64, f64), count: usize, colour: Colour) -> Result<()> {
        let at = |share: f64| (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
        let parts = (2 * count.max(1) - 1) as f64;
        let style = stroke(colour, 1.0);
        self.chart.draw_series(
            (0..count).map(|dash| {
                PathElement::new([at((2 * dash) as f64 / parts), at((2 * dash + 1) as f64 / parts)], style)
            }),
        )?;
        Ok(())
    }
}
