"""The PyPI `pusher` server SDK, unmodified, against the release binary. Run by `cargo xtask test`."""

import json
import os
import pathlib
import queue
import re
import subprocess
import tempfile
import threading
import unittest

import pusher
import pusher.errors
import pusher.http
import websocket

ROOT = pathlib.Path(__file__).resolve().parents[4]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("SERVER_BINARY", str(TARGET / "release" / "soundpost"))
DEADLINE_SECONDS = 30
# This SDK takes only ids of digits, so the development app, whose id is a word, is not for it.
APP = {"app_id": "1001", "key": "soundpost-key", "secret": "soundpost-secret"}
CONFIGURATION = """[[apps]]
id = "{app_id}"
key = "{key}"
secret = "{secret}"
"""


class Server:
    """The server on a free port of the loopback, in a folder of its own so that no `.env` is read."""

    def __init__(self):
        foreign = re.compile(r"^(SOUNDPOST|REVERB|REDIS|SOKETI|PUSHER)_")
        environment = {name: value for name, value in os.environ.items() if not foreign.match(name)}
        self.folder = tempfile.TemporaryDirectory(prefix="soundpost-e2e-")
        configuration = pathlib.Path(self.folder.name, "soundpost.toml")
        configuration.write_text(CONFIGURATION.format(**APP), encoding="utf-8")
        self.process = subprocess.Popen(
            [BINARY, "--host", "127.0.0.1", "--port", "0", "--config", str(configuration)],
            stdout=subprocess.PIPE,
            cwd=self.folder.name,
            env=environment,
            text=True,
        )
        ports = queue.Queue(maxsize=1)
        self.reader = threading.Thread(target=self._read, args=(ports,), daemon=True)
        self.reader.start()
        try:
            self.port = ports.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            self.stop()
            raise RuntimeError("the server printed no address") from None

    def _read(self, ports):
        """Reads all that the server prints, so that it never blocks, and passes the first address on."""
        for line in self.process.stdout:
            address = re.search(r"(?:http|ws)://127\.0\.0\.1:(\d+)", line)
            if address and ports is not None:
                ports.put(int(address[1]))
                ports = None

    def stop(self):
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        self.reader.join(DEADLINE_SECONDS)
        self.process.stdout.close()
        self.folder.cleanup()


class Subscriber:
    """One connection that has joined one channel."""

    def __init__(self, port, sdk, channel, member=None):
        url = f"ws://127.0.0.1:{port}/app/{APP['key']}?protocol=7&client=python&version=1.0"
        self.socket = websocket.create_connection(url, timeout=DEADLINE_SECONDS)
        self.socket_id = self.next("pusher:connection_established")["socket_id"]
        data = {"auth": "", "channel": channel}
        if channel.startswith(("private-", "presence-")):
            data.update(sdk.authenticate(channel=channel, socket_id=self.socket_id, custom_data=member))
        self.send("pusher:subscribe", data)
        self.next("pusher_internal:subscription_succeeded")

    def send(self, event, data):
        self.socket.send(json.dumps({"event": event, "data": data}))

    def next(self, event):
        """The decoded `data` of the next frame, which must be this event."""
        try:
            frame = json.loads(self.socket.recv())
        except websocket.WebSocketTimeoutException:
            raise AssertionError(f"no {event} within {DEADLINE_SECONDS} s") from None
        if frame["event"] != event:
            raise AssertionError(f"expected {event}, got {frame}")
        data = frame["data"]
        return json.loads(data) if isinstance(data, str) else data

    def close(self):
        self.socket.close()


class PythonSdk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.sdk = cls.sdk_with()

    @classmethod
    def sdk_with(cls, **changes):
        options = {**APP, "host": "127.0.0.1", "port": cls.server.port, "ssl": False, "timeout": DEADLINE_SECONDS}
        return pusher.Pusher(**{**options, **changes})

    def subscriber(self, channel, user_id=None):
        member = {"user_id": user_id, "user_info": {"name": f"Zoë {user_id}"}} if user_id else None
        subscriber = Subscriber(self.server.port, self.sdk, channel, member)
        self.addCleanup(subscriber.close)
        return subscriber

    def test_trigger_reaches_one_channel_or_many(self):
        first, second = self.subscriber("py-one"), self.subscriber("private-py-two")
        self.assertEqual(self.sdk.trigger("py-one", "single", {"n": 1}), {})
        self.assertEqual(first.next("single"), {"n": 1})
        self.sdk.trigger(["py-one", "private-py-two"], "both", {"text": "Zoë ☂"})
        self.assertEqual(first.next("both"), {"text": "Zoë ☂"})
        self.assertEqual(second.next("both"), {"text": "Zoë ☂"})

    def test_trigger_leaves_out_the_given_socket(self):
        mine, theirs = self.subscriber("py-others"), self.subscriber("py-others")
        self.sdk.trigger("py-others", "first", {}, socket_id=mine.socket_id)
        self.sdk.trigger("py-others", "second", {})
        theirs.next("first")
        theirs.next("second")
        mine.next("second")

    def test_a_batch_arrives_in_order(self):
        subscriber = self.subscriber("py-batch")
        names = [f"event-{n}" for n in range(10)]
        self.sdk.trigger_batch([{"channel": "py-batch", "name": name, "data": {"name": name}} for name in names])
        for name in names:
            self.assertEqual(subscriber.next(name), {"name": name})

    def test_channels_channel_and_users_say_who_is_there(self):
        self.subscriber("presence-py-asked", "1")
        self.subscriber("presence-py-asked", "2")
        found = self.sdk.channels_info(prefix_filter="presence-py", attributes=["user_count"])
        self.assertEqual(found, {"channels": {"presence-py-asked": {"user_count": 2}}})
        self.assertEqual(self.sdk.channels_info(prefix_filter="no-such-"), {"channels": {}})
        found = self.sdk.channel_info("presence-py-asked", ["user_count", "subscription_count"])
        self.assertEqual(found, {"occupied": True, "user_count": 2, "subscription_count": 2})
        self.assertEqual(self.sdk.channel_info("py-nobody"), {"occupied": False})
        users = self.sdk.users_info("presence-py-asked")["users"]
        self.assertEqual(sorted(user["id"] for user in users), ["1", "2"])

    def test_a_cache_channel_says_what_it_keeps(self):
        self.assertIsNone(self.sdk.channel_info("cache-py", ["cache"])["cache"])
        self.sdk.trigger("cache-py", "moved", {"lat": 52.5})
        kept = self.sdk.channel_info("cache-py", ["cache"])["cache"]
        self.assertEqual(json.loads(kept["data"]), {"lat": 52.5})
        self.assertEqual(self.subscriber("cache-py").next("moved"), {"lat": 52.5})

    def test_a_user_signs_in_is_sent_events_and_is_ended(self):
        subscriber = self.subscriber("py-user")
        user = {"id": "py-7", "user_info": {"name": "Zoë"}}
        signed = self.sdk.authenticate_user(subscriber.socket_id, user)
        subscriber.send("pusher:signin", signed)
        self.assertEqual(json.loads(subscriber.next("pusher:signin_success")["user_data"]), user)
        subscriber.send("pusher:subscribe", {"auth": "", "channel": "#server-to-user-py-7"})
        subscriber.next("pusher_internal:subscription_succeeded")
        self.assertEqual(self.sdk.send_to_user("py-7", "note", {"text": "Zoë"}), {})
        self.assertEqual(subscriber.next("note"), {"text": "Zoë"})
        # 3.3.4 leaves `/apps/{id}` out of this path, which is nowhere, with Pusher as here. So only its signing is used.
        with self.assertRaisesRegex(pusher.errors.PusherBadStatus, "^404"):
            self.sdk.terminate_user_connections("py-7")
        client = self.sdk._pusher_client
        path = f"/apps/{APP['app_id']}/users/py-7/terminate_connections"
        self.assertEqual(client.http.send_request(pusher.http.Request(client, "POST", path)), {})
        self.assertEqual(subscriber.next("pusher:error")["code"], 4009)
        opcode, reason = subscriber.socket.recv_data()
        self.assertEqual((opcode, reason[:2]), (websocket.ABNF.OPCODE_CLOSE, (4009).to_bytes(2, "big")))

    def test_a_wrong_secret_is_refused(self):
        with self.assertRaises(pusher.errors.PusherBadAuth):
            self.sdk_with(secret="not-the-secret").trigger("py-one", "event", {})


if __name__ == "__main__":
    unittest.main(verbosity=2)
