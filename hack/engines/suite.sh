# What the engine suites share. A suite names itself in SUITE, lists its cases by  scenario NAME FUNCTION,  defines
# prepare, sweep (after each case) and finish, and then calls  main.  hack/engines/run sets for it:
#   RUNTIME   the binary under test            ONLY      only the cases whose number or name matches this
#   CACHE     what hack/engines/setup made     CHURN     seconds of churn
#   REPORT    where the totals and the skipped cases go
#   ARGV      where each command line of the runtime goes, if anywhere
#   KEEP      if set, the working directory stays
#   TREE      if set, the root directory of a newer Debian, which the suite runs in
#   SHIM      if set, containerd-shim-coracle-v1, with which containerd runs containers in place of the runc shim
#   GUEST     if set, the suite runs in the guest with systemd of hack/vm, where containers are units; the number says how
#             many times longer it may take
# A suite runs in its own pid, mount and network namespaces, and has its own /run (sockets, locks, runtime state). So its processes,
# mounts, bridges and firewall rules end with the suite.

HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
: "${RUNTIME:?set by hack/engines/run}" "${CACHE:?set by hack/engines/run}" "${REPORT:=/dev/null}" "${CHURN:=30}"
NAME=$(basename "$RUNTIME")
LAST_CPU=$(($(nproc) - 1))
IMAGES=$CACHE/images
CASES=()
scenario() { CASES+=("$1|$2"); }

# --- checks of a case; each ends the case when it fails
fail() {
  echo "$*"
  exit 1
}
skip() {
  echo "SKIP $*"
  exit 77
}
eq() { [ "$1" = "$2" ] || fail "${3:-value}: expected [$1], got [$2]"; }
ne() { [ "$1" != "$2" ] || fail "${3:-value}: got [$2] as well"; }
has() { [[ $2 == *"$1"* ]] || fail "${3:-text}: no [$1] in: $2"; }
hasnt() { [[ $2 != *"$1"* ]] || fail "${3:-text}: [$1] in: $2"; }
like() { [[ $2 =~ $1 ]] || fail "${3:-text}: not like /$1/: $2"; }
# within SECONDS COMMAND...: tries it every tenth of a second
within() {
  # the guest is emulated
  local end=$((SECONDS + $1 * ${GUEST:-1} + 1))
  shift
  while ! "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}
# value KEY TEXT: the text after `KEY:` or `KEY=`
value() { sed -n "s/^$1[:=][[:space:]]*//p" <<<"$2" | tr -d '\r' | head -1; }
pty() { /usr/bin/python3 "$HERE/terminal.py" "$@"; }
# bit HEX N: is it set?
bit() { [ $(((16#$1 >> $2) & 1)) = 1 ]; }
# cgroup_of CONTROLLER PID: its directory, as the host sees it
cgroup_of() {
  local path
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    path=$(sed -n 's/^0:://p' "/proc/$2/cgroup")
    echo "/sys/fs/cgroup$path"
  else
    path=$(awk -F: -v c="$1" '("," $2 ",") ~ ("," c ",") { print $3 }' "/proc/$2/cgroup" | head -1)
    echo "/sys/fs/cgroup/$1$path"
  fi
}
# limit WHAT PID: a limit from the process's cgroup; a value of version 2 in the words of version 1
limit() {
  local directory
  case $1 in
    memory | reservation) directory=$(cgroup_of memory "$2") ;;
    quota | period | shares) directory=$(cgroup_of cpu "$2") ;;
    frozen) directory=$(cgroup_of freezer "$2") ;;
  esac
  if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    case $1 in
      memory) cat "$directory/memory.limit_in_bytes" ;;
      reservation) cat "$directory/memory.soft_limit_in_bytes" ;;
      quota) cat "$directory/cpu.cfs_quota_us" ;;
      period) cat "$directory/cpu.cfs_period_us" ;;
      shares) cat "$directory/cpu.shares" ;;
      frozen) cat "$directory/freezer.state" ;;
    esac
    return
  fi
  case $1 in
    memory) cat "$directory/memory.max" ;;
    reservation) cat "$directory/memory.low" ;;
    quota) cut -d' ' -f1 "$directory/cpu.max" ;;
    period) cut -d' ' -f2 "$directory/cpu.max" ;;
    # by the line of the first runtimes (20), or by the curve of the newer ones (59)
    shares) case $(cat "$directory/cpu.weight") in 20 | 59) echo 512 ;; *) cat "$directory/cpu.weight" ;; esac ;;
    frozen) case $(cat "$directory/cgroup.freeze") in 1) echo FROZEN ;; *) echo THAWED ;; esac ;;
  esac
}
namespace() { readlink "/proc/$1/ns/$2"; }
privileges() { grep -E '^(Cap|NoNewPrivs|Seccomp:)' "/proc/$1/status"; }
# needs of checkpoint: a runtime that supports it, and criu
needs_checkpoint() {
  "$RUNTIME" features 2>/dev/null | grep -q 'checkpoint.enabled": *"true"' || skip "$NAME has no checkpoint and restore yet"
  command -v criu >/dev/null && criu check >/dev/null 2>&1 || skip "no criu that runs on this kernel"
}
# not_yet REASON: if this case fails with coracle, it counts as skipped for that reason; with others it fails
not_yet() { echo "NOTYET $*"; }

# example FILE: its path in `examples`, after the runtime is where the examples expect it (in this mount namespace alone)
example() {
  local file=$HERE/../../examples/$1
  [ "$NAME" = coracle ] || skip "the examples are about coracle"
  [ -e "$file" ] || skip "no examples here"
  if [ ! -e /usr/local/bin/.examples ]; then
    mount -t tmpfs tmpfs /usr/local/bin
    cp -L "$W/bin/.runtime" /usr/local/bin/coracle
    : >/usr/local/bin/.examples
  fi
  EXAMPLE=$(readlink -f "$file")
}

# --- churn: a suite gives  churn_round ID N  (one life of a container; says why it failed),  daemons  (their pids) and  keeper
# what is there: of processes all but this case's own session, of cgroups what has PARENT in its path. A guest's own are seen too:
# threads of the kernel, which come and go, and what udev and systemd start for a device or a unit
surroundings() {
  local own
  own=$(ps -o sid= $$ | tr -d ' ')
  {
    ps --ppid 2 -p 2 --deselect -o sid=,comm= |
      awk -v own="$own" -v guest="${GUEST:-}" '$1 != own && !(guest && $2 ~ /^\(|udevd|^systemd/) { print "process " $2 }'
    # podman's storage binds this one over itself, and unmounts it when it is idle
    awk -v own="$W/graph/overlay" '$5 != own { print "mount " $5 }' /proc/self/mountinfo
    find /sys/fs/cgroup -type d -path "*$PARENT*" -printf 'cgroup %p\n'
    # podman 5 leaves a directory of a container whose create failed, with every runtime
    find /run -type d ! -path '/run/libpod/persist/*' ! -path '/run/systemd/*' -printf 'directory %p\n' 2>/dev/null
  } | LC_ALL=C sort
}
# open_files PID...
open_files() {
  local pid
  for pid; do ls "/proc/$pid/fd" 2>/dev/null; done | wc -l
}
# a suite with shims replaces it: starts a container that lives through the churn, with work in each round, and prints its shim's pid
keeper() { :; }
# shim_of PID: the parent of a container's init
shim_of() { ps -o ppid= -p "$1" | tr -d ' '; }
# (an engine may close something that it had before)
as_before() {
  LC_ALL=C comm -13 "$W/churn.before" <(surroundings) >"$W/churn.left"
  [ ! -s "$W/churn.left" ]
}
churn_worker() {
  local n=0
  while [ "$(date +%s)" -lt "$2" ] && [ ! -e "$W/churn.failed" ]; do
    n=$((n + 1))
    (churn_round "churn$1" $n) >"$W/churn.log.$1" 2>&1 || {
      { echo "worker $1, round $n:" && tail -n 20 "$W/churn.log.$1"; } >>"$W/churn.failed"
    }
  done
  echo $n >"$W/churn.rounds.$1"
}
case_churn() {
  local worker rounds before after shim shim_before shim_after
  shim=$(keeper) || fail "no keeper: $shim"
  # files that an engine makes at its first use are not a leak
  (churn_round warm 3) && (churn_round warm 5) || fail "not even one"
  sleep 1
  surroundings >"$W/churn.before"
  # shellcheck disable=SC2046
  before=$(open_files $(daemons)) shim_before=$(open_files $shim)
  for worker in 1 2 3 4; do churn_worker $worker $(($(date +%s) + CHURN)) & done
  wait
  [ ! -e "$W/churn.failed" ] || fail "$(cat "$W/churn.failed")"
  rounds=$(awk '{ n += $1 } END { print n }' "$W"/churn.rounds.*)
  within 20 as_before || fail "left after $rounds containers: $(head -n 30 "$W/churn.left")"
  # shellcheck disable=SC2046
  after=$(open_files $(daemons)) shim_after=$(open_files $shim)
  # the daemons' own connections change; a leak of one descriptor per container would be hundreds
  [ $((after - before)) -le 12 ] || fail "open files of the daemons: $before before, $after after $rounds containers"
  [ -z "$shim" ] || [ -d "/proc/$shim" ] || fail "the shim that stays has gone"
  [ $((shim_after - shim_before)) -le 4 ] || fail "open files of the shim that stays: $shim_before before, $shim_after after $rounds containers"
  echo "NOTE $rounds containers; open files of the daemons: $before before, $after after${shim:+; of the shim that stays: $shim_before, $shim_after}"
}

# only the runc shim accepts another runtime program
needs_runc_shim() { [ -z "${SHIM:-}" ] || skip "the shim has the runtime inside"; }
# only ours gets these options from ctr 1.6, which passes a file of options to a runtime that it does not know
needs_our_shim() { [ -n "${SHIM:-}" ] || skip "the options of ctr for the runc shim are another scenario"; }
# to_runtime BINARY: the new target of RT
to_runtime() { ln -sfn "$1" "$W/bin/.runtime.new" && mv -T "$W/bin/.runtime.new" "$W/bin/.runtime"; }

# RT, the name that engines call, is a link to $W/bin/.runtime, so that the runtime can change under running containers
runtime_in_place() {
  mkdir -p "$W/bin"
  [ -z "${SHIM:-}" ] || cp "$SHIM" "$W/bin/containerd-shim-coracle-v1"
  to_runtime "$RUNTIME"
  if [ -z "${BEFORE_RUNTIME:-}${ARGV:-}" ]; then
    ln -sfn .runtime "$RT"
    return
  fi
  cat >"$RT" <<X
#!/bin/bash
${ARGV:+printf '%s\n' "\${*@Q}" >>'$ARGV'}
${BEFORE_RUNTIME:-}
exec -a "$RT" '$W/bin/.runtime' "\$@"
X
  chmod 755 "$RT"
}

# in the guest everything belongs to the suite, and systemd must be able to see it
enter_guest() {
  export W INSIDE=1
  W=$(mktemp -d /var/tmp/engines.XXXXXX)
  chmod 755 "$W"
  exec bash "$0" </dev/null
}

enter_namespaces() {
  [ -z "${GUEST:-}" ] || enter_guest
  [ "$(id -u)" = 0 ] || { echo "engines: not root" >&2 && exit 1; }
  export W INSIDE=1 status
  W=$(mktemp -d /var/tmp/engines.XXXXXX)
  chmod 755 "$W"
  # job control; otherwise background processes start with SIGINT and SIGQUIT ignored
  set -m
  local command=(bash "$0")
  [ -z "${TREE:-}" ] || command=(bash "$HERE/enter" "$(readlink -f "$0")")
  unshare --pid --fork --kill-child --mount --net --propagation private --mount-proc \
    "${command[@]}" </dev/null &
  local inner=$!
  set +m
  # unshare does not react to TERM or INT while it waits
  trap 'kill -9 $inner; wait $inner; rm -rf "$W"; exit 130' TERM INT HUP
  wait $inner
  status=$?
  find "$W" -xdev -type d ! -perm -u+w -exec chmod u+w {} + 2>/dev/null
  if [ -n "${KEEP:-}" ]; then echo "# kept: $W"; else rm -rf --one-file-system "$W"; fi
  exit $status
}

own_world() {
  if [ -z "${GUEST:-}" ]; then
    # as on a host with systemd; a separate peer group for this mount namespace
    mount --make-rshared /
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/user
    mkdir -m 1777 -p /run/lock
    ip link set lo up
  fi
  mkdir -p "$W/log" "$W/tmp" "$W/v"
  mkdir -m 1777 -p "$W/td"
  cd "$W" || exit 1
}

# remove_cgroups PATTERN: removes the empty ones with this name, in every hierarchy
remove_cgroups() { find /sys/fs/cgroup -depth -type d -path "$1" -exec rmdir {} + 2>/dev/null || true; }

main() {
  [ -n "${INSIDE:-}" ] || enter_namespaces
  RT=$W/bin/$NAME
  export TMPDIR=$W/td
  if [ "${1:-}" = --case ]; then
    "$2"
    exit 0
  fi
  own_world
  runtime_in_place
  if ! prepare >"$W/log/prepare" 2>&1; then
    echo "not ok: $SUITE did not start"
    tail -30 "$W/log/prepare" | sed 's/^/# /'
    echo "$SUITE 0 1 0" >>"$REPORT"
    exit 1
  fi
  local n=0 passed=0 failed=0 skipped=0 case name why code from took limit
  for case in "${CASES[@]}"; do
    n=$((n + 1))
    name=${case%|*}
    [ -z "${ONLY:-}" ] || [[ "$n $name" =~ $ONLY ]] || continue
    limit=90
    [[ $name != churn* ]] || limit=$((CHURN + 180))
    [ -z "${GUEST:-}" ] || limit=$((limit * GUEST))
    from=$(date +%s%N)
    setsid -w timeout -k 5 $limit bash "$0" --case "${case##*|}" >"$W/log/$n" 2>&1 </dev/null
    code=$?
    took=$((($(date +%s%N) - from) / 1000000))
    case $code in
      0)
        passed=$((passed + 1))
        echo "ok $n - $name (${took} ms)"
        sed -n 's/^NOTE /# /p' "$W/log/$n"
        ;;
      77)
        skipped=$((skipped + 1))
        why=$(sed -n 's/^SKIP //p' "$W/log/$n" | tail -1)
        echo "skip $n - $name: $why"
        echo "# $SUITE: $name: $why" >>"$REPORT"
        ;;
      *)
        why=$(sed -n 's/^NOTYET //p' "$W/log/$n" | tail -1)
        if [ -n "$why" ] && [ "$NAME" = coracle ]; then
          skipped=$((skipped + 1))
          echo "skip $n - $name: $why"
          echo "# $SUITE: $name: $why" >>"$REPORT"
          sweep >>"$W/log/sweep" 2>&1
          continue
        fi
        failed=$((failed + 1))
        echo "not ok $n - $name"
        case $code in 124 | 137) echo "# out of time ($took ms)" ;; esac
        tail -c 2000 "$W/log/$n" | sed 's/^/# /'
        ;;
    esac
    sweep >>"$W/log/sweep" 2>&1
  done
  finish >"$W/log/finish" 2>&1
  echo "$SUITE: $passed passed, $failed failed, $skipped skipped"
  echo "$SUITE $passed $failed $skipped" >>"$REPORT"
  [ $failed = 0 ]
}
