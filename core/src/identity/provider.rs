//! Spellings of an address that its provider delivers to one mailbox.

/// A provider that takes several spellings for the same mailbox, and gives none of them to anybody else.
struct Provider {
    /// The first is the one that is compared.
    domains: &'static [&'static str],
    /// What may stand in a local part without a difference.
    ignored: &'static [char],
    /// Left for right, where both are the same.
    equal: Option<(char, char)>,
}

const PROVIDERS: &[Provider] = &[
    Provider { domains: &["gmail.com", "googlemail.com"], ignored: &['.'], equal: None },
    Provider { domains: &["icloud.com", "me.com", "mac.com"], ignored: &[], equal: None },
    Provider {
        domains: &["proton.me", "protonmail.com", "protonmail.ch", "pm.me"],
        ignored: &['.', '-', '_'],
        equal: None,
    },
    Provider {
        domains: &["yandex.ru", "yandex.com", "yandex.by", "yandex.kz", "yandex.ua", "ya.ru"],
        ignored: &[],
        equal: Some(('-', '.')),
    },
];

/// The one spelling of a normalised address that stands for all that reach its mailbox.
pub fn of_provider(address: String) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else { return address };
    let Some(provider) = PROVIDERS.iter().find(|provider| provider.domains.contains(&domain)) else { return address };
    let mut local = local.replace(provider.ignored, "");
    if let Some((from, to)) = provider.equal {
        local = local.replace(from, &to.to_string());
    }
    match local.is_empty() {
        true => address,
        false => format!("{local}@{}", provider.domains[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_mailbox() {
        for (spelling, mailbox) in [
            ("ada.lovelace@googlemail.com", "adalovelace@gmail.com"),
            ("adalovelace@gmail.com", "adalovelace@gmail.com"),
            ("ada@me.com", "ada@icloud.com"),
            ("ada.l@icloud.com", "ada.l@icloud.com"),
            ("a-d_a@pm.me", "ada@proton.me"),
            ("ada-l@ya.ru", "ada.l@yandex.ru"),
            ("ada.lovelace@example.com", "ada.lovelace@example.com"),
            ("...@gmail.com", "...@gmail.com"),
        ] {
            assert_eq!(of_provider(spelling.to_owned()), mailbox);
        }
    }
}
