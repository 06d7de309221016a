//! The requests about uploads, and how an event states them.

use crate::{
    envelope::read_upload_body,
    metadata::MessageMetadata,
    problem::{Problem, ProblemKind},
    proxy::{ApiEvent, RequestContext},
    record_id::RecordId,
    upload::AnnouncedPayload,
};

/// A request about uploads.
#[derive(Debug)]
pub(super) enum UploadRequest {
    /// `POST /uploads`
    Begin(Box<BeginUpload>),
    /// `GET /uploads/{uploadID}`
    Show(RecordId),
    /// `POST /uploads/{uploadID}/complete`
    Complete(RecordId),
}

/// The content of a request to begin an upload.
#[derive(Debug)]
pub(super) struct BeginUpload {
    pub(super) metadata: MessageMetadata,
    pub(super) payload: AnnouncedPayload,
    /// The value of the header `Idempotency-Key`.
    pub(super) idempotency_key: Option<String>,
}

/// Reads the request in an event, and its context. The outer error is that of an event that is not a request's. The inner error
/// is a problem of the request, which only a known caller may learn of.
pub(super) fn read(event: &[u8]) -> Result<(Result<UploadRequest, Problem>, RequestContext), Problem> {
    let mut event = ApiEvent::read(event)?;
    let context = std::mem::take(&mut event.request_context);
    Ok((request(&event), context))
}

fn request(event: &ApiEvent) -> Result<UploadRequest, Problem> {
    let id = || event.id("uploadID", "send the messageID of the answer to POST /uploads");
    match event.resource.as_str() {
        "/uploads" => begin(event).map(Box::new).map(UploadRequest::Begin),
        "/uploads/{uploadID}" => id().map(UploadRequest::Show),
        "/uploads/{uploadID}/complete" => id().map(UploadRequest::Complete),
        _ => Err(event.unknown_path()),
    }
}

fn begin(event: &ApiEvent) -> Result<BeginUpload, Problem> {
    let essence = event.header("content-type").and_then(|text| text.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| !essence.eq_ignore_ascii_case("application/json"))
        || event.is_base64_encoded
    {
        let content_type = crate::json::excerpt(event.header("content-type").unwrap_or_default());
        let detail = format!(
            "`{content_type}` does not describe an upload; send application/json with messageMetaData and payload, and the \
             payload itself to the link in the answer"
        );
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let (metadata, payload) = read_upload_body(event.body.as_deref().unwrap_or_default().as_bytes())?;
    let idempotency_key = event.header("idempotency-key").map(str::to_owned);
    Ok(BeginUpload { metadata, payload, idempotency_key })
}
