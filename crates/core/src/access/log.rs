//! The access log: who wanted what, when and from where. A line has neither a payload nor a secret.

use tracing::{info, warn};

use super::Credential;
use crate::{
    problem::{Problem, ProblemKind},
    proxy::RequestContext,
    record_id::RecordId,
};

/// What a caller wants, and what is known of it before the line is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    pub(crate) context: &'a RequestContext,
    /// The name in the caller's access entry; `None` if the caller has no valid entry.
    pub(crate) principal: Option<&'a str>,
    /// What the caller wants to do: `write`, `read payload`.
    pub(crate) action: &'static str,
    pub(crate) record: Option<RecordId>,
    pub(crate) source_system_id: Option<&'a str>,
}

impl<'a> Access<'a> {
    /// Begins the line of a caller of whom only the request is known.
    pub(crate) fn new(context: &'a RequestContext, action: &'static str) -> Self {
        Self { context, principal: None, action, record: None, source_system_id: None }
    }

    /// Writes that the caller got what it wanted.
    pub(crate) fn granted(self) {
        let Fields { credential, record, source_ip, request_id } = self.fields();
        info!(
            access.outcome = "granted",
            access.action = self.action,
            access.principal = self.principal,
            access.credential = credential,
            access.source_system_id = self.source_system_id,
            access.source_ip = source_ip,
            record.id = record,
            request.id = request_id,
            "granted access"
        );
    }

    /// Writes that the caller did not get what it wanted, for this reason.
    pub(crate) fn denied(self, reason: &str) {
        let Fields { credential, record, source_ip, request_id } = self.fields();
        warn!(
            access.outcome = "denied",
            access.action = self.action,
            access.principal = self.principal,
            access.credential = credential,
            access.source_system_id = self.source_system_id,
            access.source_ip = source_ip,
            access.reason = reason,
            record.id = record,
            request.id = request_id,
            "denied access"
        );
    }

    /// Writes that the caller was refused with this problem, if the problem is a denial. An access table that cannot be asked is
    /// an outage and no denial.
    pub(crate) fn denied_by(self, problem: &Problem) {
        if problem.kind == ProblemKind::Forbidden {
            self.denied(&problem.detail);
        }
    }

    fn fields(self) -> Fields<'a> {
        Fields {
            credential: Credential::of(self.context).map(|credential| credential.to_string()),
            record: self.record.map(|id| id.to_string()),
            source_ip: self.context.identity.source_ip.as_deref(),
            request_id: self.context.request_id.as_deref(),
        }
    }
}

/// The fields of a line that come from the request, as text.
struct Fields<'a> {
    credential: Option<String>,
    record: Option<String>,
    source_ip: Option<&'a str>,
    request_id: Option<&'a str>,
}
