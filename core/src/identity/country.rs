//! Countries and their telephone calling codes (ITU-T E.164), as far as reading national numbers needs them.

use std::str::FromStr;

use super::IdentityError;

/// A country with a telephone numbering plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Country {
    /// Index in [`CALLING_CODES`].
    index: usize,
}

impl Country {
    /// ISO 3166 two-letter code.
    pub fn code(self) -> &'static str {
        CALLING_CODES[self.index].0
    }

    pub fn calling_code(self) -> &'static str {
        CALLING_CODES[self.index].1
    }

    /// What is dialled before a national number inside the country, and left out from abroad.
    pub fn trunk_prefix(self) -> &'static str {
        match self.code() {
            "HU" => "06",
            "BY" | "TM" | "UZ" => "8",
            // The leading zero is part of the number.
            "IT" | "SM" | "VA" | "CI" | "GA" | "CG" => "",
            _ => match self.calling_code() {
                "1" => "1",
                "7" => "8",
                _ => "0",
            },
        }
    }

    /// What is dialled before an international number, besides `+`.
    pub fn exit_prefix(self) -> &'static str {
        match self.calling_code() {
            "1" => "011",
            "7" => "810",
            "61" => "0011",
            "81" => "010",
            _ => "00",
        }
    }
}

impl FromStr for Country {
    type Err = IdentityError;

    /// Reads a two-letter code in either case, blanks around it allowed.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let code = text.trim().to_ascii_uppercase();
        let code = if code == "UK" { "GB" } else { code.as_str() };
        CALLING_CODES
            .binary_search_by(|(known, _)| (*known).cmp(code))
            .map(|index| Country { index })
            .map_err(|_| IdentityError::UnknownCountry { given: text.to_owned() })
    }
}

/// ISO 3166 code and calling code, in order of the former.
#[rustfmt::skip]
const CALLING_CODES: &[(&str, &str)] = &[
    ("AD", "376"), ("AE", "971"), ("AF", "93"), ("AG", "1"), ("AI", "1"), ("AL", "355"), ("AM", "374"), ("AO", "244"),
    ("AR", "54"), ("AS", "1"), ("AT", "43"), ("AU", "61"), ("AW", "297"), ("AZ", "994"), ("BA", "387"), ("BB", "1"),
    ("BD", "880"), ("BE", "32"), ("BF", "226"), ("BG", "359"), ("BH", "973"), ("BI", "257"), ("BJ", "229"), ("BM", "1"),
    ("BN", "673"), ("BO", "591"), ("BR", "55"), ("BS", "1"), ("BT", "975"), ("BW", "267"), ("BY", "375"), ("BZ", "501"),
    ("CA", "1"), ("CD", "243"), ("CF", "236"), ("CG", "242"), ("CH", "41"), ("CI", "225"), ("CK", "682"), ("CL", "56"),
    ("CM", "237"), ("CN", "86"), ("CO", "57"), ("CR", "506"), ("CU", "53"), ("CV", "238"), ("CW", "599"), ("CY", "357"),
    ("CZ", "420"), ("DE", "49"), ("DJ", "253"), ("DK", "45"), ("DM", "1"), ("DO", "1"), ("DZ", "213"), ("EC", "593"),
    ("EE", "372"), ("EG", "20"), ("ER", "291"), ("ES", "34"), ("ET", "251"), ("FI", "358"), ("FJ", "679"), ("FO", "298"),
    ("FR", "33"), ("GA", "241"), ("GB", "44"), ("GD", "1"), ("GE", "995"), ("GF", "594"), ("GG", "44"), ("GH", "233"),
    ("GI", "350"), ("GL", "299"), ("GM", "220"), ("GN", "224"), ("GP", "590"), ("GQ", "240"), ("GR", "30"), ("GT", "502"),
    ("GU", "1"), ("GW", "245"), ("GY", "592"), ("HK", "852"), ("HN", "504"), ("HR", "385"), ("HT", "509"), ("HU", "36"),
    ("ID", "62"), ("IE", "353"), ("IL", "972"), ("IM", "44"), ("IN", "91"), ("IQ", "964"), ("IR", "98"), ("IS", "354"),
    ("IT", "39"), ("JE", "44"), ("JM", "1"), ("JO", "962"), ("JP", "81"), ("KE", "254"), ("KG", "996"), ("KH", "855"),
    ("KR", "82"), ("KW", "965"), ("KY", "1"), ("KZ", "7"), ("LA", "856"), ("LB", "961"), ("LC", "1"), ("LI", "423"),
    ("LK", "94"), ("LR", "231"), ("LS", "266"), ("LT", "370"), ("LU", "352"), ("LV", "371"), ("LY", "218"), ("MA", "212"),
    ("MC", "377"), ("MD", "373"), ("ME", "382"), ("MG", "261"), ("MK", "389"), ("ML", "223"), ("MM", "95"), ("MN", "976"),
    ("MO", "853"), ("MQ", "596"), ("MR", "222"), ("MT", "356"), ("MU", "230"), ("MV", "960"), ("MW", "265"), ("MX", "52"),
    ("MY", "60"), ("MZ", "258"), ("NA", "264"), ("NC", "687"), ("NE", "227"), ("NG", "234"), ("NI", "505"), ("NL", "31"),
    ("NO", "47"), ("NP", "977"), ("NZ", "64"), ("OM", "968"), ("PA", "507"), ("PE", "51"), ("PF", "689"), ("PG", "675"),
    ("PH", "63"), ("PK", "92"), ("PL", "48"), ("PR", "1"), ("PS", "970"), ("PT", "351"), ("PY", "595"), ("QA", "974"),
    ("RE", "262"), ("RO", "40"), ("RS", "381"), ("RU", "7"), ("RW", "250"), ("SA", "966"), ("SC", "248"), ("SD", "249"),
    ("SE", "46"), ("SG", "65"), ("SI", "386"), ("SK", "421"), ("SL", "232"), ("SM", "378"), ("SN", "221"), ("SO", "252"),
    ("SR", "597"), ("SV", "503"), ("SY", "963"), ("SZ", "268"), ("TD", "235"), ("TG", "228"), ("TH", "66"), ("TJ", "992"),
    ("TM", "993"), ("TN", "216"), ("TR", "90"), ("TT", "1"), ("TW", "886"), ("TZ", "255"), ("UA", "380"), ("UG", "256"),
    ("US", "1"), ("UY", "598"), ("UZ", "998"), ("VA", "39"), ("VE", "58"), ("VG", "1"), ("VI", "1"), ("VN", "84"),
    ("XK", "383"), ("YE", "967"), ("ZA", "27"), ("ZM", "260"), ("ZW", "263"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order() {
        assert!(CALLING_CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn codes_are_read_in_either_case() {
        assert_eq!("de".parse::<Country>().unwrap().calling_code(), "49");
        assert_eq!(" UK ".parse::<Country>().unwrap().code(), "GB");
        assert!("Germany".parse::<Country>().is_err());
    }
}
