#!/usr/bin/env bash
# Waits until every container of the stack is healthy, and says what it waits for. A generator that has published its
# count and ended is as good. A container that ended otherwise, or 180 s without success, make it fail.
set -euo pipefail

readonly SECONDS_MAX=180

# Prints the services that are not there yet; exits when a container has failed for good.
missing() {
    local service name status
    while read -r service name status; do
        case "$service $status" in
            *'(healthy)' | 'kafka-ui Up '* | 'prometheus Up '* | 'grafana Up '* | 'generator Exited (0)'*) ;;
            # An engine tries again what has crashed, but bad settings stay bad.
            *' Exited '* | *' Restarting (64) '*)
                printf '%s: %s\n' "$name" "$status" >&2
                docker compose logs --no-log-prefix --tail 10 "$service" >&2
                exit 1
                ;;
            *) printf '%s\n' "$service" ;;
        esac
    done < <(docker compose ps --all --format '{{.Service}} {{.Name}} {{.Status}}')
}

said=
while true; do
    waiting_for=$(missing | sort --unique | paste --serial --delimiters=' ')
    if [ -z "$waiting_for" ]; then
        break
    fi
    if [ "$waiting_for" != "$said" ]; then
        printf 'waiting for %s\n' "$waiting_for"
        said=$waiting_for
    fi
    if [ "$SECONDS" -ge "$SECONDS_MAX" ]; then
        printf 'not ready after %s s; docker compose logs says more\n' "$SECONDS_MAX" >&2
        exit 1
    fi
    sleep 0.3
done
printf 'ready after %s s\n' "$SECONDS"
