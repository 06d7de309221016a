//! Who may do what: the credentials that API Gateway has checked, the access entries of their holders, and their rights.
//!
//! *Invariant:* a credential without an access entry may do nothing.

mod control;
mod log;
mod reference_pattern;
mod source_pattern;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{control::AccessControl, reference_pattern::ReferencePattern, source_pattern::SourcePattern};
pub(crate) use self::{
    control::{check_is_producer, check_reference, check_write},
    log::Access,
};
use crate::{clock::Timestamp, proxy::RequestContext};

/// What a caller has shown to API Gateway. It is the key of an access entry and contains no secret.
///
/// Its text is `<kind>:<id>`: `api-key:k1e2y3i4d5`, `iam:arn:aws:iam::123456789012:user/scoring`, `token:scoring-service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Credential {
    /// The id of an API key. It is not the key's value.
    ApiKey(String),
    /// The ARN of an IAM user, or the ARN of an assumed role without the name of the session:
    /// `arn:aws:sts::123456789012:assumed-role/<role>`.
    Iam(String),
    /// The principal that an authorizer has recognized, such as the subject of a token.
    Token(String),
}

impl Credential {
    /// Returns the credential of a request. API Gateway writes the request context, so a producer cannot choose it. An
    /// authenticated identity precedes an API key, which anybody who has read the key can send. Source: Amazon API Gateway
    /// developer guide, "Input format of a Lambda function for proxy integration".
    pub fn of(context: &RequestContext) -> Option<Self> {
        let token = context.authorizer.as_ref().and_then(|authorizer| authorizer.principal_id.clone());
        let identity = &context.identity;
        let iam = || identity.user_arn.as_deref().map(Self::of_arn);
        let api_key = || identity.api_key_id.clone().map(Self::ApiKey);
        token.map(Self::Token).or_else(iam).or_else(api_key)
    }

    /// Returns the credential of an IAM user, an IAM role or a session of a role. A role and its sessions have one credential.
    pub fn of_arn(arn: &str) -> Self {
        Self::Iam(role_in_use(arn).unwrap_or_else(|| without_session(arn)))
    }
}

/// Returns the ARN under which a role makes requests, without a session, if `arn` is that of a role. The path of the role is not
/// part of it: `arn:aws:iam::123456789012:role/path/<role>` becomes `arn:aws:sts::123456789012:assumed-role/<role>`.
fn role_in_use(arn: &str) -> Option<String> {
    let (partition, rest) = arn.strip_prefix("arn:")?.split_once(":iam::")?;
    let (account, path) = rest.split_once(":role/")?;
    let role = path.rsplit('/').next()?;
    Some(format!("arn:{partition}:sts::{account}:assumed-role/{role}"))
}

/// Returns the ARN of an assumed role without the name of its session, which the caller chooses:
/// `arn:aws:sts::123456789012:assumed-role/<role>/<session>`. Source: AWS IAM user guide, "IAM identifiers".
fn without_session(arn: &str) -> String {
    let mut parts = arn.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(start), Some(role), Some(_)) if start.ends_with(":assumed-role") => format!("{start}/{role}"),
        _ => arn.to_owned(),
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(id) => write!(f, "api-key:{id}"),
            Self::Iam(arn) => write!(f, "iam:{arn}"),
            Self::Token(principal) => write!(f, "token:{principal}"),
        }
    }
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((_, "")) | None => {}
            Some(("api-key", id)) => return Ok(Self::ApiKey(id.to_owned())),
            Some(("iam", arn)) => return Ok(Self::Iam(arn.to_owned())),
            Some(("token", principal)) => return Ok(Self::Token(principal.to_owned())),
            Some(_) => {}
        }
        Err(format!("`{text}` is not api-key:<id>, iam:<ARN> or token:<principal>"))
    }
}

/// An access entry: the principal to whom a credential belongs, and the rights of that principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessEntry {
    /// The name of the producer or auditor.
    pub principal: String,
    /// The rights of the principal.
    #[serde(flatten)]
    pub role: Role,
    /// The objects that the principal may send by reference. Custody's own role reads them, so nobody may send the objects of
    /// others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferencePattern>,
    /// When the credential stops to be valid. `None` if it is valid until it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When an operator added the entry.
    pub added_at: Timestamp,
}

/// The rights of a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "role")]
pub enum Role {
    /// Writes and reads the records of its own source systems.
    Producer {
        /// The `sourceSystemID`s of the principal.
        sources: Vec<SourcePattern>,
    },
    /// Reads all records and writes none.
    Auditor,
}

impl AccessEntry {
    /// Whether the credential is no longer valid.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Whether the principal may write records of this `sourceSystemID`.
    pub fn may_write(&self, source_system_id: &str) -> bool {
        match &self.role {
            Role::Producer { sources } => sources.iter().any(|source| source.matches(source_system_id)),
            Role::Auditor => false,
        }
    }

    /// Returns the patterns of the source systems whose records the principal may read; `None` for all source systems.
    pub fn readable_sources(&self) -> Option<&[SourcePattern]> {
        match &self.role {
            Role::Producer { sources } => Some(sources),
            Role::Auditor => None,
        }
    }

    /// Whether the principal may read records of this `sourceSystemID`.
    pub fn may_read(&self, source_system_id: &str) -> bool {
        self.readable_sources()
            .is_none_or(|sources| sources.iter().any(|source| source.matches(source_system_id)))
    }

    /// Returns the right to write as text for a person.
    pub fn writable_sources(&self) -> String {
        match &self.role {
            Role::Producer { sources } => {
                sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            Role::Auditor => "none, because it is an auditor".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
