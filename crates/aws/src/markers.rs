//! Acceptance markers in S3, under keys `pending/<two hexadecimal digits>/<attempt>`. The two digits are the last
//! digits of the record's id, which are random. While the open-record table is unavailable, they spread the writes of
//! markers over 256 prefixes: S3 accepts 3,500 writes a second in each prefix. Source: Amazon S3 user guide, "Best
//! practices design patterns: optimizing Amazon S3 performance".

use aws_sdk_s3::Client;
use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    digest::Sha256,
    error::{ErrorName, StageError},
    open_record::OpenRecord,
    ports::AcceptanceMarkers,
};
use tracing::warn;

use crate::{
    classify::stage_error,
    s3::{NewObject, get, put_if_absent},
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

/// The prefix of all markers.
const MARKERS: &str = "pending/";

fn marker_key(attempt: Attempt) -> String {
    let id = attempt.record.to_string();
    format!("{MARKERS}{}/{attempt}", &id[id.len() - 2..])
}

/// Returns the attempt whose marker has this key. `None` if the key is not the key of a marker.
fn attempt_of(key: &str) -> Option<Attempt> {
    let attempt = key.strip_prefix(MARKERS)?.split_once('/')?.1.parse().ok()?;
    (marker_key(attempt) == key).then_some(attempt)
}

impl AcceptanceMarkers for S3AcceptanceMarkers {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        let attempt = record.attempt();
        let content = Bytes::from(serde_json::to_vec(record).expect("an open record always serializes"));
        let (sha256, key) = (Sha256::of(&content), marker_key(attempt));
        let object = NewObject {
            key: &key,
            content: content.into(),
            sha256,
            content_type: "application/json",
            archived_at: None,
        };
        put_if_absent(&self.client, &self.bucket, object).await.map(drop).map_err(|error| {
            stage_error(&error, ErrorName::MarkersUnavailable, format!("mark the acceptance of {attempt}"))
        })
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        let mut attempts = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(MARKERS).into_paginator().send();
        while attempts.len() < limit
            && let Some(page) = pages.next().await
        {
            let page = page.map_err(|error| {
                stage_error(&error, ErrorName::MarkersUnavailable, "list the acceptance markers")
            })?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                if let Some(attempt) = attempt_of(key) {
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
        let content = get(&self.client, &self.bucket, &marker_key(attempt), unavailable, operation).await?;
        let read = |content: Bytes| {
            serde_json::from_slice(&content)
                .map_err(|error| StageError::new(ErrorName::ServiceRefused, operation()).caused_by(error))
        };
        content.map(read).transpose()
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(marker_key(attempt)).send().await;
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
        assert_eq!(marker_key(attempt), format!("pending/ab/{id}-1"));
        assert_eq!(attempt_of(&marker_key(attempt)), Some(attempt));
        for key in ["pending/", &format!("pending/{id}-1"), &format!("pending/aa/{id}-1"), "other"] {
            assert_eq!(attempt_of(key), None, "{key}");
        }
    }
}
