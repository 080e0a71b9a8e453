#!/usr/bin/env bash
#      A --- [inet] --- B        A and C: ConnectTo = B; all: Mode = switch, with tap devices
#               |
#               C                 variant broadcast=direct: Broadcast = direct in place of the tree
#
# One Ethernet for all: ARP and neighbour discovery work, broadcasts reach everyone once, what is learned is not flooded,
# a host that moves is found at its new place at once, and one that is silent is forgotten. The host that moves is made
# of frames: its address is HOST.

source "$(dirname "$0")/lib.sh"

HOST=02:00:00:00:77:01
EVERYBODY=ff:ff:ff:ff:ff:ff
broadcast=${VARIANT[broadcast]:-mst}

make_inet
host A 1
host B 2
host C 3
for name in A B C; do
    options=(Mode=switch "Broadcast=$broadcast" MACExpire=6 PingTimeout=3)
    [[ $name == B ]] || options+=(ConnectTo=B)
    node $name "${options[@]}"
done
introduce A B
introduce B C

frames() {
    local where=$1
    shift
    in_ns "$where" python3 "$LAB_DIR/frames.py" "$@"
}
address_of() { in_ns "$1" cat /sys/class/net/vpn0/address; }

# listen TOKEN NODE...: notes in TOKEN.NODE what arrives there.
listen() {
    local token=$1 name
    shift
    for name in "$@"; do
        in_ns_background "$name" "$LAB_WORK/$token.$name" python3 "$LAB_DIR/frames.py" listen vpn0 "$token" 20
    done
    for name in "$@"; do need 5 "listening at $name" grep -q listening "$LAB_WORK/$token.$name"; done
}
heard() { grep -vc listening "$LAB_WORK/$1.$2" || true; }
heard_all() {
    local token=$1 count=$2 name
    shift 2
    for name in "$@"; do [[ $(heard "$token" "$name") -ge $count ]] || return 1; done
}

# once TOKEN NODE...: everyone heard it, and after a moment nobody more than once.
once() {
    local token=$1 name
    shift
    wait_for 5 "heard by $*" heard_all "$token" 1 "$@" || return 1
    sleep 0.5
    for name in "$@"; do [[ $(heard "$token" "$name") -eq 1 ]] || return 1; done
}

# found AT NODE...: 5 frames for HOST from C arrive AT and not at the other nodes. HOST is at AT, and not silent.
found() {
    local at=$1 token=found.$RANDOM other
    shift
    listen "$token" "$at" "$@"
    frames "$at" send vpn0 $HOST $EVERYBODY alive
    frames C send vpn0 "$(address_of C)" "$HOST" "$token" count=5
    wait_for 4 "all 5 at $at" heard_all "$token" 5 "$at" || return 1
    sleep 0.3
    for other in "$@"; do
        [[ $(heard "$token" "$other") -eq 0 ]] || { say "  $other got them too" && return 1; }
    done
}
flooded() {
    local token=flood.$RANDOM
    listen "$token" A B >/dev/null
    frames C send vpn0 "$(address_of C)" "$HOST" "$token"
    wait_for 4 "flooded" heard_all "$token" 1 A B
}

start B A C
check arp "A B C" "A finds C by ARP" wait_for 10 "A reaches C" reachable A C
check nd "A B C" "A finds C by neighbour discovery" wait_for 5 "A reaches C by IPv6" reachable A C 6
check arp_b "A B" "B finds A by ARP" wait_for 5 "B reaches A" reachable B A
check direct "A B C" "what is learned goes directly" wait_for 15 "B carries nothing" direct A C B

in_ns_background B "$LAB_WORK/watch.B" python3 "$LAB_DIR/frames.py" watch vpn0 "$(address_of C)" 20
need 5 "B watches for frames to C" grep -q listening "$LAB_WORK/watch.B"
burst A C 50 >/dev/null
check quiet "A B C" "what is learned is not flooded" same 0 "$(grep -vc listening "$LAB_WORK/watch.B" || true)"

listen dhcp B C
frames A send vpn0 "$(address_of A)" $EVERYBODY dhcp kind=dhcp
check dhcp "A B C" "a broadcast of A reaches everyone once" once dhcp B C
listen relayed A B
frames C send vpn0 "$(address_of C)" $EVERYBODY relayed
check relayed "A B C" "a broadcast of C reaches everyone once" once relayed A B

# What does not fit a datagram goes through B by TCP, where it cannot be said that it is for C alone.
size=1500
[[ $broadcast == mst ]] || size=1200
listen tagged B C
frames A send vpn0 "$(address_of A)" $EVERYBODY tagged vlan=42 size=$size
check tagged "A B C" "a frame of $size bytes with a VLAN tag arrives" once tagged B C
check tag "A B C" "its tag is still there" grep -q " 42 $((size + 14))$" "$LAB_WORK/tagged.C"

check stranger "A B C" "a frame for nobody known is flooded" flooded
frames A send vpn0 $HOST $EVERYBODY hello
check learned "A B C" "a host appears at A" wait_for 5 "C finds it there" found A B
frames B send vpn0 $HOST $EVERYBODY moved
# A stock daemon keeps what it learned until its next look at the clock.
check at_once "A" "it moves to B, and traffic follows at once" found B A
check moves "A B C" "it is found at B at the latest a little later" wait_for 15 "C finds it there" found B A
frames A send vpn0 $HOST $EVERYBODY back
check back "A B C" "it moves back to A" wait_for 15 "C finds it there" found A B
check expires "A B C" "silent, it is forgotten" wait_for 35 "its frames are flooded" flooded
check pings "A B C" "all goes on" wait_for 5 "A reaches C" reachable A C
passed
