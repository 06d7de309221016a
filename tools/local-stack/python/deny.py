"""Denies a function an action, as a mistaken policy change would, or lifts the denial.

Usage: deny.py FUNCTION_NAME ACTION | deny.py FUNCTION_NAME --lift
"""

import json
import sys

import boto3

function, action = sys.argv[1:3]
role = boto3.client("lambda").get_function_configuration(FunctionName=function)["Role"].rsplit("/", 1)[-1]
iam = boto3.client("iam")
if action == "--lift":
    iam.delete_role_policy(RoleName=role, PolicyName="denied-by-a-test")
else:
    iam.put_role_policy(RoleName=role, PolicyName="denied-by-a-test", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": action, "Resource": "*"}]}))
