//! `GET /messages`: the records of a source system or of a transaction, newest first, page by page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Caller, Query, cursor, unavailable};
use crate::{
    access::Access,
    clock::Timestamp,
    metadata::MAX_FIELD_CHARS,
    ports::{Deployment, RecordQueries as _},
    problem::{Problem, ProblemKind},
    proxy::ProxyResponse,
    record_query::{IndexedRecord, Lookup, PageRequest, RecordPage, RecordStatus, TimeRange},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

const PARAMETERS: [&str; 7] =
    ["sourceSystemID", "sourceTransactionID", "from", "to", "status", "limit", "cursor"];

/// The question for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListQuestion {
    pub(super) lookup: Lookup,
    pub(super) range: TimeRange,
    pub(super) status: Option<RecordStatus>,
    limit: usize,
    cursor: Option<String>,
}

/// The answer to a question for a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListView {
    records: Vec<IndexedRecord>,
    /// The value of `cursor` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl ListQuestion {
    /// Reads the question from the parameters of a request.
    pub(super) fn read(parameters: Option<&BTreeMap<String, String>>) -> Result<Self, Problem> {
        let none = BTreeMap::new();
        let parameters = parameters.unwrap_or(&none);
        if let Some(unknown) = parameters.keys().find(|name| !PARAMETERS.contains(&name.as_str())) {
            let unknown = crate::json::excerpt(unknown);
            return Err(invalid(format!("`{unknown}` is not a parameter; send {}", PARAMETERS.join(", "))));
        }
        let text = |name: &str| parameters.get(name).map(String::as_str);
        let lookup = match (text("sourceSystemID"), text("sourceTransactionID")) {
            (Some(source), None) => Lookup::Source(id("sourceSystemID", source)?),
            (None, Some(transaction)) => Lookup::Transaction(id("sourceTransactionID", transaction)?),
            _ => return Err(invalid("send either sourceSystemID or sourceTransactionID")),
        };
        let range = TimeRange { from: time("from", text("from"))?, to: time("to", text("to"))? };
        if range.from.zip(range.to).is_some_and(|(from, to)| from > to) {
            return Err(invalid("from is later than to; send the earlier time as from"));
        }
        Ok(Self {
            lookup,
            range,
            status: text("status").map(status).transpose()?,
            limit: text("limit").map_or(Ok(DEFAULT_LIMIT), limit)?,
            cursor: text("cursor").map(str::to_owned),
        })
    }
}

fn id(name: &str, text: &str) -> Result<String, Problem> {
    // No stored id is longer.
    if text.is_empty() || text.chars().count() > MAX_FIELD_CHARS || text.chars().any(char::is_control) {
        return Err(invalid(format!(
            "{name} is not an id of 1 to {MAX_FIELD_CHARS} characters without control characters"
        )));
    }
    Ok(text.to_owned())
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    // No record is older than 1970, so an earlier time means the same as that year.
    Timestamp::parse_clamped(text).map(Some).ok_or_else(|| {
        // In a query, `+` stands for a space.
        let plus = if text.contains(' ') { ", and the + of a zone as %2B" } else { "" };
        let text = crate::json::excerpt(text);
        invalid(format!("{name} is `{text}`; send an RFC 3339 time, such as 2026-01-31T09:30:00Z{plus}"))
    })
}

fn status(text: &str) -> Result<RecordStatus, Problem> {
    text.parse().map_err(|_| {
        let text = crate::json::excerpt(text);
        invalid(format!("status is `{text}`; send RECEIVED, COMPLETED or FAILED"))
    })
}

fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| {
        let text = crate::json::excerpt(text);
        invalid(format!("limit is `{text}`; send a number from 1 to {MAX_LIMIT}"))
    })
}

pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidQuery, detail)
}

impl<D: Deployment> Query<D> {
    pub(super) async fn list(
        &self,
        caller: &Caller<'_>,
        question: ListQuestion,
    ) -> Result<ProxyResponse, Problem> {
        if let Lookup::Source(source) = &question.lookup
            && !caller.entry.may_read(source)
        {
            let problem = Problem::new(
                ProblemKind::Forbidden,
                format!(
                    "{} may not read records of sourceSystemID `{}`",
                    caller.entry.principal,
                    crate::json::excerpt(source)
                ),
            );
            Access { source_system_id: Some(source), ..caller.access("list records") }.denied_by(&problem);
            return Err(problem);
        }
        let principal = &caller.entry.principal;
        let after = match &question.cursor {
            None => None,
            Some(text) => Some(cursor::decode(text, &question, principal)?),
        };
        let request = PageRequest {
            lookup: question.lookup.clone(),
            range: question.range,
            status: question.status,
            sources: caller.entry.readable_sources().map(<[_]>::to_vec),
            after,
            limit: question.limit,
        };
        let RecordPage { records, next } =
            self.records.page(&request).await.map_err(|error| unavailable(&error))?;
        let next_cursor = next.map(|position| cursor::encode(position, &question, principal));
        Ok(ProxyResponse::json(&ListView { records, next_cursor }))
    }
}
