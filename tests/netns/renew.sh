#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B; both: KeyExpire = 5
#
# Numbered datagrams go both ways while the keys change every five seconds. Where a gmesh receives not one is lost to
# it; where a stock daemon does, no more than it loses with a stock sender (measured in the same run).
#
# variant: seconds=NUMBER (60) how long they run

source "$(dirname "$0")/lib.sh"

seconds=${VARIANT[seconds]:-60}
rate=200
make_inet
host A 1
host B 2
node A ConnectTo=B KeyExpire=5
node B KeyExpire=5
introduce A B
start B A
need 10 "A reaches B" reachable A B
need 30 "packets go by UDP" by_udp A B
need 10 "in both directions" by_udp B A

for name in A B; do
    in_ns_background "$name" "$LAB_WORK/receive.$name" python3 "$LAB_DIR/numbered.py" receive \
        "$(mesh_address "$name")" 5000 "$LAB_WORK/numbers.$name"
done
need 5 "the receivers listen" test -s "$LAB_WORK/numbers.A" -a -s "$LAB_WORK/numbers.B"
# Handshake records are far longer than what else the meta connection carries while nothing happens.
count inet handshakes tcp dport 655 meta length 120-400
count inet answers tcp sport 655 meta length 120-400

in_ns A python3 "$LAB_DIR/numbered.py" send "$(mesh_address B)" $((seconds * rate)) "$rate" 5000 &
sender=$!
in_ns B python3 "$LAB_DIR/numbered.py" send "$(mesh_address A)" $((seconds * rate)) "$rate" 5000
wait "$sender"
sleep 1 # the last are on their way

declare -A LOST=() TWICE=()
for name in A B; do
    read -r once "TWICE[$name]" <"$LAB_WORK/numbers.$name"
    LOST[$name]=$((seconds * rate - once))
    record "lost-$name" "${LOST[$name]}"
done
lines=$(($(counted inet handshakes) + $(counted inet answers)))
say "  of $((seconds * rate)) each way, ${LOST[B]} from A to B and ${LOST[A]} from B to A were lost; $lines handshake lines"

check renewed "A B" "keys were renewed all the time" test "$lines" -ge $((4 * (seconds / 5 - 2)))
for pair in "A B" "B A"; do
    read -r from to <<<"$pair"
    if ours "$to"; then
        check "lossless-$to" "$to" "not one from $from to $to was lost" same "${LOST[$to]}" 0
    elif [[ $LAB_BASELINE == no ]] && ours "$from"; then
        limit=$(baseline "lost-$to")
        say "  between stock daemons $limit were lost"
        if [[ $limit == failed ]]; then continue; fi
        check "no-worse-$to" "$from" "no more than between stock daemons ($limit) were lost" test "${LOST[$to]}" -le "$limit"
    fi
    check "twice-$to" "$to" "none came twice" same "${TWICE[$to]}" 0
done
for name in A B; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
