#!/usr/bin/env python3
"""The whole way on the real data sets, through the HTTP interface: docs/benchmarks.md is written from this.

    make build && scripts/real_data.py --seeds 0 1 2

Starts target/release/mixmatch on an empty data directory, measures its start-up time and idle memory, imports each
data set under ../shared/data, trains `mixmatch` and `supervised` on the same labels, one job at a time, and sends
every test image through POST /predict. Needs Python 3.10 or newer and nothing else. Leave the machine alone meanwhile:
wall times are part of the result.
"""
import argparse
import csv
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Data set, its folder, the labels trained on.
SETS = [("mask", "mask", 40), ("gender", "gender_aaf", 250)]
BATCH = 64


def call(base, method, path, body=None, content_type="application/json"):
    request = urllib.request.Request(base + path, data=body, method=method, headers={"content-type": content_type})
    try:
        with urllib.request.urlopen(request) as answer:
            said = answer.read()
            return json.loads(said) if said else None
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error.code} {error.read().decode()}")


def multipart(fields):
    """(name, file name or None, bytes) -> body, content type."""
    boundary = uuid.uuid4().hex
    out = io.BytesIO()
    for name, file_name, value in fields:
        file_part = f'; filename="{file_name}"' if file_name else ""
        out.write(f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{file_part}\r\n\r\n'.encode())
        out.write(value + b"\r\n")
    out.write(f"--{boundary}--\r\n".encode())
    return out.getvalue(), f"multipart/form-data; boundary={boundary}"


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def free_port(port=0):
    """A port that nobody listens on; one that was asked for must be so, or somebody else's server would be written to."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"port {port}: {error.strerror}")
        return found.getsockname()[1]


def start(binary, data_dir, port=0, more=()):
    """A server of our own, in a session of its own so that this script alone is who stops it; without settings from the environment."""
    port = free_port(port)
    base, began = f"http://127.0.0.1:{port}", time.monotonic()
    log = open(os.path.join(data_dir, "server.log"), "wb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXMATCH_")}
    server = subprocess.Popen([binary, "serve", "--data-dir", data_dir, "--listen", f"127.0.0.1:{port}", *more],
                              stderr=log, env=environment, start_new_session=True)
    try:
        while time.monotonic() - began < 30 and server.poll() is None:
            # Its own word first: another one may have taken the port a moment before, and would answer.
            if f"listening on {base}".encode() not in read(log.name):
                time.sleep(0.005)
                continue
            urllib.request.urlopen(base + "/readyz", timeout=5).read()
            if server.poll() is None:
                return base, server, time.monotonic() - began
        sys.exit("the server did not start; see " + log.name)
    except BaseException:
        server.kill()
        server.wait()
        raise


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def import_set(base, name, folder):
    began = time.monotonic()
    body, content_type = multipart([
        ("name", None, name.encode()),
        ("task", None, name.encode()),
        ("group_column", None, b"group"),
        ("images", "images.zip", read(folder, "images.zip")),
        ("train", "train.csv", read(folder, "train.csv")),
        ("test", "test.csv", read(folder, "test.csv")),
    ])
    answer = call(base, "POST", "/datasets", body, content_type)
    images = sum(answer["counts"]["train"].values()) + sum(answer["counts"]["test"].values())
    print(f"imported {name}: {images} images in {time.monotonic() - began:.1f} s, "
          f"{answer['report']['rejected_rows']} rows rejected", flush=True)
    for warning in answer["report"]["warnings"]:
        print(f"  warning {warning['code']}: {warning['detail']}", flush=True)


def train(base, request):
    began = time.monotonic()
    job = call(base, "POST", "/jobs", json.dumps(request).encode())
    while job["state"] in ("queued", "running"):
        time.sleep(0.5)
        job = call(base, "GET", f"/jobs/{job['id']}")
    if job["state"] != "succeeded":
        sys.exit(f"{request}: {job['state']} {job['error']}")
    return job, time.monotonic() - began


def predict_all(base, model, folder):
    """Accuracy over the test sheet through POST /predict, overall and where source=ilc2021."""
    with open(os.path.join(folder, "test.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    archive = zipfile.ZipFile(os.path.join(folder, "images.zip"))
    entries = {os.path.basename(name): name for name in archive.namelist()}
    right, began = {}, time.monotonic()
    for at in range(0, len(rows), BATCH):
        part = rows[at:at + BATCH]
        fields = [("image", row["image"], archive.read(entries[row["image"]])) for row in part]
        body, content_type = multipart(fields)
        results = call(base, "POST", f"/predict?model={model['name']}:{model['version']}", body, content_type)["results"]
        for row, result in zip(part, results, strict=True):
            for group in ("all", row.get("source", "")):
                right.setdefault(group, []).append(result["label"] == row["label"])
    return {group: statistics.mean(hits) for group, hits in right.items()}, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/release/mixmatch"))
    parser.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--port", type=int, default=0, help="of the server; a free one if absent")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="NAME=JSON, over the preset")
    args = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in args.settings)
    settings = {name: json.loads(value) for name, value in settings.items()}

    with tempfile.TemporaryDirectory() as data_dir:
        base, server, seconds = start(args.binary, data_dir, args.port)
        time.sleep(1)
        print(f"started in {seconds:.2f} s, idle memory {memory_mib(server.pid):.0f} MiB, load before "
              f"{os.getloadavg()[0]:.2f}", flush=True)
        try:
            table = []
            for name, directory, labelled in SETS:
                folder = os.path.join(args.data, directory)
                import_set(base, name, folder)
                for seed in args.seeds:
                    for algorithm in ("supervised", "mixmatch"):
                        request = {"dataset": name, "algorithm": algorithm, "preset": args.preset,
                                   "labelled": labelled, "seed": seed, **settings}
                        job, wall = train(base, request)
                        accuracy, predicting = predict_all(base, job["model"], folder)
                        # The served model and the run's own test must tell the same story: two images' room for rounding.
                        own, images = job["test"]["accuracy"], job["test"]["images"]
                        if abs(own - accuracy["all"]) * images > 2.5:
                            sys.exit(f"{name}, {algorithm}: {accuracy['all']:.4f} through /predict, {own:.4f} by the job itself")
                        row = (name, labelled, algorithm, seed, job["best"]["validation_accuracy"], accuracy["all"],
                               accuracy.get("ilc2021", float("nan")), job["test"]["f1"], wall, predicting)
                        table.append(row)
                        print("| {} | {} | {} | {} | {:.4f} | {:.4f} | {:.4f} | {:.4f} | {:.0f} s | {:.1f} s |".format(*row),
                              flush=True)
            print("\n| data set | algorithm | test accuracy through /predict, mean (min–max) | seconds |\n|---|---|---|---|")
            for name, _, labelled in SETS:
                for algorithm in ("supervised", "mixmatch"):
                    rows = [row for row in table if row[0] == name and row[2] == algorithm]
                    tests = [row[5] for row in rows]
                    print(f"| {name}, {labelled} labels | {algorithm} | {statistics.mean(tests):.4f} "
                          f"({min(tests):.4f}–{max(tests):.4f}) | {statistics.mean(row[8] for row in rows):.0f} |")
            print(f"memory with models loaded {memory_mib(server.pid):.0f} MiB")
        finally:
            server.terminate()
            print("server ended with", server.wait())


if __name__ == "__main__":
    main()
