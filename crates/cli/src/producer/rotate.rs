//! `custody producer rotate`: gives a principal a new API key, and lets the keys before it expire.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use custody_core::{
    access::{AccessEntry, Credential},
    clock::{Clock as _, SystemClock, Timestamp},
    ports::AccessEntries,
};

use super::{CreatedKey, KnownCredential, existing_credentials_of, expect_unchanged};
use crate::{CommandOutcome, arguments::parse_duration, deployment::Deployment, output::Output};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Name of the producer or auditor.
    name: String,
    /// Time for which the keys before it stay valid: `90s`, `30min`, `2h` or `7d`.
    #[arg(long, value_parser = parse_duration, default_value = "7d", value_name = "DURATION")]
    overlap: Duration,
}

/// Creates the new key first: an interruption leaves two valid keys, and never none.
pub(super) async fn run(
    deployment: &Deployment,
    output: Output,
    Options { name, overlap }: Options,
) -> anyhow::Result<CommandOutcome> {
    let known = existing_credentials_of(deployment, &name).await?;
    let earlier: Vec<KnownCredential> =
        known.into_iter().filter(|(credential, _)| is_api_key(credential)).collect();
    let Some((_, newest)) = earlier.iter().max_by_key(|(_, entry)| entry.added_at) else {
        bail!("`{name}` has no API key; its identity is managed outside of Custody");
    };
    let (api_keys, entries, now) = (deployment.api_keys()?, deployment.access_entries()?, SystemClock.now());
    let key = api_keys.create(&name).await?;
    let entry = AccessEntry { expires_at: None, added_at: now, ..newest.clone() };
    expect_unchanged(entries.put(&key.credential(), &entry, None).await?, &name)?;
    api_keys.accept(&name, &key).await?;
    // The key is printed before anything is taken away: whatever happens next, the producer has a valid key.
    output.print(&CreatedKey::new(&name, key), CreatedKey::print)?;
    let mut deleted = 0;
    for (credential, entry) in &earlier {
        if entry.is_expired(now) {
            if let Credential::ApiKey(id) = credential {
                api_keys.delete(id).await?;
            }
            entries.remove(credential).await?;
            deleted += 1;
        } else {
            let shortened = expiring(entry, now.after(overlap));
            expect_unchanged(entries.put(credential, &shortened, Some(entry)).await?, &name)?;
        }
    }
    if !output.json {
        let expiring = earlier.len() - deleted;
        println!("{expiring} earlier key(s) of `{name}` stay valid until {} at most.", now.after(overlap));
        if deleted > 0 {
            println!("{deleted} expired key(s) were deleted.");
        }
    }
    Ok(CommandOutcome::Complete)
}

const fn is_api_key(credential: &Credential) -> bool {
    matches!(credential, Credential::ApiKey(_))
}

/// Returns an entry that expires at `at`, or at its own expiry if that is earlier.
fn expiring(entry: &AccessEntry, at: Timestamp) -> AccessEntry {
    let expires_at = Some(entry.expires_at.map_or(at, |earlier| earlier.min(at)));
    AccessEntry { expires_at, ..entry.clone() }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::samples;

    use super::*;

    #[test]
    fn a_rotation_never_makes_a_key_valid_for_longer() {
        let entry = samples::producer("loans", &["loans"]);
        let at = |seconds| entry.added_at.after(Duration::from_secs(seconds));
        let first = expiring(&entry, at(100));
        assert_eq!(first.expires_at, Some(at(100)));
        assert_eq!(expiring(&first, at(200)).expires_at, Some(at(100)));
        assert_eq!(expiring(&first, at(50)).expires_at, Some(at(50)));
        assert_eq!(first.role, entry.role);
    }
}
