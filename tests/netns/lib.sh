#!/usr/bin/env bash
# The namespace lab: networks, nodes and measurements for the tests beside this file (sourced, never run).
#
# Every name carries the prefix of this run (the shell's pid); one trap at exit ends the processes and deletes the
# namespaces that this run recorded, and nothing else. Nothing is created in the root namespace: each veth pair is born
# between two namespaces, so the lab needs no bridge, no netem and no dummy device. Filters and NAT are nftables.
#
# The usual shape:
#
#     node --- [inet: a router in the middle] --- nat --- node
#
# "inet" gives the network N the addresses 10.N.0.0/24 and fd00:N::/64 (host .2 / ::2, router .1 / ::1); a NAT on
# network N has the LAN 192.168.N.0/24. Inside the mesh the node number I has 10.200.0.I and fd77::I.
#
# usage of every test: TEST.sh [NAME=VALUE...] [KIND...]
#
# KINDS, one for each node in the order of their letters, are two generations of directories:
#
#     gmesh (the default), tinc10    as for tinc 1.0: an RSA key
#     gmesh11, tinc11                as "tinc init" makes them: an RSA key and an Ed25519 key
#
# Host files are exchanged as they are, so a tinc10 has lines of 1.1 in some, and who has Ed25519 keys of whom follows
# from the kinds. NAME=VALUE picks a variant that the test documents; keys=rsa and keys=ed25519 (for all nodes of the
# second generation) and experimental=no work in every test.

set -euo pipefail

LAB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT_DIR=$(cd "$LAB_DIR/../.." && pwd)
declare -A VARIANT=()
TEST_NAME=$(basename "$0" .sh)
TEST_VARIANT=()
while [[ ${1:-} == *=* ]]; do
    VARIANT[${1%%=*}]=${1#*=}
    TEST_VARIANT+=("$1")
    TEST_NAME+=".${1/=/-}"
    shift
done
LAB_PREFIX="gm$$"
LAB_WORK=$(mktemp -d "${TMPDIR:-/tmp}/gmesh-lab.XXXXXX")
LAB_SPACES=()
LAB_PIDS=()
LAB_FAILED=yes # until the test has come to its end
BASELINE_DIR=${GMESH_BASELINE_DIR:-$LAB_WORK/baseline}
TINCD10=${TINCD10:-/usr/sbin/tincd}
TINCD11=${TINCD11:-$ROOT_DIR/.cache/peers/tinc-1.1/bin/tincd}
TINC11=${TINC11:-$ROOT_DIR/.cache/peers/tinc-1.1/bin/tinc}
GMESH_BIN=${GMESH_BIN:-$ROOT_DIR/.venv/bin}
KINDS=("$@")
DAEMON_OPTIONS=() # further options of every daemon that a test starts
declare -A KIND=() PID=() INDEX=() ADDRESS=()
declare -A KEYS=() # rsa, ed25519 or both: which keys a node is given, where that is not what its kind says

mkdir -p "$BASELINE_DIR"

# --- beginning and end ---------------------------------------------------------------------------------------------

lab_end() {
    local status=$? pid space
    trap - EXIT
    if [[ $LAB_FAILED == yes ]]; then
        [[ $status -ne 0 ]] || status=1
        lab_show_logs
    fi
    for pid in "${LAB_PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in "${LAB_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    for space in "${LAB_SPACES[@]}"; do ip netns del "$space" 2>/dev/null || true; done
    if [[ $LAB_FAILED == yes && -n ${GMESH_KEEP_DIR:-} ]]; then
        mkdir -p "$GMESH_KEEP_DIR"
        cp -r "$LAB_WORK" "$GMESH_KEEP_DIR/$TEST_NAME-$(IFS=- && echo "${KINDS[*]}")-$$" 2>/dev/null || true
    fi
    rm -rf "$LAB_WORK"
    exit "$status"
}
trap lab_end EXIT
trap 'exit 130' INT TERM

lab_show_logs() {
    local log
    for log in "$LAB_WORK"/*.log; do
        [[ -s $log ]] || continue
        echo "--- last lines of $(basename "$log")"
        tail -n "${GMESH_LOG_TAIL:-25}" "$log"
    done >&2
}

say() { printf '%s\n' "$*"; }
now() { date +%s.%N; }
elapsed() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }

fail() {
    say "FAIL: $*"
    exit 1
}

# The last line of every test.
passed() {
    LAB_FAILED=no
    say "ok: $TEST_NAME ${KINDS[*]}"
}

# wait_for SECONDS DESCRIPTION COMMAND...: polls until the command succeeds; false when the time is over.
wait_for() {
    local limit=$1 what=$2 start
    shift 2
    start=$(now)
    until "$@" >/dev/null 2>&1; do
        if less "$limit" "$(elapsed "$start")"; then
            say "  waited $limit s in vain: $what"
            return 1
        fi
        sleep 0.1
    done
    say "  after $(elapsed "$start") s: $what"
}

# need SECONDS DESCRIPTION COMMAND...: as wait_for, but the test cannot go on without it.
need() { wait_for "$@" || fail "$2"; }

# --- what is asserted ----------------------------------------------------------------------------------------------

# ours NODE...: all of them are gmesh, of either generation.
ours() {
    local name
    for name in "$@"; do [[ ${KIND[$name]} == gmesh* ]] || return 1; done
}
# second NODE...: all of them speak the protocol of tinc 1.1.
second() {
    local name
    [[ ${VARIANT[experimental]:-yes} == yes ]] || return 1
    for name in "$@"; do [[ ${KIND[$name]} == *11 && ${KEYS[$name]} != rsa ]] || return 1; done
}

# check KEY "NODES" DESCRIPTION COMMAND...
# KEY names the behaviour, NODES are the nodes whose behaviour it is. All gmesh: a failure fails the test. A stock
# daemon among them: it is asserted only if the same check passed between stock daemons of the same generations in this
# run (the baseline, which is made on demand); the baseline itself only records.
check() {
    local key=$1 nodes=$2 what=$3 verdict=failed
    shift 3
    if "$@"; then verdict=passed; fi
    if [[ $LAB_BASELINE == yes ]]; then
        echo "$verdict" >"$BASELINE_DIR/$TEST_NAME.$(stock_kinds).$key"
        say "  baseline $key: $verdict ($what)"
        return 0
    fi
    if [[ $verdict == passed ]]; then
        say "  $key: passed ($what)"
        return 0
    fi
    # shellcheck disable=SC2086 # a list of names
    if ours $nodes || [[ $(baseline "$key") == passed ]]; then fail "$key: $what"; fi
    say "  $key: NOT ASSERTED, stock daemons do not do it either ($what)"
}

# The stock daemons in the places of the nodes, as a word: a test between them is the baseline of this one.
stock_kinds() {
    local stock=("${KINDS[@]/#gmesh/tinc10}")
    stock=("${stock[@]/#tinc1011/tinc11}")
    local IFS=-
    echo "${stock[*]}"
}

# What stock daemons did in this run: passed or failed, or the number that "record" was given.
baseline() {
    local file stock
    file="$BASELINE_DIR/$TEST_NAME.$(stock_kinds).$1"
    if [[ ! -e $file ]]; then
        IFS=- read -ra stock <<<"$(stock_kinds)"
        GMESH_BASELINE_DIR=$BASELINE_DIR "$0" "${TEST_VARIANT[@]}" "${stock[@]}" >"$LAB_WORK/baseline-run" 2>&1 || true
    fi
    if [[ -e $file ]]; then cat "$file"; else echo failed; fi
}

# record KEY NUMBER: what was measured between stock daemons, for "baseline KEY".
record() {
    [[ $LAB_BASELINE == no ]] || echo "$2" >"$BASELINE_DIR/$TEST_NAME.$(stock_kinds).$1"
}

# --- networks ------------------------------------------------------------------------------------------------------

space() { echo "$LAB_PREFIX-$1"; }
in_ns() {
    local where
    where=$(space "$1")
    shift
    ip netns exec "$where" "$@"
}

add_space() {
    local name
    name=$(space "$1")
    ip netns add "$name"
    LAB_SPACES+=("$name")
    # Addresses are usable at once and nothing is announced by itself.
    ip netns exec "$name" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
        net.ipv6.conf.default.accept_ra=0
    ip -n "$name" link set lo up
}

make_router() {
    in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

# rules SPACE: nftables rules from standard input.
rules() { in_ns "$1" nft -f -; }

# The router in the middle, with an empty chain "blocks" that tests fill, and counters they read.
make_inet() {
    add_space inet
    make_router inet
    rules inet <<'RULES'
table inet lab {
    chain blocks { }
    chain forward {
        type filter hook forward priority 0; policy accept;
        jump blocks
    }
}
RULES
}

# block RULE...: adds a rule to the middle router, for example: block ip saddr 10.1.0.2 udp dport 1-65535 drop
block() { in_ns inet nft add rule inet lab blocks "$@"; }
unblock() { in_ns inet nft flush chain inet lab blocks; }

# attach SPACE N: puts a namespace on network N.
attach() {
    local it inet
    it=$(space "$1")
    inet=$(space inet)
    ip link add eth0 netns "$it" type veth peer name "net$2" netns "$inet"
    ip -n "$inet" addr add "10.$2.0.1/24" dev "net$2"
    ip -n "$inet" addr add "fd00:$2::1/64" dev "net$2" nodad
    ip -n "$inet" link set "net$2" up
    ip -n "$it" addr add "10.$2.0.2/24" dev eth0
    ip -n "$it" addr add "fd00:$2::2/64" dev eth0 nodad
    ip -n "$it" link set eth0 up
    ip -n "$it" route add default via "10.$2.0.1"
    ip -n "$it" -6 route add default via "fd00:$2::1"
}

# host NAME N: a public host on network N; with the variant outside=6 it is known by its IPv6 address.
host() {
    add_space "$1"
    attach "$1" "$2"
    ADDRESS[$1]="10.$2.0.2"
    [[ ${VARIANT[outside]:-4} == 4 ]] || ADDRESS[$1]="fd00:$2::2"
}

# nat NAME N FLAVOUR: a NAT router on network N. It keeps source ports where it can. What comes from outside unasked:
#   drop    silently dropped            reject  answered with an ICMP error by a rule
#   random  dropped, and every mapping gets a random port
#   open    no filter at all: the kernel itself answers "port unreachable", and remembers the stranger's flow, so
#           that a later flow of a client to that stranger gets another port
nat() {
    local verdict=drop masquerade=masquerade
    case $3 in
        drop) ;;
        reject) verdict=reject ;;
        random) masquerade="masquerade fully-random" ;;
        open) verdict=accept ;;
        *) fail "unknown NAT flavour $3" ;;
    esac
    add_space "$1"
    make_router "$1"
    attach "$1" "$2"
    rules "$1" <<RULES
table ip lab {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname "eth0" meta l4proto { tcp, udp } ct state new $verdict
    }
    chain forward {
        type filter hook forward priority 0; policy accept;
        iifname "eth0" ct state new $verdict
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname "eth0" $masquerade
    }
}
RULES
}

# behind NAME NAT N: a host in the LAN of a NAT on network N. It has no IPv6.
behind() {
    local it router
    add_space "$1"
    it=$(space "$1")
    router=$(space "$2")
    ip link add eth0 netns "$it" type veth peer name lan0 netns "$router"
    ip -n "$router" addr add "192.168.$3.1/24" dev lan0
    ip -n "$router" link set lan0 up
    ip -n "$it" addr add "192.168.$3.2/24" dev eth0
    ip -n "$it" link set eth0 up
    ip -n "$it" route add default via "192.168.$3.1"
}

# lan NAT N NAME...: hosts in one LAN behind a NAT on network N, with the addresses 192.168.N.2 and on.
lan() {
    local router number=1 name wire
    router=$(space "$1")
    add_space "wire$2"
    wire=$(space "wire$2")
    ip link add up0 netns "$wire" type veth peer name lan0 netns "$router"
    ip -n "$router" addr add "192.168.$2.1/24" dev lan0
    ip -n "$router" link set lan0 up
    ip -n "$wire" link set up0 up
    for name in "${@:3}"; do
        number=$((number + 1))
        add_space "$name"
        ip -n "$wire" link add link up0 name eth0 netns "$(space "$name")" type macvlan mode bridge
        ip -n "$(space "$name")" addr add "192.168.$2.$number/24" dev eth0
        ip -n "$(space "$name")" link set eth0 up
        ip -n "$(space "$name")" route add default via "192.168.$2.1"
    done
}

# --- counters on the wire ------------------------------------------------------------------------------------------

# count SPACE LABEL EXPRESSION...: counts forwarded or local packets that match from now on.
count() {
    local where=$1 label=$2
    shift 2
    in_ns "$where" nft add table inet "count_$label"
    in_ns "$where" nft add counter inet "count_$label" c
    local hook
    for hook in input output forward; do
        in_ns "$where" nft add chain inet "count_$label" "$hook" "{ type filter hook $hook priority -200; }"
        in_ns "$where" nft add rule inet "count_$label" "$hook" "$@" counter name c
    done
}

# counted SPACE LABEL: packets so far.
counted() { in_ns "$1" nft list counter inet "count_$2" c | awk '/packets/ { print $2 }'; }

# --- nodes ---------------------------------------------------------------------------------------------------------

# node NAME [OPTION=VALUE...]: a configuration directory for the node in the namespace of the same name. The options go
# to tinc.conf, those that begin with "host." to the node's own host file. Its kind is the next of the test's arguments.
node() {
    local name=$1 index=$((${#KIND[@]} + 1)) option dir
    shift
    KIND[$name]=${KINDS[$((index - 1))]:-gmesh}
    INDEX[$name]=$index
    dir="$LAB_WORK/$name"
    if [[ ${KIND[$name]} == *11 ]]; then
        KEYS[$name]=${KEYS[$name]:-${VARIANT[keys]:-both}}
    else
        KEYS[$name]=${KEYS[$name]:-rsa}
    fi
    mkdir -p "$dir/hosts"
    {
        echo "Name = $name"
        echo "Interface = vpn0"
        # Connections are those of the test, not those that a daemon finds useful.
        if [[ ${KIND[$name]} != tinc10 && " $* " != *" AutoConnect="* ]]; then echo "AutoConnect = no"; fi
        if [[ ${KIND[$name]} == *11 && -n ${VARIANT[experimental]:-} ]]; then
            echo "ExperimentalProtocol = ${VARIANT[experimental]}"
        fi
        for option in "$@"; do [[ $option == host.* ]] || echo "${option/=/ = }"; done
    } >"$dir/tinc.conf"
    {
        [[ -z ${ADDRESS[$name]:-} ]] || echo "Address = ${ADDRESS[$name]}"
        echo "Subnet = 10.200.0.$index/32"
        echo "Subnet = fd77::$index/128"
        for option in "$@"; do
            [[ $option != host.* ]] || {
                option=${option#host.}
                echo "${option/=/ = }"
            }
        done
    } >"$dir/hosts/$name"
    cat >"$dir/tinc-up" <<UP
#!/bin/sh
ip addr add 10.200.0.$index/24 dev "\$INTERFACE"
ip -6 addr add fd77::$index/64 dev "\$INTERFACE" nodad
ip link set "\$INTERFACE" up
UP
    chmod 755 "$dir/tinc-up"
    make_keys "$name"
    lab_set_baseline
}

LAB_BASELINE=yes
lab_set_baseline() {
    local name
    LAB_BASELINE=yes
    for name in "${!KIND[@]}"; do [[ ${KIND[$name]} == tinc1? ]] || LAB_BASELINE=no; done
}

make_keys() {
    local dir="$LAB_WORK/$1" log="$LAB_WORK/$1.keys" keys=${KEYS[$1]} choice=()
    case ${KIND[$1]} in
        tinc10) "$TINCD10" -c "$dir" -K2048 ;;
        tinc11)
            case $keys in
                rsa) choice=(generate-rsa-keys 2048) ;;
                ed25519) choice=(generate-ed25519-keys) ;;
                both) choice=(generate-keys 2048) ;;
            esac
            "$TINC11" -b -c "$dir" "${choice[@]}"
            ;;
        gmesh | gmesh11)
            [[ $keys == both ]] || choice=("--$keys")
            "$GMESH_BIN/gmesh-keygen" -c "$dir" "${choice[@]}" --batch
            ;;
        *) fail "unknown kind of node: ${KIND[$1]}" ;;
    esac </dev/null >"$log" 2>&1 || { cat "$log" && fail "no keys for $1"; }
}

# share FROM TO [rsa|ed25519]: TO gets FROM's host file, with all public keys or with one of them only.
share() {
    local from="$LAB_WORK/$1/hosts/$1" to="$LAB_WORK/$2/hosts/$1"
    case ${3:-all} in
        all) cp "$from" "$to" ;;
        rsa) sed '/^Ed25519PublicKey/d' "$from" >"$to" ;;
        ed25519) sed '/BEGIN RSA/,/END RSA/d' "$from" >"$to" ;;
    esac
}

# introduce A B [rsa|ed25519]: each gets the other's host file.
introduce() {
    share "$1" "$2" "${3:-all}"
    share "$2" "$1" "${3:-all}"
}

# control NAME WORDS...: the daemon's control tool (there is none for tinc10).
control() {
    local tool=$TINC11 name=$1
    shift
    ! ours "$name" || tool="$GMESH_BIN/gmesh"
    "$tool" -c "$LAB_WORK/$name" --pidfile "$LAB_WORK/$name.pid" "$@"
}

# launch NAME: starts the daemon and returns; start also waits until it is ready.
launch() {
    local name=$1 command
    local dir="$LAB_WORK/$name" log="$LAB_WORK/$name.log"
    case ${KIND[$name]} in
        tinc10) command=("$TINCD10") ;;
        tinc11) command=("$TINCD11") ;;
        gmesh | gmesh11) command=("$GMESH_BIN/gmeshd") ;;
    esac
    echo "=== start" >>"$log"
    in_ns_background "$name" "$log" "${command[@]}" -c "$dir" --pidfile "$LAB_WORK/$name.pid" -D "-d${GMESH_DEBUG:-3}" \
        "${DAEMON_OPTIONS[@]}"
    PID[$name]=$!
}

in_ns_background() {
    local where log=$2
    where=$(space "$1")
    shift 2
    ip netns exec "$where" "$@" </dev/null >>"$log" 2>&1 &
    LAB_PIDS+=("$!")
}

# Whoever reads a pipe here reads all of it: a writer that is cut off would make the whole pipe fail.
last_life() { awk '/^=== start/ { text = "" } { text = text $0 ORS } END { printf "%s", text }' "$LAB_WORK/$1.log"; }
logged() { last_life "$1" | grep -- "$2" >/dev/null; }

# start NAME...: the others when the first one is ready: to it they connect, and a stock daemon that found nobody would
# wait for 5 s and more.
start() {
    local name
    launch "$1"
    need 60 "$1 is ready" logged "$1" "Ready"
    for name in "${@:2}"; do launch "$name"; done
    for name in "${@:2}"; do need 60 "$name is ready" logged "$name" "Ready"; done
}

alive() { kill -0 "${PID[$1]}"; }
stop() {
    kill -TERM "${PID[$1]}"
    wait "${PID[$1]}" 2>/dev/null || true
}
kill9() {
    kill -KILL "${PID[$1]}"
    wait "${PID[$1]}" 2>/dev/null || true
}
hup() { kill -HUP "${PID[$1]}"; }

# mesh_address NAME [6]
mesh_address() { if [[ ${2:-4} == 6 ]]; then echo "fd77::${INDEX[$1]}"; else echo "10.200.0.${INDEX[$1]}"; fi; }

# reachable FROM TO [4|6]: one ping through the mesh.
reachable() { in_ns "$1" ping -n -c 1 -W 0.5 "$(mesh_address "$2" "${3:-4}")"; }

# burst FROM TO COUNT [4|6]: that many pings at 100 a second; prints how many came back.
burst() {
    in_ns "$1" ping -n -q -i 0.01 -c "$3" -s 400 -W 2 "$(mesh_address "$2" "${4:-4}")" 2>/dev/null |
        awk '/packets transmitted/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^received/) print $i }'
}

# carried FROM TO THROUGH COUNT [4|6]: prints how many packets the namespace THROUGH carried during a burst that came back whole.
carried() {
    local before after back
    [[ -e $LAB_WORK/count.$3 ]] || { count "$3" all meta l4proto '{ tcp, udp }' && touch "$LAB_WORK/count.$3"; }
    before=$(counted "$3" all)
    back=$(burst "$1" "$2" "$4" "${5:-4}")
    after=$(counted "$3" all)
    [[ $back -ge $(($4 * 98 / 100)) ]] || { echo 999999 && return; }
    echo $((after - before))
}

# direct FROM TO MIDDLE [4|6]: a burst arrives without the middle carrying it. A relayed ping is four packets there;
# a direct one none, and the middle's own probes and pings are far below one for every two of ours.
direct() { [[ $(carried "$1" "$2" "$3" 100 "${4:-4}") -lt 50 ]]; }
relayed() {
    local packets
    packets=$(carried "$1" "$2" "$3" 100 "${4:-4}")
    [[ $packets -ge 200 && $packets -lt 999999 ]]
}

# by_udp FROM TO [AT]: a burst arrives and comes back, and all of it passes AT (the middle router) by UDP, both ways.
by_udp() {
    local at=${3:-inet} there back whole
    if [[ ! -e $LAB_WORK/count.udp.$1.$2.$at ]]; then
        count "$at" "udp_$1_$2" meta l4proto udp meta length 400-900
        touch "$LAB_WORK/count.udp.$1.$2.$at"
    fi
    there=$(counted "$at" "udp_$1_$2")
    whole=$(burst "$1" "$2" 50)
    back=$(counted "$at" "udp_$1_$2")
    # Each of the 50 is counted once on its way and once on its way back, by a relay once in and once out.
    [[ $whole -ge 49 && $((back - there)) -ge $([[ $at == inet ]] && echo 98 || echo 196) ]]
}

# meta_connections NAME OTHER: the TCP connections between the two nodes as NAME's kernel sees them, one a line.
meta_connections() {
    in_ns "$1" ss -Htn state established | awk -v other="${ADDRESS[$2]}" '
        { gsub(/[][]/, "") } index($4, other ":") == 1 { print $3, $4 }' | sort
}
same() { [[ $1 == "$2" ]]; }

# flow SPACE LABEL DIRECTION: counts echo requests that leave for (out) or come from (in) the tunnel device.
flow() {
    local side=iifname
    [[ $3 == in ]] || side=oifname
    count "$1" "$2" "$side" vpn0 icmp type echo-request
}

# steady FROM TO SECONDS: in that time all echo requests that leave FROM arrive at TO (one may be on its way at either
# end). Both ends were prepared by "flow FROM sent out" and "flow TO received in".
steady() {
    local sent received
    sent=$(counted "$1" sent)
    received=$(counted "$2" received)
    sleep "$3"
    sent=$(($(counted "$1" sent) - sent))
    received=$(($(counted "$2" received) - received))
    say "  $sent requests left $1, $received arrived at $2 in $3 s"
    [[ $sent -ge 3 && $received -ge $((sent - 1)) ]]
}

# ping_start FROM TO: pings every 0.2 s in the background, with times; ping_stop ends it.
ping_start() {
    PING_LOG="$LAB_WORK/ping.$1.$2"
    in_ns_background "$1" "$PING_LOG" ping -n -D -i 0.2 -W 1 "$(mesh_address "$2")"
    PING_PID=$!
}
ping_stop() {
    kill -INT "$PING_PID"
    wait "$PING_PID" 2>/dev/null || true
}

# longest_gap SINCE: the longest time in seconds without an answer after the moment SINCE.
longest_gap() {
    awk -v last="$1" -v end="$(now)" '
        /bytes from/ { t = substr($1, 2) + 0; if (t > last) { if (t - last > gap) gap = t - last; last = t } }
        END { if (end - last > gap) gap = end - last; printf "%.2f\n", gap }' "$PING_LOG"
}

# lost_pings: how many of the pings so far were not answered (after ping_stop). The very last one does not count: it may
# have been on its way when ping was ended.
lost_pings() {
    awk 'match($0, /icmp_seq=[0-9]+/) && /bytes from/ { last = substr($0, RSTART + 9, RLENGTH - 9) }
        /packets transmitted/ { print $1 - $4 - (last == $1 - 1) }' "$PING_LOG"
}

# transfer FROM TO MEGABYTES SECONDS: a TCP stream through the mesh arrives whole.
transfer() {
    local sums="$LAB_WORK/transfer.$1.$2" address
    address=$(mesh_address "$2")
    rm -f "$sums"
    in_ns_background "$2" "$sums" timeout "$4" python3 "$LAB_DIR/transfer.py" receive "$address"
    local server=$!
    timeout "$4" ip netns exec "$(space "$1")" python3 "$LAB_DIR/transfer.py" send "$address" "$3" >"$sums.sent" || return 1
    wait "$server" || return 1
    [[ -s $sums ]] && cmp "$sums" "$sums.sent"
}

# resident NAME: the daemon's memory in kB.
resident() { awk '/^VmRSS/ { print $2 }' "/proc/${PID[$1]}/status"; }
