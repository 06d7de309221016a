//! `custody dlq`: look at failed records and requests, redrive records, or discard them.

pub(crate) mod discard;
pub(crate) mod list;
mod redrive;

use clap::Subcommand;

use crate::{
    Done,
    deployment::Deployment,
    output::{self, Output},
    queue::{Held, Queue},
    selection::Selection,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the dead letters on the queue.
    List {
        /// How many to read.
        #[arg(long, default_value_t = 100_000)]
        limit: usize,
    },
    /// Show one dead letter, whole.
    Show {
        /// The record's messageID, or a request's id.
        id: String,
    },
    /// Give records their next attempt: their dead letters go to the redrive queue.
    Redrive(redrive::Options),
    /// Decide that records stay failed. Who, when and why is kept: in the record's item, and with the dead letter in the
    /// failed bucket.
    Discard(discard::Options),
}

pub(crate) async fn run(deployment: &Deployment, output: Output, command: Command) -> anyhow::Result<Done> {
    let mut queue = deployment.dead_letter_queue()?;
    let done = match command {
        Command::List { limit } => list::list(&mut queue, output, limit, CONTENTS).await,
        Command::Show { id } => list::show(deployment, &mut queue, output, &id, CONTENTS).await,
        Command::Redrive(options) => redrive::run(deployment, &mut queue, output, options).await,
        Command::Discard(options) => discard::run(deployment, &mut queue, output, options, CONTENTS).await,
    };
    // Also after an error: what was read must not stay hidden.
    queue.release().await;
    done
}

const CONTENTS: Contents = Contents::DeadLetters;

/// What a queue has, as operators are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Dead letters of records, and of requests that could not be stored.
    DeadLetters,
    /// Rejected requests.
    RejectedRequests,
}

impl Contents {
    /// The number of them.
    pub(crate) fn counted(self, count: usize, at_least: bool) -> String {
        match self {
            Self::DeadLetters => output::counted(count, at_least, "dead letter", "dead letters"),
            Self::RejectedRequests => {
                output::counted(count, at_least, "rejected request", "rejected requests")
            }
        }
    }
}

/// Reads what a selection means; the rest is left for others.
pub(crate) async fn selected(queue: &mut Queue, selection: &Selection) -> anyhow::Result<Vec<Held>> {
    let (meant, others) =
        queue.all(selection, usize::MAX).await?.into_iter().partition(|held| selection.selects(held));
    queue.leave_all(others);
    Ok(meant)
}
