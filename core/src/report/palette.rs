//! Colours. Charts are drawn in those of a light page; the style sheet replaces each of them by a variable, so that a page can
//! be dark, or printed, without being drawn anew.

use std::fmt::Write as _;

use plotters::style::RGBColor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Ink,
    Muted,
    Line,
    Paper,
    Blue,
    Orange,
    Teal,
    Purple,
    Gold,
    Pink,
    Brown,
    Grey,
    Good,
    Bad,
}

/// Every colour with its name, and what it is on light and on dark ground. Values are unique: they are what the style sheet
/// finds them by. Those on light ground have a contrast of at least 4.5 to white.
const COLOURS: [(Colour, &str, [u8; 3], [u8; 3]); 14] = [
    (Colour::Ink, "ink", [0x1c, 0x24, 0x33], [0xec, 0xee, 0xf3]),
    (Colour::Muted, "muted", [0x5b, 0x65, 0x77], [0xa9, 0xb2, 0xc3]),
    (Colour::Line, "line", [0xdd, 0xe1, 0xe8], [0x37, 0x3f, 0x4e]),
    (Colour::Paper, "paper", [0xfe, 0xfe, 0xff], [0x1a, 0x1f, 0x29]),
    (Colour::Blue, "blue", [0x1d, 0x66, 0xad], [0x6c, 0xb2, 0xf5]),
    (Colour::Orange, "orange", [0xb5, 0x4d, 0x0b], [0xf2, 0x9a, 0x57]),
    (Colour::Teal, "teal", [0x0b, 0x78, 0x6d], [0x4f, 0xcb, 0xbc]),
    (Colour::Purple, "purple", [0x74, 0x46, 0xad], [0xbb, 0x97, 0xf0]),
    (Colour::Gold, "gold", [0x8a, 0x66, 0x00], [0xe3, 0xc0, 0x4f]),
    (Colour::Pink, "pink", [0xad, 0x33, 0x72], [0xf0, 0x8d, 0xbd]),
    (Colour::Brown, "brown", [0x75, 0x55, 0x3f], [0xc9, 0xa5, 0x8c]),
    (Colour::Grey, "grey", [0x6b, 0x72, 0x80], [0x8b, 0x93, 0xa3]),
    (Colour::Good, "good", [0x14, 0x6c, 0x43], [0x5f, 0xcf, 0x97]),
    (Colour::Bad, "bad", [0xae, 0x22, 0x18], [0xff, 0x93, 0x87]),
];

/// Colours of series, in the order in which they are used.
pub const SERIES: [Colour; 8] = [
    Colour::Blue,
    Colour::Orange,
    Colour::Teal,
    Colour::Purple,
    Colour::Gold,
    Colour::Pink,
    Colour::Brown,
    Colour::Grey,
];

impl Colour {
    fn entry(self) -> &'static (Colour, &'static str, [u8; 3], [u8; 3]) {
        COLOURS.iter().find(|entry| entry.0 == self).unwrap_or(&COLOURS[0])
    }

    /// Name of its variable and class in the style sheet.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// What it is drawn in.
    pub fn drawn(self) -> RGBColor {
        let [red, green, blue] = self.entry().2;
        RGBColor(red, green, blue)
    }
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The part of the style sheet that follows from the colours.
pub fn style() -> String {
    let variables = |dark: bool| {
        COLOURS.iter().fold(String::new(), |mut css, (_, name, on_light, on_dark)| {
            let _ = write!(css, "--{name}:{};", hex(if dark { *on_dark } else { *on_light }));
            css
        })
    };
    let mut css = format!(
        ":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        variables(false),
        variables(true)
    );
    for (_, name, drawn, _) in &COLOURS {
        let drawn = hex(*drawn);
        let _ = writeln!(
            css,
            "svg [fill=\"{drawn}\"]{{fill:var(--{name})}} svg [stroke=\"{drawn}\"]{{stroke:var(--{name})}} .in-{name}{{background:var(--{name})}}"
        );
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: [u8; 3]) -> f64 {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// WCAG 2, AA: 4.5 for text. Lines of a grid are no information.
    #[test]
    fn colours_have_contrast() {
        let paper = Colour::Paper.entry();
        for (colour, name, on_light, on_dark) in &COLOURS {
            if !matches!(colour, Colour::Line | Colour::Paper) {
                assert!(contrast(*on_light, paper.2) >= 4.5, "{name}: {}", contrast(*on_light, paper.2));
                assert!(contrast(*on_dark, paper.3) >= 4.5, "{name}: {}", contrast(*on_dark, paper.3));
            }
        }
    }

    #[test]
    fn colours_can_be_told_apart_by_the_style_sheet() {
        let mut drawn: Vec<_> = COLOURS.iter().map(|entry| hex(entry.2)).collect();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), COLOURS.len());
    }
}
