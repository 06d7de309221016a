//! The internal message: everything the stages pass on about a record, without its payload.

use serde::{Deserialize, Serialize};

use crate::{
    SCHEMA_VERSION,
    attempt::{Attempt, FIRST_ATTEMPT},
    clock::Timestamp,
    dead_letter::{FailureSummary, PastFailure},
    digest::Sha256,
    metadata::MessageMetaData,
    proxy::RequestContext,
    record_id::RecordId,
};

/// A record on its way through the pipeline. Payload bytes are never part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InternalMessage {
    /// The version of this format.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// When ingest took it.
    #[serde(rename = "receivedAt")]
    pub received_at: Timestamp,
    /// What the producer said of it.
    #[serde(rename = "messageMetaData")]
    pub meta_data: MessageMetaData,
    /// What its payload is.
    pub payload: PayloadDescriptor,
    /// Who sent it.
    #[serde(rename = "messageSecurityContext")]
    pub security_context: SecurityContext,
    /// Where its parts are now.
    #[serde(rename = "storageContext")]
    pub storage_context: StorageContext,
    /// What came before, where this is not the record's first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<Redrive>,
}

/// A further attempt of a record that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redrive {
    /// The number of this attempt, from two.
    pub attempt: u32,
    /// When the attempt was begun.
    pub redriven_at: Timestamp,
    /// How the attempts before it failed, oldest first.
    pub history: Vec<PastFailure>,
}

impl InternalMessage {
    /// A message for a new record that is stored nowhere yet.
    pub fn new(
        message_id: RecordId,
        meta_data: MessageMetaData,
        payload: PayloadDescriptor,
        security_context: SecurityContext,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            message_id,
            received_at: message_id.received_at(),
            meta_data,
            payload,
            security_context,
            storage_context: StorageContext::default(),
            redrive: None,
        }
    }

    /// The attempt that this message goes through the workflow in.
    pub fn attempt(&self) -> Attempt {
        Attempt::new(self.message_id, self.redrive.as_ref().map_or(FIRST_ATTEMPT, |redrive| redrive.attempt))
    }

    /// When this attempt was begun: by acceptance, or by a redrive.
    pub fn begun_at(&self) -> Timestamp {
        self.redrive.as_ref().map_or(self.received_at, |redrive| redrive.redriven_at)
    }

    /// The message of the attempt after the one that ended with `failure`, at `now`. Where the payload is then is for the
    /// archive stage to find out.
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

    /// How earlier attempts failed.
    pub fn history(&self) -> &[PastFailure] {
        self.redrive.as_ref().map_or(&[], |redrive| &redrive.history)
    }

    /// The JSON text of the message.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message always serializes")
    }
}

/// What a payload is: the receipt, the archive and the index all say this of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadDescriptor {
    /// The digest of the payload bytes.
    pub sha256: Sha256,
    /// Their number.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// Their media type.
    #[serde(rename = "contentType")]
    pub content_type: String,
    /// How they were written in the request.
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
    /// The request body itself.
    Binary,
}

/// Who sent a record, kept as evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// The request's context, without any secret.
    #[serde(rename = "requestContext")]
    pub request_context: Caller,
}

/// The part of API Gateway's request context that is evidence. The key's id is kept, its value never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The authenticated principal: an authorizer's, else the IAM one.
    pub principal: Option<String>,
    /// The caller's address.
    pub source_ip: Option<String>,
    /// The caller's program.
    pub user_agent: Option<String>,
    /// API Gateway's id of the request.
    pub request_id: Option<String>,
    /// When API Gateway received it.
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

/// Where the parts of a record are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageContext {
    /// The cached payload, while there is one.
    #[serde(rename = "redisReference")]
    pub redis_reference: Option<RedisReference>,
    /// The archived payload.
    #[serde(rename = "S3Reference")]
    pub s3_reference: Option<S3Reference>,
    /// The metadata item.
    #[serde(rename = "metaDataReference")]
    pub meta_data_reference: Option<MetaDataReference>,
    /// Which of the two are known to be persistent.
    pub persistence: Persistence,
}

/// What is known to be persistent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// The payload is in the archive.
    #[serde(rename = "S3")]
    pub s3: bool,
    /// The metadata is in the table.
    #[serde(rename = "metaData")]
    pub meta_data: bool,
}

/// A payload in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisReference {
    /// The host name.
    pub server: String,
    /// The port.
    pub port: u16,
    /// The hash that holds the payload.
    pub key: String,
}

/// An object in S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Reference {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// An item in DynamoDB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaDataReference {
    /// The table.
    #[serde(rename = "dynamoDbTableName")]
    pub table: String,
    /// The value of its key attribute, `messageID`.
    #[serde(rename = "primaryKey")]
    pub primary_key: RecordId,
}
