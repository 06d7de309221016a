//! `custody rejected`: requests whose producers got an error that tells what to change (4xx). They have a queue of their own,
//! so that they never bury failed records, and they are listed for 14 days; what is stored of them expires after 30.

use clap::Subcommand;

use crate::{
    Done,
    deployment::Deployment,
    dlq::{Contents, discard, list},
    output::Output,
};

const CONTENTS: Contents = Contents::RejectedRequests;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the rejected requests on the queue.
    List {
        /// How many to read.
        #[arg(long, default_value_t = 100_000)]
        limit: usize,
    },
    /// Show one rejected request: why it was rejected, and what is stored of it.
    Show {
        /// The request's id.
        id: String,
    },
    /// Take rejected requests off the queue. Who, when and why is kept in the failed bucket.
    Discard(discard::Options),
}

pub(crate) async fn run(deployment: &Deployment, output: Output, command: Command) -> anyhow::Result<Done> {
    let mut queue = deployment.rejected_queue()?;
    let done = match command {
        Command::List { limit } => list::list(&mut queue, output, limit, CONTENTS).await,
        Command::Show { id } => list::show(deployment, &mut queue, output, &id, CONTENTS).await,
        Command::Discard(options) => discard::run(deployment, &mut queue, output, options, CONTENTS).await,
    };
    // Also after an error: what was read must not stay hidden.
    queue.release().await;
    done
}
