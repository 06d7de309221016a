//! `custody producer revoke`: ends the access of a principal.

use custody_core::{access::Credential, ports::AccessEntries};
use serde_json::json;

use super::existing_credentials_of;
use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{Output, format_count},
};

/// Deletes the API keys first: API Gateway refuses them from then on, while functions may remember an access entry for a
/// minute. An interruption leaves entries, so the command can be repeated.
pub(super) async fn run(
    deployment: &Deployment,
    output: Output,
    name: &str,
) -> anyhow::Result<CommandOutcome> {
    let known = existing_credentials_of(deployment, name).await?;
    let (api_keys, entries) = (deployment.api_keys()?, deployment.access_entries()?);
    for (credential, _) in &known {
        if let Credential::ApiKey(id) = credential {
            api_keys.delete(id).await?;
        }
    }
    api_keys.delete_plan(name).await?;
    for (credential, _) in &known {
        entries.remove(credential).await?;
    }
    output.print(&json!({"principal": name, "revokedCredentials": known.len()}), |_| {
        let count = format_count(known.len(), false, "credential", "credentials");
        println!("Revoked {count} of `{name}`. A function may remember an IAM identity or a token for another minute.");
    })?;
    Ok(CommandOutcome::Complete)
}
