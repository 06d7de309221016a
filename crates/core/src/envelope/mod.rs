//! Envelopes: finds a request's metadata, and its payload as a block of bytes.
//!
//! *Invariant:* a payload is parsed only as far as finding its end requires. The archived bytes are the producer's
//! payload bytes, or the request is rejected.

mod cloud_events;
mod content_digest;
mod cut;
mod in_place;
mod json_envelope;
mod misread;
mod misspelled_header;
mod original;
mod payload;
mod reference;
mod replaced_bytes;
mod upload_body;

use std::borrow::Cow;

use bytes::Bytes;

pub use self::original::OriginalEvent;
pub(crate) use self::{cloud_events::storable, payload::OCTETS, upload_body::read_upload_body};
use self::{
    content_digest::{unverified_digest, verify_content_digest},
    cut::Cut,
    misspelled_header::misspelled_headers,
    replaced_bytes::{explain_replaced_bytes, refuse_replaced_characters},
};
use crate::{
    MAX_EVENT_BYTES,
    digest::Sha256,
    json::Text,
    message::PayloadEncoding,
    metadata::MessageMetadata,
    problem::{Problem, ProblemKind},
    proxy::{ProxyEvent, RequestContext},
    receipt::{Durability, Warning},
    upload::PayloadReference,
};

/// The result of reading an event.
#[derive(Debug)]
pub struct ReadEvent {
    /// The request in the event, or the problem with it.
    pub request: Result<Request, Problem>,
    /// API Gateway's context of the request.
    pub context: RequestContext,
    /// The original event. If the request is rejected, a part of it is stored.
    pub original: OriginalEvent,
}

/// An event that is not that of a request, so that its caller is not known.
#[derive(Debug)]
pub struct UnreadableEvent {
    /// The problem with the event.
    pub problem: Problem,
    /// The original event.
    pub original: OriginalEvent,
}

/// A request that could be read.
#[derive(Debug)]
pub struct Request {
    /// The value of the header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The durability that the producer asks for in the header `Custody-Durability`, as the least that it accepts. `None` if it
    /// leaves the choice to the deployment.
    pub durability: Option<Durability>,
    /// The producer's metadata, validated.
    pub metadata: MessageMetadata,
    /// The payload, or where it is.
    pub content: Content,
    /// Whether the request is a CloudEvent, which is identified by its source and id.
    pub is_cloud_event: bool,
    /// What the producer may have meant otherwise.
    pub warnings: Vec<Warning>,
}

/// The payload of a request, or where it is.
#[derive(Debug)]
pub enum Content {
    /// The request carries the payload.
    Payload(Payload),
    /// The payload is in a bucket of its producer.
    Reference(PayloadReference),
}

/// A payload without its digest.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The bytes of the payload. They share the event's memory if possible.
    pub content: Bytes,
    /// The media type of the payload.
    pub content_type: String,
    /// How the request carried the payload.
    pub encoding: PayloadEncoding,
}

/// The content of a body. It borrows from the body if possible.
#[derive(Debug)]
struct Envelope<'a> {
    metadata: MessageMetadata,
    content: ContentPart<'a>,
    is_cloud_event: bool,
    warnings: Vec<Warning>,
}

/// The part of a body that is the payload, or the reference to it.
#[derive(Debug)]
enum ContentPart<'a> {
    Payload(PayloadPart<'a>),
    Reference(PayloadReference),
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
/// A large payload in base64 is decoded in place, without parsing the text around it twice. If that is not possible, or
/// if there is a problem whose position must be reported, the whole event is parsed.
pub fn read(event: Bytes) -> Result<ReadEvent, Box<UnreadableEvent>> {
    read_cut(event).or_else(|event| read_whole(&event))
}

/// Reads an event whose payload can be cut out. `Err` returns the unchanged event, which must be read as a whole.
fn read_cut(event: Bytes) -> Result<ReadEvent, Bytes> {
    if within_limit(&event).is_err() {
        return Err(event);
    }
    let Some(cut) = Cut::of(&event) else { return Err(event) };
    let Some((request, placeholder, context)) = cut.request(&event) else { return Err(event) };
    let (original, decoded) = OriginalEvent::decode(event, cut.run())?;
    let payload = Payload { content: decoded, ..placeholder };
    let request = Request { content: Content::Payload(payload), ..request };
    Ok(ReadEvent { request: Ok(request), context, original })
}

fn read_whole(event: &Bytes) -> Result<ReadEvent, Box<UnreadableEvent>> {
    let original = OriginalEvent::Whole(event.clone());
    match serde_json::from_slice::<ProxyEvent<'_>>(event) {
        Ok(mut proxied) => {
            let request = within_limit(event)
                .map_err(|problem| explain_replaced_bytes(problem, &proxied))
                .and_then(|()| request(&mut proxied, event, Sha256::of));
            Ok(ReadEvent { request, context: proxied.request_context, original })
        }
        Err(error) => {
            let detail = format!(
                "the request is not text that can be read ({}); send UTF-8",
                crate::json::error_text(&error)
            );
            let problem = Problem::new(ProblemKind::MalformedRequest, detail);
            Err(Box::new(UnreadableEvent { problem, original }))
        }
    }
}

/// Returns the request in a proxy event that was read from `event`, and takes the body out of `proxied`. `digest_of`
/// computes the digest of the body that the producer sent, if the digest is needed.
fn request(
    proxied: &mut ProxyEvent<'_>,
    event: &Bytes,
    digest_of: impl Fn(&[u8]) -> Sha256,
) -> Result<Request, Problem> {
    let body = body(proxied, event)?;
    let Envelope { metadata, content, is_cloud_event, mut warnings } = open(proxied, &body, digest_of)?;
    let of_metadata = metadata.warnings().into_iter();
    warnings.extend(
        of_metadata.map(
            |warning| {
                if is_cloud_event { cloud_events::warning_of_the_event(warning) } else { warning }
            },
        ),
    );
    warnings.extend(unverified_digest(proxied));
    warnings.extend(misspelled_headers(proxied));
    let content = match content {
        ContentPart::Reference(reference) => Content::Reference(reference),
        ContentPart::Payload(PayloadPart { content, content_type, encoding }) => {
            let content = match content {
                Cow::Borrowed(content) => body.slice_ref(content),
                Cow::Owned(content) => Bytes::from(content),
            };
            Content::Payload(Payload { content, content_type, encoding })
        }
    };
    Ok(Request {
        idempotency_key: proxied.header("idempotency-key").map(str::to_owned),
        durability: durability(proxied)?,
        metadata,
        content,
        is_cloud_event,
        warnings,
    })
}

/// Returns the durability in the header `Custody-Durability`.
fn durability(event: &ProxyEvent<'_>) -> Result<Option<Durability>, Problem> {
    let Some(header) = event.header("custody-durability") else { return Ok(None) };
    header.trim().parse().map(Some).map_err(|_| {
        Problem::new(
            ProblemKind::InvalidHeader,
            format!(
                "Custody-Durability is `{}`; send `archived`, `durable` or `replicated`, or no such header",
                crate::json::excerpt(header)
            ),
        )
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
             one request carries a payload of about 4.7 MB in base64 or as a binary body, or of about 6 MB as text; upload a \
             larger one with POST /uploads or `custody send`",
            event.len()
        ),
    ))
}

/// Returns the body of a request as the bytes that the producer sent.
///
/// API Gateway encodes bodies of binary content types as base64; this function decodes them.
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

/// Reads a body according to the headers of its request.
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
    let form = Form::of(event)?;
    if !verify_content_digest(event, body, digest_of)? {
        refuse_replaced_characters(event, body)?;
    }
    match form {
        Form::StructuredEvent => {
            let body = text(body)?;
            cloud_events::open_structured(body)
                .map_err(|problem| cloud_events::explain_mode(problem, event, body))
        }
        Form::BinaryEvent => cloud_events::open_binary(event, body),
        Form::Json => {
            let body = text(body)?;
            json_envelope::open(body).map_err(|problem| {
                // A JSON object that is no envelope, beside the headers of an event, is the data of that event.
                let of_event =
                    cloud_events::without_version(event).filter(|_| !json_envelope::is_envelope(body));
                of_event.unwrap_or(problem)
            })
        }
    }
}

/// The form of a request.
#[derive(Clone, Copy)]
enum Form {
    StructuredEvent,
    BinaryEvent,
    Json,
}

impl Form {
    /// Returns the form that the headers declare, or the problem of a content type that is not taken.
    fn of(event: &ProxyEvent<'_>) -> Result<Self, Problem> {
        match media_type(event.header("content-type")).as_deref() {
            Some(CLOUD_EVENT) => Ok(Self::StructuredEvent),
            Some(CLOUD_EVENT_BATCH) => Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "batches of CloudEvents are not taken; send one event per request as application/cloudevents+json",
            )),
            // This arm comes after the structured mode, because structured requests may repeat the attributes as headers.
            _ if event.header("ce-specversion").is_some() => Ok(Self::BinaryEvent),
            // Existing clients send JSON without a content type.
            None | Some("application/json") => Ok(Self::Json),
            Some(other) => Err(cloud_events::without_version(event).unwrap_or_else(|| {
                Problem::new(
                    ProblemKind::UnsupportedMediaType,
                    format!(
                        "`{}` is not an envelope; send application/json, {CLOUD_EVENT}, or any content type with the \
                         CloudEvents headers ce-specversion, ce-id, ce-source, ce-type and ce-time",
                        crate::json::excerpt(other)
                    ),
                )
            })),
        }
    }
}

/// Rejects text in another character encoding than UTF-8: API Gateway passes every text body on as UTF-8, so the bytes
/// that were sent would be lost. If the content is not text, `charset` has no meaning.
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

/// Returns the media type without its parameters, in lower case; `None` if there is none.
fn media_type(content_type: Option<&str>) -> Option<String> {
    let essence = content_type?.split(';').next()?.trim().to_ascii_lowercase();
    (!essence.is_empty()).then_some(essence)
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(ProblemKind::MalformedRequest, "the body is empty; send the record in it"));
    }
    std::str::from_utf8(body).map_err(|error| {
        Problem::new(ProblemKind::MalformedRequest, "the body is not UTF-8 text; send JSON in UTF-8")
            .at_offset(error.valid_up_to())
    })
}

/// Returns the offset at which `part`, a slice of `whole`, begins.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

#[cfg(test)]
mod tests;
