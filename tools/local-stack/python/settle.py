"""Finishes a deployment: writes the passwords of the local cluster into the secrets of the cache's users, applies the Object Lock
settings of the template to the archive (the emulator ignores that property), and prints the outputs as JSON.

Usage: settle.py STACK_NAME; standard input is a JSON map of the users' passwords.
"""

import json
import os
import sys

import boto3

stack_name = sys.argv[1]
passwords = json.load(sys.stdin)

stack = boto3.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
parameters = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}

for user, password in passwords.items():
    boto3.client("secretsmanager").put_secret_value(
        SecretId=outputs[f"{user.capitalize()}CacheSecretArn"],
        SecretString=json.dumps({"username": user, "password": password}))

boto3.client("s3").put_object_lock_configuration(
    Bucket=outputs["ArchiveBucket"],
    ObjectLockConfiguration={
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {
            "Mode": parameters["ObjectLockMode"], "Days": int(parameters["ArchiveRetentionDays"])}},
    })

# So does the replication of the archive, which the emulator does when it is asked by another way.
if parameters["ReplicaBucketArn"] != "none":
    boto3.client("s3").put_bucket_replication(
        Bucket=outputs["ArchiveBucket"],
        ReplicationConfiguration={"Role": outputs["ReplicationRoleArn"], "Rules": [{
            "ID": "archive", "Priority": 1, "Status": "Enabled", "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {"Bucket": parameters["ReplicaBucketArn"]}}]})

# The outputs have AWS's addresses; the emulator serves the same APIs under its own address.
for url, api in [("IngestUrl", "IngestApiId"), ("IamUrl", "IamApiId"), ("TokenUrl", "TokenApiId")]:
    outputs[url] = f"{os.environ['AWS_ENDPOINT_URL']}/restapis/{outputs[api]}/Prod/_user_request_/ingestMessage"

json.dump(outputs, sys.stdout)
