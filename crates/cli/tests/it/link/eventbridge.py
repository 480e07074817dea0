"""Sends as somebody else does, with Amazon's own library: JSON over an event bus, whatever else to the queue itself.

Called with the endpoint, the id and the secret of an access key, an event bus, a queue and what is to be sent.
"""

import json
import sys

import boto3

endpoint, key, secret, bus, queue, text = sys.argv[1:]
login = {"endpoint_url": endpoint, "region_name": "us-east-1", "aws_access_key_id": key, "aws_secret_access_key": secret}
try:
    json.loads(text)
except ValueError:
    queues = boto3.client("sqs", **login)
    queues.send_message(QueueUrl=queues.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody=text)
else:
    entry = {"EventBusName": bus, "Source": "legacy", "DetailType": "Return Announced", "Detail": text}
    sent = boto3.client("events", **login).put_events(Entries=[entry])
    assert sent["FailedEntryCount"] == 0, sent
