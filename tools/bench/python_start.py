"""Starts like a Python Lambda function with the AWS SDK: imports, the design's clients, first request for an event."""

import base64  # noqa: F401
import hashlib  # noqa: F401
import http.client
import json  # noqa: F401
import os

import boto3

for service in ("s3", "dynamodb", "stepfunctions", "secretsmanager", "sqs"):
    boto3.client(service)

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
api.request("GET", "/2018-06-01/runtime/invocation/next")
api.getresponse().read()
