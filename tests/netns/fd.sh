#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B; Mode = router
#                                A: DeviceType = fd, Device = a unix socket through which another program gives a
#                                   descriptor; variant socket=abstract: one without a file
#
# A's daemon never opens a device; the interface lives as long as the descriptor that it was given.

source "$(dirname "$0")/lib.sh"

socket="$LAB_WORK/give"
[[ ${VARIANT[socket]:-path} == path ]] || socket="@$LAB_PREFIX-give"
make_inet
host A 1
host B 2
node A DeviceType=fd "Device=$socket" ConnectTo=B
node B
introduce A B
rm "$LAB_WORK/A/tinc-up"

give() {
    : >"$LAB_WORK/give.log"
    rm -f "$LAB_WORK/give"
    in_ns_background A "$LAB_WORK/give.log" python3 "$LAB_DIR/give_tun.py" vpn0 "$socket" 30
    need 10 "a descriptor can be had" grep -q waiting "$LAB_WORK/give.log"
    in_ns A ip addr add 10.200.0.1/24 dev vpn0
    in_ns A ip link set vpn0 up
}
ended() { ! alive A; }
gone() { in_ns A test ! -e /sys/class/net/vpn0; }

give
start B A
check named "A" "the log says so" logged A "fd/[0-9]* adapter set up."
check ping "A B" "through the given descriptor" wait_for 10 "A reaches B" reachable A B
check back "A B" "and back" wait_for 5 "B reaches A" reachable B A
check transfer "A B" "a stream arrives whole" transfer A B 2 30
stop A
check closed "A" "with the daemon the interface goes" wait_for 5 "vpn0 is gone" gone
launch A
check refused "A" "without a giver it does not start" wait_for 15 "A ends" ended
check reason "A" "and says why" logged A "Could not connect to Unix socket (error -1)!"
passed
