"""Creates an IAM user with an access key, and prints both as JSON; or deletes the user.

Usage: iam_user.py create NAME [API_ARN]; with API_ARN, the user may call that API. iam_user.py delete NAME.
"""

import json
import sys

import boto3

iam = boto3.client("iam")
verb, name, *api = sys.argv[1:]
if verb == "create":
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    if api:
        statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": f"{api[0]}/*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        iam.put_user_policy(UserName=name, PolicyName="CallTheApi", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    print(json.dumps({"arn": arn, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}))
else:
    for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_user(UserName=name)
