//! The configuration of query.

use super::{AcceptanceTables, Reader};

/// The configuration of query.
#[derive(Debug)]
pub struct QueryConfig {
    /// The origin whose pages may read answers in a browser; `*` for every origin.
    pub allowed_origin: String,
    /// The name of the access table (DynamoDB).
    pub access_table: String,
    /// The bucket of the markers of acceptances that the table could not store.
    pub marker_bucket: String,
    /// The open-record table and the idempotency table.
    pub tables: AcceptanceTables,
    /// The name of the record table (DynamoDB).
    pub table_name: String,
}

impl QueryConfig {
    /// Reads the configuration from its keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            allowed_origin: reader.text("ALLOWED_ORIGIN"),
            access_table: reader.text("ACCESS_TABLE"),
            marker_bucket: reader.text("MARKER_BUCKET"),
            tables: AcceptanceTables::read(reader),
            table_name: reader.text("TABLE_NAME"),
        }
    }
}
