//! How alike two folded texts are.

use rapidfuzz::distance::jaro_winkler;

/// Jaro–Winkler similarity, prefix weight 0.1 (Winkler 1990): 1 is equal, 0 has nothing in common.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaro_winkler::similarity(a.bytes(), b.bytes())
}

/// Whether one typing error makes one of the other: a byte more, less or other, or two neighbours that changed places.
pub fn is_one_error_apart(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a.as_bytes(), b.as_bytes()) } else { (b.as_bytes(), a.as_bytes()) };
    if long.len() - short.len() > 1 || short == long {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    if short.len() < long.len() {
        return short[same..] == long[same + 1..];
    }
    let is_exchanged = same + 1 < short.len()
        && short[same] == long[same + 1]
        && short[same + 1] == long[same]
        && short[same + 2..] == long[same + 2..];
    is_exchanged || short[same + 1..] == long[same + 1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_similarities() {
        // The examples of Winkler's paper, as usually quoted.
        for (a, b, expected) in
            [("martha", "marhta", 0.961), ("dwayne", "duane", 0.84), ("dixon", "dicksonx", 0.813), ("a", "b", 0.0)]
        {
            assert!((similarity(a, b) - expected).abs() < 5e-4, "{a} {b}");
        }
    }

    #[test]
    fn one_error() {
        for (a, b) in [("abcd", "abd"), ("abcd", "abxd"), ("abcd", "acbd"), ("abcd", "abcde"), ("a", "")] {
            assert!(is_one_error_apart(a, b) && is_one_error_apart(b, a), "{a} {b}");
        }
        for (a, b) in [("abcd", "abcd"), ("abcd", "ab"), ("abcd", "badc"), ("abcd", "bcda")] {
            assert!(!is_one_error_apart(a, b), "{a} {b}");
        }
    }
}
