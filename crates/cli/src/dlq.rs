//! `custody dlq`: lists and shows dead letters, and redrives or discards the failed records.

pub(crate) mod discard;
mod groups;
pub(crate) mod list;
mod redrive;

pub(crate) use self::discard::DiscardResult;

use clap::Subcommand;

use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{self, Output},
    queue::{self, Queue, ReceivedMessage},
    selection::Selection,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the dead letters on the queue, in groups by stage and cause.
    #[command(
        after_help = "Examples:\n  custody dlq list\n  custody dlq list --stage archive --since 2h --each\n  custody --json dlq list | jq '.[].id'"
    )]
    List(list::Options),
    /// Show one dead letter in full.
    #[command(after_help = "Example:\n  custody dlq show 019e1f4b-6c00-7abc-8def-0123456789ab")]
    Show {
        /// The messageID of a record, or the id of a request.
        id: String,
    },
    /// Redrive failed records: move their dead letters to the redrive queue, whose function begins the next attempt.
    #[command(
        after_help = "Examples:\n  custody dlq redrive --stage archive --since 2h --dry-run\n  custody dlq redrive --all --now --wait\n  \
        custody dlq redrive --id 019e1f4b-6c00-7abc-8def-0123456789ab --now --force"
    )]
    Redrive(redrive::Options),
    /// Discard failed records: they get no further attempt. Who decided, when and why is stored in the record's item
    /// and, with the dead letter, in the failed bucket.
    #[command(
        after_help = "Example:\n  custody dlq discard --id 019e1f4b-6c00-7abc-8def-0123456789ab --reason 'withdrawn by the producer'"
    )]
    Discard(discard::Options),
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    command: Command,
) -> anyhow::Result<CommandOutcome> {
    let mut queue = deployment.dead_letter_queue()?;
    queue::released(&mut queue, async |queue| match command {
        Command::List(options) => list::list(deployment, queue, output, options, CONTENTS).await,
        Command::Show { id } => list::show(deployment, queue, output, &id, CONTENTS).await,
        Command::Redrive(options) => redrive::run(deployment, queue, output, options).await,
        Command::Discard(options) => discard::run(deployment, queue, output, options, CONTENTS).await,
    })
    .await
}

const CONTENTS: Contents = Contents::DeadLetters;

/// Kind of the messages on a queue; it selects the wording of output and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Dead letters of records, and of requests that could not be stored.
    DeadLetters,
    /// Rejected requests.
    RejectedRequests,
}

impl Contents {
    /// The command that works on such messages.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::DeadLetters => "dlq",
            Self::RejectedRequests => "rejected",
        }
    }

    /// Formats a count of such messages.
    pub(crate) fn format_count(self, count: usize, at_least: bool) -> String {
        match self {
            Self::DeadLetters => output::format_count(count, at_least, "dead letter", "dead letters"),
            Self::RejectedRequests => {
                output::format_count(count, at_least, "rejected request", "rejected requests")
            }
        }
    }
}

/// Receives the selected messages.
pub(crate) async fn receive_selected(
    queue: &mut Queue,
    selection: &Selection,
) -> anyhow::Result<Vec<ReceivedMessage>> {
    let mut meant = queue.receive_until_found(selection, usize::MAX).await?;
    meant.retain(|held| selection.selects(held));
    Ok(meant)
}
