//! `custody doctor`: checks what every other command needs, from the credentials on, and says what to do where it is missing.

use std::time::Duration;

use anyhow::Context as _;
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    open_record::OpenKind,
    ports::{AcceptanceMarkers as _, FailedStore as _, OpenRecords as _, RecordTable as _},
    record_id::RecordId,
};
use serde::Serialize;

use crate::{
    CommandOutcome,
    deployment::Deployment,
    dlq::Contents,
    output::{Output, format_count, format_short_duration, is_outage, plain_error},
    queue::Queue,
};

/// How much the clock may differ from that of AWS: well below the minutes above which services refuse signatures (unverified: how many).
const LARGEST_DIFFERENCE: Duration = Duration::from_secs(30);

/// The result of one check: what was looked at, and what was found there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    of: &'static str,
    is_fine: bool,
    /// What was found, or what is wrong and what to do.
    detail: String,
}

impl Check {
    fn of(of: &'static str, result: anyhow::Result<String>, advice: &str) -> Self {
        match result {
            Ok(detail) => Self { of, is_fine: true, detail },
            Err(error) => {
                let advice = if is_outage(&error) {
                    OUTAGE
                } else if is_unreachable(&error) {
                    UNREACHABLE
                } else {
                    advice
                };
                let error = plain_error(&error);
                Self { of, is_fine: false, detail: format!("{}. {advice}", error.trim_end_matches('.')) }
            }
        }
    }
}

/// Returns whether no connection came about, so that no credential was judged.
fn is_unreachable(error: &anyhow::Error) -> bool {
    let text = plain_error(error).to_ascii_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    // The SDK reports missing credentials as a failed dispatch, too.
    has(&["dispatch failure", "connection refused", "dns error", "timed out"]) && !has(&["credential"])
}

/// What helps if a service is away.
const OUTAGE: &str =
    "The service is away or overloaded, and no permission is missing; look at AWS Health, and run this again";
/// What helps if a service cannot be reached.
const UNREACHABLE: &str = "AWS cannot be reached from here: look at the network, at AWS_REGION and at AWS_ENDPOINT_URL, if it is set";

/// What a credential must be allowed to do.
const AS_OPERATOR: &str =
    "Take on the role OperatorRoleArn (an output of the stack), or AuditorRoleArn to look only";
const CREDENTIALS: &str = "Set AWS_PROFILE and AWS_REGION, or the variables that `aws configure export-credentials --format env` prints";

pub(crate) async fn run(stack_name: &str, output: Output) -> anyhow::Result<CommandOutcome> {
    let mut checks = vec![Check::of("credentials", caller().await, CREDENTIALS)];
    if checks[0].is_fine {
        match Deployment::find(stack_name).await {
            Ok(deployment) => {
                checks.push(Check { of: "stack", is_fine: true, detail: stack_name.to_owned() });
                checks.extend(Box::pin(of_deployment(&deployment)).await);
            }
            Err(error) => {
                let advice =
                    "Name the stack with --stack-name or CUSTODY_STACK_NAME, and its Region with AWS_REGION";
                checks.push(Check::of("stack", Err(error), advice));
            }
        }
    }
    let all_fine = checks.iter().all(|check| check.is_fine);
    output.print(&checks, |checks| {
        for Check { of, is_fine, detail } in checks {
            println!("{} {of}: {detail}", if *is_fine { "✓" } else { "✗" });
        }
        println!(
            "\n{}",
            if all_fine {
                "This tool has what it needs. `custody status` shows how the deployment is."
            } else {
                "Mend the first ✗, then run this again."
            }
        );
    })?;
    Ok(if all_fine { CommandOutcome::Complete } else { CommandOutcome::Partial })
}

/// Returns who the caller is to AWS.
async fn caller() -> anyhow::Result<String> {
    let aws = custody_aws::Aws::load().await;
    let caller = aws_sdk_sts::Client::new(aws.config()).get_caller_identity().send().await;
    let caller = caller.context("ask AWS who the caller is")?;
    Ok(caller.arn().unwrap_or("unknown").to_owned())
}

async fn of_deployment(deployment: &Deployment) -> Vec<Check> {
    // An id that no record has: what is asked about it is whether the caller may ask.
    let nobody = RecordId::mint(SystemClock.now());
    let open = async {
        let listing = deployment.open_records()?.list(OpenKind::InProgress, 1000).await?;
        let overdue = listing
            .entries
            .iter()
            .filter(|entry| SystemClock.now().since(entry.look_at) > Duration::from_mins(5));
        match overdue.count() {
            0 => Ok(format!(
                "{}{} in progress",
                if listing.truncated { "at least " } else { "" },
                listing.entries.len()
            )),
            count => anyhow::bail!(
                "{count} are due for more than five minutes: reconcile does not run, or does not keep up"
            ),
        }
    };
    let item = async {
        let found = deployment.table()?.states(&[nobody]).await;
        found.context("ask DynamoDB about a record that nobody has sent")?;
        Ok("readable".to_owned())
    };
    let markers = async {
        let found = deployment.markers()?.find(custody_core::attempt::Attempt::first(nobody)).await;
        found.context("ask S3 about a record that nobody has sent")?;
        Ok("readable".to_owned())
    };
    let preserved = async {
        let found = deployment.failed_store()?.fetch(&nobody.preserved_key()).await;
        found.context("ask S3 about a record that nobody has sent")?;
        Ok("readable".to_owned())
    };
    let failed = async {
        let listing = deployment.open_records()?.list(OpenKind::Failed, 1000).await?;
        anyhow::Ok(format_count(listing.entries.len(), listing.truncated, "record", "records"))
    };
    vec![
        Check::of(
            "clock",
            clock(deployment).await,
            "If the clock of this computer is wrong, set it: AWS refuses signatures of a wrong time",
        ),
        Check::of("open records", open.await, AS_OPERATOR),
        of_failed(failed.await),
        Check::of("record table", item.await, AS_OPERATOR),
        Check::of("acceptance markers", markers.await, AS_OPERATOR),
        Check::of("failed bucket", preserved.await, AS_OPERATOR),
        of_operators("queues", messages(deployment).await),
        of_cache(crate::status::recent_receipts(deployment).await),
    ]
}

/// Counts the messages on the queues.
async fn messages(deployment: &Deployment) -> anyhow::Result<String> {
    let count = async |queue: Queue, contents: Contents| {
        let count = usize::try_from(queue.count().await?).unwrap_or(usize::MAX);
        anyhow::Ok(contents.format_count(count, false))
    };
    let dead = count(deployment.dead_letter_queue()?, Contents::DeadLetters).await?;
    Ok(format!("{dead}, {}", count(deployment.rejected_queue()?, Contents::RejectedRequests).await?))
}

/// Tells whether failed records wait for somebody.
fn of_failed(result: anyhow::Result<String>) -> Check {
    match result {
        Ok(none) if none == "0 records" => {
            Check { of: "failed records", is_fine: true, detail: "none".to_owned() }
        }
        Ok(count) => Check {
            of: "failed records",
            is_fine: false,
            detail: format!("{count}; `custody failed` says why, what helps and what each waits for"),
        },
        error => Check::of("failed records", error, AS_OPERATOR),
    }
}

/// Checks what auditors may not look at, and need not.
fn of_operators(of: &'static str, result: anyhow::Result<String>) -> Check {
    match result {
        Err(error) if plain_error(&error).contains("AccessDenied") => {
            Check { of, is_fine: true, detail: "not for this role: only operators look at it".to_owned() }
        }
        result => Check::of(of, result, AS_OPERATOR),
    }
}

/// Tells whether the cache takes payloads, by the receipts of the last minutes that it did not.
fn of_cache(receipts: anyhow::Result<(u64, u64)>) -> Check {
    match receipts {
        Ok((0, _)) => Check {
            of: "cache",
            is_fine: true,
            detail: "not known: nothing was received in the last five minutes".to_owned(),
        },
        Ok((_, 0)) => Check { of: "cache", is_fine: true, detail: "takes payloads".to_owned() },
        Ok((_, count)) => {
            let count = format_count(
                usize::try_from(count).unwrap_or(usize::MAX),
                false,
                "receipt was given without it",
                "receipts were given without it",
            );
            let detail = format!(
                "{count} in the last five minutes; docs/runbooks/FallbackAlarm.md says how to find out why. Five minutes after the repair this is \
                 over. With CacheAdmission=closed it is meant"
            );
            Check { of: "cache", is_fine: false, detail }
        }
        Err(error) => of_operators("cache", Err(error)),
    }
}

/// Compares the clock of this computer with that of AWS.
async fn clock(deployment: &Deployment) -> anyhow::Result<String> {
    let answer = crate::client::http_client()?.get(deployment.some_endpoint()).send().await;
    let answer = answer.context("ask AWS for the time")?;
    let date = answer.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.context("the answer of AWS has no date")?;
    let difference =
        SystemClock.now().distance(time_of(date).context("the answer of AWS has no date that can be read")?);
    anyhow::ensure!(
        difference <= LARGEST_DIFFERENCE,
        "it differs by {} from AWS",
        format_short_duration(difference)
    );
    Ok(format!("within {} of AWS", format_short_duration(difference.max(Duration::from_secs(1)))))
}

/// Reads the date of an HTTP header: `Sun, 29 Nov 2026 02:05:09 GMT`.
fn time_of(date: &str) -> Option<Timestamp> {
    let at = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Timestamp::from_unix_ms(at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use custody_core::error::{ErrorName, StageError};

    use super::*;

    #[test]
    fn a_failed_check_says_what_to_do() {
        let check = Check::of("stack", Err(anyhow::anyhow!("AccessDenied: no")), "Do this");
        assert!(!check.is_fine);
        assert_eq!(check.detail, "AccessDenied: no. Do this");
        assert!(Check::of("stack", Ok("here".to_owned()), "Do this").is_fine);
        let of = |text: &str| Check::of("credentials", Err(anyhow::anyhow!("{text}")), "Do this").detail;
        assert!(
            of("dispatch failure: io error: Connection refused (os error 111)")
                .contains("look at the network")
        );
        assert!(
            of("dispatch failure: other: the credential provider was not enabled").ends_with(". Do this")
        );
        assert_eq!(of("no credentials in the property bag."), "no credentials in the property bag. Do this");
        let away = StageError::new(ErrorName::ArchiveUnavailable, "look").into();
        assert!(
            Check::of("markers", Err(away), "Take on the role").detail.ends_with(OUTAGE),
            "no permission is missing"
        );
        assert_eq!(of_cache(Ok((9, 0))).detail, "takes payloads");
        assert!(of_cache(Ok((0, 0))).detail.starts_with("not known"));
        let detail = of_cache(Ok((9, 3))).detail;
        assert!(
            detail.starts_with("3 receipts were given without it") && !detail.contains("Take on the role")
        );
        assert!(of_failed(Ok("0 records".to_owned())).is_fine);
        assert!(!of_failed(Ok("13 records".to_owned())).is_fine, "an alarm rings for them");
        let denied = of_operators("cache", Err(anyhow::anyhow!("AccessDenied: may not")));
        assert!(denied.is_fine && denied.detail.starts_with("not for this role"));
    }

    #[test]
    fn the_date_of_a_header_is_read() {
        let time = time_of("Sun, 29 Nov 2026 02:05:09 GMT").unwrap();
        assert_eq!(time.to_string(), "2026-11-29T02:05:09.000Z");
        assert!(time_of("yesterday").is_none());
    }
}
