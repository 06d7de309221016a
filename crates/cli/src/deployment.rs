//! Finds a deployment by its CloudFormation stack, and builds the adapters of the resources that the stack's outputs
//! name.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use aws_sdk_sqs::types::QueueAttributeName;
use custody_aws::{
    Aws, DynamoAccessEntries, DynamoOpenRecords, DynamoTable, ObjectListing, RecordIndex,
    S3AcceptanceMarkers, S3Archive, S3FailedStore, SqsDeadLetters, StateMachine, WorkflowType,
};
use custody_core::{
    redrive_policy::{PATIENCE, RedrivePolicy},
    stored_names::{EVIDENCE_PREFIX, MANIFEST_PREFIX},
};

use crate::{producer::ApiKeys, queue::Queue, watch::WatchQueues};

/// A deployment: the outputs of its CloudFormation stack, and the AWS clients.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) aws: Aws,
    stack_name: String,
    outputs: BTreeMap<String, String>,
}

impl Deployment {
    /// Reads the outputs of the stack. Fails if there is no such stack.
    pub(crate) async fn find(stack_name: &str) -> anyhow::Result<Self> {
        let aws = Aws::load().await;
        let client = aws_sdk_cloudformation::Client::new(aws.config());
        let described = client.describe_stacks().stack_name(stack_name).send().await.with_context(|| {
            format!(
                "find stack `{stack_name}` (--stack-name or CUSTODY_STACK_NAME set its name; AWS_PROFILE, AWS_REGION \
                 and AWS_ENDPOINT_URL set its account, region and endpoint)"
            )
        })?;
        let Some(stack) = described.stacks().first() else { bail!("there is no stack `{stack_name}`") };
        let outputs = stack.outputs().iter();
        let outputs =
            outputs.filter_map(|o| Some((o.output_key()?.to_owned(), o.output_value()?.to_owned())));
        Ok(Self { outputs: outputs.collect(), stack_name: stack_name.to_owned(), aws })
    }

    /// Returns the name of the stack, which is also a dimension of its metrics.
    pub(crate) fn stack_name(&self) -> &str {
        &self.stack_name
    }

    /// Returns the id of the cache's replication group.
    pub(crate) fn cache_name(&self) -> anyhow::Result<String> {
        self.output("CacheReplicationGroupId")
    }

    /// Returns the rules by which the functions of the deployment redrive failed records.
    pub(crate) fn redrive_policy(&self) -> anyhow::Result<RedrivePolicy> {
        let max_attempts = self.output("RedriveMaxAttempts")?;
        Ok(RedrivePolicy {
            automatic: self.output("AutoRedrive")? == "true",
            max_attempts: max_attempts.parse().context("read the output RedriveMaxAttempts")?,
            patience: PATIENCE,
        })
    }

    /// Returns one output of the stack.
    fn output(&self, name: &str) -> anyhow::Result<String> {
        self.outputs.get(name).cloned().with_context(|| {
            format!(
                "stack `{}` has no output {name}; is it a Custody stack, and of this version?",
                self.stack_name
            )
        })
    }

    /// Returns the physical name of a function, from its name in the template without `Function`.
    pub(crate) fn function_name(&self, name: &str) -> anyhow::Result<String> {
        self.output(&format!("{name}FunctionName"))
    }

    /// Fails if the cache takes new payloads.
    pub(crate) fn expect_closed_cache(&self) -> anyhow::Result<()> {
        if self.output("CacheAdmission")? != "closed" {
            bail!(
                "the cache of stack `{}` takes new payloads, so it never drains; deploy CacheAdmission=closed first (README, \
                 \"Replacing the cache\")",
                self.stack_name
            );
        }
        Ok(())
    }

    /// Returns the address of a service of AWS.
    pub(crate) fn some_endpoint(&self) -> String {
        let config = self.aws.config();
        let region = config.region().map_or("us-east-1", |region| region.as_ref());
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        config.endpoint_url().map_or_else(|| format!("https://sts.{region}.{domain}"), str::to_owned)
    }

    /// Returns the adapter of the access table.
    pub(crate) fn access_entries(&self) -> anyhow::Result<DynamoAccessEntries> {
        Ok(DynamoAccessEntries::new(self.aws.dynamodb(), self.output("AccessTableName")?))
    }

    /// Returns the API keys of the deployment's API.
    pub(crate) fn api_keys(&self) -> anyhow::Result<ApiKeys> {
        Ok(ApiKeys {
            client: aws_sdk_apigateway::Client::new(self.aws.config()),
            api_id: self.output("IngestApiId")?,
            shared_plan: self.output("UsagePlanId")?,
            stack_name: self.stack_name.clone(),
        })
    }

    /// Returns the adapter of the open-record table and of the idempotency table.
    pub(crate) fn open_records(&self) -> anyhow::Result<DynamoOpenRecords> {
        let (open, claims) = (self.output("OpenTableName")?, self.output("ClaimsTableName")?);
        Ok(DynamoOpenRecords::new(self.aws.dynamodb(), open, claims))
    }

    /// Returns the adapter of the acceptance markers.
    pub(crate) fn markers(&self) -> anyhow::Result<S3AcceptanceMarkers> {
        Ok(S3AcceptanceMarkers::new(self.aws.s3(), self.output("MarkerBucket")?))
    }

    /// Returns the adapter of the record table that stages use, too.
    pub(crate) fn table(&self) -> anyhow::Result<DynamoTable> {
        Ok(DynamoTable::new(self.aws.dynamodb(), self.output("TableName")?))
    }

    /// Returns the adapter of the record table for searches and audits.
    pub(crate) fn index(&self) -> anyhow::Result<RecordIndex> {
        Ok(RecordIndex::new(self.aws.dynamodb(), self.output("TableName")?))
    }

    /// Returns the adapter of the archive.
    pub(crate) fn archive(&self) -> anyhow::Result<S3Archive> {
        Ok(S3Archive::new(self.aws.s3(), self.output("ArchiveBucket")?))
    }

    /// Returns the adapter that lists the objects of the archive.
    pub(crate) fn archive_listing(&self) -> anyhow::Result<ObjectListing> {
        Ok(ObjectListing::new(self.aws.s3(), self.output("ArchiveBucket")?))
    }

    /// Returns the adapter that lists the manifests in the archive.
    pub(crate) fn manifest_listing(&self) -> anyhow::Result<ObjectListing> {
        Ok(self.archive_listing()?.below(MANIFEST_PREFIX))
    }

    /// Returns the adapter that lists the evidence of discards in the failed bucket.
    pub(crate) fn evidence_listing(&self) -> anyhow::Result<ObjectListing> {
        Ok(ObjectListing::new(self.aws.s3(), self.output("FailedBucket")?).below(EVIDENCE_PREFIX))
    }

    /// Returns the adapter of the failed bucket.
    pub(crate) fn failed_store(&self) -> anyhow::Result<S3FailedStore> {
        Ok(S3FailedStore::new(self.aws.s3(), self.output("FailedBucket")?))
    }

    /// Returns a reader of the dead-letter queue.
    pub(crate) fn dead_letter_queue(&self) -> anyhow::Result<Queue> {
        Ok(Queue::new(self.aws.sqs(), self.output("DeadLetterQueueUrl")?))
    }

    /// Returns a reader of the queue of rejected requests.
    pub(crate) fn rejected_queue(&self) -> anyhow::Result<Queue> {
        Ok(Queue::new(self.aws.sqs(), self.output("RejectedQueueUrl")?))
    }

    /// Returns the adapter that sends dead letters to the redrive queue.
    pub(crate) fn redrive_queue(&self) -> anyhow::Result<SqsDeadLetters> {
        Ok(SqsDeadLetters::new(self.aws.sqs(), self.output("RedriveQueueUrl")?))
    }

    /// Returns how many dead letters are on the redrive queue, those that wait for their delay included. `None` if the queue
    /// cannot be asked: auditors may not.
    pub(crate) async fn redrives_waiting(&self) -> Option<u64> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let url = self.output("RedriveQueueUrl").ok()?;
        let asked =
            self.aws.sqs().get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let attributes = asked.send().await.ok()?.attributes?;
        names.iter().map(|name| attributes.get(name)?.parse::<u64>().ok()).sum()
    }

    /// Returns the maker of the queues of `custody watch`.
    pub(crate) fn watch_queue(&self) -> anyhow::Result<WatchQueues> {
        let (aws, topic_arn) = (self.aws.clone(), self.output("TopicArn")?);
        Ok(WatchQueues { aws, topic_arn, prefix: format!("{}-watch-", self.stack_name) })
    }

    /// Returns the type of the state machine: `STANDARD` or `EXPRESS`.
    pub(crate) fn workflow_type(&self) -> anyhow::Result<WorkflowType> {
        let name = self.output("StateMachineType")?;
        name.parse()
            .map_err(|()| anyhow!("output StateMachineType is neither STANDARD nor EXPRESS: `{name}`"))
    }

    /// Returns the adapter of the state machine.
    pub(crate) fn state_machine(&self) -> anyhow::Result<StateMachine> {
        let arn = self.output("StateMachineArn")?;
        Ok(StateMachine::new(self.aws.step_functions(), arn, self.workflow_type()?))
    }
}
