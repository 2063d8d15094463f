#!/usr/bin/env bash
# A Docker engine with Compose and buildx for this run, on a Debian machine that has none. For CI only, as root: nothing
# outside .ci/ installs packages or starts an engine.
#   engine.sh up     engine running, python:3.11-slim there; each step is skipped where it is done already
#   engine.sh down   end the engine that `up` started (and its containers); one that ran before is left alone
# Debian's packages come from wherever this machine's own apt sources point; the suite that has the engine is added at
# low priority, so nothing else moves. Where no registry answers, the base image is made from the same mirror.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
BASE=${HEADRACE_BASE_IMAGE:-python:3.11-slim}
CACHE=${HEADRACE_ENGINE_CACHE:-/var/cache/headrace-engine}
PID_FILE=/run/headrace-engine.pid
LOG=/var/log/headrace-engine.log
SUITE=trixie          # Debian's suite with docker.io 26, Compose and buildx
BASE_SUITE=bookworm   # the one whose Python is 3.11

main() {
  case ${1:-up} in
    up)
      step "packages" install_packages
      step "engine" start_engine
      step "base image $BASE" make_base
      echo "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
      ;;
    down) stop_engine ;;
    *) echo "usage: engine.sh up|down" >&2; exit 2 ;;
  esac
}

step() {  # NAME COMMAND: run it, say how long it took
  local began=$SECONDS
  "$2" || { echo "engine.sh: $1 failed" >&2; exit 1; }
  echo "engine.sh: $1, $((SECONDS - began)) s"
}

mirror() {  # the first address of this machine's apt sources, in either of their two formats
  local found
  found=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '/^URIs:/ {print $2; exit}')
  [ -n "$found" ] || found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null \
    | awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\//) {print $i; exit}}')
  [ -n "$found" ] || { echo "no Debian mirror in /etc/apt" >&2; return 1; }
  echo "$found"
}

install_packages() {
  if command -v dockerd >/dev/null && docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 \
    && command -v mmdebstrap >/dev/null; then return; fi
  [ "$(id -u)" = 0 ] || { echo "installing an engine needs root" >&2; return 1; }
  local uri; uri=$(mirror) || return 1
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$uri" "$SUITE" >/etc/apt/sources.list.d/headrace-engine.sources
  printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$SUITE" >/etc/apt/preferences.d/headrace-engine
  local packages=()
  for name in docker.io containerd docker-buildx docker-compose; do packages+=("$name/$SUITE"); done
  command -v docker >/dev/null || packages+=("docker-cli/$SUITE")
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" mmdebstrap >/dev/null
}

start_engine() {
  if docker info >/dev/null 2>&1; then return; fi
  forget_dead_engine
  nohup dockerd >"$LOG" 2>&1 &
  echo $! >"$PID_FILE"
  for _ in $(seq 240); do
    if docker info >/dev/null 2>&1; then return; fi
    kill -0 "$(cat "$PID_FILE")" 2>/dev/null || break
    sleep 0.25
  done
  tail -20 "$LOG" >&2
  return 1
}

forget_dead_engine() {  # an engine that was killed leaves files that name a process which is gone, dead or another by now
  local file pid
  for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    case $(ps -o stat=,comm= -p "$pid" 2>/dev/null) in
      Z*) ;;
      *dockerd | *containerd) echo "process $pid of $file is alive, but no engine answers" >&2; continue ;;
    esac
    rm -f "$file"
  done
}

make_base() {
  if docker image inspect "$BASE" >/dev/null 2>&1; then return; fi
  if timeout 300 docker pull --quiet "$BASE" >/dev/null 2>&1; then return; fi
  local tar=$CACHE/base-$BASE_SUITE.tar
  [ -s "$tar" ] || make_base_tar "$tar" || return 1
  docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' "$tar" "$BASE" >/dev/null
}

make_base_tar() {  # FILE: a small Debian with Python, as python:3.11-slim has it; no setting of this machine goes in
  local tar=$1 root uri
  uri=$(mirror) || return 1
  mkdir -p "$(dirname "$tar")"
  root=$(mktemp -d /dev/shm/headrace-base.XXXXXX)
  chmod 755 "$root"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    --dpkgopt='force-unsafe-io' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$BASE_SUITE" "$root" "$uri" || { rm -rf "$root"; return 1; }
  rm -f "$root"/usr/lib/python3.11/EXTERNALLY-MANAGED
  ln -sf python3 "$root/usr/bin/python"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/dev/*
  : >"$root/etc/resolv.conf"
  tar -C "$root" --numeric-owner -cf "$tar.part" . && mv "$tar.part" "$tar"
  rm -rf "$root"
}

stop_engine() {
  [ -f "$PID_FILE" ] || return 0
  local pid containers
  pid=$(cat "$PID_FILE")
  containers=$(docker ps -aq 2>/dev/null || true)
  # shellcheck disable=SC2086  # ids, one word each
  [ -z "$containers" ] || docker rm -f $containers >/dev/null
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 120); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
  rm -f "$PID_FILE"
}

main "$@"
