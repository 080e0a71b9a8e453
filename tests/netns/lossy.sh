#!/usr/bin/env bash
#      A --- [shim] --- B        A: ConnectTo = B; the shim loses 5 % of all frames, doubles 5 % and delays 10 %
#
# Nothing is delivered twice, whatever the link doubles, delays, or repeats on purpose (datagrams captured earlier are
# sent again, from before a change of keys and from just now); streams arrive whole; the tunnel stays on UDP or comes
# back to it. The kernel here has no netem, so a program passes the frames on (packet_shim.py).
#
# variant: seed=NUMBER (1)

source "$(dirname "$0")/lib.sh"

for name in A B shim; do add_space "$name"; done
number=0
for name in A B; do
    number=$((number + 1))
    ip link add eth0 netns "$(space "$name")" type veth peer name "to$name" netns "$(space shim)"
    ip -n "$(space "$name")" addr add "10.1.0.$number/24" dev eth0
    ip -n "$(space "$name")" link set eth0 up
    ip -n "$(space shim)" link set "to$name" up
    in_ns "$name" python3 "$LAB_DIR/packet_shim.py" plain eth0
    ADDRESS[$name]="10.1.0.$number"
done

# The shim, with a pipe to each end of it; ask WORDS: one command, and its answer.
mkfifo "$LAB_WORK/shim.in" "$LAB_WORK/shim.out"
ip netns exec "$(space shim)" python3 "$LAB_DIR/packet_shim.py" toA toB "${VARIANT[seed]:-1}" \
    <"$LAB_WORK/shim.in" >"$LAB_WORK/shim.out" 2>"$LAB_WORK/shim.log" &
LAB_PIDS+=("$!")
exec 8>"$LAB_WORK/shim.in" 9<"$LAB_WORK/shim.out"
read -r -t 10 _ <&9 || fail "the shim does not work"
ask() {
    echo "$*" >&8
    read -r -t 60 ANSWER <&9 || fail "the shim does not answer"
}
udp_so_far() {
    ask count
    sed -E 's/.*"udp": ([0-9]+).*/\1/' <<<"$ANSWER"
}

# Keys change several times while the test runs. What local discovery finds here, IPv6 of the link, the shim does not
# count.
node A ConnectTo=B KeyExpire=10 PingTimeout=20 LocalDiscovery=no
node B KeyExpire=10 PingTimeout=20 LocalDiscovery=no
introduce A B
start B A
need 10 "A reaches B" reachable A B
for name in A B; do
    in_ns_background "$name" "$LAB_WORK/receive.$name" python3 "$LAB_DIR/numbered.py" receive \
        "$(mesh_address "$name")" 5000 "$LAB_WORK/numbers.$name"
done
need 5 "the receivers listen" test -s "$LAB_WORK/numbers.A" -a -s "$LAB_WORK/numbers.B"

# numbers COUNT: that many datagrams each way at 200 a second; sets ONCE and TWICE of each, and UDP_SHARE: datagrams on
# the link for a hundred that were sent.
declare -A ONCE=() TWICE=()
tally() { read -r "ONCE[$1]" "TWICE[$1]" <"$LAB_WORK/numbers.$1"; }
numbers() {
    local before_A before_B before sender
    tally A
    tally B
    before_A=${ONCE[A]}
    before_B=${ONCE[B]}
    before=$(udp_so_far)
    in_ns A python3 "$LAB_DIR/numbered.py" send "$(mesh_address B)" "$1" 200 5000 &
    sender=$!
    in_ns B python3 "$LAB_DIR/numbered.py" send "$(mesh_address A)" "$1" 200 5000
    wait "$sender"
    sleep 1 # the last are on their way
    tally A
    tally B
    UDP_SHARE=$((($(udp_so_far) - before) * 100 / (2 * $1)))
    ARRIVED_A=$(((ONCE[A] - before_A) * 100 / $1))
    ARRIVED_B=$(((ONCE[B] - before_B) * 100 / $1))
    TALLY="arrived: $ARRIVED_B % from A to B, $ARRIVED_A % from B to A; UDP datagrams on the link: $UDP_SHARE %"
    say "  $TALLY"
}
at_least() { [[ $1 -ge $2 ]]; }

numbers 400
[[ $ARRIVED_A -ge 99 && $ARRIVED_B -ge 99 && $UDP_SHARE -ge 95 ]] || fail "the clean link does not work"

ask set loss=0.05 double=0.05 delay=0.1
PING_LOG="$LAB_WORK/ping.lossy"
in_ns_background A "$PING_LOG" ping -n -D -i 0.1 -W 1 "$(mesh_address B)"
pinging=$!
numbers 3000
check arrives-B "A B" "at least 85 of 100 arrive at B" at_least "$ARRIVED_B" 85
check arrives-A "A B" "and at A" at_least "$ARRIVED_A" 85
check by-udp "A B" "most go by UDP all the same" at_least "$UDP_SHARE" 80
check stream "A B" "a stream arrives whole" transfer A B 2 60
check stream-back "A B" "and back" transfer B A 2 60
numbers 1000
check by-udp-still "A B" "they still go by UDP" at_least "$UDP_SHARE" 80

# An attacker who has listened repeats what he has heard: nothing of it may come out.
tally A
tally B
before="${ONCE[A]} ${ONCE[B]}"
ask replay 1000
say "  $ANSWER"
sleep 1
tally A
tally B
check replay "A B" "no replayed datagram is delivered" same "$before" "${ONCE[A]} ${ONCE[B]}"
check once-B "B" "nothing was delivered twice at B" same "${TWICE[B]}" 0
check once-A "A" "nor at A" same "${TWICE[A]}" 0
kill -INT "$pinging"
wait "$pinging" 2>/dev/null || true
doubles=$(grep -c 'DUP' "$PING_LOG" || true)
check once-ping "A B" "nor any answer to a ping" same "$doubles" 0

ask set loss=0 double=0 delay=0
clean() {
    numbers 200
    [[ $ARRIVED_A -ge 99 && $ARRIVED_B -ge 99 && $UDP_SHARE -ge 95 ]]
}
check clean "A B" "the link is clean again, and so is the tunnel" wait_for 15 "all arrives, by UDP" clean
say "  at last $TALLY"
check meta "A" "A's daemon is up" alive A
passed
