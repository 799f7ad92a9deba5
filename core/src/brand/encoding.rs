//! How long a text is as a text message: 3GPP TS 23.038, default alphabet and its extension, else UCS-2.

/// Default alphabet: one septet each.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// Extension table: an escape and a septet each.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gsm7,
    Ucs2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub encoding: Encoding,
    /// Septets or 16-bit units.
    pub units: usize,
    /// Messages that it takes.
    pub segments: usize,
}

fn septets(c: char) -> Option<usize> {
    if BASIC.contains(c) {
        Some(1)
    } else {
        EXTENSION.contains(c).then_some(2)
    }
}

/// The first character that the default alphabet does not have, by position.
pub fn first_beyond_gsm7(text: &str) -> Option<usize> {
    text.chars().position(|c| septets(c).is_none())
}

/// How a text is sent: 160 septets or 70 units in one message, 153 or 67 in each of several, where neither an escape nor a
/// surrogate pair is torn apart.
pub fn encode(text: &str) -> Encoded {
    let gsm7: Option<Vec<usize>> = text.chars().map(septets).collect();
    let (encoding, sizes, alone, joined) = match gsm7 {
        Some(sizes) => (Encoding::Gsm7, sizes, 160, 153),
        None => (Encoding::Ucs2, text.chars().map(char::len_utf16).collect(), 70, 67),
    };
    let units: usize = sizes.iter().sum();
    let segments = if units <= alone {
        usize::from(units > 0)
    } else {
        let (full, _) = sizes.iter().fold((0, 0), |(segments, used), size| match used + size > joined {
            true => (segments + 1, *size),
            false => (segments, used + size),
        });
        full + 1
    };
    Encoded { encoding, units, segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoding: Encoding, units: usize, segments: usize) -> Encoded {
        Encoded { encoding, units, segments }
    }

    #[test]
    fn the_alphabet_is_that_of_the_standard() {
        // 128 code points less the escape.
        assert_eq!(BASIC.chars().count(), 127);
        assert_eq!(EXTENSION.chars().count(), 10);
    }

    #[test]
    fn messages_are_counted_as_networks_do() {
        use Encoding::*;
        assert_eq!(encode(""), encoded(Gsm7, 0, 0));
        assert_eq!(encode("Grüße"), encoded(Gsm7, 5, 1));
        assert_eq!(encode("10 €"), encoded(Gsm7, 5, 1));
        assert_eq!(encode(&"a".repeat(160)), encoded(Gsm7, 160, 1));
        assert_eq!(encode(&"a".repeat(161)), encoded(Gsm7, 161, 2));
        assert_eq!(encode(&"a".repeat(306)), encoded(Gsm7, 306, 2));
        assert_eq!(encode(&"a".repeat(307)), encoded(Gsm7, 307, 3));
        // The euro does not fit into what is left of the first message.
        assert_eq!(encode(&format!("{}€{}", "a".repeat(152), "a".repeat(152))), encoded(Gsm7, 306, 3));
        assert_eq!(encode(&"я".repeat(70)), encoded(Ucs2, 70, 1));
        assert_eq!(encode(&"я".repeat(71)), encoded(Ucs2, 71, 2));
        assert_eq!(encode(&"😀".repeat(35)), encoded(Ucs2, 70, 1));
        // 33 pairs are 66 units: a 34th would be torn.
        assert_eq!(encode(&"😀".repeat(67)), encoded(Ucs2, 134, 3));
        assert_eq!(first_beyond_gsm7("Hallo ‘Welt’"), Some(6));
    }
}
