#!/bin/sh
# Control a running program by curl: the main run, or a session.
#
#   sh control.sh [ADDRESS] [PICTURE]     for example: sh control.sh http://127.0.0.1:8080 mona.jpg
#
# REENACT_TOKEN is sent if it is set. SESSION names a session; without it the main run is controlled.
set -eu
address=${1:-http://127.0.0.1:8080}
address=${address%/}
query=${SESSION:+?session=$SESSION}

call() {
  # a program that is busy or still starting answers 503 and Retry-After, which curl heeds
  # the token goes to curl over standard input, where it does not show in the list of processes
  printf 'header = "Authorization: Bearer %s"\n' "${REENACT_TOKEN:-}" |
    curl --silent --show-error --fail-with-body --retry 60 --retry-max-time 120 --config - "$@"
  echo
}
command() {
  call --data "$1" "$address/api/control$query"
}

# wait until there is something to watch
call --retry 60 --retry-all-errors --retry-delay 1 "$address/readyz" >/dev/null
call "$address/api/state$query"
call "$address/api/portraits$query"

command '{"v": 1, "id": 1, "command": "set_gain", "value": 1.2}'
command '{"v": 1, "id": 2, "command": "set_region", "value": "expression"}'
command '{"v": 1, "id": 3, "command": "set_region", "value": "all"}'
command '{"v": 1, "id": 4, "command": "calibrate"}'

# a mistake is answered with what was found, what was expected and the cure
command '{"v": 1, "id": 5, "command": "set_gain", "value": "loud"}' || true

if [ $# -gt 1 ]; then
  # add a picture as a portrait, and select it
  call --data-binary "@$2" "$address/api/portraits${query:-?}&name=mine&consent=${CONSENT:-fictional}"
fi
