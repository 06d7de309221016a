//! Query: answers what producers and auditors ask about records.
//!
//! *Invariant:* a caller learns of a record only if its access entry lets it read the record's `sourceSystemID`. To every other
//! caller, the record does not exist.

mod cursor;
mod list;
mod payload;
mod request;
mod show;

use std::sync::Arc;

use bytes::Bytes;
use tracing::{error, info, warn};

use self::request::{Question, read};
use crate::{
    access::{AccessControl, AccessEntry, Credential},
    clock::Clock as _,
    error::StageError,
    ports::Deployment,
    problem::{Problem, ProblemKind},
    proxy::{ProxyResponse, RequestContext},
    record_id::RecordId,
};

/// The query stage over its ports.
pub struct Query<D: Deployment> {
    /// The access control, which knows who may read which records.
    pub access: AccessControl<D::Access>,
    /// The acceptance markers, in which a record may be that the tables do not have yet.
    pub markers: D::Markers,
    /// The open-record table.
    pub open_records: D::OpenRecords,
    /// The record table, for reads.
    pub records: D::RecordQueries,
    /// The maker of links to payloads.
    pub links: D::PayloadLinks,
    pub clock: D::Clock,
}

impl<D: Deployment> Query<D> {
    /// Answers one API Gateway proxy event, given as the JSON text that Lambda delivered. Every problem is reported to the
    /// caller as problem details.
    pub async fn run(&self, event: &Bytes) -> ProxyResponse {
        let (question, context) = match read(event) {
            Ok(read) => read,
            Err(problem) => return ProxyResponse::of_problem(&problem, None),
        };
        match Box::pin(self.answer(question, &context)).await {
            Ok(response) => response,
            Err(problem) => ProxyResponse::of_problem(&problem, context.request_id.as_deref()),
        }
    }

    async fn answer(
        &self,
        question: Result<Question, Problem>,
        context: &RequestContext,
    ) -> Result<ProxyResponse, Problem> {
        let entry = self.access.entry_of(context, self.clock.now()).await;
        let entry = entry.inspect_err(|problem| {
            // An access table that cannot be asked is an outage and no denial.
            if problem.kind == ProblemKind::Forbidden {
                log(context, None, Outcome::Denied(&problem.detail), "read", None);
            }
        })?;
        let caller = Caller { context, entry };
        match question? {
            Question::Record(id) => self.show(&caller, id).await,
            Question::Payload { id, wants_json } => self.payload(&caller, id, wants_json).await,
            Question::List(list) => self.list(&caller, list).await,
        }
    }
}

/// The caller of a request, who has an access entry.
struct Caller<'a> {
    context: &'a RequestContext,
    entry: Arc<AccessEntry>,
}

impl Caller<'_> {
    /// Checks that the caller may read records of this source. The problem does not tell an unknown record from a forbidden one.
    fn check_read(&self, id: RecordId, source_system_id: &str, action: &'static str) -> Result<(), Problem> {
        if self.entry.may_read(source_system_id) {
            return Ok(());
        }
        self.log(Outcome::Denied("the record is of another source"), action, Some(id));
        Err(unknown_record(id))
    }

    /// Writes a line to the access log: who, what, when, from where.
    fn log(&self, outcome: Outcome<'_>, action: &'static str, id: Option<RecordId>) {
        log(self.context, Some(&self.entry.principal), outcome, action, id);
    }
}

/// The outcome of a check of access.
#[derive(Clone, Copy)]
enum Outcome<'a> {
    Granted,
    /// Denied for this reason.
    Denied(&'a str),
}

fn log(
    context: &RequestContext,
    principal: Option<&str>,
    outcome: Outcome<'_>,
    action: &'static str,
    id: Option<RecordId>,
) {
    let credential = Credential::of(context).map(|credential| credential.to_string());
    let (credential, id) = (credential.as_deref(), id.map(|id| id.to_string()));
    let (source_ip, request_id) = (context.identity.source_ip.as_deref(), context.request_id.as_deref());
    match outcome {
        Outcome::Granted => info!(
            access.outcome = "granted",
            access.action = action,
            access.principal = principal,
            access.credential = credential,
            access.source_ip = source_ip,
            record.id = id,
            request.id = request_id,
            "granted access"
        ),
        Outcome::Denied(reason) => warn!(
            access.outcome = "denied",
            access.action = action,
            access.principal = principal,
            access.credential = credential,
            access.source_ip = source_ip,
            access.reason = reason,
            record.id = id,
            request.id = request_id,
            "denied access"
        ),
    }
}

fn unknown_record(id: RecordId) -> Problem {
    Problem::new(
        ProblemKind::UnknownRecord,
        format!("there is no record {id} that this caller may read; send the messageID of a receipt"),
    )
}

/// Returns the problem of a question that a store could not answer. The error itself goes to the log only.
fn unavailable(error: &StageError) -> Problem {
    error!(error.name = error.name.as_str(), %error, "a store could not be asked");
    Problem::new(
        ProblemKind::LookupUnavailable,
        "the stores of records cannot be asked now; send the request again after the time in Retry-After",
    )
}

#[cfg(test)]
mod tests;
