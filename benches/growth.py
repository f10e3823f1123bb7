#!/usr/bin/env python3
"""How costs grow: with epochs of a job, jobs in the queue, images in a data set, images in a request.

    benches/growth.py                        # all four, 15 minutes; or --only metrics,jobs,images,requests

Histories are put into the database by SQL, each row a copy of a real one; everything that is timed goes through HTTP, the
command line or a job, as users do it. Times are medians of several."""

import argparse
import base64
import json
import os
import pathlib
import sqlite3
import statistics
import struct
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from random import Random

from serving import ROOT, Server, data_set, free_port, prepare, run

# Ids that sort like the UUIDs they stand for, before every real one.
ID = "printf('%08x-0000-7000-8000-%012x', i / 65536, i)"


class Running(Server):
    """`mixmatch serve` on a data directory."""

    def __init__(self, binary, data, more=()):
        port = free_port()
        self.base, self.data = f"http://127.0.0.1:{port}", data
        command = [binary, "serve", "--data-dir", data, "--listen", f"127.0.0.1:{port}", *more]
        super().__init__(command, f"{self.base}/readyz", data.parent / "server.log", dict(os.environ))

    def get(self, path, accept="application/json"):
        """Seconds, and the answer's bytes."""
        began = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(self.base + path, headers={"accept": accept})) as answer:
            body = answer.read()
        return time.perf_counter() - began, body

    def middle(self, path, accept="application/json", times=7):
        """The median in milliseconds, after one call that warms up."""
        self.get(path, accept)
        return 1000 * statistics.median(self.get(path, accept)[0] for _ in range(times))

    def walk(self, path):
        """Seconds, pages, items of a walk over all pages of 1,000."""
        began, cursor, pages, items = time.perf_counter(), "", 0, 0
        while cursor is not None:
            page = json.loads(self.get(f"{path}{'&' if '?' in path else '?'}limit=1000{cursor}")[1])
            pages, items = pages + 1, items + len(page["items"])
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        return time.perf_counter() - began, pages, items

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def table(title, head, rows):
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print("| " + " | ".join(f"{cell:,.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |", flush=True)


def copies(database, table_name, source, changes, count, first=1):
    """Copies one row `count` times, with `changes` for some columns: SQL in which `i` counts from `first`."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table_name})")]
    values = ", ".join(changes.get(column, column) for column in columns)
    counted = f"WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {first + count - 1})"
    database.execute(f"{counted} INSERT INTO {table_name} SELECT {values} FROM n, (SELECT * FROM {table_name} WHERE {source} LIMIT 1)")
    database.commit()


def open_database(data):
    database = sqlite3.connect(data / "mixmatch.db")
    database.execute("PRAGMA synchronous = OFF")
    return database


def metrics(binary, data, most):
    """A job of 1,000 to `most` epochs."""
    database = open_database(data)
    (job,) = database.execute("SELECT id FROM jobs WHERE state = 'succeeded' LIMIT 1").fetchone()
    rows, have = [], database.execute("SELECT COUNT(*) FROM job_metrics WHERE job_id = ?", (job,)).fetchone()[0]
    for count in [1000 * 10**power for power in range(4) if 1000 * 10**power <= most]:
        numbered = "json_set(metrics, '$.epoch', i)"
        copies(database, "job_metrics", f"job_id = '{job}'", {"epoch": "i", "metrics": numbered}, count - have, have + 1)
        told = {"seq": "NULL", "data": "json_set(data, '$.epoch', i)"}
        copies(database, "job_events", f"job_id = '{job}' AND kind = 'epoch'", told, count - have, have + 1)
        have = count
        with Running(binary, data) as server:
            path = f"/jobs/{job}/metrics"
            before = server.memory()
            seconds, pages, items = server.walk(path)
            csv_seconds, body = server.get(path, "text/csv")
            board_seconds, board = server.get(f"/jobs/{job}/tensorboard")
            assert items == count == body.count(b"\n") - 1, (items, count)
            rows.append([
                count, server.middle(f"{path}?limit=100"), server.middle(f"{path}?limit=100&cursor={count - 100}"),
                server.middle(f"/jobs/{job}"), 1000 * seconds / pages, csv_seconds, board_seconds, len(board) / 2**20,
                before, server.memory(),
            ])
    database.close()
    head = ["epochs", "first page of 100, ms", "last page, ms", "the job, ms", "walk: ms a page of 1,000", "CSV, s", "TensorBoard, s", "MiB",
            "server MiB before", "after"]
    table("Epochs of a job", head, rows)


def jobs(binary, data, most):
    """1,000 to `most` jobs in the queue, and as many that are over."""
    rows, have = [], 0
    for count in [1000 * 10**power for power in range(3) if 1000 * 10**power <= most]:
        database = open_database(data)
        done = {"id": ID, "idempotency_key": "NULL", "request_sha256": "NULL", "sweep_id": "NULL"}
        copies(database, "jobs", "state = 'succeeded' AND id > '01'", done, count - have, have + 1)
        copies(database, "job_metrics", "job_id > '01'", {"job_id": ID}, count - have, have + 1)
        waiting = {**done, "id": ID.replace("7000", "7001"), "state": "'queued'", "model_version": "NULL", "finished_at": "NULL",
                   "started_at": "NULL", "test": "NULL", "phase": "NULL", "progress": "NULL", "attempt": "0", "device": "NULL"}
        copies(database, "jobs", "state = 'succeeded' AND id > '01'", waiting, count - have, have + 1)
        have = count
        last = database.execute("SELECT MAX(id) FROM jobs WHERE state = 'queued'").fetchone()[0]
        seen = database.execute("SELECT MAX(seq) FROM job_events").fetchone()[0]
        database.close()
        began = time.perf_counter()
        with Running(binary, data, ["--devices", "cpu"]) as server:
            ready = time.perf_counter() - began
            time.sleep(20)
            gaps = claims(data, seen)
            first, deep = server.middle("/jobs?limit=100"), server.middle("/jobs?limit=100&state=queued")
            one = server.middle(f"/jobs/{last}")
            seconds, pages, items = server.walk("/jobs")
            assert items >= 2 * count, (items, count)
            rows.append([count, ready, first, deep, one, 1000 * seconds / pages, gaps, server.memory()])
    head = ["jobs in the queue, and as many over", "server ready, s", "first page of 100, ms", "… of the queue, ms", "the last in the queue, ms",
            "walk: ms a page of 1,000", "end of a job → start of the next, ms", "server MiB"]
    table("Jobs", head, rows)


def claims(data, after):
    """The median of the times between one job's end and the next one's start, as the server wrote them."""
    database = sqlite3.connect(data / "mixmatch.db")
    query = "SELECT at, data ->> '$.state' FROM job_events WHERE kind = 'state' AND seq > ? ORDER BY seq"
    events = database.execute(query, (after,)).fetchall()
    database.close()
    gaps = [b[0] - a[0] for a, b in zip(events, events[1:]) if a[1] == "succeeded" and b[1] == "running"]
    return float(statistics.median(gaps)) if gaps else "none ended"


def png(random, bright):
    """48 × 48 pixels of 8 × 8 coloured squares, bright or dark: no two alike, not even by their likeness."""
    lines = []
    half = bytes(value // 2 + 128 * bright for value in range(256))
    for _ in range(8):
        line = b"".join(random.randbytes(3).translate(half) * 6 for _ in range(8))
        lines.append((b"\0" + line) * 6)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 48, 48, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines), 1)) + chunk(b"IEND", b"")


def images(binary, scratch, most):
    """Data sets of 1,000 to `most` images."""
    rows = []
    for count in [1000 * 10**power for power in range(3) if 1000 * 10**power <= most]:
        here = scratch / f"images-{count}"
        here.mkdir()
        random = Random(count)
        with zipfile.ZipFile(here / "images.zip", "w") as archive, open(here / "train.csv", "w") as sheet:
            sheet.write("image,label\n")
            for index in range(count):
                archive.writestr(f"{index}.png", png(random, index % 2))
                sheet.write(f"{index}.png,{('dark', 'bright')[index % 2] if index < 500 else ''}\n")
        command = [binary, "import", "--data-dir", here / "data", "--name", "grown", "--task", "grown"]
        import_seconds, import_memory, import_own = timed([*command, "--images", here / "images.zip", "--train", here / "train.csv"])
        settings = {"epochs": 1, "steps_per_epoch": 30, "validation_max": 100}
        sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        command = [binary, "train", "--data-dir", here / "data", "--dataset", "grown", "--labelled", 40, *sets]
        run_seconds, run_memory, _ = timed(command)
        again_seconds, _, _ = timed(command)
        packed = sum(path.stat().st_size for path in (here / "data").rglob("*") if path.is_file()) / 2**20
        rows.append([count, import_seconds, count / import_seconds, import_memory, import_own, run_seconds, again_seconds, run_memory, packed])
    head = ["images (48×48 PNG)", "import, s", "images/s", "peak MiB", "… its own", "a run of 30 steps, s", "… again, s", "peak MiB of the run", "data directory, MiB"]
    table("Images of a data set", head, rows)


def timed(command):
    """Seconds, peak MiB (the largest of its processes), and the peak of what its first process holds itself: without the
    files that it maps, whose pages the kernel may take back."""
    began = time.perf_counter()
    script = """
import resource, subprocess, sys, time
process, own = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=sys.stderr), 0
while process.poll() is None:
    try:
        own = max(own, *(int(line.split()[1]) for line in open(f"/proc/{process.pid}/status") if line.startswith("RssAnon")), 0)
    except OSError:
        pass
    time.sleep(0.005)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, own)
sys.exit(process.returncode)
"""
    peak, own = run([sys.executable, "-c", script, *command]).split()
    return time.perf_counter() - began, int(peak) / 1024, int(own) / 1024


def requests(binary, data, pictures):
    """1 to 64 images in a request, one request at a time."""
    rows = []
    files = [base64.b64encode(path.read_bytes()).decode() for path in sorted(pictures.iterdir())]
    with Running(binary, data) as server:
        for count in [1, 2, 4, 8, 16, 32, 64]:
            times = []
            for turn in range(30):
                chosen = [files[(turn * count + index) % len(files)] for index in range(count)]
                body = json.dumps({"images": [{"id": str(at), "base64": text} for at, text in enumerate(chosen)]}).encode()
                request = urllib.request.Request(f"{server.base}/predict?model=bench:1", body, {"content-type": "application/json"})
                began = time.perf_counter()
                with urllib.request.urlopen(request) as answer:
                    results = json.load(answer)["results"]
                times.append(time.perf_counter() - began)
                assert len(results) == count and all("label" in result for result in results)
            middle = statistics.median(times[5:])
            rows.append([count, 1000 * middle, 1000 * middle / count, count / middle])
    table("Images of a request (wrn-28-2 at 64×64)", ["images", "ms", "ms an image", "images/s"], rows)


def main():
    source = data_set("mask")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--only", default="requests,metrics,jobs,images")
    parser.add_argument("--epochs", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=100_000)
    args = parser.parse_args()
    chosen = args.only.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        if set(chosen) & {"requests", "metrics", "jobs"}:
            data, pictures = prepare(args.binary, scratch, source / "images.zip", source / "train.csv", "wrn-28-2", 64)
        for what in chosen:
            if what == "requests":
                requests(args.binary, data, pictures)
            elif what == "metrics":
                metrics(args.binary, data, args.epochs)
            elif what == "jobs":
                jobs(args.binary, data, args.jobs)
            elif what == "images":
                images(args.binary, scratch, args.images)
            else:
                sys.exit(f"--only {what}: there are requests, metrics, jobs, images")


main()
