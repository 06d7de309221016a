//! Groups the messages of a queue by what went wrong.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    causes::{INDENT, cause_of, helps, in_lines},
    output::format_duration,
    queue::Line,
};

/// Messages with one stage, kind and cause.
pub(super) struct Group<'a> {
    lines: Vec<&'a Line>,
}

/// Groups lines. The largest group comes first.
pub(super) fn group(lines: &[Line]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<(&str, &str, bool, String), Vec<&Line>> = BTreeMap::new();
    for line in lines {
        groups
            .entry((&line.stage, &line.kind, line.parked, cause_of(&line.error_name, &line.reason)))
            .or_default()
            .push(line);
    }
    let mut groups: Vec<_> = groups.into_values().map(|lines| Group { lines }).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.lines.len()));
    groups
}

impl Group<'_> {
    /// The group as text, in lines of at most 80 characters.
    pub(super) fn text(&self) -> String {
        let first = self.lines[0];
        let age = |seconds: Option<u64>| format_duration(Duration::from_secs(seconds.unwrap_or_default()));
        let ages = self.lines.iter().map(|line| line.age_seconds);
        let (newest, oldest) = (age(ages.clone().min()), age(ages.max()));
        let ages = if newest == oldest { newest } else { format!("{newest} to {oldest}") };
        let kind = if first.parked { format!("{}, parked", first.kind) } else { first.kind.clone() };
        let stage = if first.stage.is_empty() { "no stage" } else { &first.stage };
        let cause = in_lines(&cause_of(&first.error_name, &first.reason));
        let helps = helps(first.remedy, first.parked);
        format!(
            "{:>6}  {stage}, {kind}, {ages} ago\n{INDENT}{cause}\n{INDENT}helps: {helps}\n{INDENT}such as {}",
            self.lines.len(),
            first.id
        )
    }
}

#[cfg(test)]
mod tests {
    use custody_core::{clock::Timestamp, remedy::Remedy};

    use super::*;

    fn line(id: &str, reason: &str, age_seconds: u64) -> Line {
        Line {
            id: id.to_owned(),
            stage: "archive".to_owned(),
            kind: "Internal".to_owned(),
            record_id: None,
            remedy: Remedy::MendThenRedrive,
            error_name: "ServiceRefused".to_owned(),
            reason: reason.to_owned(),
            attempt: 1,
            parked: false,
            failed_at: Timestamp::from_unix_ms(0).unwrap(),
            age_seconds,
        }
    }

    #[test]
    fn failures_with_one_cause_are_one_group() {
        let denied = |id: &str| {
            format!(
                "store object 2026/11/21/22/21/{id}: AccessDenied: User arn:aws:sts::000000000000:assumed-role/custody-ArchiveRole/x is not \
                 authorized to perform: s3:PutObject"
            )
        };
        let (a, b) = ("01a1fbef-29cf-7048-8325-51c19852b219", "01a1fbef-29cf-7048-8325-51c19852b220");
        let lines = [line(a, &denied(a), 183), line("c", "the table is away", 5), line(b, &denied(b), 41)];
        let groups = group(&lines);
        assert_eq!(groups.len(), 2);
        let text = groups[0].text();
        assert_eq!(
            text,
            "     2  archive, Internal, 41 s to 3 min 3 s ago\n        \
             ServiceRefused: store object … AccessDenied: User\n        \
             arn:aws:sts::000000000000:assumed-role/custody-ArchiveRole/x is not\n        \
             authorized to perform: s3:PutObject\n        \
             helps: mend the cause, then redrive\n        \
             such as 01a1fbef-29cf-7048-8325-51c19852b219"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(groups[1].text().contains("     1  archive, Internal, 5 s ago"));
        let foreign =
            Line { stage: String::new(), error_name: String::new(), ..line("d", "not a dead letter", 1) };
        assert!(
            group(&[foreign])[0]
                .text()
                .starts_with("     1  no stage, Internal, 1 s ago\n        not a dead letter\n")
        );
    }
}
