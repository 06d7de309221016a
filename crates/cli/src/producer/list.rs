//! `custody producer list`: prints principals with their rights and credentials.

use custody_core::{
    access::{AccessEntry, Role},
    clock::{Clock as _, SystemClock, Timestamp},
    ports::AccessEntries,
};
use serde::Serialize;

use super::KnownCredential;
use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{Output, format_count, table},
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    credential: String,
    #[serde(flatten)]
    entry: AccessEntry,
    is_expired: bool,
}

pub(super) async fn run(deployment: &Deployment, output: Output) -> anyhow::Result<CommandOutcome> {
    let known = deployment.access_entries()?.list().await?;
    let now = SystemClock.now();
    let lines: Vec<_> = known.into_iter().map(|known| Line::of(known, now)).collect();
    output.print(&lines, |lines| print(lines))?;
    Ok(CommandOutcome::Complete)
}

impl Line {
    fn of((credential, entry): KnownCredential, now: Timestamp) -> Self {
        Self { credential: credential.to_string(), is_expired: entry.is_expired(now), entry }
    }

    fn cells(&self) -> [String; 5] {
        let (role, sources) = match &self.entry.role {
            Role::Auditor => ("auditor", "all, read only".to_owned()),
            Role::Producer { .. } => ("producer", self.entry.writable_sources()),
        };
        let expires = match self.entry.expires_at {
            None => "-".to_owned(),
            Some(at) if self.is_expired => format!("expired {at}"),
            Some(at) => at.to_string(),
        };
        [self.entry.principal.clone(), role.to_owned(), sources, self.credential.clone(), expires]
    }
}

fn print(lines: &[Line]) {
    if lines.is_empty() {
        println!(
            "Nobody may send or read records. Add a producer with `custody producer add NAME --source PATTERN`."
        );
        return;
    }
    let mut rows = table(&["NAME", "ROLE", "SOURCES", "CREDENTIAL", "EXPIRES"]);
    for line in lines {
        rows.add_row(line.cells());
    }
    println!("{rows}\n{}", format_count(lines.len(), false, "credential", "credentials"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use custody_core::{access::Credential, testing::samples};

    use super::*;

    #[test]
    fn a_line_shows_rights_and_expiry_and_is_one_object_as_json() {
        let entry = samples::producer("loans", &["loans", "cards-*"]);
        let (now, credential) = (entry.added_at, Credential::ApiKey("k-1".to_owned()));
        let line = Line::of((credential.clone(), entry.clone()), now);
        assert_eq!(line.cells(), ["loans", "producer", "loans, cards-*", "api-key:k-1", "-"]);
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!(json["principal"], "loans");
        assert_eq!((&json["role"], &json["sources"][1]), (&"producer".into(), &"cards-*".into()));
        assert_eq!((&json["credential"], &json["isExpired"]), (&"api-key:k-1".into(), &false.into()));

        let expired = AccessEntry { expires_at: Some(now), role: Role::Auditor, ..entry };
        let cells = Line::of((credential.clone(), expired.clone()), now).cells();
        assert_eq!((&*cells[1], &*cells[2]), ("auditor", "all, read only"));
        assert!(cells[4].starts_with("expired 20"), "{cells:?}");
        let later = AccessEntry { expires_at: Some(now.after(Duration::from_secs(1))), ..expired };
        assert!(Line::of((credential, later), now).cells()[4].starts_with("20"));
    }
}
