//! `custody producer set-sources`: changes the source systems of a producer.

use anyhow::bail;
use clap::Args;
use custody_core::{
    access::{AccessEntry, ReferencePattern, Role, SourcePattern},
    ports::AccessEntries,
};
use serde_json::json;

use super::{existing_credentials_of, expect_unchanged};
use crate::{CommandOutcome, deployment::Deployment, output::Output};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Name of the producer.
    name: String,
    /// A `sourceSystemID` that the producer may write and read: one id (`loans`), or a prefix (`cards-*`). Can be repeated.
    #[arg(long = "source", value_name = "PATTERN", required = true)]
    sources: Vec<SourcePattern>,
    /// Objects in S3 that the producer may send by reference, instead of the present ones. Can be repeated.
    #[arg(long = "reference", value_name = "PATTERN")]
    references: Option<Vec<ReferencePattern>>,
}

pub(super) async fn run(
    deployment: &Deployment,
    output: Output,
    Options { name, sources, references }: Options,
) -> anyhow::Result<CommandOutcome> {
    let known = existing_credentials_of(deployment, &name).await?;
    if known.iter().any(|(_, entry)| entry.role == Role::Auditor) {
        bail!("`{name}` is an auditor and writes no records; add a producer under another name");
    }
    let entries = deployment.access_entries()?;
    for (credential, entry) in &known {
        let references = references.clone().unwrap_or_else(|| entry.references.clone());
        let changed =
            AccessEntry { role: Role::Producer { sources: sources.clone() }, references, ..entry.clone() };
        expect_unchanged(entries.put(credential, &changed, Some(entry)).await?, &name)?;
    }
    output.print(&json!({"principal": name, "sources": sources}), |_| {
        let sources = sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!("Within a minute, `{name}` may write and read: {sources}");
    })?;
    Ok(CommandOutcome::Complete)
}
