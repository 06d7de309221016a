"""Checks that a stack uses the network and the key that it was given, and makes neither of its own; that it takes requests from no
other addresses than it was told to; and that its archive has a replica of each object.

Usage: check_second_stack.py STACK_NAME INGEST_URL; the parameters that the stack was given, as JSON, on standard input. The stack
has taken records already.
"""

import http.client
import json
import os
import ssl
import sys
import urllib.parse

import boto3

stack_name, url = sys.argv[1], urllib.parse.urlsplit(sys.argv[2])
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
tls = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
# Both requests have no API key. The first address is admitted, so it is told about the key.
for address, kind in (("127.0.0.1", "api-key"), ("127.0.0.2", "forbidden")):
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=tls, source_address=(address, 0))
    connection.request("POST", url.path, body="{}", headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    problem = json.load(answer)
    assert (answer.status, problem["type"]) == (403, f"urn:custody:problem:{kind}"), (address, answer.status, problem)

s3 = boto3.client("s3")
archive = s3.list_objects_v2(Bucket=name("ArchiveBucket"))["Contents"]
replicas = s3.list_objects_v2(Bucket="second-archive").get("Contents", [])
assert archive and [one["Key"] for one in archive] == [one["Key"] for one in replicas], (archive, replicas)
print(f"{stack_name} uses the given network and the given key")
