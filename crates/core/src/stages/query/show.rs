//! `GET /messages/{messageID}`: all that is known of one record.

use serde::Serialize;

use super::{Caller, Query, unavailable, unknown_record};
use crate::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::{FailureSummary, PastFailure},
    error::ErrorKind,
    message::{InternalMessage, PayloadDescriptor, S3Reference},
    metadata::MessageMetadata,
    open_record::{OpenRecord, OpenState},
    ports::{AcceptanceMarkers as _, Deployment, Discard, OpenRecords as _, RecordQueries as _},
    problem::Problem,
    proxy::ProxyResponse,
    record_id::RecordId,
    record_query::{RecordItem, RecordStatus},
};

/// What the stores have of a record.
pub(super) struct KnownRecord {
    /// The message in the item, or else in the open record.
    pub(super) message: InternalMessage,
    /// The open record, or the one in the record's acceptance marker.
    pub(super) open: Option<OpenRecord>,
    pub(super) item: Option<RecordItem>,
}

impl KnownRecord {
    /// Returns what is known of a record; `None` if no store knows the record.
    fn new(open: Option<OpenRecord>, item: Option<RecordItem>) -> Option<Self> {
        let message = item.as_ref().map(|item| &item.message).or(open.as_ref().map(|open| &open.message));
        let mut message = message?.clone();
        message.metadata.sort_fields();
        Some(Self { message, open, item })
    }

    fn status(&self) -> RecordStatus {
        match (&self.item, self.open.as_ref().map(|open| &open.state)) {
            (Some(RecordItem { status: RecordStatus::Completed, .. }), _) => RecordStatus::Completed,
            (_, Some(OpenState::Failed { .. })) => RecordStatus::Failed,
            // Another attempt is in progress, although the item still reports the failure of the one before.
            (_, Some(OpenState::InProgress)) => RecordStatus::Received,
            (item, None) => item.as_ref().map_or(RecordStatus::Received, |item| item.status),
        }
    }

    /// Returns the failure of the last attempt that has failed.
    pub(super) fn failure(&self) -> Option<&FailureSummary> {
        let open = self.open.as_ref().and_then(|open| match &open.state {
            OpenState::Failed { failure, .. } => Some(failure),
            OpenState::InProgress => None,
        });
        open.or(self.item.as_ref().and_then(|item| item.failure.as_ref()))
    }

    /// Returns the archived payload, if it is known to be archived.
    pub(super) fn archived(&self) -> Option<&S3Reference> {
        let item = self.item.as_ref().map(|item| &item.message.storage_context);
        let open = self.open.as_ref().map(|open| &open.message.storage_context);
        [item, open].into_iter().flatten().find_map(|context| context.s3_reference.as_ref())
    }
}

/// The answer about a record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordView<'a> {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    status: RecordStatus,
    received_at: Timestamp,
    #[serde(rename = "messageMetaData")]
    message_metadata: &'a MessageMetadata,
    payload: &'a PayloadDescriptor,
    /// The name of the producer that sent the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    /// The number of the last attempt.
    attempt: u32,
    /// How the attempts before it failed, oldest first.
    earlier_failures: Vec<Failure<'a>>,
    stages: Stages,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure<'a>>,
    /// The decision that the record gets no further attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<&'a Discard>,
    #[serde(rename = "S3Reference", skip_serializing_if = "Option::is_none")]
    s3_reference: Option<&'a S3Reference>,
    links: Links,
}

/// When each stage was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stages {
    accepted: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_stored: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Timestamp>,
}

/// The failure of an attempt, without what concerns operators only.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    attempt: u32,
    stage: &'a str,
    kind: ErrorKind,
    error_name: &'a str,
    failed_at: Timestamp,
}

impl<'a> Failure<'a> {
    fn past(past: &'a PastFailure) -> Self {
        let PastFailure { attempt, stage, kind, error_name, failed_at, .. } = past;
        Self { attempt: *attempt, stage, kind: *kind, error_name, failed_at: *failed_at }
    }
}

/// Links, relative to the URL of the record.
#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    itself: String,
    payload: String,
}

impl<D: Deployment> Query<D> {
    pub(super) async fn show(&self, caller: &Caller<'_>, id: RecordId) -> Result<ProxyResponse, Problem> {
        let known = self.find(caller, id, "read record").await?;
        Ok(ProxyResponse::json(&view(&known)))
    }

    /// Finds a record that the caller may read. The stores are read in the order in which a record moves through them, so
    /// that a record that moves during the search is found.
    pub(super) async fn find(
        &self,
        caller: &Caller<'_>,
        id: RecordId,
        action: &'static str,
    ) -> Result<KnownRecord, Problem> {
        let marker = self.markers.find(Attempt::first(id)).await.map_err(|error| unavailable(&error))?;
        let open = self.open_records.find(id).await.map_err(|error| unavailable(&error))?;
        let item = self.records.item(id).await.map_err(|error| unavailable(&error))?;
        let known = KnownRecord::new(open.or(marker), item).ok_or_else(|| unknown_record(id))?;
        caller.check_read(id, known.message.metadata.source_system_id(), action)?;
        Ok(known)
    }
}

fn view(known: &KnownRecord) -> RecordView<'_> {
    let (message, item) = (&known.message, known.item.as_ref());
    let id = message.message_id;
    let newest = known.open.as_ref().map_or(message, |open| &open.message);
    let failure = known.failure();
    let attempt = newest.attempt().number().max(failure.map_or(0, |failure| failure.attempt));
    let status = known.status();
    RecordView {
        message_id: id,
        status,
        received_at: message.received_at,
        message_metadata: &message.metadata,
        payload: &message.payload,
        principal: message.security_context.request_context.principal.as_deref(),
        attempt,
        earlier_failures: newest.history().iter().map(Failure::past).collect(),
        stages: Stages {
            accepted: message.accepted_at(),
            metadata_stored: item.and_then(|item| item.stored_at),
            archived: item.and_then(|item| item.archived_at),
            completed: item.and_then(|item| item.completed_at),
            failed: failure.filter(|failure| failure.attempt == attempt).map(|failure| failure.failed_at),
        },
        failure: failure.filter(|_| status == RecordStatus::Failed).map(|failure| Failure {
            attempt: failure.attempt,
            stage: &failure.stage,
            kind: failure.kind,
            error_name: &failure.error_name,
            failed_at: failure.failed_at,
        }),
        discarded: item
            .and_then(|item| item.discarded.as_ref())
            .filter(|noted| status == RecordStatus::Failed && noted.attempt >= attempt)
            .map(|noted| &noted.discard),
        s3_reference: known.archived(),
        links: Links { itself: id.to_string(), payload: format!("{id}/payload") },
    }
}
