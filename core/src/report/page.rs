//! The page: cards, figures with their tables, the style sheet. Text is escaped where it is put in, by the templates.

use maud::{html, Markup, PreEscaped, DOCTYPE};

use super::palette;
use super::plot::Drawing;

/// Rows that a table has at most.
pub const ROWS: usize = 200;

/// A column of a table: its name, and whether it holds numbers.
pub type Column = (&'static str, bool);

/// A table whose first column names the row.
pub fn table(caption: &str, columns: &[Column], rows: &[Vec<String>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(caption) {
            table {
                caption { (caption) @if rows.len() > ROWS { ": the first " (ROWS) " of " (rows.len()) " rows" } }
                thead { tr { @for (name, numeric) in columns { th scope="col" class=[numeric.then_some("number")] { (name) } } } }
                tbody {
                    @for row in rows.iter().take(ROWS) {
                        tr {
                            @for (at, (cell, (_, numeric))) in row.iter().zip(columns).enumerate() {
                                @if at == 0 { th scope="row" class=[numeric.then_some("number")] { (cell) } }
                                @else { td class=[numeric.then_some("number")] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A chart with what it says, and its numbers.
pub struct Figure {
    /// Unique on the page, and not made of anything that users name.
    pub id: String,
    pub title: String,
    /// For those who cannot see it: what it shows, in a sentence or two.
    pub description: String,
    pub drawing: Drawing,
    /// What stands below it, such as a legend.
    pub note: Markup,
    pub table: Markup,
}

impl Figure {
    pub fn render(&self) -> Markup {
        let (title, description) = (format!("{}-title", self.id), format!("{}-description", self.id));
        html! {
            figure id=(self.id) {
                figcaption { (self.title) }
                svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", self.drawing.width, self.drawing.height))
                    role="img" aria-labelledby=(format!("{title} {description}")) {
                    title id=(title) { (self.title) }
                    desc id=(description) { (self.description) }
                    (PreEscaped(&self.drawing.content))
                }
                (self.note)
                details { summary { "The numbers" } (self.table) }
            }
        }
    }
}

/// A legend: numbered, since colours alone say nothing to many.
pub fn legend(entries: &[(&'static str, String)], numbered: bool) -> Markup {
    html! {
        ol.legend {
            @for (at, (colour, text)) in entries.iter().enumerate() {
                li { span class=(format!("swatch in-{colour}")) aria-hidden="true" {} @if numbered { (at + 1) " " } (text) }
            }
        }
    }
}

/// A part of the page; `about` says what it tells and when not to trust it. A small one has a single chart, and room beside it for
/// others.
pub fn section(id: &str, title: &str, about: &str, small: bool, content: &Markup) -> Markup {
    html! {
        section.small[small] id=(id) aria-labelledby=(format!("{id}-heading")) {
            h2 id=(format!("{id}-heading")) { (title) }
            p.about { (about) }
            (content)
        }
    }
}

/// A whole document. Its policy forbids whatever it does not need, scripts and requests above all.
pub fn document(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(palette::style())) (PreEscaped(include_str!("style.css"))) }
            }
            body { (body) }
        }
    }
    .into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_bounded_and_say_so() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()]; ROWS + 1];
        let text = table("t", &[("name", false), ("count", true)], &rows).into_string();
        assert_eq!(text.matches("<th scope=\"row\"").count(), ROWS);
        assert!(text.contains("the first 200 of 201 rows"));
    }
}
