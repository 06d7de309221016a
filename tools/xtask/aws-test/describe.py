"""Prints, as JSON, the outputs of a stack; without a stack, the role with which API Gateway writes logs in this account, or null.

Usage: describe.py [STACK_NAME]
"""

import json
import sys

import boto3

if len(sys.argv) > 1:
    stack = boto3.client("cloudformation").describe_stacks(StackName=sys.argv[1])["Stacks"][0]
    print(json.dumps({output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}))
else:
    print(json.dumps(boto3.client("apigateway").get_account().get("cloudwatchRoleArn")))
