#!/usr/bin/env bash
# Waits until every container of the stack is healthy, and prints the services it waits for. A generator that has
# published its count and ended counts as healthy. The script fails if a container ended otherwise, or after 180 s.
set -euo pipefail

readonly SECONDS_MAX=180

# Prints the services that are not ready; exits when a container has failed for good.
missing() {
    local service name status
    while read -r service name status; do
        case "$service $status" in
            *'(healthy)' | 'kafka-ui Up '* | 'prometheus Up '* | 'grafana Up '* | 'generator Exited (0)'*) ;;
            # The engine restarts a crashed container, but bad settings stay bad.
            *' Exited '* | *' Restarting (64) '*)
                printf '%s: %s\n' "$name" "$status" >&2
                docker compose logs --no-log-prefix --tail 10 "$service" >&2
                exit 1
                ;;
            *) printf '%s\n' "$service" ;;
        esac
    done < <(docker compose ps --all --format '{{.Service}} {{.Name}} {{.Status}}')
}

reported=
while true; do
    waiting_for=$(missing | sort --unique | paste --serial --delimiters=' ')
    if [ -z "$waiting_for" ]; then
        break
    fi
    if [ "$waiting_for" != "$reported" ]; then
        printf 'waiting for %s\n' "$waiting_for"
        reported=$waiting_for
    fi
    if [ "$SECONDS" -ge "$SECONDS_MAX" ]; then
        printf 'not ready after %s s; see docker compose logs\n' "$SECONDS_MAX" >&2
        exit 1
    fi
    sleep 0.3
done
printf 'ready after %s s\n' "$SECONDS"
