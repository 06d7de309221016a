"""Prints every log line of a deployment's functions that contains a text. The deployment is the stack CUSTODY_STACK_NAME.

Usage: logs_containing.py TEXT
"""

import os
import sys

import boto3

logs, stack_name = boto3.client("logs"), os.environ.get("CUSTODY_STACK_NAME", "custody")
pattern = '"' + sys.argv[1].replace("\\", "\\\\").replace('"', '\\"') + '"'
for page in boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_name):
    for resource in page["StackResourceSummaries"]:
        if resource["ResourceType"] != "AWS::Logs::LogGroup":
            continue
        found = logs.get_paginator("filter_log_events").paginate(
            logGroupName=resource["PhysicalResourceId"], filterPattern=pattern)
        for events in found:
            for event in events["events"]:
                if sys.argv[1] in event["message"]:
                    print(event["message"].rstrip())
