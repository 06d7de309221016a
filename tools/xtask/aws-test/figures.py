"""Prints how long the functions of a deployment ran, how much of each service its records used, and what that costs by the list prices
of crates/plan/src/facts.json. The amounts are CloudWatch's, which has them some minutes later; "no figure" means that it has none (yet).

Usage: figures.py STACK_NAME FACTS TRANSITIONS BEGINNING: the file of prices, the state transitions of an execution, the Unix time at which
the deployment began
"""

import datetime
import json
import sys
import time

import boto3

stack_name, facts_file, transitions, beginning = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with open(facts_file, encoding="utf-8") as file:
    facts = json.load(file)
cloudwatch = boto3.client("cloudwatch")
# A period of CloudWatch begins at a full minute.
WINDOW = {
    "StartTime": datetime.datetime.fromtimestamp(beginning // 60 * 60, datetime.timezone.utc),
    "EndTime": datetime.datetime.fromtimestamp(time.time() // 60 * 60 + 60, datetime.timezone.utc),
}
PERIOD = 3600


def statistics(namespace, metric, dimensions, names=("Sum",), extended=()):
    """Returns a metric's values over the life of the deployment, or None if CloudWatch has none."""
    points = cloudwatch.get_metric_statistics(
        Namespace=namespace, MetricName=metric, Period=PERIOD, **WINDOW,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        **({"Statistics": list(names)} if names else {}),
        **({"ExtendedStatistics": list(extended)} if extended else {}))["Datapoints"]
    return points or None


def total(namespace, metric, **dimensions):
    points = statistics(namespace, metric, dimensions)
    return None if points is None else sum(point["Sum"] for point in points)


def price(name):
    """The price of a unit before any discount for large amounts, in USD."""
    return facts["prices"][name]["usd"][0][1]


resources = []
for page in boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_name):
    resources += page["StackResourceSummaries"]


def of_type(kind):
    return [(entry["LogicalResourceId"], entry["PhysicalResourceId"]) for entry in resources if entry["ResourceType"] == kind]


def cell(value, pattern):
    return "no figure" if value is None else pattern.format(value)


print("\nFunctions:\n")
print(f"{'':<12}{'invocations':>12}{'errors':>10}{'mean ms':>12}{'p99 ms':>12}{'GB-s':>12}")
lambda_client = boto3.client("lambda")
invocations = gb_seconds = 0
for logical, name in sorted(of_type("AWS::Lambda::Function")):
    calls = total("AWS/Lambda", "Invocations", FunctionName=name)
    if not calls:
        continue
    errors = total("AWS/Lambda", "Errors", FunctionName=name)
    milliseconds = total("AWS/Lambda", "Duration", FunctionName=name)
    slowest = statistics("AWS/Lambda", "Duration", {"FunctionName": name}, names=(), extended=("p99",))
    slowest = slowest and max(point["ExtendedStatistics"]["p99"] for point in slowest)
    memory = lambda_client.get_function_configuration(FunctionName=name)["MemorySize"]
    used = None if milliseconds is None else milliseconds / 1000 * memory / 1024
    invocations, gb_seconds = invocations + calls, gb_seconds + (used or 0)
    print(f"{logical.removesuffix('Function'):<12}{calls:>12.0f}{cell(errors, '{:.0f}'):>10}"
          f"{cell(milliseconds and milliseconds / calls, '{:.1f}'):>12}{cell(slowest, '{:.1f}'):>12}{cell(used, '{:.2f}'):>12}")

[(_, state_machine)] = of_type("AWS::StepFunctions::StateMachine")
tables = [name for _, name in of_type("AWS::DynamoDB::Table")]
[topic] = [arn for logical, arn in of_type("AWS::SNS::Topic") if logical == "NotificationTopic"]
apis = [boto3.client("apigateway").get_rest_api(restApiId=name)["name"] for _, name in of_type("AWS::ApiGateway::RestApi")]


def all_of(values):
    known = [value for value in values if value is not None]
    return sum(known) if known else None


workflow_type = boto3.client("stepfunctions").describe_state_machine(stateMachineArn=state_machine)["type"]
starts = total("AWS/States", "ExecutionsStarted", StateMachineArn=state_machine)
if workflow_type == "EXPRESS":
    transitions = 1
write_units = all_of(total("AWS/DynamoDB", "ConsumedWriteCapacityUnits", TableName=table) for table in tables)
read_units = all_of(total("AWS/DynamoDB", "ConsumedReadCapacityUnits", TableName=table) for table in tables)
published = total("AWS/SNS", "NumberOfMessagesPublished", TopicName=topic.rsplit(":", 1)[-1])
requests = all_of(total("AWS/ApiGateway", "Count", ApiName=name) for name in set(apis))
hours = (time.time() - beginning) / 3600
print("\nWhat was used, and its price without discounts and free tiers:\n")
print(f"{'':<44}{'amount':>14}{'USD':>12}")
known = 0.0
for what, amount, name in [
    ("invocations of functions", invocations, "lambda.request"),
    ("GB-seconds of functions", gb_seconds, "lambda.gb_second.arm64"),
    (f"{'state transitions' if transitions > 1 else 'executions'} (executions × {transitions})",
     starts and starts * transitions,
     "sfn.standard.transition" if transitions > 1 else "sfn.express.request"),
    ("write units of tables", write_units, "ddb.wru"),
    ("read units of tables", read_units, "ddb.rru"),
    ("notifications", published, "sns.request"),
    ("requests to the APIs", requests, "apigw.rest.request"),
    ("hours of five interface endpoints in two zones", hours * 10, "vpce.hour"),
]:
    usd = None if amount is None else amount * price(name)
    known += usd or 0
    print(f"{what:<46}{cell(amount, '{:.2f}'):>12}{cell(usd, '{:.4f}'):>12}")
print(f"{'all of these':<58}{known:>12.4f}")
print("\nNot in the list: the cache, S3 requests and storage, logs and traces, which have no such metric; see `custody plan`.")
