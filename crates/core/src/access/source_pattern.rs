//! The `sourceSystemID`s of a producer: one id, or all ids with a prefix.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The maximum length of a pattern, in bytes.
const MAX_BYTES: usize = 256;

/// One `sourceSystemID` (`loan-scoring`), or all that begin with a prefix (`loan-*`, or `*` for every id).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourcePattern(String);

impl SourcePattern {
    /// Whether the pattern includes this `sourceSystemID`. Letters match exactly, in the same case.
    pub fn matches(&self, source_system_id: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => source_system_id.starts_with(prefix),
            None => source_system_id == self.0,
        }
    }
}

impl FromStr for SourcePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for SourcePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let has_inner_star = text.trim_end_matches('*').contains('*') || text.ends_with("**");
        if text.is_empty() || text.len() > MAX_BYTES || has_inner_star || text.chars().any(char::is_control) {
            return Err(format!(
                "`{}` is not a sourceSystemID; give one id (loan-scoring), or a prefix and one `*` at its end (loan-*), of at \
                 most {MAX_BYTES} bytes",
                text.escape_debug().take(80).collect::<String>()
            ));
        }
        Ok(Self(text))
    }
}

impl From<SourcePattern> for String {
    fn from(pattern: SourcePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_one_id_or_a_prefix() {
        let matches = |pattern: &str, id: &str| pattern.parse::<SourcePattern>().unwrap().matches(id);
        assert!(matches("loan-scoring", "loan-scoring"));
        for other in ["loan-scoring2", "loan-scorin", "Loan-scoring", "", "loan-scoring*"] {
            assert!(!matches("loan-scoring", other), "{other}");
        }
        assert!(matches("loan-*", "loan-") && matches("loan-*", "loan-scoring"));
        assert!(!matches("loan-*", "loan") && !matches("loan-*", "card-loan-"));
        assert!(matches("*", "anything") && matches("*", "../../etc"));
        assert!(matches("urn:a/b?c", "urn:a/b?c"), "no other character is special");
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_advice() {
        for text in ["", "a*b", "*a", "a**", "**", "line\nbreak", &"x".repeat(257)] {
            let error = text.parse::<SourcePattern>().unwrap_err();
            assert!(error.contains("loan-*"), "{error}");
            assert!(serde_json::from_value::<SourcePattern>(text.into()).is_err(), "{text}");
        }
        assert!("x".repeat(256).parse::<SourcePattern>().is_ok());
    }
}
