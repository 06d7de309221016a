//! `GET /messages/{messageID}/payload`: a link to the exact bytes of a record's payload.

use serde::Serialize;

use super::{Caller, Query, unavailable};
use crate::{
    access::Access,
    clock::{Clock as _, Timestamp},
    digest::Sha256,
    message::{PayloadDescriptor, S3Reference},
    open_record::OpenState,
    ports::{Deployment, PayloadLink, PayloadLinks as _},
    problem::{Problem, ProblemKind},
    proxy::ProxyResponse,
    record_id::RecordId,
};

/// The answer for callers that want the link as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkView<'a> {
    url: &'a str,
    expires_at: Timestamp,
    sha256: Sha256,
    size: u64,
    content_type: &'a str,
}

impl<D: Deployment> Query<D> {
    pub(super) async fn payload(
        &self,
        caller: &Caller<'_>,
        id: RecordId,
        wants_json: bool,
    ) -> Result<ProxyResponse, Problem> {
        const ACTION: &str = "read payload";
        let known = self.find(caller, id, ACTION).await?;
        let payload = &known.message.payload;
        let object = match (known.archived(), known.open.as_ref().map(|open| &open.state), known.failure()) {
            (Some(archived), ..) => archived,
            (None, Some(OpenState::Failed { .. }) | None, Some(failure)) => {
                failure.payload_reference.as_ref().ok_or_else(|| lost(id))?
            }
            (None, ..) => return Err(not_archived(id)),
        };
        let link = self.link(object, payload, id).await?;
        Access { record: Some(id), ..caller.access(ACTION) }.granted();
        let view = LinkView {
            url: &link.url,
            expires_at: link.expires_at,
            sha256: payload.sha256,
            size: payload.size_bytes,
            content_type: &payload.content_type,
        };
        Ok(if wants_json {
            ProxyResponse::json(&view)
        } else {
            ProxyResponse::see_other(link.url, payload.sha256)
        })
    }

    async fn link(
        &self,
        object: &S3Reference,
        payload: &PayloadDescriptor,
        id: RecordId,
    ) -> Result<PayloadLink, Problem> {
        // The name has no part that a producer chooses.
        let link = self.links.link(object, payload, &id.to_string(), self.clock.now()).await;
        link.map_err(|error| unavailable(&error))
    }
}

fn not_archived(id: RecordId) -> Problem {
    Problem::new(
        ProblemKind::PayloadNotArchived,
        format!("the payload of record {id} is not archived yet; ask again after the record is COMPLETED"),
    )
}

fn lost(id: RecordId) -> Problem {
    Problem::new(
        ProblemKind::PayloadLost,
        format!(
            "the payload of record {id} was lost; send the record again under its idempotency key, then an operator can redrive \
             it, and the payload can be read; a record that had no key is sent as a new one, and an operator discards this one"
        ),
    )
}
