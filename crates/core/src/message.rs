//! The internal message: everything that the stages pass on about a record, except its payload.

use serde::{Deserialize, Serialize};

use crate::{
    SCHEMA_VERSION,
    attempt::{Attempt, FIRST_ATTEMPT},
    clock::Timestamp,
    dead_letter::{FailureSummary, PastFailure},
    digest::Sha256,
    metadata::MessageMetadata,
    proxy::RequestContext,
    record_id::RecordId,
};

/// A record in the pipeline. Payload bytes are never part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InternalMessage {
    /// The version of this format.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The id of the record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// When Custody received the record's metadata. For an upload: when it was begun.
    #[serde(rename = "receivedAt")]
    pub received_at: Timestamp,
    /// When the record was accepted, if that was later than its metadata was received: when its upload was completed.
    #[serde(rename = "acceptedAt", default, skip_serializing_if = "Option::is_none")]
    pub accepted_later_at: Option<Timestamp>,
    /// The producer's metadata.
    #[serde(rename = "messageMetaData")]
    pub metadata: MessageMetadata,
    /// The description of the payload.
    pub payload: PayloadDescriptor,
    /// Who sent the record.
    #[serde(rename = "messageSecurityContext")]
    pub security_context: SecurityContext,
    /// Where the parts of the record are stored now.
    #[serde(rename = "storageContext")]
    pub storage_context: StorageContext,
    /// The earlier attempts; `None` in a record's first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<Redrive>,
}

/// The data of a further attempt of a failed record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redrive {
    /// The number of this attempt, at least two.
    pub attempt: u32,
    /// When this attempt began.
    pub redriven_at: Timestamp,
    /// How the earlier attempts failed, oldest first.
    pub history: Vec<PastFailure>,
}

impl InternalMessage {
    /// Creates the message of a new record that is stored nowhere yet.
    pub fn new(
        message_id: RecordId,
        metadata: MessageMetadata,
        payload: PayloadDescriptor,
        security_context: SecurityContext,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            message_id,
            received_at: message_id.received_at(),
            accepted_later_at: None,
            metadata,
            payload,
            security_context,
            storage_context: StorageContext::default(),
            redrive: None,
        }
    }

    /// Returns the attempt to which this message belongs.
    pub fn attempt(&self) -> Attempt {
        Attempt::new(self.message_id, self.redrive.as_ref().map_or(FIRST_ATTEMPT, |redrive| redrive.attempt))
    }

    /// Returns when the record was accepted.
    pub fn accepted_at(&self) -> Timestamp {
        self.accepted_later_at.unwrap_or(self.received_at)
    }

    /// Returns when this attempt began: at the acceptance, or at the redrive.
    pub fn begun_at(&self) -> Timestamp {
        self.redrive.as_ref().map_or_else(|| self.accepted_at(), |redrive| redrive.redriven_at)
    }

    /// Returns the message of the next attempt, which begins at `now` because this one ended with `failure`. The
    /// archive stage finds out where the payload is then.
    #[must_use]
    pub fn redriven(&self, failure: &FailureSummary, now: Timestamp) -> Self {
        Self {
            storage_context: StorageContext::default(),
            redrive: Some(Redrive {
                attempt: failure.attempt + 1,
                redriven_at: now,
                history: PastFailure::history(self.history(), failure),
            }),
            ..self.clone()
        }
    }

    /// Returns how earlier attempts failed, oldest first.
    pub fn history(&self) -> &[PastFailure] {
        self.redrive.as_ref().map_or(&[], |redrive| &redrive.history)
    }

    /// Returns the JSON text of the message.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message always serializes")
    }
}

/// The description of a payload, which is the same in the receipt, the archive and the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadDescriptor {
    /// The digest of the payload bytes.
    pub sha256: Sha256,
    /// The size of the payload.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// The media type of the payload.
    #[serde(rename = "contentType")]
    pub content_type: String,
    /// How the request carried the payload.
    pub encoding: PayloadEncoding,
}

/// How a request carried its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadEncoding {
    /// A base64 string; the payload is the decoded bytes.
    Base64,
    /// A JSON string; the payload is its text in UTF-8.
    Utf8,
    /// A JSON value; the payload is its JSON text as sent.
    Json,
    /// The request body itself, or an object in S3.
    Binary,
}

/// The sender of a record, stored as evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// The request's context, without any secret.
    #[serde(rename = "requestContext")]
    pub request_context: Caller,
}

/// The part of API Gateway's request context that is evidence. It has the id of the API key, but never its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The principal in the caller's access entry. For a rejected request: the principal of an authorizer, else that of IAM.
    pub principal: Option<String>,
    /// The caller's address.
    pub source_ip: Option<String>,
    /// The caller's user agent.
    pub user_agent: Option<String>,
    /// API Gateway's id of the request.
    pub request_id: Option<String>,
    /// When API Gateway received the request.
    pub request_time: Option<Timestamp>,
    /// The deployment stage.
    pub stage: Option<String>,
    /// The path, including the stage.
    pub path: Option<String>,
    /// The id of the API key.
    pub api_key_id: Option<String>,
}

impl From<RequestContext> for SecurityContext {
    fn from(context: RequestContext) -> Self {
        let principal = context.authorizer.and_then(|a| a.principal_id).or(context.identity.user_arn);
        Self {
            request_context: Caller {
                principal,
                source_ip: context.identity.source_ip,
                user_agent: context.identity.user_agent.map(|text| text.chars().take(512).collect()),
                request_id: context.request_id,
                request_time: context.request_time_epoch.and_then(Timestamp::from_unix_ms),
                stage: context.stage,
                path: context.path,
                api_key_id: context.identity.api_key_id,
            },
        }
    }
}

impl SecurityContext {
    /// Creates the evidence of a request that the principal with this name has sent.
    pub fn of_principal(context: RequestContext, principal: &str) -> Self {
        let mut evidence = Self::from(context);
        evidence.request_context.principal = Some(principal.to_owned());
        evidence
    }
}

/// Where the parts of a record are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageContext {
    /// The cached payload, if the cache has it.
    #[serde(rename = "redisReference")]
    pub redis_reference: Option<RedisReference>,
    /// The archived payload.
    #[serde(rename = "S3Reference")]
    pub s3_reference: Option<S3Reference>,
    /// The metadata item.
    #[serde(rename = "metaDataReference")]
    pub metadata_reference: Option<MetadataReference>,
    /// Which of these parts are known to be persistent.
    pub persistence: Persistence,
}

/// The parts of a record that are known to be persistent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// The payload is in the archive.
    #[serde(rename = "S3")]
    pub s3: bool,
    /// The metadata is in the table.
    #[serde(rename = "metaData")]
    pub metadata: bool,
}

/// A payload in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisReference {
    pub server: String,
    pub port: u16,
    /// The cache key of the payload.
    pub key: String,
}

/// An object in S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Reference {
    pub bucket: String,
    pub key: String,
}

/// An item in DynamoDB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataReference {
    /// The name of the table.
    #[serde(rename = "dynamoDbTableName")]
    pub table: String,
    /// The value of the item's key attribute, `messageID`.
    #[serde(rename = "primaryKey")]
    pub primary_key: RecordId,
}
