"""Takes alerts as their receivers would, and writes down what came: one JSON object a line.

Arguments: certificate, key, secret of the webhook, user and password for mail, file to write to. Says its two ports,
HTTPS and SMTP, on stdout. Mail is taken after STARTTLS and a login only.
"""

import asyncio
import hashlib
import hmac
import http.server
import json
import ssl
import sys
import threading
from email import message_from_bytes
from email.policy import default

from aiosmtpd.smtp import SMTP, AuthResult

CERTIFICATE, KEY, SECRET, USER, PASSWORD, RECEIVED = sys.argv[1:]
LOCK = threading.Lock()


def note(**row):
    with LOCK, open(RECEIVED, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def is_genuine(header, body):
    parts = dict(part.split("=", 1) for part in (header or "t=0,v1=").split(","))
    expected = hmac.new(SECRET.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts["v1"])


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        genuine = is_genuine(self.headers["Spillway-Signature"], body)
        note(by=self.path, genuine=genuine, key=self.headers["Idempotency-Key"], body=json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Mail:
    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=default)
        note(
            by="mail",
            encrypted=session.ssl is not None,
            to=envelope.rcpt_tos,
            subject=mail["Subject"],
            id=mail["Message-ID"],
            text=mail.get_content(),
        )
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()))


tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(CERTIFICATE, KEY)
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
web.socket = tls.wrap_socket(web.socket, server_side=True)
threading.Thread(target=web.serve_forever, daemon=True).start()

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
mail = loop.create_server(
    lambda: SMTP(Mail(), tls_context=tls, require_starttls=True, authenticator=login, auth_required=True, loop=loop),
    "127.0.0.1",
    0,
)
port = loop.run_until_complete(mail).sockets[0].getsockname()[1]
print(json.dumps([web.server_port, port]), flush=True)
loop.run_forever()
