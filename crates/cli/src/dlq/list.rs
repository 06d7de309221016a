//! Looking at letters.

use crate::{
    Done,
    letters::{Held, Queue, Selection},
    output::{Output, human, table},
};

pub(super) async fn list(queue: &mut Queue, output: Output, limit: usize) -> anyhow::Result<Done> {
    let held = queue.all(&Selection::default(), limit).await?;
    let mut lines: Vec<_> = held.iter().map(Held::line).collect();
    queue.leave_all(held);
    lines.sort_by_key(|line| line.failed_at);
    output.print(&lines, |lines| {
        if lines.is_empty() {
            println!("The dead-letter queue is empty.");
            return;
        }
        let mut table = table(&["ID", "STAGE", "KIND", "REASON", "ATTEMPTS", "AGE"]);
        for line in lines {
            let kind = if line.parked { format!("{}, parked", line.kind) } else { line.kind.clone() };
            let mut reason = line.reason.chars();
            let mut shown: String = reason.by_ref().take(120).collect();
            if reason.next().is_some() {
                shown.push('…');
            }
            let age = human(std::time::Duration::from_secs(line.age_seconds));
            table.add_row([&line.id, &line.stage, &kind, &shown, &line.attempts.to_string(), &age]);
        }
        println!("{table}\n{} letters", lines.len());
    })?;
    Ok(Done::All)
}

pub(super) async fn show(queue: &mut Queue, output: Output, id: &str) -> anyhow::Result<Done> {
    let selection = Selection::of_id(id);
    let held = queue.all(&selection, usize::MAX).await?;
    let found: Vec<_> = held.iter().filter(|held| selection.selects(held)).cloned().collect();
    queue.leave_all(held);
    if super::report_missing(&selection, &found) {
        return Ok(Done::NotFound);
    }
    let contents: Vec<_> = found.iter().map(Held::content).collect();
    output.print(&contents, |contents| {
        for (held, content) in found.iter().zip(contents) {
            let line = held.line();
            println!(
                "{}  {} failed in stage {}, attempt {}",
                line.failed_at, line.id, line.stage, line.attempts
            );
            println!("{} ({}): {}", line.error_name, line.kind, line.reason);
            println!("{}", serde_json::to_string_pretty(content).unwrap_or_default());
        }
    })?;
    Ok(Done::All)
}
