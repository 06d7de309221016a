//! Digests that producers state in headers: the one that Custody compares, and a warning about those that it does not.

use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::{
    digest::Sha256,
    problem::{Problem, ProblemKind},
    proxy::ProxyEvent,
    receipt::Warning,
};

/// Checks `Content-Digest: sha-256=:…:` (RFC 9530), which covers the body as sent. Returns whether the header has such
/// a digest. Other algorithms are ignored, as the RFC demands.
pub(super) fn verify_content_digest(
    event: &ProxyEvent<'_>,
    body: &[u8],
    digest_of: impl Fn(&[u8]) -> Sha256,
) -> Result<bool, Problem> {
    let Some(header) = event.header("content-digest") else { return Ok(false) };
    let malformed = || {
        Problem::new(
            ProblemKind::InvalidHeader,
            "Content-Digest cannot be read; send `sha-256=:<base64 of the body's SHA-256>:` (RFC 9530)",
        )
    };
    let digests: Dictionary = Parser::new(header).parse().map_err(|_| malformed())?;
    let Some(entry) = digests.get("sha-256") else { return Ok(false) };
    let ListEntry::Item(item) = entry else { return Err(malformed()) };
    let BareItem::ByteSequence(bytes) = &item.bare_item else { return Err(malformed()) };
    let stated = Sha256::from_slice(bytes).ok_or_else(malformed)?;
    let actual = digest_of(body);
    if stated == actual {
        return Ok(true);
    }
    Err(Problem::new(
        ProblemKind::DigestMismatch,
        format!(
            "Content-Digest states sha-256 {stated} and the {} bytes that arrived have {actual}; \
             send the record again, with the digest of the request body",
            body.len()
        ),
    ))
}

/// Other headers that state a digest, in lower case, and as producers write them. Custody reads none of them. API Gateway may rename
/// `Content-MD5` (unverified).
const OTHER_DIGESTS: [(&str, &str); 4] = [
    ("content-md5", "Content-MD5"),
    ("x-amzn-remapped-content-md5", "Content-MD5"),
    ("digest", "Digest"),
    ("repr-digest", "Repr-Digest"),
];

/// Warns of a digest that was not compared with anything: a `Content-Digest` of an algorithm that Custody does not know, or another
/// header.
pub(super) fn unverified_digest(event: &ProxyEvent<'_>) -> Option<Warning> {
    let Some(header) = event.header("content-digest") else {
        let (_, name) = OTHER_DIGESTS.into_iter().find(|(header, _)| event.header(header).is_some())?;
        let detail =
            "the digest was not compared; send Content-Digest: sha-256=:<base64 of the body's SHA-256>:";
        return Some(Warning { at: name.to_owned(), detail: detail.to_owned() });
    };
    let digests: Dictionary = Parser::new(header).parse().ok()?;
    if digests.contains_key("sha-256") {
        return None;
    }
    let names: Vec<&str> = digests.keys().map(|name| name.as_str()).collect();
    let names = crate::json::excerpt(&names.join(", "));
    let detail =
        format!("the digest was not compared: Custody knows sha-256 and not {names}; send sha-256=:…:");
    Some(Warning { at: "Content-Digest".to_owned(), detail })
}
