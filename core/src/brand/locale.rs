//! Languages and regions: which of several variants of a content somebody gets, and which rules are about it.

/// A locale and what it falls back to: `de-AT`, then `de`.
fn fallbacks(locale: &str) -> impl Iterator<Item = String> {
    let tags: Vec<String> = locale.split(['-', '_']).map(str::to_lowercase).collect();
    (1..=tags.len()).rev().map(move |kept| tags[..kept].join("-"))
}

/// How a locale is spelled: language in small letters, script with a capital, region in capitals, hyphens between (RFC 5646, 2.1.1).
/// `None` if it is no locale.
pub fn spelled(locale: &str) -> Option<String> {
    let mut spelled = String::with_capacity(locale.len());
    for (at, tag) in locale.split(['-', '_']).enumerate() {
        let letters = tag.bytes().all(|b| b.is_ascii_alphabetic());
        let fits = (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
        if !fits || at == 0 && !(letters && tag.len() >= 2) {
            return None;
        }
        let lower = tag.to_ascii_lowercase();
        match (at, tag.len()) {
            (0, _) => spelled.push_str(&lower),
            (_, 2) if letters => spelled.push_str(&format!("-{}", tag.to_ascii_uppercase())),
            (_, 4) if letters => spelled.push_str(&format!("-{}{}", lower[..1].to_ascii_uppercase(), &lower[1..])),
            _ => spelled.push_str(&format!("-{lower}")),
        }
    }
    Some(spelled)
}

/// The region of a locale, if it names one: two letters or three digits after the language.
fn region(locale: &str) -> Option<String> {
    let is_region = |tag: &&str| {
        tag.len() == 2 && tag.bytes().all(|b| b.is_ascii_alphabetic())
            || tag.len() == 3 && tag.bytes().all(|b| b.is_ascii_digit())
    };
    locale.split(['-', '_']).skip(1).find(is_region).map(str::to_uppercase)
}

/// Variants that there are of a content, besides the one for everybody else.
#[derive(Clone, Debug, Default)]
pub struct Locales {
    known: Vec<String>,
}

impl Locales {
    pub fn new<'a>(locales: impl Iterator<Item = &'a str>) -> Self {
        Locales { known: locales.map(normal).collect() }
    }

    /// Position of the variant that somebody of `locale` gets; `None` is the one for everybody else.
    pub fn choose(&self, locale: &str) -> Option<usize> {
        fallbacks(locale).find_map(|tag| self.known.iter().position(|known| *known == tag))
    }

    /// Whether somebody for whom a rule is made may get variant `at`: a rule for languages, of which each is a locale or the
    /// beginning of some, or for regions. A rule for neither is for all.
    pub fn concerns(&self, at: Option<usize>, languages: &[String], regions: &[String]) -> bool {
        let variant = at.map(|at| self.known[at].as_str());
        let in_language = |language: &String| {
            let language = normal(language);
            self.choose(&language) == at || variant.is_some_and(|locale| fallbacks(locale).any(|tag| tag == language))
        };
        let in_region = |wanted: &String| match variant.and_then(region) {
            // Somebody of the region may well get a variant that is for no region.
            None => true,
            Some(region) => region.eq_ignore_ascii_case(wanted),
        };
        (languages.is_empty() || languages.iter().any(in_language))
            && (regions.is_empty() || regions.iter().any(in_region))
    }
}

fn normal(locale: &str) -> String {
    fallbacks(locale).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_chosen_by_the_longest_part_that_is_known() {
        let locales = Locales::new(["de", "de-AT", "pt_BR"].into_iter());
        assert_eq!(locales.choose("de-AT"), Some(1));
        assert_eq!(locales.choose("de_CH"), Some(0));
        assert_eq!(locales.choose("PT-br"), Some(2));
        assert_eq!(locales.choose("pt"), None);
        assert_eq!(locales.choose(""), None);
        assert_eq!(fallbacks("zh-Hant-TW").collect::<Vec<_>>(), ["zh-hant-tw", "zh-hant", "zh"]);
    }

    #[test]
    fn there_is_one_spelling() {
        for (given, wanted) in [("de_at", "de-AT"), ("ZH-hant-tw", "zh-Hant-TW"), ("es-419", "es-419"), ("de", "de")] {
            assert_eq!(spelled(given).as_deref(), Some(wanted));
        }
        for wrong in ["", "d", "1e", "de-", "german!", "abcdefghi"] {
            assert_eq!(spelled(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_rule_is_about_whatever_its_people_may_get() {
        let locales = Locales::new(["de", "de-AT", "en-US"].into_iter());
        let concerns = |at, languages: &[&str], regions: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            locales.concerns(at, &owned(languages), &owned(regions))
        };
        assert!(concerns(Some(0), &["de"], &[]) && concerns(Some(1), &["de"], &[]));
        assert!(!concerns(None, &["de"], &[]) && !concerns(Some(2), &["de"], &[]));
        assert!(concerns(None, &["fr"], &[]), "the French get what everybody else gets");
        assert!(concerns(Some(0), &["de-CH"], &[]), "the Swiss get what all Germans get");
        assert!(concerns(Some(1), &[], &["at"]) && !concerns(Some(2), &[], &["AT"]));
        assert!(concerns(Some(0), &[], &["AT"]) && concerns(None, &[], &["AT"]));
        assert!(concerns(None, &[], &[]));
    }
}
