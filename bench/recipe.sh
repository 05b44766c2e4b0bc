#!/usr/bin/env bash
# The recipe as it is handed around: one process per command and key. (Its usual form passes seconds to
# RESTORE; here it passes milliseconds, as the command wants.)
# Usage: recipe.sh SOURCE_PORT TARGET_PORT KEYS
set -euo pipefail
source=(redis-cli -p "$1") target=(redis-cli -p "$2")

(set +o pipefail; "${source[@]}" --scan 2>/dev/null | head -n "$3") | while IFS= read -r key; do
    ttl=$("${source[@]}" PTTL "$key")
    ((ttl < 0)) && ttl=0
    "${source[@]}" DUMP "$key" | head -c -1 | "${target[@]}" -x RESTORE "$key" "$ttl" >/dev/null
done
