#!/usr/bin/env bash
# Health of a TensorFlow Serving container, with what its image has: bash, no curl. Healthy = at least one model of
# the rendered list is AVAILABLE. TensorFlow Serving opens its port only when every model has been tried once.
#   serving.sh [CONFIG [PORT]]
set -u
config=${1:-/models/multimodel.config}
port=${2:-8501}

available() {  # MODEL: ask its status, read until the word is there
  local line
  exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
  printf 'GET /v1/models/%s HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$1" >&3
  while IFS= read -r -t 2 line <&3 || [[ -n ${line:-} ]]; do
    [[ $line =~ \"state\":[[:space:]]*\"AVAILABLE\" ]] && { exec 3>&-; return 0; }
    line=
  done
  exec 3>&-
  return 1
}

models=
[[ -r $config ]] || { echo "$config cannot be read"; exit 1; }
while IFS= read -r line; do
  if [[ $line =~ ^[[:space:]]*name:[[:space:]]*\"([^\"]+)\" ]]; then
    model=${BASH_REMATCH[1]}
    models+=" $model"
    available "$model" && { echo "$model is AVAILABLE"; exit 0; }
  fi
done <"$config"
echo "no model is AVAILABLE; asked:${models:- none, $config lists no model}"
exit 1
