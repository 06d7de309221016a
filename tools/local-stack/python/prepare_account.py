"""Makes what an account may have before Custody comes to it: a network, a customer key from docs/customer-key.yaml, and a bucket for
replicas of the archive. Prints the template's parameters for them as JSON.

Usage: prepare_account.py KEY_TEMPLATE
"""

import json
import sys

import boto3

ec2 = boto3.client("ec2")
vpc = ec2.create_vpc(CidrBlock="10.77.0.0/24")["Vpc"]["VpcId"]
subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"]
           for block in ("10.77.0.0/26", "10.77.0.64/26")]

cloudformation = boto3.client("cloudformation")
with open(sys.argv[1], encoding="utf-8") as file:
    cloudformation.create_stack(StackName="custody-key", TemplateBody=file.read())
cloudformation.get_waiter("stack_create_complete").wait(StackName="custody-key", WaiterConfig={"Delay": 1})
key = cloudformation.describe_stacks(StackName="custody-key")["Stacks"][0]["Outputs"][0]["OutputValue"]

s3 = boto3.client("s3")
s3.create_bucket(Bucket="second-archive", ObjectLockEnabledForBucket=True)
s3.put_bucket_versioning(Bucket="second-archive", VersioningConfiguration={"Status": "Enabled"})

print(json.dumps({
    "ReplicaBucketArn": "arn:aws:s3:::second-archive",
    "ReplicaKmsKeyArn": key,
    "AllowedAddressRanges": "127.0.0.1/32,10.0.0.0/8",
    "ExistingVpc": vpc,
    "ExistingSubnets": ",".join(subnets),
    "KmsKeyArn": key,
}))
