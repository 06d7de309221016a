//! `custody producer`: decides who may send records, and who may read them. A producer or an auditor is a principal with one or
//! more credentials. Each credential has an access entry in the access table; an API key is also a key of API Gateway.

mod add;
mod api_keys;
mod list;
mod revoke;
mod rotate;
mod sources;

use anyhow::bail;
use clap::Subcommand;
use custody_core::{
    access::{AccessEntry, Credential},
    ports::AccessEntries,
};
use serde::Serialize;

pub(crate) use self::api_keys::ApiKeys;
use self::api_keys::NewApiKey;
use crate::{CommandOutcome, deployment::Deployment, output::Output};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Add a producer or an auditor: create its API key, which is printed once, and its access entry.
    #[command(after_help = "Examples:\n  \
        custody producer add loan-scoring --source loans --source 'cards-*' --rate 100\n  \
        custody producer add audit-team --auditor\n  \
        custody producer add scoring-service --source loans --iam arn:aws:iam::123456789012:role/Scoring")]
    Add(add::Options),
    /// List producers and auditors with their rights and credentials.
    #[command(
        after_help = "Examples:\n  custody producer list\n  custody --json producer list | jq '.[] | select(.isExpired)'"
    )]
    List,
    /// Replace the source systems of a producer. The change is in effect after a minute.
    #[command(
        after_help = "Example:\n  custody producer set-sources loan-scoring --source loans --source mortgages"
    )]
    SetSources(sources::Options),
    /// Create a new API key, which is printed once. The keys before it stay valid for a while.
    #[command(after_help = "Example:\n  custody producer rotate loan-scoring --overlap 7d")]
    Rotate(rotate::Options),
    /// End the access of a producer or an auditor: delete its API keys, then its access entries.
    #[command(after_help = "Example:\n  custody producer revoke loan-scoring")]
    Revoke {
        /// Name of the producer or auditor.
        name: String,
    },
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    command: Command,
) -> anyhow::Result<CommandOutcome> {
    match command {
        Command::Add(options) => add::run(deployment, output, options).await,
        Command::List => list::run(deployment, output).await,
        Command::SetSources(options) => sources::run(deployment, output, options).await,
        Command::Rotate(options) => rotate::run(deployment, output, options).await,
        Command::Revoke { name } => revoke::run(deployment, output, &name).await,
    }
}

/// A credential and its access entry.
type KnownCredential = (Credential, AccessEntry);

/// Returns the credentials of a principal.
async fn credentials_of(deployment: &Deployment, name: &str) -> anyhow::Result<Vec<KnownCredential>> {
    let mut known = deployment.access_entries()?.list().await?;
    known.retain(|(_, entry)| entry.principal == name);
    Ok(known)
}

/// Returns the credentials of a principal, or an error that names the principals that exist.
async fn existing_credentials_of(
    deployment: &Deployment,
    name: &str,
) -> anyhow::Result<Vec<KnownCredential>> {
    let known = credentials_of(deployment, name).await?;
    if known.is_empty() {
        bail!("there is no producer or auditor `{name}`; `custody producer list` shows those that exist");
    }
    Ok(known)
}

/// Fails if a write was not made because somebody else has changed the same entry. What such a command has done already stays.
fn expect_unchanged(is_written: bool, name: &str) -> anyhow::Result<()> {
    if !is_written {
        bail!(
            "another command has changed the access of `{name}` at the same time; see `custody producer list`, and repeat this \
             command if its change is missing there"
        );
    }
    Ok(())
}

/// Output of the commands that create an API key. The value of the key is printed here and nowhere else.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedKey {
    principal: String,
    credential: String,
    api_key: String,
}

impl CreatedKey {
    fn new(principal: &str, key: NewApiKey) -> Self {
        Self { principal: principal.to_owned(), credential: key.credential().to_string(), api_key: key.value }
    }

    fn print(&self) {
        println!("API key, shown only now:  {}", self.api_key);
        println!("Send it in the header x-api-key. API Gateway may take a minute to accept it.");
    }
}
