//! Names of persons.

use super::fold::fold;

/// A person's name in parts, each folded; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub given: String,
    pub family: String,
}

const TITLES: &[&str] = &[
    "dame",
    "doctor",
    "dr",
    "frau",
    "hr",
    "herr",
    "ing",
    "lady",
    "lord",
    "madame",
    "mag",
    "miss",
    "mlle",
    "mme",
    "monsieur",
    "mr",
    "mrs",
    "ms",
    "mx",
    "phd",
    "prof",
    "professor",
    "rev",
    "senor",
    "senora",
    "sig",
    "signora",
    "sir",
    "sr",
    "sra",
];

/// Generations and degrees after a name.
const SUFFIXES: &[&str] = &["esq", "ii", "iii", "iv", "jnr", "jr", "junior", "md", "phd", "senior", "snr", "sr"];

/// Words that belong to the family name that follows.
const PARTICLES: &[&str] = &[
    "af", "al", "am", "bin", "da", "dal", "de", "del", "della", "den", "der", "di", "do", "dos", "du", "el", "la",
    "le", "mac", "san", "ten", "ter", "van", "vom", "von", "zu", "zum", "zur",
];

/// What is written where no name is known.
const NO_NAMES: &[&str] = &[
    "anonymous",
    "customer",
    "first name",
    "firstname",
    "given name",
    "guest",
    "kunde",
    "last name",
    "lastname",
    "n a",
    "na",
    "name",
    "nil",
    "no name",
    "none",
    "not available",
    "null",
    "test",
    "undefined",
    "unknown",
    "user",
    "vorname",
    "nachname",
    "x",
    "xx",
    "xxx",
];

/// A given name, without titles and middle initials: `Dr. Mary-Ann K.` is `mary ann`.
pub fn given(raw: &str) -> Option<String> {
    usable(&given_of(&fold(raw)))
}

fn given_of(folded: &str) -> String {
    let words = without_titles(folded);
    let first_word = words.split(' ').next().unwrap_or_default();
    words
        .split(' ')
        .enumerate()
        .filter(|(place, word)| *place == 0 || word.len() > 1 || first_word.len() == 1)
        .map(|(_, word)| word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A family name, without generation and degree: `Smith-Jones Jr.` is `smith jones`.
pub fn family(raw: &str) -> Option<String> {
    usable(without_suffixes(&fold(raw)))
}

/// A full name in either order: `Anna Maria van Dyk` and `van Dyk, Anna Maria`.
pub fn full(raw: &str) -> Name {
    if let Some((family_part, given_part)) = raw.split_once(',') {
        let is_suffix = SUFFIXES.contains(&fold(given_part).as_str());
        if !is_suffix {
            return Name {
                given: given(given_part).unwrap_or_default(),
                family: family(without_titles(&fold(family_part))).unwrap_or_default(),
            };
        }
    }
    let folded = fold(raw);
    let words: Vec<&str> = without_suffixes(without_titles(&folded)).split(' ').collect();
    if words.len() < 2 {
        return Name { given: usable(&words.join(" ")).unwrap_or_default(), family: String::new() };
    }
    let mut start = words.len() - 1;
    while start > 1 && PARTICLES.contains(&words[start - 1]) {
        start -= 1;
    }
    Name {
        given: usable(&given_of(&words[..start].join(" "))).unwrap_or_default(),
        family: usable(&words[start..].join(" ")).unwrap_or_default(),
    }
}

fn usable(name: &str) -> Option<String> {
    (!name.is_empty() && !NO_NAMES.contains(&name) && !name.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| name.to_owned())
}

fn without_titles(mut folded: &str) -> &str {
    while let Some((first, rest)) = folded.split_once(' ') {
        if !TITLES.contains(&first) {
            break;
        }
        folded = rest;
    }
    folded
}

fn without_suffixes(mut folded: &str) -> &str {
    while let Some((rest, last)) = folded.rsplit_once(' ') {
        if !SUFFIXES.contains(&last) {
            break;
        }
        folded = rest;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_and_family_names() {
        for (raw, name) in [
            ("Dr. Mary-Ann K.", "mary ann"),
            ("J.", "j"),
            ("J. R.", "j r"),
            ("Herr Prof. Karl", "karl"),
            ("Anna", "anna"),
        ] {
            assert_eq!(given(raw).as_deref(), Some(name), "{raw}");
        }
        for (raw, name) in
            [("Smith-Jones Jr.", "smith jones"), ("O'Neil III", "oneil"), ("von der Leyen", "von der leyen")]
        {
            assert_eq!(family(raw).as_deref(), Some(name), "{raw}");
        }
        for raw in ["", "N/A", "unknown", "?", "xxx", "12345"] {
            assert_eq!((given(raw), family(raw)), (None, None), "{raw}");
        }
    }

    #[test]
    fn full_names() {
        for (raw, given, family) in [
            ("Anna Maria van Dyk", "anna maria", "van dyk"),
            ("van Dyk, Anna Maria", "anna maria", "van dyk"),
            ("Mr. John Q. Public Jr.", "john", "public"),
            ("John Public, Jr.", "john", "public"),
            ("Prince", "prince", ""),
            ("", "", ""),
            ("Dr., Anna", "anna", "dr"),
        ] {
            assert_eq!(full(raw), Name { given: given.into(), family: family.into() }, "{raw}");
        }
    }
}
