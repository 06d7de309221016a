"""Mocks the outcomes of workflow tasks: reads a configuration from standard input, in the format of Step Functions
Local's mocked service integrations, and passes it to the emulator. With `{}`, all tasks are real again.

Usage: workflow_outcomes.py SCALE, where SCALE is the share of their time that waits and retries take.
"""

import json
import os
import ssl
import sys
import urllib.request

configuration = {
    "stepfunctions._sfn_mock_config": json.load(sys.stdin),
    "stepfunctions._SFN_WAIT_SCALE": float(sys.argv[1]),
}
request = urllib.request.Request(
    os.environ["AWS_ENDPOINT_URL"] + "/_ministack/config",
    data=json.dumps(configuration).encode(),
    headers={"content-type": "application/json"},
)
trust = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
with urllib.request.urlopen(request, context=trust) as answer:
    applied = json.load(answer)["applied"]
if set(applied) != set(configuration):
    sys.exit(f"the emulator applied only {sorted(applied)}")
