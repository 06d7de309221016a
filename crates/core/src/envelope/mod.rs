//! From a request to a record: which envelope it is in, its metadata, and its payload as a block of bytes.
//!
//! *Invariant:* a payload is never parsed beyond what finding its end takes. What is archived is what the
//! producer's payload bytes were, or the request is refused.

mod cloud_events;
mod cut;
mod in_place;
mod json_envelope;
mod original;
mod payload;

use std::borrow::Cow;

use bytes::Bytes;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use self::cut::Cut;
pub use self::original::OriginalEvent;
use crate::{
    MAX_EVENT_BYTES,
    digest::Sha256,
    json::Text,
    message::PayloadEncoding,
    metadata::MessageMetaData,
    problem::{Problem, ProblemKind},
    proxy::{ProxyEvent, RequestContext},
};

/// An event that was read.
#[derive(Debug)]
pub struct ReadEvent {
    /// The request in it, or what is wrong with it.
    pub request: Result<Request, Problem>,
    /// API Gateway's id of the request, where the event has one.
    pub request_id: Option<String>,
    /// The event, from which a request is stored that is rejected.
    pub original: OriginalEvent,
}

/// A request that was understood.
#[derive(Debug)]
pub struct Request {
    /// API Gateway's account of it.
    pub context: RequestContext,
    /// The value of the header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The producer's metadata, validated.
    pub meta_data: MessageMetaData,
    /// The payload.
    pub payload: Payload,
    /// Whether it came as a CloudEvent, whose source and id identify it.
    pub is_cloud_event: bool,
}

/// A payload that nobody has hashed yet.
#[derive(Debug)]
pub struct Payload {
    /// The bytes to keep. They share the event's memory wherever that can be.
    pub content: Bytes,
    /// Their media type.
    pub content_type: String,
    /// How the request carried them.
    pub encoding: PayloadEncoding,
}

/// The content of a body. It borrows from the body, as the body holds it, wherever that can be.
#[derive(Debug)]
struct Envelope<'a> {
    meta_data: MessageMetaData,
    payload: PayloadPart<'a>,
    is_cloud_event: bool,
}

/// The part of a body that is the payload.
#[derive(Debug)]
struct PayloadPart<'a> {
    content: Cow<'a, [u8]>,
    content_type: String,
    encoding: PayloadEncoding,
}

const CLOUD_EVENT: &str = "application/cloudevents+json";
const CLOUD_EVENT_BATCH: &str = "application/cloudevents-batch+json";

/// Reads an API Gateway proxy event, given as the JSON text that Lambda delivered.
///
/// A large payload in base64 is decoded where it is, without parsing the text around it twice; where that cannot be done, and
/// where there is a problem to tell the place of, the whole event is parsed.
pub fn read(event: Bytes) -> ReadEvent {
    read_cut(event).unwrap_or_else(read_whole)
}

/// Reads an event whose payload can be cut out. `Err` has an event that must be read in whole.
fn read_cut(event: Bytes) -> Result<ReadEvent, Bytes> {
    if within_limit(&event).is_err() {
        return Err(event);
    }
    let Some(cut) = Cut::of(&event) else { return Err(event) };
    let Some(mut request) = cut.request(&event) else { return Err(event) };
    let (original, payload) = OriginalEvent::decode(event, cut.run())?;
    request.payload.content = payload;
    Ok(ReadEvent { request_id: request.context.request_id.clone(), request: Ok(request), original })
}

fn read_whole(event: Bytes) -> ReadEvent {
    let (request, request_id) = match serde_json::from_slice::<ProxyEvent<'_>>(&event) {
        Ok(mut proxied) => {
            let request = within_limit(&event).and_then(|()| request(&mut proxied, &event, Sha256::of));
            (request, proxied.request_context.request_id)
        }
        Err(error) => {
            let problem = Problem::new(
                ProblemKind::MalformedRequest,
                format!(
                    "the request is not text that can be read ({}); send UTF-8",
                    crate::json::error_text(&error)
                ),
            );
            (Err(problem), None)
        }
    };
    ReadEvent { request, request_id, original: OriginalEvent::Whole(event) }
}

/// The request in a proxy event, which was read from `event` and loses its body. `digest_of` tells the digest of the body that
/// the producer sent, where that is asked for.
fn request(
    proxied: &mut ProxyEvent<'_>,
    event: &Bytes,
    digest_of: impl Fn(&[u8]) -> Sha256,
) -> Result<Request, Problem> {
    let body = body(proxied, event)?;
    let Envelope { meta_data, payload, is_cloud_event } = open(proxied, &body, digest_of)?;
    let PayloadPart { content, content_type, encoding } = payload;
    let content = match content {
        Cow::Borrowed(content) => body.slice_ref(content),
        Cow::Owned(content) => Bytes::from(content),
    };
    Ok(Request {
        context: proxied.request_context.clone(),
        idempotency_key: proxied.header("idempotency-key").map(str::to_owned),
        meta_data,
        payload: Payload { content, content_type, encoding },
        is_cloud_event,
    })
}

fn within_limit(event: &[u8]) -> Result<(), Problem> {
    if event.len() <= MAX_EVENT_BYTES {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::TooLarge,
        format!(
            "the request makes an event of {} bytes and the limit is {MAX_EVENT_BYTES}; \
             send a smaller payload (base64 grows it by a third, a binary CloudEvent likewise)",
            event.len()
        ),
    ))
}

/// The body of a request as the bytes that the producer sent.
///
/// API Gateway encodes bodies of binary content types as base64; those are decoded here.
fn body(proxied: &mut ProxyEvent<'_>, event: &Bytes) -> Result<Bytes, Problem> {
    let text = match proxied.body.take() {
        None => Bytes::new(),
        Some(Text(Cow::Borrowed(text))) => event.slice_ref(text.as_bytes()),
        Some(Text(Cow::Owned(text))) => Bytes::from(text),
    };
    if !proxied.is_base64_encoded {
        return Ok(text);
    }
    base64_simd::STANDARD.decode_to_vec(text).map(Bytes::from).map_err(|_| {
        Problem::new(
            ProblemKind::MalformedRequest,
            "the body's transfer encoding is not base64; send the request again",
        )
    })
}

/// Reads a body under the headers of its request.
fn open<'a>(
    event: &ProxyEvent<'_>,
    body: &'a [u8],
    digest_of: impl Fn(&[u8]) -> Sha256,
) -> Result<Envelope<'a>, Problem> {
    if let Some(encoding) =
        event.header("content-encoding").filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    {
        return Err(Problem::new(
            ProblemKind::UnsupportedMediaType,
            format!(
                "the body has content encoding `{}`; send it without, or as a payload of type application/gzip",
                crate::json::excerpt(encoding)
            ),
        ));
    }
    refuse_foreign_charset(event.header("content-type"))?;
    if !verify_content_digest(event, body, digest_of)? {
        refuse_replaced_characters(event, body)?;
    }
    match media_type(event.header("content-type")).as_deref() {
        Some(CLOUD_EVENT) => cloud_events::open_structured(text(body)?),
        Some(CLOUD_EVENT_BATCH) => Err(Problem::new(
            ProblemKind::UnsupportedMediaType,
            "batches of CloudEvents are not taken; send one event per request as application/cloudevents+json",
        )),
        // After the structured mode, whose requests may repeat the attributes as headers.
        _ if event.header("ce-specversion").is_some() => cloud_events::open_binary(event, body),
        // Existing clients send JSON without saying so.
        None | Some("application/json") => json_envelope::open(text(body)?),
        Some(other) => Err(Problem::new(
            ProblemKind::UnsupportedMediaType,
            format!(
                "`{}` is not an envelope; send application/json, {CLOUD_EVENT}, or any content type with the \
                 CloudEvents headers ce-specversion, ce-id, ce-source, ce-type and ce-time",
                crate::json::excerpt(other)
            ),
        )),
    }
}

/// Refuses text in another character encoding than UTF-8: API Gateway hands every text body on as UTF-8, so what was sent
/// could not be kept. Of bytes that are no text, `charset` says nothing.
fn refuse_foreign_charset(content_type: Option<&str>) -> Result<(), Problem> {
    let Some(essence) = media_type(content_type) else { return Ok(()) };
    let is_text = essence.starts_with("text/")
        || ["json", "xml"].iter().any(|kind| {
            essence.strip_suffix(kind).is_some_and(|rest| rest.ends_with('/') || rest.ends_with('+'))
        });
    let parameters = content_type.unwrap_or_default().split(';').skip(1);
    let charset = parameters.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    match charset {
        Some(charset)
            if is_text
                && !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)) =>
        {
            Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                format!(
                    "the body is declared to be in charset `{}`; send text in UTF-8, or as bytes of type \
                     application/octet-stream",
                    crate::json::excerpt(charset)
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// The media type without its parameters, in lower case; `None` when there is none.
fn media_type(content_type: Option<&str>) -> Option<String> {
    let essence = content_type?.split(';').next()?.trim().to_ascii_lowercase();
    (!essence.is_empty()).then_some(essence)
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(
            ProblemKind::MalformedRequest,
            "the body is empty; send messageMetaData and messagePayload",
        ));
    }
    std::str::from_utf8(body).map_err(|error| {
        Problem::new(ProblemKind::MalformedRequest, "the body is not UTF-8 text; send JSON in UTF-8")
            .at_offset(error.valid_up_to())
    })
}

/// API Gateway hands a body on as text unless its content type is configured as binary, and puts U+FFFD where the
/// bytes were no UTF-8. Such a body may have been altered on its way here; only a digest can tell.
fn refuse_replaced_characters(event: &ProxyEvent<'_>, body: &[u8]) -> Result<(), Problem> {
    let replaced =
        if event.is_base64_encoded { None } else { memchr::memmem::find(body, "\u{fffd}".as_bytes()) };
    replaced.map_or(Ok(()), |offset| {
        Err(Problem::new(
            ProblemKind::MalformedRequest,
            "the body contains U+FFFD, which stands for bytes that were not UTF-8 when they arrived; send the payload as \
             base64 or as application/octet-stream, or send a Content-Digest if the character is meant",
        )
        .at_offset(offset))
    })
}

/// Checks `Content-Digest: sha-256=:…:` (RFC 9530), which covers the body as sent, and says whether it was there.
/// Other algorithms are left alone, as the RFC asks.
fn verify_content_digest(
    event: &ProxyEvent<'_>,
    body: &[u8],
    digest_of: impl Fn(&[u8]) -> Sha256,
) -> Result<bool, Problem> {
    let Some(header) = event.header("content-digest") else { return Ok(false) };
    let malformed = || {
        Problem::new(
            ProblemKind::MalformedRequest,
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
            "Content-Digest says sha-256 {stated} and the {} bytes that arrived have {actual}; \
             send the record again, with the digest of the request body",
            body.len()
        ),
    ))
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

#[cfg(test)]
mod tests;
