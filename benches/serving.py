#!/usr/bin/env python3
"""`POST /predict` under load, against LitServe with PyTorch on the same network, images, client and threads, in turn.

    benches/serving.py --peers PYTHON --network wrn-28-2 --size 64

Our server imports ../shared/data/mask (or --images, --sheet), trains two steps of the network, and serves what came out: how
well it answers does not matter here. The client is `mixmatch bench predict`, on the same machine as the servers."""

import argparse
import csv
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def data_set(name):
    """The folder of a data set's images.zip and train.csv: what BENCH_DATA names, or one of ../shared/data."""
    return pathlib.Path(os.environ.get("BENCH_DATA") or ROOT.parent / "shared" / "data" / name)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run(command, **kwargs):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def ask(url, body=None):
    """The JSON of an answer; with a body, of a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Server:
    """A server in a process group of its own, until the end of the block."""

    def __init__(self, command, probe, log, environment):
        self.command, self.probe, self.log, self.environment = command, probe, log, environment

    def __enter__(self):
        self.process = subprocess.Popen(
            [str(part) for part in self.command],
            stdout=open(self.log, "w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self.environment,
        )
        for _ in range(600):
            if self.process.poll() is not None:
                sys.exit(f"{self.command} ended at once:\n{open(self.log).read()}")
            try:
                with urllib.request.urlopen(self.probe, timeout=1):
                    return self
            except OSError:
                time.sleep(0.1)
        sys.exit(f"{self.probe} never answered")

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def prepare(binary, scratch, archive, sheet, network, size, device="cpu"):
    """A data directory with one hastily trained model, `bench`, and a directory of images to send."""
    served, pictures = scratch / "data", scratch / "pictures"
    pictures.mkdir()
    rows = list(csv.reader(open(sheet, newline="")))[:601]
    with open(scratch / "train.csv", "w", newline="") as head:
        csv.writer(head).writerows(rows)
    wanted = {row[rows[0].index("image")] for row in rows[1:]}
    with zipfile.ZipFile(archive) as images:
        paths = {pathlib.PurePosixPath(path).name: path for path in images.namelist()}
        for name in sorted(wanted & paths.keys())[:256]:
            (pictures / name).write_bytes(images.read(paths[name]))
    here = ["--data-dir", served]
    run([binary, "import", *here, "--name", "bench", "--task", "bench", "--images", archive, "--train", scratch / "train.csv"])
    # What it learns does not matter, but that it is published does: so few images cannot show that it collapsed.
    settings = {"network": network, "size": size, "epochs": 1, "steps_per_epoch": 2, "batch": 4, "validation_max": 6}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    run([binary, "train", *here, "--dataset", "bench", "--algorithm", "supervised", "--labelled", 40, "--devices", device, *sets])
    return served, pictures


def main():
    data = data_set("mask")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=os.environ.get("PEERS", ROOT / "target/peers/bin/python"))
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--images", default=data / "images.zip")
    parser.add_argument("--sheet", default=data / "train.csv")
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--concurrency", default="1,8,32,128")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0, for both")
    parser.add_argument("--peer-bf16", action="store_true", help="give the peer bf16 and channels_last")
    args = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        served, pictures = prepare(args.binary, scratch, args.images, args.sheet, args.network, args.size, args.device)
        ours, theirs = free_port(), free_port()
        litserve = [args.peers, ROOT / "benches/peers/serve_litserve.py", "--network", args.network, "--size", args.size]
        litserve += ["--threads", args.threads, "--port", theirs, "--device", args.device] + (["--bf16"] if args.peer_bf16 else [])
        servers = {
            "ours": (
                [args.binary, "serve", "--data-dir", served, "--listen", f"127.0.0.1:{ours}", "--devices", args.device],
                f"http://127.0.0.1:{ours}/readyz",
                f"http://127.0.0.1:{ours}/predict?model=bench",
            ),
            "litserve": (litserve, f"http://127.0.0.1:{theirs}/health", f"http://127.0.0.1:{theirs}/predict"),
        }
        results = {name: [] for name in servers}
        for turn in range(args.rounds):
            for name in list(servers) if turn % 2 == 0 else list(servers)[::-1]:
                command, probe, url = servers[name]
                with Server(command, probe, scratch / f"{name}.log", environment):
                    load = [args.binary, "bench", "predict", "--url", url, "--field", "image", "--images", pictures]
                    load += ["--concurrency", args.concurrency, "--seconds", args.seconds, "--json"]
                    levels = json.loads(run(load).splitlines()[-1])["levels"]
                results[name].append({level["concurrency"]: level for level in levels})
                print(f"round {turn + 1} {name}: " + ", ".join(f"{l['concurrency']}: {l['images_per_second']:.0f}/s" for l in levels), file=sys.stderr)
    print(f"{args.network} {args.size}×{args.size}, {args.device}, {args.threads} threads, {args.rounds} rounds of {args.seconds} s; medians")
    print(f"{'':10}{'at a time':>10}{'images/s':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'batch':>7}  errors   ours is")
    for level in map(int, args.concurrency.split(",")):
        for name, rounds in results.items():
            middle = lambda key: statistics.median(one[level][key] for one in rounds)
            ratio = statistics.median(
                a[level]["images_per_second"] / b[level]["images_per_second"] for a, b in zip(results["ours"], rounds)
            )
            batch = middle("mean_batch") if rounds[0][level]["mean_batch"] else float("nan")
            errors = sum(sum(one[level]["errors"].values()) for one in rounds)
            print(
                f"{name:10}{level:>10}{middle('images_per_second'):>10.0f}{middle('p50_ms'):>9.1f}{middle('p95_ms'):>9.1f}"
                f"{middle('p99_ms'):>9.1f}{batch:>7.1f}{errors:>8}{ratio:>9.2f}×"
            )


if __name__ == "__main__":
    main()
