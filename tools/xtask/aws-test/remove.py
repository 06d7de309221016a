"""Removes a deployment with everything that the template retains: records under lock, tables, queues, keys. It is for deployments
that were made for a test: it refuses every stack whose name does not begin with `custody-test-`.

The credentials must be allowed to change the policy of the archive and to bypass its retention (mode GOVERNANCE).

Usage: remove.py STACK_NAME LOG_ROLE, where LOG_ROLE is the role with which API Gateway wrote logs before the deployment, or empty
"""

import sys

import boto3
from botocore.exceptions import ClientError, WaiterError

stack_name, log_role_before = sys.argv[1:]
if not stack_name.startswith("custody-test-"):
    sys.exit(f"{stack_name} is no deployment for a test; remove it yourself, if you are sure")

cloudformation, s3 = boto3.client("cloudformation"), boto3.client("s3")
dynamodb, sqs = boto3.client("dynamodb"), boto3.client("sqs")
apigateway, logs, iam = boto3.client("apigateway"), boto3.client("logs"), boto3.client("iam")
MISSING = ("NoSuchBucket", "ResourceNotFoundException", "NotFoundException", "NoSuchEntity", "QueueDoesNotExist",
           "AWS.SimpleQueueService.NonExistentQueue", "NoSuchBucketPolicy", "CacheSubnetGroupNotFoundFault")


def unless_missing(operation, **parameters):
    """Calls an operation. That the thing is gone already is fine."""
    try:
        return operation(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise


def pages(client, operation, **parameters):
    try:
        yield from client.get_paginator(operation).paginate(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] not in MISSING:
            raise


def empty(bucket):
    """Deletes every version of every object, before the end of its lock."""
    # The policy denies the bypass to everybody who has no second factor.
    unless_missing(s3.delete_bucket_policy, Bucket=bucket)
    count = 0
    for page in pages(s3, "list_object_versions", Bucket=bucket):
        versions = page.get("Versions", []) + page.get("DeleteMarkers", [])
        for version in versions:
            unless_missing(s3.delete_object, Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"],
                           BypassGovernanceRetention=True)
        count += len(versions)
    print(f"  emptied bucket {bucket}: {count} versions", flush=True)


try:
    stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
except ClientError:
    sys.exit(f"there is no stack {stack_name}")
# A deleted stack is known by its id only.
stack_id = stack["StackId"]
resources = []
for page in pages(cloudformation, "list_stack_resources", StackName=stack_id):
    resources += page["StackResourceSummaries"]


def of_type(kind):
    return [entry["PhysicalResourceId"] for entry in resources if entry["ResourceType"] == kind and entry.get("PhysicalResourceId")]


buckets, tables, queues = of_type("AWS::S3::Bucket"), of_type("AWS::DynamoDB::Table"), of_type("AWS::SQS::Queue")
groups = of_type("AWS::Logs::LogGroup")
# The suites have made this one, for payloads that are sent by reference.
buckets.append(f"{stack_name}-sources")

for plan in of_type("AWS::ApiGateway::UsagePlan"):
    # Keys of producers are no part of the stack.
    for page in pages(apigateway, "get_usage_plan_keys", usagePlanId=plan):
        for key in page["items"]:
            if unless_missing(apigateway.delete_api_key, apiKey=key["id"]) is not None:
                print(f"  deleted API key {key['name']}", flush=True)
for bucket in buckets:
    empty(bucket)

print(f"  deleting stack {stack_name}; network interfaces of functions make this take up to 40 minutes on AWS", flush=True)
cloudformation.delete_stack(StackName=stack_id)
try:
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=stack_id, WaiterConfig={"Delay": 5, "MaxAttempts": 720})
except WaiterError as error:
    sys.exit(f"{error}; look at the events of stack {stack_name}, then run this again")

for table in tables:
    unless_missing(dynamodb.update_table, TableName=table, DeletionProtectionEnabled=False)
    unless_missing(dynamodb.delete_table, TableName=table)
for queue in queues:
    unless_missing(sqs.delete_queue, QueueUrl=queue)
for bucket in buckets:
    # Functions that ran while the bucket was emptied may have written to it.
    empty(bucket)
    unless_missing(s3.delete_bucket, Bucket=bucket)
for group in groups:
    unless_missing(logs.delete_log_group, logGroupName=group)
elasticache, caches = boto3.client("elasticache"), of_type("AWS::ElastiCache::ReplicationGroup")
for page in pages(elasticache, "describe_snapshots", SnapshotSource="manual"):
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

left = []
for page in pages(boto3.client("resourcegroupstaggingapi"), "get_resources",
                  TagFilters=[{"Key": "custody-test", "Values": [stack_name]}]):
    left += [entry["ResourceARN"] for entry in page["ResourceTagMappingList"]]
for bucket in buckets:
    try:
        s3.head_bucket(Bucket=bucket)
        left.append(bucket)
    except ClientError:
        pass
for table in tables:
    try:
        dynamodb.get_waiter("table_not_exists").wait(TableName=table, WaiterConfig={"Delay": 2, "MaxAttempts": 60})
    except WaiterError:
        left.append(table)
if left:
    # Secrets and keys are listed until their time to recover them has passed.
    print("  these resources still have the test's tag; what AWS deletes later is among them:")
    for arn in sorted(set(left)):
        print(f"    {arn}")
else:
    print("  nothing is left")
