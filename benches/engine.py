#!/usr/bin/env python3
"""Our inference engine against others, on the same networks, batches and threads, in turn; ratios are medians over rounds.

    benches/engine.py --peers PYTHON --rounds 3"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENGINES = ["torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16"]


def run(command, environment):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=os.environ.get("PEERS", ROOT / "target/peers/bin/python"))
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--network", action="append", help="NAME:SIZE; default wide_resnet50_2:96 and wrn-28-2:64")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=40, help="batches in a round")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:<index>; on a GPU the peers are torch's alone")
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--int8", action="store_true", help="ours in int8 beside ours, on a processor; what ours is times of stays the usual format's")
    args = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    for network in args.network or ["wide_resnet50_2:96", "wrn-28-2:64"]:
        name, size = network.rsplit(":", 1)
        same = ["--network", name, "--size", size, "--batch", args.batch, "--threads", args.threads, "--rounds", args.times]
        same += ["--device", args.device]
        commands = {"ours": [args.binary, "bench", "engine", *same, "--json"]}
        if args.int8:
            commands["ours-int8"] = [args.binary, "bench", "engine", "--int8", *same, "--json"]
        for engine in args.engine or (ENGINES if args.device == "cpu" else ENGINES[:2]):
            commands[engine] = [args.peers, ROOT / "benches/peers/engine.py", "--engine", engine, *same]
        results = {engine: [] for engine in commands}
        for turn in range(args.rounds):
            for engine in list(commands) if turn % 2 == 0 else list(commands)[::-1]:
                speeds = {b["batch"]: b["images_per_second"] for b in run(commands[engine], environment)["batches"]}
                results[engine].append(speeds)
        print(f"{name} {size}×{size}, {args.device}, {args.threads} threads, {args.rounds} rounds: images/s (ours is … times that)")
        for engine, rounds in results.items():
            cells = []
            for batch in map(int, args.batch.split(",")):
                speed = statistics.median(speeds[batch] for speeds in rounds)
                ratio = statistics.median(a[batch] / b[batch] for a, b in zip(results["ours"], rounds))
                cells.append(f"batch {batch}: {speed:8.1f} ({ratio:5.2f})")
            print(f"  {engine:14}" + "   ".join(cells), flush=True)


main()
