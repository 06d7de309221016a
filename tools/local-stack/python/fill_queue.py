"""Fills the dead-letter queue with made-up dead letters of requests, or empties it.

Usage: fill_queue.py QUEUE_URL COUNT | fill_queue.py QUEUE_URL --purge
"""

import json
import sys

import boto3

url, what = sys.argv[1:3]
sqs = boto3.client("sqs")
if what == "--purge":
    sqs.purge_queue(QueueUrl=url)
    sys.exit()


def letter(number):
    return json.dumps({
        "schemaVersion": 1, "messageID": None, "stage": "ingest", "kind": "Conflict", "errorName": "MadeByATest",
        "reason": "made by a test", "attempt": 1, "failedAt": "2026-11-20T22:21:00.000Z", "executionArn": None,
        "payloadReference": None, "failures": [], "request": {"requestId": f"made-by-a-test-{number}"}})


for start in range(0, int(what), 10):
    entries = [{"Id": str(i), "MessageBody": letter(start + i)} for i in range(10)]
    assert not sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")
