"""Moto, a fake of Amazon's services, with a disk and with locks.

Moto keeps everything in memory, but it can record the requests that it gets. Here it makes them again before it listens, so that it knows
after a kill what it has confirmed before. What was received or settled is not made again: it is delivered once more. One user may do
everything, and whoever else comes, or signs otherwise, is turned away.

Called with a port, a file for the record of requests, and, where it is to serve TLS, a folder in which it puts its authority as `ca.pem`.
"""

import base64
import datetime
import functools
import ipaddress
import json
import os
import sys
import threading
import time
from urllib.parse import urlsplit

from jsonpath_ng import ext
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client

port, recording = int(sys.argv[1]), sys.argv[2]
os.environ["MOTO_RECORDER_FILEPATH"] = recording

from moto import settings  # noqa: E402
from moto.iam.models import iam_backends  # noqa: E402
from moto.moto_api import recorder  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    create_backend_app,
)
from moto.sqs import models as queues  # noqa: E402

MAKES = ("AWSEvents.Create", "AWSEvents.Put", "AmazonSQS.Create", "AmazonSQS.Send")
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class KeepAlive(WSGIRequestHandler):
    """As the real one does, connections are used again."""

    protocol_version = "HTTP/1.1"

    def log(self, *_):
        """Says nothing."""


def target(headers):
    return next((value for name, value in headers.items() if name.lower() == "x-amz-target"), "")


def certified(folder):
    """A certificate of an authority that nobody else knows, for this machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def signed(name, own_key, key, extension):
        called = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, "tests")]
        start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        made = x509.CertificateBuilder().subject_name(called[0]).issuer_name(called[1]).public_key(own_key.public_key())
        made = made.serial_number(x509.random_serial_number()).add_extension(extension, critical=False)
        made = made.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=30))
        return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def write(name, pem):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(pem)
        return path

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    write("ca.pem", signed("tests", authority, authority, x509.BasicConstraints(ca=True, path_length=None)))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = write("own.pem", signed("here", own, authority, here))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate, write("own.key", own.private_bytes(*plain))


def alone(method):
    """One call at a time for each queue, while none waits: moto loses a message that comes while another one is deleted."""

    @functools.wraps(method)
    def locked(backend, queue_name, *arguments, **named):
        with backend.get_queue(queue_name)._messages_lock:
            return method(backend, queue_name, *arguments, **named)

    return locked


def is_kept(backend, queue_name, message):
    """Moto counts the whole queue to learn this number, once for each message that it hands out."""
    return backend.get_queue(queue_name).message_retention_period + message.sent_timestamp / 1000 > time.time()


def counted(is_of_them):
    def count(queue):
        now = queues.unix_time_millis()
        return sum(is_of_them(message, now) for message in queue._messages)

    return property(count)


one_by_one = threading.Lock()


def recorded(record):
    """Moto writes a request in parts, between which another one may come. What is not made again need not be written."""

    def whole(request, body=None):
        if target(request.headers).startswith(MAKES):
            with one_by_one:
                record(request, body)

    return whole


def recording_without_torn_end():
    """Whoever sent what was being written in the moment of the kill was told nothing."""
    with open(recording, "rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(0)
        return file.read().splitlines()


# More than half of the time of an event goes into reading the same few paths.
ext.parse = functools.lru_cache(ext.parse)
# Each message that is sent has all of its queue counted three times, and moto asks for the time, slowly, for each that it counts.
queues.unix_time_millis = lambda: time.time() * 1000
queues.Queue.approximate_number_of_messages = counted(lambda message, now: message.visible_at < now >= message.delayed_until)
queues.Queue.approximate_number_of_messages_delayed = counted(lambda message, now: now < message.delayed_until)
queues.Queue.approximate_number_of_messages_not_visible = counted(lambda message, now: now <= message.visible_at)
SQSBackend = queues.SQSBackend
SQSBackend.is_message_valid_based_on_retention_period = is_kept
for name in ("receive_message", "delete_message", "change_message_visibility"):
    setattr(SQSBackend, name, alone(getattr(SQSBackend, name)))

app = DomainDispatcherApplication(create_backend_app)
if os.path.exists(recording):
    client = Client(app)
    for request in map(json.loads, recording_without_torn_end()):
        body = request["body"]
        body = base64.b64decode(body) if request["body_encoded"] else body
        url = urlsplit(request["url"])
        client.open(url.path, method=request["method"], headers=request["headers"], data=body)

users = iam_backends["123456789012"]["aws"]
users.create_user("us-east-1", "ensue")
users.put_user_policy("ensue", "everything", json.dumps(EVERYTHING))
key = users.create_access_key("ensue")
key.access_key_id, key.secret_access_key = "AKIAENSUEFORTESTS000", "for-tests"
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0
recorder._record_request = recorded(recorder._record_request)
recorder.start_recording()
tls = certified(sys.argv[3]) if len(sys.argv) > 3 else None
server = make_server("127.0.0.1", port, app, threaded=True, request_handler=KeepAlive, ssl_context=tls)
print("ready", flush=True)
server.serve_forever()
