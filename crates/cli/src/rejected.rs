//! `custody rejected`: lists, shows and discards rejected requests. Their producers got a 4xx error that reports what
//! to change. Rejected requests have a separate queue, so that they never hide failed records. The queue lists them for
//! 14 days; the stored parts of the requests expire after 30 days.

use clap::Subcommand;

use crate::{
    CommandOutcome,
    deployment::Deployment,
    dlq::{Contents, discard, list},
    output::Output,
    queue,
};

const CONTENTS: Contents = Contents::RejectedRequests;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the rejected requests on the queue, in groups by cause.
    #[command(after_help = "Examples:\n  custody rejected list\n  custody rejected list --each")]
    List(list::Options),
    /// Show one rejected request: why it was rejected, and the parts of it that are stored.
    #[command(after_help = "Example:\n  custody rejected show 7a012fc8-7a3a-4681-b2ca-a0fb82b8c270")]
    Show {
        /// Id of the request.
        id: String,
    },
    /// Delete rejected requests from the queue. The failed bucket stores who discarded them, when and why.
    #[command(
        after_help = "Example:\n  custody rejected discard --since 1d --reason 'the producer has mended its client'"
    )]
    Discard(discard::Options),
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    command: Command,
) -> anyhow::Result<CommandOutcome> {
    let mut queue = deployment.rejected_queue()?;
    queue::released(&mut queue, async |queue| match command {
        Command::List(options) => list::list(deployment, queue, output, options, CONTENTS).await,
        Command::Show { id } => list::show(deployment, queue, output, &id, CONTENTS).await,
        Command::Discard(options) => discard::run(deployment, queue, output, options, CONTENTS).await,
    })
    .await
}
