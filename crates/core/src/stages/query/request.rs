//! The questions that the API accepts, and how a request states them.

use super::list::ListQuestion;
use crate::{
    problem::Problem,
    proxy::{ApiEvent, RequestContext},
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

/// Reads the question in an event, and the context of the request. The outer error is that of an event that is not a
/// request's. The inner error is a problem of the question, which only a known caller may learn of.
pub(super) fn read(event: &[u8]) -> Result<(Result<Question, Problem>, RequestContext), Problem> {
    let mut event = ApiEvent::read(event)?;
    let context = std::mem::take(&mut event.request_context);
    Ok((question(&event), context))
}

fn question(event: &ApiEvent) -> Result<Question, Problem> {
    let record_id = || event.id("messageID", "send the messageID of a receipt");
    match event.resource.as_str() {
        "/messages" => ListQuestion::read(event.query_string_parameters.as_ref()).map(Question::List),
        "/messages/{messageID}" => Ok(Question::Record(record_id()?)),
        "/messages/{messageID}/payload" => {
            Ok(Question::Payload { id: record_id()?, wants_json: wants_json(event) })
        }
        _ => Err(event.unknown_path()),
    }
}

/// Whether the header `Accept` lists `application/json`.
fn wants_json(event: &ApiEvent) -> bool {
    let essence = |part: &str| part.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    event
        .header("accept")
        .is_some_and(|accept| accept.split(',').any(|part| essence(part) == "application/json"))
}
