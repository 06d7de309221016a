//! Acceptance markers in S3.

use aws_sdk_s3::Client;
use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    error::{ErrorName, StageError},
    open_record::OpenRecord,
    ports::AcceptanceMarkers,
    schema,
    stored_names::MARKER_PREFIX,
};
use tracing::warn;

use crate::{
    classify::stage_error,
    s3::{get, put_json_if_absent},
};

/// The bucket of acceptance markers.
#[derive(Clone, Debug)]
pub struct S3AcceptanceMarkers {
    client: Client,
    bucket: String,
}

impl S3AcceptanceMarkers {
    /// Creates the adapter of the markers in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }
}

impl AcceptanceMarkers for S3AcceptanceMarkers {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        let attempt = record.attempt();
        let json = Bytes::from(serde_json::to_vec(record).expect("an open record always serializes"));
        put_json_if_absent(&self.client, &self.bucket, &attempt.marker_key(), json).await.map_err(|error| {
            stage_error(&error, ErrorName::MarkersUnavailable, format!("mark the acceptance of {attempt}"))
        })
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        let mut attempts = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(MARKER_PREFIX).into_paginator().send();
        while attempts.len() < limit
            && let Some(page) = pages.next().await
        {
            let page = page.map_err(|error| {
                stage_error(&error, ErrorName::MarkersUnavailable, "list the acceptance markers")
            })?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                if let Some(attempt) = Attempt::of_marker_key(key) {
                    attempts.push(attempt);
                } else {
                    warn!(key, "ignored an object that is not an acceptance marker");
                }
            }
        }
        attempts.truncate(limit);
        Ok(attempts)
    }

    async fn find(&self, attempt: Attempt) -> Result<Option<OpenRecord>, StageError> {
        let operation = || format!("read the acceptance marker of {attempt}");
        let unavailable = ErrorName::MarkersUnavailable;
        let content = get(&self.client, &self.bucket, &attempt.marker_key(), unavailable, operation).await?;
        content.map(|content| schema::read(&content, &operation())).transpose()
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(attempt.marker_key()).send().await;
        delete.map(drop).map_err(|error| {
            let operation = format!("clear the acceptance marker of {attempt}");
            stage_error(&error, ErrorName::MarkersUnavailable, operation)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_markers_key_reads_back_as_its_attempt_and_no_other_key_does() {
        let id = "019e1f4b-6c00-7abc-8def-0123456789ab";
        let attempt: Attempt = format!("{id}-1").parse().unwrap();
        assert_eq!(attempt.marker_key(), format!("pending/ab/{id}-1"));
        assert_eq!(Attempt::of_marker_key(&attempt.marker_key()), Some(attempt));
        for key in ["pending/", &format!("pending/{id}-1"), &format!("pending/aa/{id}-1"), "other"] {
            assert_eq!(Attempt::of_marker_key(key), None, "{key}");
        }
    }
}
