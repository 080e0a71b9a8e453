#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B; both: Mode = router
#                                A: DeviceType = tap, on an interface that was made before; B: the usual tun device
#
# Router mode through a tap device: the daemon answers its kernel's questions for hardware addresses, and gives frames
# from a tun device the interface's own address. The interface is still there when the daemon is not, and one of another
# kind, or with several queues, is refused with a reason.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A DeviceType=tap ConnectTo=B
node B
introduce A B
in_ns A ip tuntap add dev vpn0 mode tap

neighbour() { in_ns A ip "-${2:-4}" neigh show "$(mesh_address "$1" "${2:-4}")" dev vpn0 | awk '/lladdr/ { print $3 }'; }
made_up() {
    local own last
    own=$(in_ns A cat /sys/class/net/vpn0/address)
    last=$((0x${own##*:} ^ 0xff))
    printf '%s:%02x' "${own%:*}" "$last"
}
exists() { in_ns A test -e /sys/class/net/vpn0; }

start B A
check ping "A B" "through the tap device" wait_for 10 "A reaches B" reachable A B
check ping6 "A B" "with IPv6 too" wait_for 5 "A reaches B by IPv6" reachable A B 6
check back "A B" "and back" wait_for 5 "B reaches A" reachable B A
check answer "A" "ARP is answered with the made-up address" same "$(made_up)" "$(neighbour B)"
check answer6 "A" "neighbour discovery too" same "$(made_up)" "$(neighbour B 6)"

in_ns A ip link set vpn0 address 02:00:00:00:00:77
in_ns A ip neigh flush dev vpn0
check renumbered "A" "the interface gets another hardware address" wait_for 10 "B reaches A" reachable B A

stop A
check stays "A" "a persistent interface outlives the daemon" exists
start A
check again "A B" "and is used again" wait_for 10 "A reaches B" reachable A B
stop A

# refused MODE WORDS: A does not start on an interface made with MODE, and says why.
refused() {
    in_ns A ip link del vpn0
    # shellcheck disable=SC2086 # words
    in_ns A ip tuntap add dev vpn0 $1
    launch A
    wait_for 15 "A ends" gone A && logged A "$2"
}
gone() { ! alive A; }
check queues "A" "an interface with several queues is refused" refused "mode tap multi_queue" \
    "Could not create a tun/tap interface from /dev/net/tun: .*multi_queue"
check kind "A" "an interface of the other kind is refused" refused "mode tun" "is a tun interface, but a tap interface"
passed
