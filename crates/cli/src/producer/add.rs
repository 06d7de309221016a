//! `custody producer add`: adds a principal with its first credential.

use anyhow::bail;
use clap::Args;
use custody_core::{
    access::{AccessEntry, Credential, ReferencePattern, Role, SourcePattern},
    clock::{Clock as _, SystemClock},
    ports::AccessEntries,
};
use serde_json::json;

use super::{CreatedKey, api_keys::RateLimit, credentials_of, expect_unchanged};
use crate::{CommandOutcome, deployment::Deployment, output::Output};

/// The burst of a rate limit, in seconds of its rate, if no other burst is requested.
const BURST_SECONDS: u32 = 2;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Name of the producer or auditor: 1 to 64 lower-case letters, digits and hyphens.
    #[arg(value_parser = parse_name)]
    name: String,
    /// A `sourceSystemID` that the producer may write and read: one id (`loans`), or a prefix (`cards-*`). Can be repeated.
    #[arg(long = "source", value_name = "PATTERN", required_unless_present = "auditor")]
    sources: Vec<SourcePattern>,
    /// Objects in S3 that the producer may send by reference: one (`s3://scans/a.png`), or a prefix (`s3://scans/loans/*`). Can be
    /// repeated. Custody's own role reads them, so name only what is this producer's own.
    #[arg(long = "reference", value_name = "PATTERN", conflicts_with = "auditor")]
    references: Vec<ReferencePattern>,
    /// Add an auditor, who reads the records of all source systems and writes none.
    #[arg(long, conflicts_with = "sources")]
    auditor: bool,
    /// Identify the principal by an IAM user or role instead of an API key.
    #[arg(long, value_name = "ARN", conflicts_with = "token")]
    iam: Option<String>,
    /// Identify the principal by the principal that an authorizer recognizes, instead of an API key.
    #[arg(long, value_name = "PRINCIPAL")]
    token: Option<String>,
    /// Limit of requests per second, for each API key. Without it, each key has the limit of the template's usage plan, 500.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["iam", "token"])]
    rate: Option<u32>,
    /// Size of a burst, in requests. Twice the rate if it is not given.
    #[arg(long, value_name = "NUMBER", requires = "rate")]
    burst: Option<u32>,
}

/// Reads the name of a principal.
fn parse_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err("a name has 1 to 64 lower-case letters, digits and hyphens".to_owned())
}

pub(super) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let name = &options.name;
    if !credentials_of(deployment, name).await?.is_empty() {
        bail!(
            "`{name}` exists; `custody producer rotate {name}` gives it a new API key, `custody producer set-sources {name}` \
             changes its source systems"
        );
    }
    let role =
        if options.auditor { Role::Auditor } else { Role::Producer { sources: options.sources.clone() } };
    let (references, added_at) = (options.references.clone(), SystemClock.now());
    let entry = AccessEntry { principal: name.clone(), role, references, expires_at: None, added_at };
    match (&options.iam, &options.token) {
        (Some(arn), _) => add_identity(deployment, output, Credential::of_arn(arn), &entry).await,
        (_, Some(token)) => add_identity(deployment, output, Credential::Token(token.clone()), &entry).await,
        (None, None) => add_api_key(deployment, output, &options, &entry).await,
    }
}

/// Adds the access entry of an identity that exists outside of Custody.
async fn add_identity(
    deployment: &Deployment,
    output: Output,
    credential: Credential,
    entry: &AccessEntry,
) -> anyhow::Result<CommandOutcome> {
    let entries = deployment.access_entries()?;
    if let Some(known) = entries.find(&credential).await? {
        bail!(
            "{credential} belongs to `{}`; `custody producer revoke` removes it from there",
            known.principal
        );
    }
    expect_unchanged(entries.put(&credential, entry, None).await?, &entry.principal)?;
    let answer = json!({"principal": entry.principal, "credential": credential.to_string()});
    output.print(&answer, |_| println!("Added {credential} as `{}`.", entry.principal))?;
    Ok(CommandOutcome::Complete)
}

/// Creates an API key and its access entry. The entry precedes the usage plan, with which the API begins to accept the key:
/// so the key has its rights when it is accepted. What an interruption leaves behind is a key that may do nothing.
async fn add_api_key(
    deployment: &Deployment,
    output: Output,
    options: &Options,
    entry: &AccessEntry,
) -> anyhow::Result<CommandOutcome> {
    let api_keys = deployment.api_keys()?;
    // A plan of an earlier, interrupted command is removed: it would also limit this principal.
    api_keys.delete_plan(&entry.principal).await?;
    if let Some(per_second) = options.rate {
        let burst = options.burst.unwrap_or_else(|| per_second.saturating_mul(BURST_SECONDS));
        api_keys.create_plan(&entry.principal, RateLimit { per_second, burst }).await?;
    }
    let key = api_keys.create(&entry.principal).await?;
    let is_new = deployment.access_entries()?.put(&key.credential(), entry, None).await?;
    expect_unchanged(is_new, &entry.principal)?;
    api_keys.accept(&entry.principal, &key).await?;
    output.print(&CreatedKey::new(&entry.principal, key), |created| {
        match &entry.role {
            Role::Auditor => println!("Auditor `{}` may read all records.", entry.principal),
            Role::Producer { .. } => {
                println!("Producer `{}` may write and read: {}", entry.principal, entry.writable_sources());
            }
        }
        created.print();
    })?;
    Ok(CommandOutcome::Complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for name in ["a", "loan-scoring-2", &"x".repeat(64)] {
            assert_eq!(parse_name(name).as_deref(), Ok(name));
        }
        for name in ["", "Loans", "loans eu", "loans/eu", "ü", &"x".repeat(65)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }
}
