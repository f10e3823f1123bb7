#!/usr/bin/env bash
# Puts libtorch 2.11.0 into .libtorch/ from the PyPI wheels, pinned by version and hash.
#
#   scripts/libtorch.sh          what a CPU needs (about 550 MB fetched, 460 MB kept)
#   GPU=1 scripts/libtorch.sh    the CUDA 13 libraries as well (about 2.7 GB fetched)
#
# Idempotent: a second run reads one stamp file and stops. The new tree is built beside the old one
# and swapped in by a rename, so that an interrupted run leaves nothing half-installed. A tree with the CUDA
# libraries keeps them: when the pins change it is renewed with them, also without GPU=1.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
dest=${LIBTORCH_DIR:-$root/.libtorch}
# Before anything is fetched: jemalloc's configure and the linker's -rpath take no such path.
case $root in
  *[[:space:],:]*)
    echo "libtorch.sh: mixmatch cannot be built in $root: move the checkout to a path without spaces, commas and colons" >&2
    exit 1
    ;;
esac
have=$(cat "$dest/.stamp" 2>/dev/null || true)
sets=("$root/scripts/libtorch-cpu.txt")
kind=cpu
# A GPU tree holds all that a CPU build needs: never replace it by the smaller one.
if [ "${GPU:-0}" = 1 ] || [ "${have%% *}" = gpu ]; then
  sets+=("$root/scripts/libtorch-gpu.txt")
  kind=gpu
fi
stamp="$kind $(cat "${sets[@]}" | sha256sum | cut -d' ' -f1)"
if [ "$have" = "$stamp" ]; then
  exit 0
fi

[ "$(uname -sm)" = "Linux x86_64" ] || {
  echo "libtorch.sh: only Linux on x86_64 is supported (this is $(uname -sm))" >&2
  exit 1
}
python3 -m pip --version >/dev/null 2>&1 || {
  echo "libtorch.sh: python3 with pip is needed to fetch the wheels (Debian: apt-get install python3-pip)" >&2
  exit 1
}

# What runs left behind that were killed; several GB each.
for left in "$dest".new.*; do
  run=${left#"$dest".new.}
  if [ -e "$left" ] && [ ! -d "/proc/${run%.tmp}" ]; then rm -rf "$left"; fi
done

echo "libtorch.sh: installing libtorch 2.11.0 ($kind) into $dest …" >&2
tmp="$dest.new.$$"
# pip unpacks into TMPDIR first: several GB, for which a /tmp in memory has no room.
export TMPDIR="$tmp.tmp"
trap 'rm -rf "$tmp" "$TMPDIR"' EXIT
rm -rf "$tmp"
mkdir -p "$TMPDIR"
args=()
for file in "${sets[@]}"; do args+=(-r "$file"); done
# The wheels are named for one Python; only their shared libraries and headers are used, so ask for
# that Python's wheels whatever the host runs.
PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-deps --require-hashes \
  --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
  --platform manylinux_2_18_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2010_x86_64 --platform manylinux_2_12_x86_64 \
  --platform manylinux1_x86_64 --platform manylinux_2_5_x86_64 --platform any \
  --target "$tmp" "${args[@]}"
# Python's own half is never used.
rm -rf "$tmp/torchgen" "$tmp/functorch" "${tmp:?}/bin" "$tmp/torch/bin" "$tmp/torch/test"
find "$tmp/torch" -name '*.py' -delete
rm -f "$tmp/torch/lib/libtorch_python.so"
if [ "$kind" = cpu ]; then
  rm -f "$tmp"/torch/lib/libtorch_cuda*.so "$tmp"/torch/lib/libtorch_nvshmem.so "$tmp"/torch/lib/libc10_cuda.so
fi
[ -e "$tmp/torch/lib/libtorch_cpu.so" ] || {
  echo "libtorch.sh: the wheel holds no torch/lib/libtorch_cpu.so" >&2
  exit 1
}
echo "$stamp" >"$tmp/.stamp"
rm -rf "$dest"
# Never into a directory that another run has put there meanwhile.
mv -T "$tmp" "$dest"
echo "libtorch.sh: done ($(du -sh "$dest" | cut -f1))" >&2
