//! The attributes of items in DynamoDB. `template.yaml` names those that are keys of tables and indexes.

// All tables.
pub const MESSAGE_ID: &str = "messageID";

// Access table. The other attributes are the fields of an access entry.
pub const CREDENTIAL: &str = "credential";

// Upload table.
pub const UPLOAD: &str = "upload";
pub const DESCRIPTION: &str = "description";

// Record table.
pub const MESSAGE_TYPE: &str = "messageType";
pub const SOURCE_SYSTEM_ID: &str = "sourceSystemID";
pub const SOURCE_TRANSACTION_ID: &str = "sourceTransactionID";
pub const DATE_TIME: &str = "dateTime";
pub const SOURCE_PARTITION: &str = "sourcePartition";
pub const RECEIVED_AT: &str = "receivedAt";
pub const STATUS: &str = "status";
pub const PAYLOAD: &str = "payload";
pub const STORAGE_CONTEXT: &str = "storageContext";
pub const METADATA_STORED_AT: &str = "metaDataStoredAt";
pub const ARCHIVED_AT: &str = "archivedAt";
pub const COMPLETED_AT: &str = "completedAt";
pub const FAILED_AT: &str = "failedAt";
pub const REBUILT_AT: &str = "rebuiltAt";
pub const DISCARDED: &str = "discarded";
pub const REDRIVE: &str = "redrive";

// Record table and open-record table.
pub const FAILURE: &str = "failure";
pub const ATTEMPT: &str = "attempt";

// Open-record table.
pub const STATE: &str = "state";
pub const PARTITION: &str = "partition";
pub const LOOK_AT: &str = "lookAt";
pub const ACCEPTED_AT: &str = "acceptedAt";
pub const LOOKS: &str = "looks";
pub const STARTS: &str = "starts";
pub const STARTED_AT: &str = "startedAt";
pub const DURABILITY: &str = "durability";
pub const MESSAGE: &str = "message";
pub const MISSING_SINCE: &str = "missingSince";
pub const PENDING_STEPS: &str = "pendingSteps";
/// Open record: when the redrive that a person asked for is due.
pub const REDRIVE_AT: &str = "redriveAt";

// Idempotency table, and open-record table.
pub const IDEMPOTENCY_KEY: &str = "idempotencyKey";

// Idempotency table, and upload table.
pub const LEASED_UNTIL: &str = "leasedUntil";
pub const CLAIM: &str = "claim";
pub const EXPIRES_AT: &str = "expiresAt";
pub const TIME_TO_LIVE: &str = "timeToLive";
