//! What a producer is told of an upload that cannot be begun or completed.

use tracing::{error, warn};

use crate::{
    error::{ErrorName, StageError},
    problem::{Problem, ProblemKind},
    record_id::RecordId,
    stages::keys::{keys_unavailable, no_durable_store},
    upload::{SourceObject, SourceUri},
};

pub(super) fn not_uploaded(id: RecordId) -> Problem {
    Problem::new(
        ProblemKind::UploadIncomplete,
        format!(
            "the payload of upload {id} has not arrived; upload it with the link of GET /uploads/{id}, then complete it. If S3 refuses it, its \
             size or its sha256 is not the announced one: begin another upload"
        ),
    )
}

pub(super) fn source_changed(source: &SourceObject) -> Problem {
    Problem::new(
        ProblemKind::ReferenceChanged,
        format!(
            "{} has changed or was deleted after it was sent by reference; nothing was acknowledged, send the record again",
            source.uri
        ),
    )
}

/// Returns the problem of an object that could not be inspected or copied.
pub(super) fn source_problem(uri: &SourceUri, error: &StageError) -> Problem {
    warn!(error.name = error.name.as_str(), %error, "could not use an object that was sent by reference");
    if !matches!(error.name, ErrorName::AccessDenied | ErrorName::ServiceRefused) {
        return no_durable_store();
    }
    Problem::new(
        ProblemKind::ReferenceUnreadable,
        format!(
            "S3 refuses to read {uri} for Custody: it does not exist, or its bucket's policy or the policy of its key do not admit \
             the roles of Custody's functions, or it is in another Region or in an archive storage class"
        ),
    )
}

pub(super) fn unknown_key(error: &StageError) -> Problem {
    error!(error.name = error.name.as_str(), %error, "the tables of an acceptance cannot be asked");
    keys_unavailable()
}

pub(super) fn unavailable(error: &StageError) -> Problem {
    error!(error.name = error.name.as_str(), %error, "a store of uploads could not be asked");
    Problem::new(
        ProblemKind::LookupUnavailable,
        "the stores of uploads cannot be asked now; send the request again after the time in Retry-After",
    )
}
