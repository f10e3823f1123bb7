#!/usr/bin/env bash
# Does one binary compute the same on a GPU as on the CPU, and how fast? In two halves:
#
#   scripts/gpu-check.sh pack    here: the stripped release binary, to target/gpu/mixmatch (about 29 MB)
#   scripts/gpu-check.sh run     on the GPU's machine, beside that file: needs a Python with torch 2.11 (CUDA), installs nothing
#
# `run` walks the whole demo on the device; makes ten MixMatch steps on CPU and device in float32 and bf16 and compares
# losses and rates; times a step, its memory and the bare engine against PyTorch on the same card; loads `POST /predict`.
# DEVICE=cpu tries the script itself without a GPU. Exit code 1 if something disagrees.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$PWD/target/gpu/mixmatch
device=${DEVICE:-cuda:0}
work=
server=

# Nothing is left behind, however it ends, and an error's reason is told: what wrote last said it.
finish() {
  local code=$? log=
  # Before the server is stopped: it would write last.
  if [ -n "$work" ]; then
    log=$(find "$work" -maxdepth 1 -name '*.log' -size +0 -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
  fi
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  if [ -n "$work" ]; then
    if [ "$code" != 0 ] && [ -n "$log" ]; then
      echo "gpu-check: exit code $code; the end of $(basename "$log"):" >&2
      tail -n 20 "$log" >&2
    fi
    rm -rf "$work"
  fi
  exit "$code"
}

pack() {
  cargo build --release --locked
  mkdir -p "$(dirname "$binary")"
  strip -o "$binary" target/release/mixmatch
  ls -l "$binary"
}

# A few steps from the same seed; prints the job as JSON. After so few, the network may well answer one class only, and the
# job fails as collapsed: its losses and rates count all the same.
steps() {
  "$binary" train --data-dir "$work/data" --devices "$1" --dataset drawn-masks --preset demo --labelled 40 --seed 1 \
    --set warmup=0 --set epochs=1 --set steps_per_epoch="$3" --set precision="\"$2\"" --json 2>"$work/steps-$1-$2.log" || true
}

run() {
  [ -x "$binary" ] || { echo "gpu-check: no $binary; run 'scripts/gpu-check.sh pack' first" >&2; exit 1; }
  # Settings of a server of one's own are none of this one's.
  # shellcheck disable=SC2086
  unset ${!MIXMATCH_@}
  trap finish EXIT
  work=$(mktemp -d)
  if libraries=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))' 2>/dev/null); then
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  else
    echo "gpu-check: python3 has no torch; the binary looks for libtorch where it was built" >&2
  fi
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"

  echo "== the demo on $device"
  "$binary" demo --exit --data-dir "$work/data" --listen 127.0.0.1:0 --devices "$device" 2>"$work/demo.log"

  echo "== MixMatch steps, CPU against $device"
  for place in cpu "$device"; do
    for format in float32 bf16; do
      steps "$place" "$format" 10 >"$work/loss-$place-$format.json"
      steps "$place" "$format" 100 >"$work/rate-$place-$format.json"
    done
  done
  python3 - "$work" "$device" <<'PY'
import json, sys
work, device = sys.argv[1:]


def last(kind, place, number):
    try:
        job = json.load(open(f"{work}/{kind}-{place}-{number}.json"))
    except ValueError:
        end = "".join(open(f"{work}/steps-{place}-{number}.log").readlines()[-20:])
        sys.exit(f"gpu-check: {place} {number} ended without a job:\n{end}")
    return job["last"] or sys.exit(f"gpu-check: {place} {number}: {job['error']}")


reference, wrong = last("loss", "cpu", "float32")["loss"], False
print(f"{'device':10} {'format':8} {'loss after 10 steps':>20} {'off':>8} {'images/s (100 steps)':>22}")
for place in dict.fromkeys(("cpu", device)):
    for number, allowed in (("float32", 0.01), ("bf16", 0.05)):
        loss, rate = last("loss", place, number)["loss"], last("rate", place, number)["images_per_second"]
        off = abs(loss - reference) / reference
        wrong |= off > allowed
        print(f"{place:10} {number:8} {loss:20.5f} {off:8.2%} {rate:22.0f}{'   WRONG' if off > allowed else ''}")
sys.exit(wrong)
PY

  if [[ $device != cpu ]]; then
    echo "== steps of every kind of network, recorded as a graph on $device"
    recorded
  fi

  echo "== a MixMatch step and the bare engine against PyTorch on $device"
  local steps=100
  if [[ $device == cpu ]]; then steps=3; fi
  benches/train.py --peers "$(command -v python3)" --binary "$binary" --noise --device "$device" --steps "$steps" --rounds 3 --workers 4 2>"$work/train.log"
  benches/engine.py --peers "$(command -v python3)" --binary "$binary" --device "$device" --batch 1,16,64 --rounds 1

  echo "== POST /predict on $device"
  predict
}

# Fails where steps had to be run operation by operation.
recorded() {
  local preset
  for preset in quick paper gpu reference; do
    "$binary" bench train --preset "$preset" --batch 16 --device "$device" --warm 10 --steps 20 --json >"$work/recorded.json" 2>"$work/recorded.log"
    python3 - "$preset" "$work/recorded.json" <<'PY'
import json, sys
step = json.load(open(sys.argv[2]))
print(f"{sys.argv[1]:10} {step['network']:16} {step['step_ms']:8.2f} ms {step['device_mib']:8.0f} MiB  {step.get('note', 'recorded')}")
sys.exit("note" in step)
PY
  done
}

# The demo's own model, served by the server that a user starts.
predict() {
  local port base ready=
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  base=http://127.0.0.1:$port
  "$binary" serve --data-dir "$work/data" --listen "127.0.0.1:$port" --devices "$device" 2>"$work/serve.log" &
  server=$!
  for _ in $(seq 300); do
    # Its own word first: another one may have taken the port a moment before, and would answer.
    if grep -q "listening on $base" "$work/serve.log" &&
      python3 -c "import urllib.request; urllib.request.urlopen('$base/readyz', timeout=1)" 2>/dev/null; then ready=yes && break; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  if [ -z "$ready" ] || ! kill -0 "$server" 2>/dev/null; then
    echo "gpu-check: the server was not ready" >&2
    return 1
  fi
  "$binary" bench predict --url "$base/predict?model=mask" --concurrency 1,8,32 --seconds 4 --json >"$work/predict.json" 2>"$work/load.log"
  kill "$server"
  wait "$server" || true
  server=
  python3 - "$work/predict.json" <<'PY'
import json, sys
levels = json.load(open(sys.argv[1]))["levels"]
for level in levels:
    print("{concurrency:>4} at a time: {images_per_second:8.1f} images/s, p50 {p50_ms:6.1f} ms, p99 {p99_ms:6.1f} ms, batch {mean_batch:.1f}, errors {errors}".format(**level))
# Larger batches that cost more than they bring: once libtorch's threads waited for each other.
few, many = levels[-2]["images_per_second"], levels[-1]["images_per_second"]
if many < 0.8 * few or any(level["errors"] for level in levels):
    sys.exit("gpu-check: errors, or fewer images/s where more ask at a time")
PY
}

case "${1:-}" in
  pack) pack ;;
  run) run ;;
  *) sed -n '2,10p' "$0"; exit 2 ;;
esac
