"""Deploys the template of docs/subscribers.md with a filter policy, and prints the URL of the queue.

Usage: subscribe.py STACK_NAME TOPIC_ARN FILTER_POLICY FILTER_POLICY_SCOPE; the template is read from standard input.
"""

import sys

import boto3

stack_name, topic_arn, policy, scope = sys.argv[1:]
parameters = {"TopicArn": topic_arn, "FilterPolicy": policy, "FilterPolicyScope": scope}
cloudformation = boto3.client("cloudformation")
cloudformation.create_stack(
    StackName=stack_name,
    TemplateBody=sys.stdin.read(),
    Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()])
cloudformation.get_waiter("stack_create_complete").wait(StackName=stack_name, WaiterConfig={"Delay": 1})
outputs = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]["Outputs"]
print(next(output["OutputValue"] for output in outputs if output["OutputKey"] == "QueueUrl"), end="")
