#!/usr/bin/env bash
# Holds a running server against its own openapi.json with schemathesis: no 5xx, no status, header or body that is not
# described, nothing taken that the description forbids. A new server on a free port, with a data set and keys of all
# scopes; about two minutes.
#
#   scripts/api_contract.sh [BINARY] [SECONDS]     SCHEMATHESIS=/… names the command, else it comes from $PATH
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/debug/mixmatch}
seconds=${2:-120}
schemathesis=${SCHEMATHESIS:-schemathesis}

die() {
  echo "scripts/api_contract.sh: $*" >&2
  exit 1
}

[ -x "$binary" ] || die "there is no binary $binary: \`cargo build\` makes target/debug/mixmatch, \`make build\` target/release/mixmatch"
command -v "$schemathesis" >/dev/null || die "there is no $schemathesis: \`pip install -r scripts/schemathesis.txt\`, or name it in SCHEMATHESIS"
place=$(mktemp -d)
server=
finish() {
  local code=$?
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  if [ "$code" != 0 ] && [ -s "$place/log" ]; then tail -n 40 "$place/log" >&2; fi
  rm -rf "$place"
  exit "$code"
}
trap finish EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
base=http://127.0.0.1:$port
key=$("$binary" keys create --data-dir "$place/data" --scope admin --name contract --expires 1d 2>>"$place/log")
"$binary" serve --data-dir "$place/data" --listen "127.0.0.1:$port" --devices cpu --rate-limit 0 2>>"$place/log" &
server=$!
ready=
for _ in $(seq 100); do
  kill -0 "$server" 2>/dev/null || die 'the server ended at once'
  if python3 -c "import urllib.request; urllib.request.urlopen('$base/readyz')" 2>/dev/null; then ready=yes && break; fi
  sleep 0.2
done
[ -n "$ready" ] || die 'the server was not ready in time'

# Something to find: a data set under the name that the description gives as its example.
python3 - "$place" <<'PY'
import struct, sys, zipfile, zlib

def png(shade):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((shade * 7 + x * 3) % 256 for x in range(48)) for _ in range(16))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

with zipfile.ZipFile(sys.argv[1] + "/images.zip", "w") as archive, open(sys.argv[1] + "/train.csv", "w") as sheet:
    sheet.write("image,label\n")
    for number in range(40):
        archive.writestr(f"{number}.png", png(number))
        sheet.write(f"{number}.png,{'mask' if number % 2 else 'no_mask'}\n")
PY
curl -fsS -o "$place/imported" -H "authorization: Bearer $key" -F name=faces -F task=mask \
  -F "images=@$place/images.zip" -F "train=@$place/train.csv" "$base/datasets"

# The events of a job last as long as the job, and /openapi.json is no part of the API: nothing to wait for there.
# From there, because it keeps a cache where it runs.
config=$PWD/scripts/schemathesis.toml
cd "$place"
"$schemathesis" --config-file "$config" run "$base/openapi.json" \
  --header "Authorization: Bearer $key" \
  --mode all \
  --phases examples,coverage,fuzzing \
  --max-examples "${EXAMPLES:-20}" \
  --max-time "$seconds" \
  --continue-on-failure \
  --request-timeout 30 \
  --exclude-path '/jobs/{id}/events' \
  --suppress-health-check all \
  --seed "${SEED:-1}" \
  --warnings off | tee "$place/said"

# The time limit may end it before it has begun, with exit code 0 and every operation skipped.
count() { sed -nE "s/^ *$1: ([0-9]+).*/\1/p" "$place/said" | tail -n 1; }
selected=$(count Selected) tested=$(count Tested)
[ "${selected:-0}" -gt 0 ] && [ "$selected" = "${tested:-0}" ] ||
  die "only ${tested:-0} of ${selected:-0} operations were tested: give it more than $seconds seconds"

if grep -q "panicked" "$place/log"; then die 'a handler panicked'; fi
