//! The questions that the API accepts, and how a request states them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::list::ListQuestion;
use crate::{
    problem::{Problem, ProblemKind},
    proxy::RequestContext,
    record_id::RecordId,
};

/// A question about records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `GET /messages/{messageID}`
    Record(RecordId),
    /// `GET /messages/{messageID}/payload`
    Payload {
        id: RecordId,
        /// Whether the caller wants the link as JSON instead of a redirection.
        wants_json: bool,
    },
    /// `GET /messages`
    List(ListQuestion),
}

/// The part of an API Gateway proxy event that a question needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct QueryEvent {
    /// The path's template: `/messages/{messageID}`.
    resource: String,
    path_parameters: Option<BTreeMap<String, String>>,
    query_string_parameters: Option<BTreeMap<String, String>>,
    headers: Option<BTreeMap<String, Option<String>>>,
    request_context: RequestContext,
}

/// Reads the question in an event, and the context of the request. The outer error is that of an event that is not a
/// request's. The inner error is a problem of the question, which only a known caller may learn of.
pub(super) fn read(event: &[u8]) -> Result<(Result<Question, Problem>, RequestContext), Problem> {
    let mut event: QueryEvent = serde_json::from_slice(event).map_err(|error| {
        let detail = format!("the request cannot be read ({})", crate::json::error_text(&error));
        Problem::new(ProblemKind::MalformedRequest, detail)
    })?;
    let context = std::mem::take(&mut event.request_context);
    Ok((question(&event), context))
}

fn question(event: &QueryEvent) -> Result<Question, Problem> {
    match event.resource.as_str() {
        "/messages" => ListQuestion::read(event.query_string_parameters.as_ref()).map(Question::List),
        "/messages/{messageID}" => Ok(Question::Record(record_id(event)?)),
        "/messages/{messageID}/payload" => {
            Ok(Question::Payload { id: record_id(event)?, wants_json: wants_json(event) })
        }
        other => Err(Problem::new(
            ProblemKind::MalformedRequest,
            format!("`{}` is not a path of this API", crate::json::excerpt(other)),
        )),
    }
}

fn record_id(event: &QueryEvent) -> Result<RecordId, Problem> {
    let text = event.path_parameters.as_ref().and_then(|parameters| parameters.get("messageID"));
    let text = text.map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| {
        Problem::new(
            ProblemKind::InvalidQuery,
            format!("`{}` is not a messageID; send the messageID of a receipt", crate::json::excerpt(text)),
        )
    })
}

/// Whether the header `Accept` lists `application/json`.
fn wants_json(event: &QueryEvent) -> bool {
    let accept = event.headers.iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case("accept"));
    let Some((_, Some(accept))) = accept else { return false };
    let essence = |part: &str| part.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    accept.split(',').any(|part| essence(part) == "application/json")
}
