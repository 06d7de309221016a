"""Prints the log lines of the local stack's functions, oldest first.

Usage: logs.py functions | logs.py FUNCTION
"""

import os
import sys

import boto3

wanted = sys.argv[1]
logs = boto3.client("logs")
events, known = [], []
for page in logs.get_paginator("describe_log_groups").paginate():
    for group in page["logGroups"]:
        function = group["logGroupName"].rsplit("/", 1)[-1].removesuffix("LogGroup").lower()
        known.append(function)
        if wanted in ("functions", function):
            for events_page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                events += [(event["timestamp"], function, event["message"].rstrip()) for event in events_page["events"]]
if wanted != "functions" and wanted not in known:
    sys.exit(f"there is no log `{wanted}`; known are {', '.join(sorted(known))}, ministack, cache-1 to cache-6")
try:
    for _, function, message in sorted(events, key=lambda event: event[0]):
        print(f"{function:9} {message}")
    sys.stdout.flush()
except BrokenPipeError:
    # The reader (`head`) has ended. Python would complain once more when it closes the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
