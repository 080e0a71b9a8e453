#!/usr/bin/env bash
#      pc --- lan0 A --- [inet] --- B        A: ConnectTo = B; both: Mode = switch
#                                            B: a tap device
#      variant device=raw_socket: A joins the network of pc to the mesh through a packet socket on lan0
#      variant device=multicast:  A joins those in a multicast group on lan0, where pc is one

source "$(dirname "$0")/lib.sh"

device=${VARIANT[device]:-raw_socket}
make_inet
host A 1
host B 2
add_space pc
ip link add lan0 netns "$(space A)" type veth peer name lan0 netns "$(space pc)"
for name in A pc; do in_ns $name ip link set lan0 up; done

if [[ $device == raw_socket ]]; then
    node A Mode=switch DeviceType=raw_socket ConnectTo=B
    sed -i 's/^Interface = .*/Interface = lan0/' "$LAB_WORK/A/tinc.conf"
else
    in_ns A ip addr add 192.168.7.1/24 dev lan0
    in_ns pc ip addr add 192.168.7.2/24 dev lan0
    for name in A pc; do in_ns $name ip route add 239.0.0.0/8 dev lan0; done
    node A Mode=switch DeviceType=multicast "Device=239.7.7.7 4000 1" ConnectTo=B
fi
rm "$LAB_WORK/A/tinc-up"
node B Mode=switch
introduce A B
start B A

frames() {
    local where=$1
    shift
    in_ns "$where" python3 "$LAB_DIR/frames.py" "$@"
}
pc_pings() { in_ns pc ping -n -c 1 -W 0.5 "$(mesh_address B)"; }
pc_has() { [[ -s $LAB_WORK/pc.frames ]] && grep -q "$1" "$LAB_WORK/pc.frames"; }
arrived() { grep -q " $1 " "$LAB_WORK/B.frames"; }

check names "A" "the log says what it is" logged A "$([[ $device == raw_socket ]] && echo "lan0 is a raw_socket" ||
    echo "239.7.7.7 4000 1 is a multicast socket")"

if [[ $device == raw_socket ]]; then
    in_ns pc ip addr add 10.200.0.99/24 dev lan0
    check arp "A B" "a host beside A finds B by ARP" wait_for 10 "pc reaches B" pc_pings
    in_ns_background B "$LAB_WORK/B.frames" python3 "$LAB_DIR/frames.py" listen vpn0 tagged 20
    need 5 "B listens" grep -q listening "$LAB_WORK/B.frames"
    frames pc send lan0 02:00:00:00:77:02 ff:ff:ff:ff:ff:ff tagged vlan=42
    check frame "A B" "a tagged frame of its network arrives" wait_for 5 "B has it" arrived 02:00:00:00:77:02
    check tag "A" "with its tag" grep -q " 42 " "$LAB_WORK/B.frames"
    in_ns A ip link set lan0 down
    sleep 0.5
    in_ns A ip link set lan0 up
    check outlives "A B" "the interface goes down and up" wait_for 10 "pc reaches B" pc_pings
else
    in_ns_background pc "$LAB_WORK/pc.frames" python3 "$LAB_DIR/group.py" listen 239.7.7.7 4000 192.168.7.2 30
    need 5 "pc listens" pc_has listening
    frames B send vpn0 02:00:00:00:77:02 ff:ff:ff:ff:ff:ff downward
    check downward "A B" "a frame of the mesh gets into the group" wait_for 5 "pc has it" pc_has downward
    in_ns_background B "$LAB_WORK/B.frames" python3 "$LAB_DIR/frames.py" listen vpn0 upward 20
    need 5 "B listens" grep -q listening "$LAB_WORK/B.frames"
    in_ns pc python3 "$LAB_DIR/group.py" send 239.7.7.7 4000 192.168.7.2 02:00:00:00:77:03 upward
    check upward "A B" "a frame of the group gets into the mesh" wait_for 5 "B has it" arrived 02:00:00:00:77:03
fi
check alive "A B" "both are still there" alive A
passed
