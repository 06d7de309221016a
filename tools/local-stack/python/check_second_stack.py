"""Checks that a stack uses the network and the key that it was given, and makes neither of its own.

Usage: check_second_stack.py STACK_NAME; the parameters that the stack was given, as JSON, on standard input.
"""

import json
import sys

import boto3

stack_name = sys.argv[1]
given = json.load(sys.stdin)
listed = boto3.client("cloudformation").describe_stack_resources(StackName=stack_name)["StackResources"]
resources = {resource["LogicalResourceId"]: resource for resource in listed}


def name(logical_id):
    return resources[logical_id]["PhysicalResourceId"]


made = [resource["ResourceType"] for resource in listed]
for kind in ("AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::VPCEndpoint", "AWS::EC2::RouteTable"):
    assert kind not in made, f"the stack made a resource of type {kind}, although it was given a network"

groups = boto3.client("ec2").describe_security_groups(GroupIds=[name("FunctionSecurityGroup")])["SecurityGroups"]
assert groups[0]["VpcId"] == given["ExistingVpc"], groups

# The emulator keeps the key of a queue. A drift test looks at the other stores, and at the functions' subnets, in the template.
key = given["KmsKeyArn"]
for queue in ("DeadLetterQueue", "RejectedRequestQueue", "RedriveQueue"):
    attributes = boto3.client("sqs").get_queue_attributes(QueueUrl=name(queue), AttributeNames=["All"])["Attributes"]
    assert attributes.get("KmsMasterKeyId") == key, (queue, attributes)
print(f"{stack_name} uses the given network and the given key")
