#!/usr/bin/env bash
# The supported Pythons of this machine that can make environments, oldest first: a version and a path a line. They are
# looked for on the PATH, and where pyenv keeps those that its shims do not answer for.
set -eu

candidates() {
  local folder name
  tr ':' '\n' <<<"$PATH" | while read -r folder; do
    for name in python3 python3.11 python3.12 python3.13; do echo "$folder/$name"; done
  done
  ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[123].*/bin/python3 2>/dev/null || true
}

candidates | while read -r python; do
  [ -x "$python" ] || continue
  "$python" -c '
import ensurepip, os, sys, venv
if (3, 11) <= sys.version_info[:2] <= (3, 13):
    print("%d.%d.%d" % sys.version_info[:3], os.path.realpath(sys.executable))' 2>/dev/null || true
done | sort --version-sort --unique
