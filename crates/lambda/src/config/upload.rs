//! The configuration of upload.

use std::time::Duration;

use custody_core::upload::AllowedSources;

use super::{AcceptanceTables, Reader, WorkflowConfig, seconds};

/// The configuration of the uploads themselves, which ingest needs for payloads that are sent by reference.
#[derive(Debug)]
pub struct TransferConfig {
    /// The name of the upload table (DynamoDB).
    pub upload_table: String,
    /// The staging bucket.
    pub staging_bucket: String,
    /// The objects that producers may send by reference.
    pub allowed_sources: AllowedSources,
}

impl TransferConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let expected = "`none`, or a list of ARNs such as arn:aws:s3:::scans/*";
        let sources =
            |text: &str| if text == "none" { Some(AllowedSources::default()) } else { text.parse().ok() };
        Self {
            upload_table: reader.text("UPLOAD_TABLE"),
            staging_bucket: reader.text("STAGING_BUCKET"),
            allowed_sources: reader.parsed("REFERENCE_SOURCES", expected, sources).unwrap_or_default(),
        }
    }
}

/// The configuration of upload.
#[derive(Debug)]
pub struct UploadConfig {
    /// The origin whose pages may read answers in a browser; `*` for every origin.
    pub allowed_origin: String,
    /// The name of the access table (DynamoDB).
    pub access_table: String,
    /// The archive bucket.
    pub archive_bucket: String,
    /// The upload table, the staging bucket and the allowed sources.
    pub transfers: TransferConfig,
    /// The open-record table and the idempotency table.
    pub tables: AcceptanceTables,
    /// The workflow that this stage starts.
    pub workflow: WorkflowConfig,
    /// The time from a record's acceptance to reconcile's first look at it.
    pub first_look: Duration,
}

impl UploadConfig {
    /// Reads the configuration from its keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            allowed_origin: reader.text("ALLOWED_ORIGIN"),
            access_table: reader.text("ACCESS_TABLE"),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            transfers: TransferConfig::read(reader),
            tables: AcceptanceTables::read(reader),
            workflow: WorkflowConfig::read(reader),
            first_look: seconds(reader, "FIRST_LOOK_SECONDS"),
        }
    }
}
