"""Prints every log line of the functions that contains a text.

Usage: logs_containing.py TEXT
"""

import sys

import boto3

logs = boto3.client("logs")
for page in logs.get_paginator("describe_log_groups").paginate():
    for group in page["logGroups"]:
        for events in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            for event in events["events"]:
                if sys.argv[1] in event["message"]:
                    print(event["message"].rstrip())
