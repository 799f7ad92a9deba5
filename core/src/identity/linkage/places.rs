//! Addresses and companies.

use super::fold::fold;

/// Long and short forms of the words of streets; the short one is compared.
const STREET_WORDS: &[(&str, &str)] = &[
    ("alley", "aly"),
    ("avenida", "av"),
    ("avenue", "ave"),
    ("boulevard", "blvd"),
    ("bridge", "brg"),
    ("calle", "c"),
    ("center", "ctr"),
    ("centre", "ctr"),
    ("circle", "cir"),
    ("cliff", "clf"),
    ("close", "cl"),
    ("court", "ct"),
    ("creek", "crk"),
    ("crescent", "cres"),
    ("crossing", "xing"),
    ("drive", "dr"),
    ("east", "e"),
    ("forest", "frst"),
    ("fort", "ft"),
    ("harbor", "hbr"),
    ("heights", "hts"),
    ("highway", "hwy"),
    ("lane", "ln"),
    ("mount", "mt"),
    ("mountain", "mtn"),
    ("north", "n"),
    ("parkway", "pkwy"),
    ("piazza", "pza"),
    ("place", "pl"),
    ("platz", "pl"),
    ("plaza", "plz"),
    ("road", "rd"),
    ("saint", "st"),
    ("south", "s"),
    ("square", "sq"),
    ("strasse", "str"),
    ("street", "st"),
    ("terrace", "ter"),
    ("trail", "trl"),
    ("via", "v"),
    ("west", "w"),
];

/// Words after which the number of a flat follows.
const UNITS: &[&str] = &["apartment", "appt", "apt", "flat", "room", "suite", "ste", "top", "unit", "whg", "wohnung"];

const LEGAL_FORMS: &[&str] = &[
    "ab",
    "ag",
    "as",
    "bv",
    "co",
    "company",
    "corp",
    "corporation",
    "ek",
    "eurl",
    "gbr",
    "gmbh",
    "inc",
    "incorporated",
    "kg",
    "kgaa",
    "limited",
    "llc",
    "llp",
    "lp",
    "ltd",
    "mbh",
    "nv",
    "ohg",
    "oy",
    "plc",
    "pty",
    "sa",
    "sarl",
    "sas",
    "se",
    "sl",
    "spa",
    "srl",
    "ug",
];

const NOWHERE: &[&str] = &["", "n a", "na", "none", "null", "unknown", "test", "xxx", "no address", "undefined"];

/// A street with its number, abbreviated and without the flat: `12 Main Street, Apt 4` is `12 main st`.
pub fn street(raw: &str) -> Option<String> {
    let folded = fold(raw);
    let words: Vec<&str> = folded.split(' ').collect();
    let end = words.iter().position(|word| UNITS.contains(word)).filter(|end| *end > 0).unwrap_or(words.len());
    let mut street = String::with_capacity(folded.len());
    for word in &words[..end] {
        if !street.is_empty() {
            street.push(' ');
        }
        match STREET_WORDS.binary_search_by(|(long, _)| (*long).cmp(word)) {
            Ok(found) => street.push_str(STREET_WORDS[found].1),
            Err(_) => match word.strip_suffix("strasse") {
                Some(stem) => street.extend([stem, "str"]),
                None => street.push_str(word),
            },
        }
    }
    somewhere(street)
}

pub fn city(raw: &str) -> Option<String> {
    somewhere(fold(raw))
}

/// Letters and digits; of an American ZIP+4 the first five.
pub fn postcode(raw: &str) -> Option<String> {
    let folded = fold(raw);
    if let Some((zip, more)) = folded.split_once(' ') {
        let are_digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
        if are_digits(zip, 5) && are_digits(more, 4) {
            return Some(zip.to_owned());
        }
    }
    let code = folded.replace(' ', "");
    somewhere(code).filter(|code| code.bytes().any(|byte| byte != b'0'))
}

/// A company without its legal form.
pub fn company(raw: &str) -> Option<String> {
    let folded = fold(raw);
    let mut name = folded.as_str();
    while let Some((rest, last)) = name.rsplit_once(' ') {
        if !LEGAL_FORMS.contains(&last) {
            break;
        }
        name = rest;
    }
    somewhere(name.to_owned())
}

pub fn text(raw: &str) -> Option<String> {
    somewhere(fold(raw))
}

fn somewhere(folded: String) -> Option<String> {
    (!NOWHERE.contains(&folded.as_str())).then_some(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted() {
        assert!(STREET_WORDS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn addresses_meet() {
        for same in ["12 Main Street, Apt 4", "12 MAIN ST.", "12  main st unit 9"] {
            assert_eq!(street(same).as_deref(), Some("12 main st"), "{same}");
        }
        for same in ["Hauptstraße 7", "Hauptstr. 7", "HAUPTSTRASSE 7"] {
            assert_eq!(street(same).as_deref(), Some("hauptstr 7"), "{same}");
        }
        assert_eq!(postcode("12345-6789").as_deref(), Some("12345"));
        assert_eq!(postcode("sw1a 1aa").as_deref(), Some("sw1a1aa"));
        assert_eq!(postcode("00000"), None);
        for same in ["Acme Foods, Inc.", "ACME FOODS GmbH & Co. KG", "acme foods"] {
            assert_eq!(company(same).as_deref(), Some("acme foods"), "{same}");
        }
        assert_eq!((street(" "), city("N/A"), company("-")), (None, None, None));
    }
}
