//! Patterns for names that certificates carry: `*` stands for any characters, also for none; all else for itself.
//!
//! Trust: patterns come from the policy, texts from devices.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

/// Tells whether all of `text` is what `pattern` describes.
///
/// Only the last star seen is ever made to stand for more: what an earlier one left is the most that it can leave. Takes
/// at most the product of both lengths.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    let mut star = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', behind)), _) => {
                star = Some((behind, text));
                pattern = behind;
            }
            (Some((want, wants)), Some((found, rest))) if want == found => (pattern, text) = (wants, rest),
            (None, None) => return true,
            _ => {
                let Some((behind, (_, rest))) = star.and_then(|(b, from)| Some((b, from.split_first()?)))
                else {
                    return false;
                };
                star = Some((behind, rest));
                (pattern, text) = (behind, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_without_stars_is_the_text() {
        assert!(matches("CN=a", "CN=a"));
        for text in ["", "CN=", "CN=ab", "xCN=a", "cn=a"] {
            assert!(!matches("CN=a", text), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters_and_for_none() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("*", "anything, O=é", true),
            ("CN=ACME GPU *", "CN=ACME GPU 7", true),
            ("CN=ACME GPU *", "CN=ACME GPU ", true),
            ("CN=ACME GPU *", "CN=ACME GPU", false),
            ("*,O=ACME", "CN=x,O=ACME", true),
            ("*,O=ACME", "CN=x,O=ACMEx", false),
            ("CN=*,O=ACME", "CN=,O=ACME", true),
            // Text that the first piece takes is not there for the last.
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a*bc*bc", "abc", false),
            ("a**c", "abc", true),
            ("*ab*", "aab", true),
            ("*a*a*a*", "aa", false),
            ("?", "x", false),
            (".*", "x", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_end_in_time() {
        let pattern = "a*".repeat(32) + "b";
        assert!(!matches(&pattern, &"a".repeat(100_000)));
        assert!(matches(&pattern, &("a".repeat(100_000) + "b")));
    }
}
