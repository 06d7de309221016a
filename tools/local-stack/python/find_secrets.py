"""Searches everything that the pipeline wrote for secrets: logs, items, stored objects, workflow histories, and the
messages in MESSAGES_FILE. Prints one line for each secret that it finds, and a count of what it searched.

Usage: find_secrets.py MESSAGES_FILE TABLE FAILED_BUCKET MARKER_BUCKET STATE_MACHINE_ARN; secrets on standard input, one
per line.
"""

import json
import sys

import boto3

messages_file, table, failed_bucket, marker_bucket, state_machine = sys.argv[1:6]
secrets = [line.strip() for line in sys.stdin if line.strip()]
assert secrets and all(len(secret) >= 8 for secret in secrets), "there must be secrets to look for"
searched = {}


def search(kind, where, text):
    searched[kind] = searched.get(kind, 0) + 1
    for number, secret in enumerate(secrets):
        if secret in text:
            print(f"FOUND secret {number} in {kind} {where}")


logs = boto3.client("logs")


def lines_of(group):
    """Returns every line of a log. The emulator answers with the oldest 10,000, and does not say that there are more."""
    begin = 0
    while True:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=begin)
        events = [event for page in pages for event in page["events"]]
        yield from (event["message"] for event in events)
        if len(events) < 10_000:
            return
        assert events[-1]["timestamp"] > begin, f"{group} has 10,000 lines of one millisecond"
        # The lines of this millisecond are read once more.
        begin = events[-1]["timestamp"]


for page in logs.get_paginator("describe_log_groups").paginate():
    for group in page["logGroups"]:
        for line in lines_of(group["logGroupName"]):
            search("log line", group["logGroupName"], line)

for page in boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table):
    for item in page["Items"]:
        search("item", item["messageID"]["S"], json.dumps(item))

s3 = boto3.client("s3")
for bucket in (failed_bucket, marker_bucket):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            try:
                body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            except s3.exceptions.NoSuchKey:
                # Reconcile has adopted a marker since it was listed.
                continue
            search("stored object", entry["Key"], body.decode("utf-8", errors="replace"))

workflow = boto3.client("stepfunctions")
for page in workflow.get_paginator("list_executions").paginate(stateMachineArn=state_machine):
    for execution in page["executions"]:
        history = workflow.get_execution_history(executionArn=execution["executionArn"], maxResults=1000)
        described = workflow.describe_execution(executionArn=execution["executionArn"])
        search("execution", execution["name"], json.dumps([history, described], default=str))

with open(messages_file, encoding="utf-8") as file:
    for line in file:
        search("message", "read in the suite", line)

print("searched " + json.dumps(searched))
