#!/usr/bin/env python3
"""Overload, recovery and a mixed soak against a server of its own. Python's standard library only.

    scripts/load_test.py target/release/mixmatch [--overload 60] [--soak 60] [--standstill 20] [--json]

It trains a tiny model, measures what the server can bear, sends four times as much, waits until it answers as before, and
then sends mixed traffic at half of what it can bear, each kind of which must be answered with its own status, while job after job trains
and two followers read each job's events, one of them cutting its connection and resuming. With --standstill the server is then stopped (SIGSTOP) for so long while
600 callers come at once. Exit code 1 where a promise of docs/operations.md is broken: other answers than 200, 429, 503 or
504 under overload, memory or open files that grow, a lost or repeated event, a job that failed, no recovery within five
seconds, a caller of the standstill without an answer. Exit code 2 where this client ran out of its own files or ports, or
could not keep the rate: then nothing is said about the server.
"""

import argparse
import asyncio
import collections
import errno
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib

ALLOWED = {200, 429, 503, 504}
# What the soak's calls are answered with: at half of what the server can bear nobody is sent away. A broken image is a problem in its
# own place of an answer that is none.
EXPECTED = {"predict": "200", "list": "200", "bad image": "200 with a problem", "bad request": "422", "import": "201", "delete": "204", "metrics": "200"}
# What only this client can lack: files, and ports of its own to call from.
CLIENT = {f"none:{errno.errorcode[number]}" for number in (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)}


def png(side, shift):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    stripes = shift % 2
    row = lambda y: bytes((((x + (y if stripes else 0)) // 4 + shift) * 37 + c * 60) % 256 for x in range(side) for c in range(3))
    rows = b"".join(b"\0" + row(y) for y in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def dropped():
    """Connections that this machine's listeners had no room to queue; their callers try again later and later."""
    with open("/proc/net/netstat") as counters:
        names, values = (line.split() for line in list(counters)[:2])
    return int(values[names.index("ListenOverflows")])


def data_set(name):
    images, sheet = io.BytesIO(), "image,label\n"
    with zipfile.ZipFile(images, "w") as archive:
        for number in range(60):
            archive.writestr(f"{number}.png", png(16, number))
            sheet += f"{number}.png,{'stripes' if number % 2 else 'bars'}\n"
    parts = [("name", None, name.encode()), ("task", None, b"pattern"), ("images", "i.zip", images.getvalue()),
             ("train", "t.csv", sheet.encode())]
    body = b""
    for field, file, data in parts:
        extra = f'; filename="{file}"' if file else ""
        body += f'--x\r\ncontent-disposition: form-data; name="{field}"{extra}\r\n\r\n'.encode() + data + b"\r\n"
    return "multipart/form-data; boundary=x", body + b"--x--\r\n"


class Server:
    def __init__(self, binary, place):
        self.data = os.path.join(place, "data")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # None of a developer's own settings: the promises are of a server with its defaults.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXMATCH_")}
        make = lambda name: subprocess.run(
            [binary, "keys", "create", "--data-dir", self.data, "--name", name, "--scope", "admin", "--expires", "1d"],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment).stdout.decode().strip()
        self.keys = [make(f"key-{number}") for number in range(5)]
        self.process = subprocess.Popen(
            [binary, "serve", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}", "--devices", "cpu"],
            stderr=subprocess.DEVNULL, env=environment)

    def memory(self):
        """Resident MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024

    def files(self):
        """Open file descriptors, sockets among them."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def ask(self, method, path, body=b"", media="application/json", key=0, timeout=45):
        """Status and body over a connection of its own; the reason as a word where there was no answer. Longer than the server's
        own 30 s: whoever gives up in the same second never sees the 504."""
        try:
            return await asyncio.wait_for(self._ask(method, path, body, media, key), timeout)
        except (OSError, asyncio.TimeoutError, ValueError, IndexError) as error:
            return f"none:{errno.errorcode.get(getattr(error, 'errno', None), type(error).__name__)}", b""

    def head(self, method, path, key, more=""):
        return (f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                f"authorization: Bearer {self.keys[key]}\r\n{more}\r\n").encode()

    async def _ask(self, method, path, body, media, key):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self.head(method, path, key, f"content-type: {media}\r\ncontent-length: {len(body)}\r\n") + body)
            answer = await reader.read()
            return int(answer.split(b" ", 2)[1]), answer.split(b"\r\n\r\n", 1)[1]
        finally:
            writer.close()

    async def predict(self, image, key=1):
        began = time.monotonic()
        status, _ = await self.ask("POST", "/predict?model=pattern", image, "image/png", key)
        return status, time.monotonic() - began

    async def result(self, image, key):
        """The status of a prediction, and whether the image has a problem instead of a label."""
        status, body = await self.ask("POST", "/predict?model=pattern", image, "image/png", key)
        if status == 200 and json.loads(body)["results"][0].get("problem"):
            return "200 with a problem"
        return status

    async def events(self, job, cut=False):
        """Ids, names and data of a job's events to their end; `cut` breaks off after a few and resumes, again and again."""
        seen, last = [], 0
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(self.head("GET", f"/jobs/{job}/events", 4, f"last-event-id: {last}\r\n" if last else ""))
                left, event = random.randint(1, 12) if cut else None, {}
                while (line := await asyncio.wait_for(reader.readline(), 120)) and left != 0:
                    field, _, value = line.decode().rstrip("\r\n").partition(": ")
                    if field in ("id", "event", "data"):
                        event[field] = value
                    elif not field and "id" in event:
                        last, left = int(event["id"]), left and left - 1
                        seen.append((last, event["event"], json.loads(event["data"])))
                        event = {}
                if left != 0:
                    return seen
            finally:
                writer.close()


async def prepare(server):
    for _ in range(200):
        ready = (await server.ask("GET", "/readyz"))[0] == 200
        if server.process.poll() is not None:
            raise SystemExit(f"the server ended at once with {server.process.returncode}")
        if ready:
            break
        await asyncio.sleep(0.2)
    else:
        raise SystemExit("the server was not ready in 40 s")
    media, body = data_set("patterns")
    status, answer = await server.ask("POST", "/datasets", body, media)
    assert status == 201, answer
    job = {"dataset": "patterns", "network": "wrn-10-1", "labelled": 20, "size": 16, "batch": 8, "epochs": 2, "steps_per_epoch": 20}
    for seed in range(5):
        status, answer = await server.ask("POST", "/jobs", json.dumps({**job, "seed": seed}).encode())
        assert status == 202, answer
        path = "/jobs/" + json.loads(answer)["id"]
        while True:
            state = json.loads((await server.ask("GET", path, timeout=60))[1])["state"]
            if state in ("succeeded", "failed"):
                break
            await asyncio.sleep(0.5)
        if state == "succeeded":
            return
    raise SystemExit("no job succeeded")


async def capacity(server, image, seconds=8, clients=6):
    """Answers a second that six patient clients get, and the median seconds of one."""
    end, times = time.monotonic() + seconds, []

    async def client(number):
        while time.monotonic() < end:
            # Spread over the keys, so that none of them meets its own limit.
            status, took = await server.predict(image, number % 4)
            times.append(took if status == 200 else None)
    await asyncio.gather(*map(client, range(clients)))
    good = [took for took in times if took is not None]
    return len(good) / seconds, statistics.median(good)


async def at_rate(rate, seconds, send):
    """Calls `send(number)` so often, whether earlier calls have ended or not."""
    tasks, began, number, lag, last = set(), time.monotonic(), 0, 0, 0
    while (now := time.monotonic() - began) < seconds:
        lag, last = max(lag, now - last), now
        while number < now * rate:
            task = asyncio.create_task(send(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*list(tasks))
    return {"sent": number, "client_lag_seconds": round(lag, 2)}


async def overload(server, image, rate, seconds):
    statuses, good, memory, before = collections.Counter(), [], [], dropped()

    async def send(number):
        # Every second request comes from one key, which so meets its own limit.
        status, took = await server.predict(image, 0 if number % 2 else 1 + number // 2 % 3)
        statuses[status] += 1
        if status == 200:
            good.append(took)
        if number % 50 == 0:
            memory.append(server.memory())
    sent = await at_rate(rate, seconds, send)
    good.sort()
    return {**sent, "rate": round(rate), "statuses": dict(statuses), "seconds_median_of_200": round(statistics.median(good), 3),
            "seconds_p99_of_200": round(good[int(len(good) * 0.99)], 3), "memory_first_mib": round(memory[0]),
            "memory_most_mib": round(max(memory)), "memory_last_mib": round(memory[-1]), "connections_dropped": dropped() - before}


async def recovery(server, image, usual):
    """Seconds until a lone request is answered about as fast as before."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        status, took = await server.predict(image, 2)
        if status == 200 and took < 3 * usual + 0.1:
            return time.monotonic() - began
        await asyncio.sleep(0.05)
    return float("inf")


async def train(server, end, wrong):
    """Job after job until `end`; every event must come once and in order, to both followers. Jobs, events and epochs seen."""
    jobs = events = epochs = 0
    body = {"dataset": "patterns", "network": "wrn-10-1", "labelled": 20, "size": 16, "batch": 8, "epochs": 20, "steps_per_epoch": 10}
    while time.monotonic() < end:
        status, answer = await server.ask("POST", "/jobs", json.dumps({**body, "seed": jobs}).encode(), key=4)
        if status != 202:
            wrong.append(f"POST /jobs: {status}")
            await asyncio.sleep(1)
            continue
        path = json.loads(answer)["id"]
        whole, pieces = await asyncio.gather(server.events(path), server.events(path, cut=True))
        job = json.loads((await server.ask("GET", f"/jobs/{path}", key=4))[1])
        stored = json.loads((await server.ask("GET", f"/jobs/{path}/metrics?limit=1000", key=4))[1])
        told = [data["epoch"] for _, name, data in whole if name == "epoch"]
        if job["state"] != "succeeded":
            wrong.append(f"{path}: {job['state']}: {job.get('error')}")
        if whole != pieces or [number for number, _, _ in whole] != sorted({number for number, _, _ in whole}):
            wrong.append(f"{path}: the two followers saw {len(whole)} and {len(pieces)} events")
        if told != list(range(1, 21)) or [row["epoch"] for row in stored["items"]] != told:
            wrong.append(f"{path}: epochs told {told}, stored {[row['epoch'] for row in stored['items']]}")
        jobs, events, epochs = jobs + 1, events + len(whole), epochs + len(told)
    return {"jobs_trained": jobs, "events_followed_twice": events, "epochs": epochs}


async def soak(server, image, rate, seconds):
    statuses, memory, files, before, wrong = collections.Counter(), [server.memory()], [server.files()], dropped(), []
    media, form = data_set("coming")
    trained = asyncio.create_task(train(server, time.monotonic() + seconds, wrong))

    async def send(number):
        kind = number % 20
        if kind < 14:
            what, status = "predict", await server.result(image, number % 4)
        elif kind < 16:
            what, (status, _) = "list", await server.ask("GET", ["/jobs", "/models", "/datasets", "/audit"][number % 4], key=number % 4)
        elif kind == 16:
            what, status = "bad image", await server.result(image[: len(image) // 2], 0)
        elif kind == 17:
            what, (status, _) = "bad request", await server.ask("POST", "/jobs", b'{"dataset": 1}')
        elif kind == 18 and number % 200 == 18:
            what, (status, _) = "import", await server.ask("POST", "/datasets", form.replace(b"coming", b"come%d" % number), media)
            statuses[f"delete {(await server.ask('DELETE', '/datasets/come%d' % number))[0]}"] += 1
        else:
            what, (status, _) = "metrics", await server.ask("GET", "/metrics", key=3)
        statuses[f"{what} {status}"] += 1
        if number % 100 == 0:
            memory.append(server.memory())
            files.append(server.files())
    sent = await at_rate(rate, seconds, send)
    trained = await trained
    # What was still open for a moment is closed by now.
    await asyncio.sleep(2)
    tenths = [memory[len(memory) * tenth // 10:len(memory) * (tenth + 1) // 10] for tenth in range(10)]
    return {**sent, "seconds": seconds, "rate": round(rate), "statuses": dict(sorted(statuses.items())), **trained, "wrong": wrong,
            "memory_first_mib": round(memory[0]), "memory_median_mib_by_tenth": [round(statistics.median(t)) for t in tenths if t],
            "memory_most_mib": round(max(memory)), "memory_last_mib": round(server.memory()),
            "files_first": files[0], "files_most": max(files), "files_last": server.files(), "connections_dropped": dropped() - before}


async def standstill(server, seconds, callers=600):
    """What callers get that come while the server does not run."""
    before, began = dropped(), time.monotonic()
    server.process.send_signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(seconds, server.process.send_signal, signal.SIGCONT)

    async def send():
        return (await server.ask("GET", "/livez"))[0], time.monotonic() - began
    answers = await asyncio.gather(*[send() for _ in range(callers)])
    return {"seconds": seconds, "statuses": dict(collections.Counter(status for status, _ in answers)),
            "seconds_last_answer": round(max(took for _, took in answers), 2), "connections_dropped": dropped() - before}


async def main(arguments, server):
    await prepare(server)
    # Large enough that the server is busy before its keys meet their limits.
    image = png(arguments.side, 3)
    usual = statistics.median([(await server.predict(image))[1] for _ in range(20)])
    rate, _ = await capacity(server, image)
    figures = {"alone_seconds": round(usual, 4), "capacity_per_second": round(rate, 1)}
    broken, client = [], []

    def ours(what, result, statuses):
        """Notes where this client was the one that could not."""
        short = {status: count for status, count in statuses.items() if any(str(status).endswith(mine) for mine in CLIENT)}
        if short or result["client_lag_seconds"] > 1:
            client.append(f"{what}: short of {short}, {result['client_lag_seconds']} s behind its clock")
        return short
    if arguments.overload:
        figures["overload"] = result = await overload(server, image, 4 * rate, arguments.overload)
        figures["recovery_seconds"] = recovered = round(await recovery(server, image, usual), 2)
        short = ours("overload", result, result["statuses"])
        others = {status: count for status, count in result["statuses"].items() if status not in ALLOWED and status not in short}
        if others:
            broken.append(f"other answers under overload: {others}")
        if recovered > 5:
            broken.append(f"recovered only after {recovered} s")
        if result["memory_last_mib"] > 1.5 * result["memory_first_mib"] + 200:
            broken.append("memory grew under overload")
    if arguments.soak:
        figures["soak"] = result = await soak(server, image, rate / 2, arguments.soak)
        short = ours("soak", result, result["statuses"])
        as_expected = {f"{kind} {status}" for kind, status in EXPECTED.items()}
        others = {status: count for status, count in result["statuses"].items() if status not in as_expected and status not in short}
        if others or result["wrong"]:
            broken.append(f"failures in the soak: {others}, {result['wrong']}")
        if result["files_last"] > result["files_first"] + 20:
            broken.append("open files grew in the soak")
        if result["memory_last_mib"] > 1.5 * result["memory_first_mib"] + 100:
            broken.append("memory grew in the soak")
    if arguments.standstill:
        figures["standstill"] = result = await standstill(server, arguments.standstill)
        if set(result["statuses"]) != {200} or result["seconds_last_answer"] > arguments.standstill + 5:
            broken.append(f"callers of a standstill: {result}")
    figures["broken_promises"], figures["client_could_not"] = broken, client
    print(json.dumps(figures, indent=None if arguments.json else 2))
    return 1 if broken else 2 if client else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--overload", type=float, default=60, help="seconds; 0 leaves it out")
    parser.add_argument("--soak", type=float, default=60, help="seconds; 0 leaves it out")
    parser.add_argument("--standstill", type=float, default=0, help="seconds; 0 leaves it out")
    parser.add_argument("--side", type=int, default=1536, help="pixels of the image that is sent")
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    place = tempfile.mkdtemp()
    server = Server(arguments.binary, place)
    try:
        sys.exit(asyncio.run(main(arguments, server)))
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.process.terminate()
        server.process.wait()
        shutil.rmtree(place)
