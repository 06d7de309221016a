//! Giving letters up, with who, when and why kept as evidence.

use anyhow::Context as _;
use aws_sdk_dynamodb::{operation::update_item::UpdateItemError, types::AttributeValue};
use bytes::Bytes;
use clap::Args;
use custody_common::{aws::S3FailedStore, clock::SystemClock};
use custody_core::{
    clock::{Clock as _, Timestamp},
    ports::FailedStore as _,
    run::Run,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Done,
    deployment::Deployment,
    letters::{Held, Queue, Selection},
    output::Output,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Why, for whoever asks later.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Who gave a letter up, when, and why.
#[derive(Clone, Debug, Serialize)]
struct Discard {
    by: String,
    at: Timestamp,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    dry_run: bool,
    discarded: Vec<String>,
    failed: Vec<String>,
}

pub(super) async fn run(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    options: Options,
) -> anyhow::Result<Done> {
    let caller = aws_sdk_sts::Client::new(deployment.aws.config()).get_caller_identity().send().await;
    let caller = caller.context("ask AWS who is discarding (sts:GetCallerIdentity)")?;
    let discard = Discard {
        by: caller.arn().unwrap_or("unknown").to_owned(),
        at: SystemClock.now(),
        reason: options.reason,
    };
    let store = S3FailedStore::new(deployment.aws.s3(), deployment.output("FailedBucket")?.to_owned());
    let mut summary = Summary { dry_run: options.dry_run, discarded: Vec::new(), failed: Vec::new() };
    let (meant, others): (Vec<_>, Vec<_>) = queue
        .all(&options.selection, usize::MAX)
        .await?
        .into_iter()
        .partition(|held| options.selection.selects(held));
    queue.leave_all(others);
    let missing = super::report_missing(&options.selection, &meant);
    for held in meant {
        let id = held.id();
        if options.dry_run {
            queue.leave(held);
            summary.discarded.push(id);
            continue;
        }
        // The evidence first: a letter that is gone cannot be asked any more.
        let kept = keep_evidence(deployment, &store, &held, &discard).await;
        match kept {
            Ok(()) => match queue.remove(&held).await {
                Ok(()) => summary.discarded.push(id),
                Err(error) => {
                    eprintln!("{error:#}");
                    summary.failed.push(id);
                }
            },
            Err(error) => {
                eprintln!("left {id} on the queue: {error:#}");
                summary.failed.push(id);
                queue.leave(held);
            }
        }
    }
    output.print(&summary, |summary| {
        let verb = if summary.dry_run { "would be discarded" } else { "discarded" };
        println!("{} letters {verb}, {} left", summary.discarded.len(), summary.failed.len());
        summary.discarded.iter().take(20).for_each(|id| println!("  {id}"));
    })?;
    Ok(match (missing, summary.failed.is_empty()) {
        (true, _) => Done::NotFound,
        (false, false) => Done::Partly,
        (false, true) => Done::All,
    })
}

async fn keep_evidence(
    deployment: &Deployment,
    store: &S3FailedStore,
    held: &Held,
    discard: &Discard,
) -> anyhow::Result<()> {
    let key = format!("discarded/{}/{}.json", discard.at.format("%Y/%m/%d"), held.message_id);
    let evidence = json!({"discarded": discard, "letter": held.content()});
    store.keep(&key, Bytes::from(evidence.to_string())).await?;
    match held.letter.as_ref().and_then(custody_core::dead_letter::DeadLetter::run) {
        Some(run) => note_in_item(deployment, run, discard).await,
        None => Ok(()),
    }
}

/// The item says so, unless there is none, or the letter is of a run that is not the record's last word.
async fn note_in_item(deployment: &Deployment, run: Run, discard: &Discard) -> anyhow::Result<()> {
    let (id, attempt) = (run.record, run.attempt());
    let note = json!({"by": discard.by, "at": discard.at, "reason": discard.reason, "attempt": attempt});
    let value: AttributeValue = serde_dynamo::to_attribute_value(note).context("encode the discard")?;
    let update = deployment
        .aws
        .dynamodb()
        .update_item()
        .table_name(deployment.output("TableName")?)
        .key("messageID", AttributeValue::S(id.to_string()))
        .update_expression("SET discarded = :discarded")
        .condition_expression("#status = :failed AND failure.attempt <= :attempt")
        .expression_attribute_values(":attempt", AttributeValue::N(attempt.to_string()))
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":failed", AttributeValue::S("FAILED".to_owned()))
        .expression_attribute_values(":discarded", value)
        .send()
        .await;
    match update {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
        {
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("note the discard in the item of record {id}")),
    }
}
