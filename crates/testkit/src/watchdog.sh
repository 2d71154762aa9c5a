# Ends a server whose test is gone. Arguments: data directory, then the directories to remove.
# Standard input is a pipe that the test holds: it ends when the test lets go, or dies in whatever way.
data=$1
shift
trap '' INT TERM HUP
while read -r _; do :; done

# The number may have been given to another process since: only one that was started on this directory counts.
pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
running() {
    [ -n "$pid" ] || return 1
    if [ -d /proc/self ]; then
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$data"
    else
        ps -o args= -p "$pid" 2>/dev/null | grep -qF -- "$data"
    fi
}

if running; then
    # Immediate shutdown: the postmaster ends its children, also stopped ones, after five seconds at most.
    kill -QUIT "$pid"
    kill -CONT "$pid"
    tries=80
    while running && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    running && kill -KILL "$pid"
fi

# A killed postmaster leaves its lock segment behind: line 7 is "key id".
segment=$(sed -n '7s/.* //p' "$data/postmaster.pid" 2>/dev/null)
[ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null

rm -rf "$@"
