//! Finds the name that was probably meant.

/// How alike two names must be: 1 is equal, 0 has nothing in common.
const LIKENESS: f64 = 0.7;

/// The fewest characters of a name that stands for a longer one, as `payload` for `messagePayload`.
const SHORT_FORM: usize = 5;

/// Returns the known name that is most like `name`, if one is like it: spelled in another case, with a typing error or without a part.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = plain(name);
    let likeness = |known: &str| {
        let known = plain(known);
        let is_short_form = name.len() >= SHORT_FORM && (known.starts_with(&name) || known.ends_with(&name));
        if is_short_form { 1.0 } else { strsim::normalized_damerau_levenshtein(&name, &known) }
    };
    let alike = known.iter().map(|known| (*known, likeness(known))).filter(|(_, alike)| *alike >= LIKENESS);
    // Of names that are equally like it, the first one.
    alike.reduce(|best, other| if other.1 > best.1 { other } else { best }).map(|(known, _)| known)
}

/// A name without case and punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_like_a_known_one_is_recognized() {
        let known = ["messageMetaData", "messagePayload", "payloadEncoding", "payloadReference"];
        for (name, meant) in [
            ("payload", Some("messagePayload")),
            ("messageMetadata", Some("messageMetaData")),
            ("metadata", Some("messageMetaData")),
            ("message_payload", Some("messagePayload")),
            ("mesagePayload", Some("messagePayload")),
            ("encoding", Some("payloadEncoding")),
            ("customer", None),
            ("pay", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &known), meant, "{name}");
        }
        assert_eq!(nearest("sourceTransactionId", &["sourceTransactionID"]), Some("sourceTransactionID"));
        assert_eq!(nearest("sourceTransactionDate", &["sourceSystemID"]), None);
    }
}
