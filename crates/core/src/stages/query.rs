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
use tracing::{error, info};

use self::request::{Question, read};
use crate::{
    access::{Access, AccessControl, AccessEntry},
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
            Err(problem) => {
                info!(
                    request.id = context.request_id.as_deref(),
                    problem = problem.kind.slug(),
                    stage = "query",
                    "refused a request"
                );
                ProxyResponse::of_problem(&problem, context.request_id.as_deref())
            }
        }
    }

    async fn answer(
        &self,
        question: Result<Question, Problem>,
        context: &RequestContext,
    ) -> Result<ProxyResponse, Problem> {
        let entry = self.access.entry_of(context, self.clock.now()).await;
        let entry = entry.inspect_err(|problem| Access::new(context, "read").denied_by(problem))?;
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
        let access =
            Access { record: Some(id), source_system_id: Some(source_system_id), ..self.access(action) };
        access.denied("the record is of another source");
        Err(unknown_record(id))
    }

    /// Begins a line of the access log.
    fn access(&self, action: &'static str) -> Access<'_> {
        Access { principal: Some(&self.entry.principal), ..Access::new(self.context, action) }
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
