#!/usr/bin/env python3
"""`POST /predict` under load, against LitServe with PyTorch on the same network, images, client and threads, in turn.

    benches/serving.py --peers PYTHON --network wrn-28-2 --size 64

Our server imports ../shared/data/mask (or --images, --sheet), trains two steps of the network, and serves what came out: how
well it answers does not matter here. The client is `mixmatch bench predict`, on the same machine as the servers. Ours computes
in the precision that it chooses by itself (bf16 where that is fast), the peer in float32 as its documentation shows, or in bf16
with --peer-bf16; both are printed."""

import argparse
import collections
import csv
import io
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


def columns(sheet, head):
    """Which columns are the image and the label, by the names that the import finds them by."""
    names = [name.strip().lower() for name in head]
    image = next((names.index(usual) for usual in ["image", "file", "filename", "file_name", "path", "image_path", "name"] if usual in names), None)
    labels = [at for at, name in enumerate(names) if name in ("label", "class") or name.endswith((" label", "_label"))]
    if image is None or not labels:
        sys.exit(f"{sheet} has the columns {', '.join(head)}: `image` and `label` are needed")
    return image, labels[0]


def usable(archive, sheet):
    """The head of a sheet, its columns image and label, and the rows that every peer can load: those with a label, each image once and
    by its whole path in the archive, of classes with two images or more (one trains, one validates)."""
    for path in (archive, sheet):
        if not pathlib.Path(path).is_file():
            sys.exit(f"there is no {path}: make bench DATA=DIR takes a folder with images.zip and train.csv (columns image, label)")
    with open(sheet, newline="", encoding="utf-8-sig") as file:
        text = file.read().lstrip("\r\n")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    head, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    image, label = columns(sheet, head)
    tidy = lambda path: path.replace("\\", "/").removeprefix("./")
    where = {}
    with zipfile.ZipFile(archive) as images:
        paths = [path for path in images.namelist() if not path.endswith("/") and "__MACOSX/" not in path]
    for path in paths:
        where[tidy(path)] = path
    bases = [pathlib.PurePosixPath(tidy(path)).name for path in paths]
    alike = {base for base, count in collections.Counter(bases).items() if count > 1}
    for base, path in zip(bases, paths):
        if base not in alike:
            where.setdefault(base, path)
    classes, seen = {}, set()
    for row in rows:
        row += [""] * (len(head) - len(row))
        path, name = where.get(tidy(row[image].strip())), row[label].strip()
        if path is None or path in seen or name.lower() in ("", "nan"):
            continue
        seen.add(path)
        row[image], row[label] = path, name
        classes.setdefault(name, []).append(row)
    classes = {name: members for name, members in classes.items() if len(members) > 1}
    if len(classes) < 2:
        sys.exit(f"{sheet} has {len(classes)} classes with two labelled images or more that are in {archive}: two such classes are needed")
    kept = sum(map(len, classes.values()))
    if kept < len(rows):
        print(f"{sheet}: {kept} of {len(rows)} rows have a label and an image of their own in {archive}", file=sys.stderr)
    return head, image, label, classes


def clean_sheet(archive, sheet, out, most=None):
    """Writes the usable rows of a sheet to `out`, of many `most`, of every class its share; gives them as (image, label)."""
    head, image, label, classes = usable(archive, sheet)
    # Each class evenly over the whole, so that any beginning has all classes in proportion; the first two of each before all others.
    spread = [(at / len(members) if at > 1 else 0, at, row) for members in classes.values() for at, row in enumerate(members)]
    rows = [row for _, _, row in sorted(spread, key=lambda one: one[:2])][: most and max(most, 2 * len(classes))]
    # What was picked would not validate, and there may be nothing else of a class.
    names = ["image" if at == image else "label" if at == label else name for at, name in enumerate(head)]
    kept = [at for at, name in enumerate(names) if name.strip().lower() != "picked" and (at in (image, label) or name not in ("image", "label"))]
    with open(out, "w", newline="") as file:
        csv.writer(file).writerows([row[at] for at in kept] for row in [names, *rows])
    return [(row[image], row[label]) for row in rows]


def imported(binary, directory, archive, sheet, **kwargs):
    """Imports as `bench`; what the import tells."""
    command = [binary, "import", "--data-dir", directory, "--name", "bench", "--task", "bench"]
    return json.loads(run([*command, "--images", archive, "--train", sheet, "--json"], **kwargs).splitlines()[-1])


def own(environment):
    """An environment without settings of mixmatch, which would reach the server beside its arguments; what chooses kernels may stay."""
    kept = ("MIXMATCH_KERNELS", "MIXMATCH_WINOGRAD", "MIXMATCH_CUDA_GRAPHS")
    return {name: value for name, value in environment.items() if not name.startswith("MIXMATCH_") or name in kept}


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
        self.command, self.probe, self.log, self.environment = command, probe, log, own(environment)

    def __enter__(self):
        self.process = subprocess.Popen(
            [str(part) for part in self.command],
            stdout=open(self.log, "w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self.environment,
        )
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        for _ in range(600):
            self.must_live()
            try:
                with urllib.request.urlopen(self.probe, timeout=1):
                    pass
            except OSError:
                time.sleep(0.1)
                continue
            # Or another one answered, on a port that this one did not get.
            return self.must_live()
        sys.exit(f"{self.probe} never answered:\n{open(self.log).read()}")

    def must_live(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.command} ended at once:\n{open(self.log).read()}")

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def prepare(binary, scratch, archive, sheet, network, size, device="cpu"):
    """A data directory with one hastily trained model, `bench`, and a directory of images to send."""
    served, pictures = scratch / "data", scratch / "pictures"
    pictures.mkdir()
    rows = clean_sheet(archive, sheet, scratch / "train.csv", most=600)
    with zipfile.ZipFile(archive) as images:
        for number, (path, _) in enumerate(rows[:256]):
            (pictures / f"{number:03}{pathlib.PurePosixPath(path).suffix}").write_bytes(images.read(path))
    imported(binary, served, archive, scratch / "train.csv")
    # What it learns does not matter, but that it is published does: so few images cannot show that it collapsed.
    settings = {"network": network, "size": size, "epochs": 1, "steps_per_epoch": 2, "batch": 4, "validation_max": 6}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    train = [binary, "train", "--data-dir", served, "--dataset", "bench", "--algorithm", "supervised"]
    run([*train, "--devices", device, *sets])
    return served, pictures


def our_precision(probe, args):
    """What ours says that it computes in, once the model is in memory; another than was asked for is an error."""
    for _ in range(600):
        told = ask(probe)["predict"]
        if told["loaded"]:
            break
        time.sleep(0.1)
    if args.int8 != bool(told["int8"]):
        sys.exit(f"ours should {'' if args.int8 else 'not '}compute in int8, and says: {told}")
    return "int8" if args.int8 else told["precision"]


def peer_precision(log, args):
    """What the peer says that it computes in; another network, size or precision than was asked for is an error."""
    asked = f"computes {args.network} at {args.size} in {'bfloat16' if args.peer_bf16 else 'float32'}"
    if asked not in log.read_text():
        sys.exit(f"the peer should say `{asked}`, and says:\n{log.read_text()}")
    return "bf16" if args.peer_bf16 else "float32"


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
    parser.add_argument("--int8", action="store_true", help="ours in int8 (--predict-precision int8), on a processor")
    parser.add_argument("--check", action="store_true", help="only look whether there is data that all of `make bench` can use")
    args = parser.parse_args()
    if args.check:
        for folder in dict.fromkeys(map(data_set, ("mask", "gender_aaf"))):
            usable(folder / "images.zip", folder / "train.csv")
        return
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        served, pictures = prepare(args.binary, scratch, args.images, args.sheet, args.network, args.size, args.device)
        ours, theirs = free_port(), free_port()
        litserve = [args.peers, ROOT / "benches/peers/serve_litserve.py", "--network", args.network, "--size", args.size]
        litserve += ["--threads", args.threads, "--port", theirs, "--device", args.device] + (["--bf16"] if args.peer_bf16 else [])
        servers = {
            "ours": (
                [args.binary, "serve", "--data-dir", served, "--listen", f"127.0.0.1:{ours}", "--devices", args.device]
                + (["--predict-precision", "int8"] if args.int8 else []),
                f"http://127.0.0.1:{ours}/readyz",
                f"http://127.0.0.1:{ours}/predict?model=bench",
            ),
            "litserve": (litserve, f"http://127.0.0.1:{theirs}/health", f"http://127.0.0.1:{theirs}/predict"),
        }
        results = {name: [] for name in servers}
        precision = {}
        for turn in range(args.rounds):
            for name in list(servers) if turn % 2 == 0 else list(servers)[::-1]:
                command, probe, url = servers[name]
                with Server(command, probe, scratch / f"{name}.log", environment):
                    precision[name] = our_precision(probe, args) if name == "ours" else peer_precision(scratch / f"{name}.log", args)
                    load = [args.binary, "bench", "predict", "--url", url, "--field", "image", "--images", pictures]
                    load += ["--concurrency", args.concurrency, "--seconds", args.seconds, "--json"]
                    levels = json.loads(run(load).splitlines()[-1])["levels"]
                results[name].append({level["concurrency"]: level for level in levels})
                print(f"round {turn + 1} {name}: " + ", ".join(f"{l['concurrency']}: {l['images_per_second']:.0f}/s" for l in levels), file=sys.stderr)
    print(f"{args.network} {args.size}×{args.size}, {args.device}, {args.threads} threads, {args.rounds} rounds of {args.seconds} s; medians")
    print(f"computed in {precision['ours']} by ours, in {precision['litserve']} by litserve")
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
