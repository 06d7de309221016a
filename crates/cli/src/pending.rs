//! `custody pending`: what is acknowledged and has not reached its end.

use std::time::Duration;

use custody_core::stages::reconcile::Request;

use crate::{
    Done,
    deployment::Deployment,
    output::{Output, human, table},
};

pub(crate) async fn run(deployment: &Deployment, output: Output, limit: usize) -> anyhow::Result<Done> {
    let listing = deployment.pending(Request::List { list: limit }).await?;
    output.print(&listing, |listing| {
        if listing.errors > 0 {
            println!("One of the two stores could not be asked: this list is not complete.");
        }
        if listing.pending.is_empty() {
            println!("Nothing is pending.");
            return;
        }
        let mut table = table(&["ID", "ATTEMPT", "AGE", "NOTED IN"]);
        for entry in &listing.pending {
            let noted = match (entry.cached, entry.marked) {
                (true, true) => "cache, marker",
                (true, false) => "cache",
                (false, _) => "marker",
            };
            let age = human(Duration::from_secs(entry.age_seconds));
            table.add_row([&entry.message_id.to_string(), &entry.attempt.to_string(), &age, noted]);
        }
        println!("{table}\n{} of {} pending", listing.pending.len(), listing.total);
    })?;
    Ok(if listing.errors > 0 { Done::Partly } else { Done::All })
}
