"""Takes on the role that may end locks, and prints what it may do, as JSON.

Usage: break_glass.py ROLE_ARN ARCHIVE_BUCKET
The emulator knows no second factor. After it has refused the role without one, the condition is taken out for a moment.
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError

import roles
from calls_as import call

role, bucket = sys.argv[1:]
iam, name = boto3.client("iam"), role.rsplit("/", 1)[-1]
trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
assert trust["Statement"][0]["Condition"] == {"Bool": {"aws:MultiFactorAuthPresent": "true"}}, trust
results = {}
try:
    roles.credentials_of(role)
    results["without a second factor"] = "allowed"
except ClientError as error:
    results["without a second factor"] = "denied" if error.response["Error"]["Code"] == "AccessDenied" else str(error)

without_condition = {**trust, "Statement": [{**trust["Statement"][0], "Condition": {}}]}
iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(without_condition))
try:
    credentials = roles.credentials_of(role)
finally:
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))

session = boto3.Session(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
# Versions are kept already, and the object does not exist.
for what, operation, parameters in [
    ("end a lock", "delete_object", {"Key": "nothing", "VersionId": "1", "BypassGovernanceRetention": True}),
    ("change a setting", "put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
    ("replace an object", "put_object", {"Key": "nothing", "Body": "x", "ChecksumSHA256": "AAAA"}),
]:
    results[what] = call(session, "s3", operation, {"Bucket": bucket, **parameters})
print(json.dumps(results))
