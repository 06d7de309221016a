"""Removes a deployment with everything that the template retains: records under lock, tables, queues, keys. It is for deployments
that were made for a test: it refuses every stack without the tag that `cargo xtask aws-test` gives. It may be run again: what it knows of
the stack is in STATE, and a deleted stack cannot be asked any more.

The credentials must be allowed to change the policy of the archive and to bypass its retention (mode GOVERNANCE).

Usage: remove.py STACK_NAME LOG_ROLE STATE, where LOG_ROLE is the role with which API Gateway wrote logs before the deployment, or empty
"""

import json
import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

TAG = "custody-test"
MISSING = ("NoSuchBucket", "ResourceNotFoundException", "NotFoundException", "NoSuchEntity", "QueueDoesNotExist",
           "AWS.SimpleQueueService.NonExistentQueue", "NoSuchBucketPolicy", "ObjectLockConfigurationNotFoundError")
# How long AWS may list something that is gone.
PATIENCE = 600

stack_name, log_role_before, state_file = sys.argv[1:]
settings = Config(retries={"mode": "adaptive", "max_attempts": 10})


def client(service):
    return boto3.client(service, config=settings)


cloudformation, s3, dynamodb, sqs = client("cloudformation"), client("s3"), client("dynamodb"), client("sqs")
apigateway, logs, iam, elasticache = client("apigateway"), client("logs"), client("iam"), client("elasticache")


def unless_missing(operation, **parameters):
    """Calls an operation. That the thing is gone already is fine."""
    try:
        return operation(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise


def pages(of, operation, **parameters):
    try:
        yield from of.get_paginator(operation).paginate(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] not in MISSING:
            raise


def described():
    """Returns the stack, or None if there is none of this name."""
    try:
        return cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise


def empty(bucket, prefix=""):
    """Deletes every version of every object, before the end of its lock."""
    # The policy denies the bypass to everybody who has no second factor. S3 refuses the bypass for buckets without locks.
    if not prefix:
        unless_missing(s3.delete_bucket_policy, Bucket=bucket)
    is_locked = unless_missing(s3.get_object_lock_configuration, Bucket=bucket) is not None
    bypass = {"BypassGovernanceRetention": True} if is_locked else {}
    count = 0
    for page in pages(s3, "list_object_versions", Bucket=bucket, Prefix=prefix):
        versions = page.get("Versions", []) + page.get("DeleteMarkers", [])
        for version in versions:
            unless_missing(s3.delete_object, Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"], **bypass)
        count += len(versions)
    print(f"  emptied bucket {bucket}{'/' + prefix if prefix else ''}: {count} versions", flush=True)


stack = described()
if stack is None:
    if not os.path.exists(state_file):
        sys.exit(f"there is no stack {stack_name}, and {state_file} knows nothing of it")
    with open(state_file, encoding="utf-8") as file:
        state = json.load(file)
else:
    tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
    if tags.get(TAG) != stack_name:
        sys.exit(f"stack {stack_name} has no tag {TAG}={stack_name}, so it was not made for a test; remove it yourself, if you are sure")
    resources = []
    for page in pages(cloudformation, "list_stack_resources", StackName=stack["StackId"]):
        resources += [[entry["ResourceType"], entry["PhysicalResourceId"]]
                      for entry in page["StackResourceSummaries"] if entry.get("PhysicalResourceId")]
    state = {"stackId": stack["StackId"], "resources": resources}
    with open(state_file, "w", encoding="utf-8") as file:
        json.dump(state, file)


def of_type(kind):
    return [name for of, name in state["resources"] if of == kind]


# The suites have made the last bucket, for payloads that are sent by reference.
buckets = [*of_type("AWS::S3::Bucket"), f"{stack_name}-sources"]
tables, queues, apis = of_type("AWS::DynamoDB::Table"), of_type("AWS::SQS::Queue"), of_type("AWS::ApiGateway::RestApi")
# API Gateway makes a log group for errors of each API.
groups = [*of_type("AWS::Logs::LogGroup"), *(f"API-Gateway-Execution-Logs_{api}/Prod" for api in apis)]

for plan in of_type("AWS::ApiGateway::UsagePlan"):
    # Keys of producers are no part of the stack.
    for page in pages(apigateway, "get_usage_plan_keys", usagePlanId=plan):
        for key in page["items"]:
            if unless_missing(apigateway.delete_api_key, apiKey=key["id"]) is not None:
                print(f"  deleted API key {key['name']}", flush=True)
for bucket in buckets:
    empty(bucket)
# CloudFormation cannot delete a table with this protection, when a first deployment is rolled back.
for table in tables:
    description = (unless_missing(dynamodb.describe_table, TableName=table) or {}).get("Table", {})
    if description.get("DeletionProtectionEnabled"):
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        while dynamodb.describe_table(TableName=table)["Table"]["TableStatus"] != "ACTIVE":
            time.sleep(2)

if stack is not None:
    print(f"  deleting stack {stack_name}; network interfaces of functions make this take up to 40 minutes on AWS", flush=True)
    cloudformation.delete_stack(StackName=state["stackId"])
    try:
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=state["stackId"], WaiterConfig={"Delay": 5, "MaxAttempts": 720})
    except WaiterError as error:
        sys.exit(f"{error}; look at the events of stack {stack_name}, then run this again")

for table in tables:
    unless_missing(dynamodb.delete_table, TableName=table)
for queue in queues:
    unless_missing(sqs.delete_queue, QueueUrl=queue)
for bucket in buckets:
    # Functions that ran while the bucket was emptied may have written to it.
    empty(bucket)
    unless_missing(s3.delete_bucket, Bucket=bucket)
for group in groups:
    unless_missing(logs.delete_log_group, logGroupName=group)
# What `sam deploy` has uploaded is below the name of the stack.
try:
    managed = cloudformation.describe_stacks(StackName="aws-sam-cli-managed-default")["Stacks"][0]
    for output in managed.get("Outputs", []):
        if output["OutputKey"] == "SourceBucket":
            empty(output["OutputValue"], prefix=f"{stack_name}/")
except ClientError as error:
    print(f"  SAM has no bucket for what it uploads ({error.response['Error']['Code']})")
caches = of_type("AWS::ElastiCache::ReplicationGroup")
for page in pages(elasticache, "describe_snapshots", SnapshotSource="user"):
    for snapshot in page["Snapshots"]:
        if snapshot.get("ReplicationGroupId") in caches:
            elasticache.delete_snapshot(SnapshotName=snapshot["SnapshotName"])

# The deployment has set the role with which API Gateway writes the logs of all APIs of the account.
roles = of_type("AWS::IAM::Role")
if log_role_before:
    apigateway.update_account(patchOperations=[
        {"op": "replace", "path": "/cloudwatchRoleArn", "value": log_role_before}])
else:
    roles = [role for role in roles if "ApiGatewayLogRole" not in role]
    print("  kept the role ApiGatewayLogRole: the account had none with which API Gateway writes logs")
for role in roles:
    for policy in (unless_missing(iam.list_role_policies, RoleName=role) or {}).get("PolicyNames", []):
        iam.delete_role_policy(RoleName=role, PolicyName=policy)
    for policy in (unless_missing(iam.list_attached_role_policies, RoleName=role) or {}).get("AttachedPolicies", []):
        iam.detach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])
    unless_missing(iam.delete_role, RoleName=role)


def is_gone_table(arn):
    """Whether an ARN is that of a table that does not exist: the index of tags may still list it."""
    _, is_table, name = arn.partition(":table/")
    return bool(is_table) and unless_missing(dynamodb.describe_table, TableName=name) is None


def what_is_left():
    left = [table for table in tables if unless_missing(dynamodb.describe_table, TableName=table)]
    for bucket in buckets:
        try:
            s3.head_bucket(Bucket=bucket)
            left.append(bucket)
        except ClientError:
            pass
    for page in pages(client("resourcegroupstaggingapi"), "get_resources", TagFilters=[{"Key": TAG, "Values": [stack_name]}]):
        left += [entry["ResourceARN"] for entry in page["ResourceTagMappingList"] if not is_gone_table(entry["ResourceARN"])]
    # AWS keeps deleted secrets for some days, and the kept role is named above.
    return sorted({name for name in left if ":secretsmanager:" not in name and "ApiGatewayLogRole" not in name})


deadline = time.time() + PATIENCE
while (left := what_is_left()) and time.time() < deadline:
    time.sleep(5)
if left:
    sys.exit("these are left, or AWS still lists them:\n  " + "\n  ".join(left))
print("  nothing is left")
