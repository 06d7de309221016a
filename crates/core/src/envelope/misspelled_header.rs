//! Headers that are not read, because their names are nearly those of headers that are.

use crate::{proxy::ProxyEvent, receipt::Warning};

/// The headers that change what a request does, in lower case, and as producers write them.
const READ: [(&str, &str); 3] = [
    ("idempotency-key", "Idempotency-Key"),
    ("custody-durability", "Custody-Durability"),
    ("content-digest", "Content-Digest"),
];

/// Warns of headers such as `X-Idempotency-Key`, unless the right one is there too.
pub(super) fn misspelled_headers(event: &ProxyEvent<'_>) -> Vec<Warning> {
    let warning = |(sent, _): (&str, &str)| {
        let (_, meant) = READ
            .into_iter()
            .find(|(name, _)| letters(name) == letters(sent) && event.header(name).is_none())?;
        let detail = format!("this header is not read; send {meant}, if it is meant");
        Some(Warning { at: sent.to_owned(), detail })
    };
    event.headers().filter_map(warning).collect()
}

/// Returns the letters of a header's name, without those of the prefix that private headers once had.
fn letters(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("x-").unwrap_or(&name);
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
