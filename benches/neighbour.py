#!/usr/bin/env python3
"""What a training job on the same CPU does to `POST /predict`: latencies at 4 requests at a time, idle and beside it.

    benches/neighbour.py"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from serving import ROOT, Server, ask, data_set, free_port, prepare, run


OVER = ("canceled", "failed", "succeeded")


def running(url):
    """The job, which must not be over before it was measured beside."""
    job = ask(url)
    if job["state"] in OVER:
        sys.exit(f"the job that predictions are measured beside has {job['state']}: {job['error']}")
    return job


def main():
    data = data_set("mask")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--preset", default="paper", help="what the job trains; `paper` with the network and size that are served, others with their own")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        archive, sheet = data / "images.zip", data / "train.csv"
        served, pictures = prepare(args.binary, scratch, archive, sheet, args.network, args.size)
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        load = [args.binary, "bench", "predict", "--url", f"{base}/predict?model=bench:1", "--images", pictures]
        load += ["--concurrency", args.concurrency, "--seconds", args.seconds, "--json"]
        measured = {"idle": [], "training": []}
        serve = [args.binary, "serve", "--data-dir", served, "--listen", f"127.0.0.1:{port}"]
        with Server(serve, f"{base}/readyz", scratch / "server.log", dict(os.environ)):
            for _ in range(args.rounds):
                for state in measured:
                    if state == "training":
                        wanted = {"dataset": "bench", "preset": args.preset}
                        if args.preset == "paper":
                            wanted |= {"network": args.network, "size": args.size}
                        job = f"{base}/jobs/{ask(f'{base}/jobs', wanted)['id']}"
                        while running(job).get("phase") != "training":
                            time.sleep(0.3)
                        time.sleep(2)
                    measured[state].append(json.loads(run(load).splitlines()[-1])["levels"][0])
                    if state == "training":
                        running(job)
                        ask(f"{job}/cancel", {})
                        while ask(job)["state"] not in OVER:
                            time.sleep(0.3)
    print(f"{args.network} {args.size}×{args.size}, {args.concurrency} at a time, {args.rounds} rounds of {args.seconds} s; medians")
    for state, levels in measured.items():
        middle = {key: statistics.median(level[key] for level in levels) for key in ("images_per_second", "p50_ms", "p95_ms", "p99_ms")}
        print(f"{state:9}" + ", ".join(f"{key} {value:.1f}" for key, value in middle.items()))
    ratios = [b["p99_ms"] / a["p99_ms"] for a, b in zip(measured["idle"], measured["training"])]
    print(f"p99 beside training is {statistics.median(ratios):.2f}× that of idle ({min(ratios):.2f} to {max(ratios):.2f})")


main()
