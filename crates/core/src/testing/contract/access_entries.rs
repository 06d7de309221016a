//! The contract of the access table.

use std::time::Duration;

use super::now;
use crate::{
    access::{AccessEntry, Credential, Role},
    ports::AccessEntries,
    testing::samples,
};

/// Checks the contract of [`AccessEntries`].
pub async fn access_entries(entries: &impl AccessEntries) {
    // The names are new in each run, because the table may be that of a stack that runs.
    let run = samples::record_id();
    let credential = |name: &str| Credential::ApiKey(format!("contract-{name}-{run}"));
    let named = |name: &str| format!("contract {name} {run}");
    let sources = ["loans", "cards-*", "ü"].map(|source| source.parse().unwrap()).to_vec();
    let producer = AccessEntry {
        principal: named("b"),
        role: Role::Producer { sources },
        references: vec!["s3://scans/loans/*".parse().unwrap()],
        expires_at: Some(now().after(Duration::from_hours(24))),
        added_at: now(),
    };
    let auditor = AccessEntry {
        principal: named("a"),
        role: Role::Auditor,
        references: Vec::new(),
        expires_at: None,
        added_at: now(),
    };
    let (one, two, three) = (credential("1"), credential("2"), credential("3"));
    assert_eq!(entries.find(&one).await.unwrap(), None);

    for (credential, entry) in [(&one, &producer), (&two, &producer), (&three, &auditor)] {
        assert!(entries.put(credential, entry, None).await.unwrap());
    }
    assert_eq!(entries.find(&one).await.unwrap(), Some(producer.clone()));
    assert_eq!(entries.find(&three).await.unwrap(), Some(auditor.clone()));
    let listed = entries.list().await.unwrap();
    let own: Vec<_> =
        listed.iter().filter(|(_, entry)| entry.principal.ends_with(&run.to_string())).collect();
    let expected =
        [(three.clone(), auditor.clone()), (one.clone(), producer.clone()), (two.clone(), producer.clone())];
    assert_eq!(own, expected.iter().collect::<Vec<_>>(), "ordered by principal and credential");

    let shorter = AccessEntry { expires_at: Some(now()), ..producer.clone() };
    assert!(entries.put(&one, &shorter, Some(&producer)).await.expect("an entry may be replaced"));
    assert_eq!(
        entries.find(&one).await.unwrap().as_ref(),
        Some(&shorter),
        "an expired entry is returned too"
    );
    assert!(entries.put(&one, &shorter, Some(&producer)).await.unwrap(), "a write may be repeated");
    let unlimited = AccessEntry { expires_at: None, ..producer.clone() };
    let without_references = AccessEntry { references: Vec::new(), ..shorter.clone() };
    for seen in [None, Some(&producer), Some(&unlimited), Some(&auditor), Some(&without_references)] {
        assert!(!entries.put(&one, &auditor, seen).await.unwrap(), "the entry is not the one that was read");
    }
    assert!(!entries.put(&credential("4"), &producer, Some(&producer)).await.unwrap(), "it has been removed");
    assert_eq!(entries.find(&one).await.unwrap(), Some(shorter));
    assert!(entries.put(&three, &unlimited, Some(&auditor)).await.unwrap(), "also from no sources to some");
    assert!(entries.put(&three, &auditor, Some(&unlimited)).await.unwrap());

    for credential in [&one, &two, &three, &one] {
        entries.remove(credential).await.expect("a removal may be repeated");
        assert_eq!(entries.find(credential).await.unwrap(), None);
    }
}
