//! Bytes that API Gateway has replaced. It passes a body on as text unless its content type is configured as binary, and replaces bytes that
//! are not UTF-8 by U+FFFD.

use super::media_type;
use crate::{
    json::Text,
    problem::{Problem, ProblemKind},
    proxy::ProxyEvent,
};

/// Adds to the problem of a request that is too large that its bytes were passed on as text. U+FFFD has three bytes and stands for one, so a
/// binary body of a type that is not known as binary arrives about three times as large.
pub(super) fn explain_replaced_bytes(mut problem: Problem, proxied: &ProxyEvent<'_>) -> Problem {
    let replaced = |Text(body): &Text<'_>| body.chars().take(1000).any(|character| character == '\u{fffd}');
    if !proxied.is_base64_encoded && proxied.body.as_ref().is_some_and(replaced) {
        problem.detail = format!(
            "the body has bytes that are not UTF-8, and its content type `{}` is not passed on as bytes, which makes it up to three times larger: send it as \
             application/octet-stream with the CloudEvents headers, or by POST /uploads, which keeps the type. As it arrived, {}",
            crate::json::excerpt(proxied.header("content-type").unwrap_or_default()),
            problem.detail
        );
    }
    problem
}

/// Rejects a text body that contains U+FFFD. Such a body may have been altered on its way here; only a digest can tell.
pub(super) fn refuse_replaced_characters(event: &ProxyEvent<'_>, body: &[u8]) -> Result<(), Problem> {
    let replaced =
        if event.is_base64_encoded { None } else { memchr::memmem::find(body, "\u{fffd}".as_bytes()) };
    replaced.map_or(Ok(()), |offset| {
        let essence = media_type(event.header("content-type")).unwrap_or_default();
        let is_text = essence.is_empty() || essence.ends_with("json") || essence.starts_with("text/");
        let utf8 = if is_text { "encode the text in UTF-8; or, if it is no text, " } else { "" };
        let declared = match event.header("content-type") {
            Some(declared) => format!("with the content type `{}`", crate::json::excerpt(declared)),
            None => "without a content type".to_owned(),
        };
        let detail = format!(
            "the body contains U+FFFD, which stands for bytes that were not UTF-8 when they arrived: a body {declared} \
             is passed on as text; {utf8}send it by POST /uploads, which keeps the type, in base64, or as application/octet-stream with the \
             CloudEvents headers; or send a Content-Digest if the character is meant"
        );
        Err(Problem::new(ProblemKind::MalformedRequest, detail).at_offset(offset))
    })
}
