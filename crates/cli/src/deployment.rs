//! Which deployment to talk to: a CloudFormation stack and its outputs, and the adapters of what they name.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use custody_aws::{
    ArchiveListing, Aws, DynamoOpenRecords, DynamoTable, LetterQueue, RecordIndex, S3AcceptanceMarkers,
    S3Archive, S3FailedStore, StateMachine, WorkflowType,
};

use crate::queue::Queue;

/// A deployment.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) aws: Aws,
    stack_name: String,
    outputs: BTreeMap<String, String>,
}

impl Deployment {
    /// The deployment of this stack.
    pub(crate) async fn find(stack_name: &str) -> anyhow::Result<Self> {
        let aws = Aws::load().await;
        let client = aws_sdk_cloudformation::Client::new(aws.config());
        let described = client.describe_stacks().stack_name(stack_name).send().await.with_context(|| {
            format!(
                "find stack `{stack_name}` (--stack-name or CUSTODY_STACK_NAME say which; AWS_PROFILE, AWS_REGION and \
                 AWS_ENDPOINT_URL where)"
            )
        })?;
        let Some(stack) = described.stacks().first() else { bail!("there is no stack `{stack_name}`") };
        let outputs = stack.outputs().iter();
        let outputs =
            outputs.filter_map(|o| Some((o.output_key()?.to_owned(), o.output_value()?.to_owned())));
        Ok(Self { outputs: outputs.collect(), stack_name: stack_name.to_owned(), aws })
    }

    /// One output of the stack.
    fn output(&self, name: &str) -> anyhow::Result<String> {
        self.outputs.get(name).cloned().with_context(|| {
            format!(
                "stack `{}` has no output {name}; is it a Custody stack, and of this version?",
                self.stack_name
            )
        })
    }

    /// The open records.
    pub(crate) fn open_records(&self) -> anyhow::Result<DynamoOpenRecords> {
        let (open, claims) = (self.output("OpenTableName")?, self.output("ClaimsTableName")?);
        Ok(DynamoOpenRecords::new(self.aws.dynamodb(), open, claims))
    }

    /// The acceptance markers.
    pub(crate) fn markers(&self) -> anyhow::Result<S3AcceptanceMarkers> {
        Ok(S3AcceptanceMarkers::new(self.aws.s3(), self.output("MarkerBucket")?))
    }

    /// The record table, as stages use it.
    pub(crate) fn table(&self) -> anyhow::Result<DynamoTable> {
        Ok(DynamoTable::new(self.aws.dynamodb(), self.output("TableName")?))
    }

    /// The record table, as people read it.
    pub(crate) fn index(&self) -> anyhow::Result<RecordIndex> {
        Ok(RecordIndex::new(self.aws.dynamodb(), self.output("TableName")?))
    }

    /// The archive.
    pub(crate) fn archive(&self) -> anyhow::Result<S3Archive> {
        Ok(S3Archive::new(self.aws.s3(), self.output("ArchiveBucket")?))
    }

    /// The list of what is archived.
    pub(crate) fn archive_listing(&self) -> anyhow::Result<ArchiveListing> {
        Ok(ArchiveListing::new(self.aws.s3(), self.output("ArchiveBucket")?))
    }

    /// The failed bucket.
    pub(crate) fn failed_store(&self) -> anyhow::Result<S3FailedStore> {
        Ok(S3FailedStore::new(self.aws.s3(), self.output("FailedBucket")?))
    }

    /// The dead-letter queue, to be read.
    pub(crate) fn dead_letter_queue(&self) -> anyhow::Result<Queue> {
        Ok(Queue::new(self.aws.sqs(), self.output("DeadLetterQueueUrl")?))
    }

    /// The queue of rejected requests, to be read.
    pub(crate) fn rejected_queue(&self) -> anyhow::Result<Queue> {
        Ok(Queue::new(self.aws.sqs(), self.output("RejectedQueueUrl")?))
    }

    /// The redrive queue, to be written.
    pub(crate) fn redrive_queue(&self) -> anyhow::Result<LetterQueue> {
        Ok(LetterQueue::new(self.aws.sqs(), self.output("RedriveQueueUrl")?))
    }

    /// The type of the state machine.
    pub(crate) fn workflow_type(&self) -> anyhow::Result<WorkflowType> {
        let name = self.output("StateMachineType")?;
        name.parse()
            .map_err(|()| anyhow!("output StateMachineType is neither STANDARD nor EXPRESS: `{name}`"))
    }

    /// The state machine.
    pub(crate) fn state_machine(&self) -> anyhow::Result<StateMachine> {
        let arn = self.output("StateMachineArn")?;
        Ok(StateMachine::new(self.aws.step_functions(), arn, self.workflow_type()?))
    }
}
