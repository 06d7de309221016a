//! Headers that are not read, because their names are nearly those of headers that are.

use crate::{proxy::ProxyEvent, receipt::Warning};

/// The headers that change what a request does: the bare name, as [`bare`] makes it, and the name as producers write it.
const READ: [(&str, &str); 3] = [
    ("idempotencykey", "Idempotency-Key"),
    ("custodydurability", "Custody-Durability"),
    ("contentdigest", "Content-Digest"),
];

/// Warns of headers such as `X-Idempotency-Key`, unless the right one is there too.
pub(super) fn misspelled_headers(event: &ProxyEvent<'_>) -> Vec<Warning> {
    let warning = |(sent, _): (&str, &str)| {
        let sent_bare = bare(sent);
        let (_, meant) = READ.into_iter().find(|(read, _)| *read == sent_bare)?;
        if event.header(meant).is_some() {
            return None;
        }
        let detail = format!("this header is not read; send {meant}, if it is meant");
        Some(Warning { at: sent.to_owned(), detail })
    };
    event.headers().filter_map(warning).collect()
}

/// Returns a header's name in lower case, without hyphens and other punctuation, and without the prefix `X-` that private headers once had.
fn bare(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("x-").unwrap_or(&name);
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
