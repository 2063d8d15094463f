#!/bin/sh
# Runs its arguments with a Python that can run the stack: $PYTHON if set, else that of .venv, else the newest of 3.13 to 3.11 on
# the PATH that works (a pyenv shim may exist and fail) and can make virtual environments.
set -u
cd "$(dirname "$0")/../.." || exit 1

# Exit status of the probe: 0 = usable, 3 = another version, 4 = no venv or ensurepip (separate packages on Debian), else = broken.
probe='
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13): sys.exit(3)
try: import ensurepip, venv
except ImportError:
    print("%d.%d" % sys.version_info[:2])
    sys.exit(4)'

without_venv=
for python in "${PYTHON:-.venv/bin/python}" python3.13 python3.12 python3.11 python3 python; do
  without=$("$python" -c "$probe" 2>/dev/null) # a Python that does not work is skipped
  case $? in
    0) PYTHONPATH=${PYTHONPATH:-} exec "$python" "$@" ;;
    4) without_venv=${without_venv:-$without} ;;
  esac
  if [ -n "${PYTHON:-}" ]; then
    echo "PYTHON=$PYTHON does not run, is not Python 3.11, 3.12 or 3.13, or lacks the modules venv and ensurepip: name another." >&2
    exit 1
  fi
done
if [ -n "$without_venv" ]; then
  echo "Python $without_venv is here, but without its venv module. On Debian and Ubuntu: apt install python$without_venv-venv" >&2
  echo "Elsewhere: install a complete Python 3.11, 3.12 or 3.13, or name one with PYTHON=/path/to/python3. Then run make again." >&2
else
  echo "No Python 3.11, 3.12 or 3.13 was found on the PATH. Install one (with its venv module), or name one with" >&2
  echo "PYTHON=/path/to/python3. Then run make again." >&2
fi
exit 1
