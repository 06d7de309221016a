//! `custody dlq`: look at failed records and requests, run records again, or give them up.

mod discard;
mod list;
mod redrive;

use clap::Subcommand;

use crate::{
    Done,
    deployment::Deployment,
    letters::{Queue, Selection},
    output::Output,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the letters on the queue.
    List {
        /// How many to read.
        #[arg(long, default_value_t = 100_000)]
        limit: usize,
    },
    /// Show one letter, whole.
    Show {
        /// The record's messageID, or a refused request's id.
        id: String,
    },
    /// Run records again: their letters go to the redrive queue.
    Redrive(redrive::Options),
    /// Give letters up. Who, when and why is kept: in the record's item, and with the letter in the failed-records bucket.
    Discard(discard::Options),
}

pub(crate) async fn run(deployment: &Deployment, output: Output, command: Command) -> anyhow::Result<Done> {
    let mut queue = Queue::new(deployment.aws.sqs(), deployment.output("DeadLetterQueueUrl")?);
    let done = match command {
        Command::List { limit } => list::list(&mut queue, output, limit).await,
        Command::Show { id } => list::show(&mut queue, output, &id).await,
        Command::Redrive(options) => redrive::run(deployment, &mut queue, output, options).await,
        Command::Discard(options) => discard::run(deployment, &mut queue, output, options).await,
    };
    // Also after an error: what was read must not stay hidden.
    queue.release().await;
    done
}

/// Says which of the wanted ids no letter has; whether there are such.
fn report_missing(selection: &Selection, seen: &[crate::letters::Held]) -> bool {
    let missing = selection.missing(seen);
    for id in &missing {
        eprintln!(
            "there is no letter of {id} on the queue; `custody trace {id}` says what became of a record"
        );
    }
    !missing.is_empty()
}
