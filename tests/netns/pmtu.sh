#!/usr/bin/env bash
#      A --- [inet] --- [r2] --- B       1500 bytes
#               |
#              [r3] --- C               1280 bytes between inet and r3; A: ConnectTo = B, ConnectTo = C
#
# The path MTU is found on both paths, packets that do not fit are refused or cut in a way that hosts understand, TCP is
# told at once (ClampMSS), and streams arrive whole. Then the wide path shrinks and grows under traffic: tunnel and meta
# connection survive (requirement 14).
#
# variants: icmp=yes  the routers' "too big" messages arrive (the default)    icmp=no  the hosts' filters drop them
#           outside=6 the nodes know each other by IPv6

source "$(dirname "$0")/lib.sh"

make_inet
host A 1

# far NAME N: a host behind a router of its own on network N, so that the link in between can be narrow.
far() {
    local it="$LAB_PREFIX-$1" router="$LAB_PREFIX-r$2"
    add_space "r$2"
    make_router "r$2"
    attach "r$2" "$2"
    add_space "$1"
    ip link add eth0 netns "$it" type veth peer name lan0 netns "$router"
    ip -n "$router" addr add "10.1$2.0.1/24" dev lan0
    ip -n "$router" addr add "fd00:1$2::1/64" dev lan0 nodad
    ip -n "$router" link set lan0 up
    ip -n "$it" addr add "10.1$2.0.2/24" dev eth0
    ip -n "$it" addr add "fd00:1$2::2/64" dev eth0 nodad
    ip -n "$it" link set eth0 up
    ip -n "$it" route add default via "10.1$2.0.1"
    ip -n "$it" -6 route add default via "fd00:1$2::1"
    ip -n "$(space inet)" route add "10.1$2.0.0/24" via "10.$2.0.2"
    ip -n "$(space inet)" -6 route add "fd00:1$2::/64" via "fd00:$2::2"
    ADDRESS[$1]="10.1$2.0.2"
    [[ ${VARIANT[outside]:-4} == 4 ]] || ADDRESS[$1]="fd00:1$2::2"
}
# width N BYTES: the link between the router in the middle and the one of network N.
width() {
    ip -n "$(space inet)" link set "net$1" mtu "$2"
    ip -n "$(space "r$1")" link set eth0 mtu "$2"
}
far B 2
far C 3
width 3 1280
if [[ ${VARIANT[icmp]:-yes} == no ]]; then
    for name in A B C; do
        rules "$name" <<'RULES'
table inet deaf {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname "eth0" icmp type destination-unreachable icmp code frag-needed counter drop
        iifname "eth0" icmpv6 type packet-too-big counter drop
    }
}
RULES
    done
fi
node A ConnectTo=B ConnectTo=C
node B
node C
# The kernel remembers for ten minutes what a "too big" message said, and keeps stock daemons from sending, or answering,
# anything larger for so long. gmesh has to do without this help.
for name in A B C; do
    ours "$name" || in_ns "$name" sysctl -qw net.ipv4.route.mtu_expires=5 net.ipv6.route.mtu_expires=5
done
introduce A B
introduce A C

# mtu_of NAME OTHER: the largest frame that NAME sends to OTHER by UDP, as NAME itself says it.
mtu_of() {
    case ${KIND[$1]} in
        gmesh | *11) control "$1" info "$2" | awk '/^PMTU:/ { print $2 }' ;;
        *)
            kill -USR2 "${PID[$1]}"
            sleep 0.2
            last_life "$1" | awk -v other="$2" '$1 == other && / nexthop / { for (i = 1; i < NF; i++) if ($i == "pmtu") mtu = $(i + 1) } END { print mtu }'
            ;;
    esac
}
mtu_is() { [[ $(mtu_of "$1" "$2") == "$3" ]]; }
mtu_between() { local mtu && mtu=$(mtu_of "$1" "$2") && [[ $mtu -ge $3 && $mtu -le $4 ]]; }

# frame_for BYTES OTHER: what a frame from A to OTHER may have in a packet of that size. Legacy: a datagram's payload in
# whole blocks of 16 with the MAC's 4 bytes taken off, one byte of padding and 4 of sequence number (spec: data-legacy 1,
# 8). Between nodes of the second generation: 12 bytes of ids, 4 of record number, 1 of type, 16 of tag (data-sptps 7).
frame_for() {
    local headers=28
    [[ ${VARIANT[outside]:-4} == 4 ]] || headers=48
    if second A "$2"; then echo $(($1 - headers - 33)); else echo $((($1 - headers - 4) / 16 * 16 - 1 - 4)); fi
}
WIDE=$(frame_for 1500 B)
NARROW=$(frame_for 1280 C)

start B C A
need 15 "A reaches B" reachable A B
need 15 "A reaches C" reachable A C
ping_start A C
traffic=$PING_PID
in_ns_background A "$LAB_WORK/ping.AB" ping -n -D -i 0.2 -W 1 "$(mesh_address B)"
check found-wide "A" "A finds $WIDE on the wide path" wait_for 30 "A knows the MTU to B" mtu_is A B "$WIDE"
check found-narrow "A" "A finds $NARROW on the narrow path" wait_for 30 "A knows the MTU to C" mtu_is A C "$NARROW"
check found-back "C" "C finds $NARROW towards A" wait_for 30 "C knows the MTU to A" mtu_is C A "$NARROW"

# Inside the tunnel: a packet that may not be cut and does not fit is refused with the size that would, and that fits.
INNER=$((NARROW - 14))
told() { # the size A's kernel is told for packets to C, by ICMP from the tunnel (the second ping is refused at home)
    in_ns A ip route flush cache
    in_ns A ping -n -c 2 -i 0.3 -W 1 -M 'do' -s 1400 "$(mesh_address C)" 2>&1 |
        sed -nE 's/.*mtu ?= ?([0-9]+).*/\1/p' | head -n 1 || true
}
fits() { in_ns A ping -n -c 3 -i 0.2 -W 1 -M 'do' -s "$(($1 - 28))" "$(mesh_address C)"; }
size=$(told)
say "  A's kernel is told to send $size bytes to C"
check told "A" "the ICMP message says $INNER" same "$size" "$INNER"
check fits "A C" "$INNER bytes pass uncut" wait_for 3 "a ping of $INNER bytes" fits "$INNER"
if in_ns A ip route flush cache && fits $((INNER + 1)) >/dev/null 2>&1; then fail "one byte more passes too: the test sees nothing"; fi
cut_ping() { in_ns A ping -n -c 1 -W 1 -M dont -s 4000 "$(mesh_address C)"; }
check cut "A C" "what may be cut passes" wait_for 3 "a ping of 4000 bytes" cut_ping
# What IPv6 must carry whole does not fit into the narrow path: it passes nevertheless.
floor6() { in_ns A ping -n -c 1 -W 1 -s 1232 "$(mesh_address C 6)"; }
check floor6 "A C" "1280 bytes of IPv6 pass" wait_for 3 "a ping of 1280 bytes by IPv6" floor6

count C syns iifname vpn0 "tcp flags & syn == syn"
count C too-wide iifname vpn0 "tcp flags & syn == syn tcp option maxseg size > $((INNER - 40))"
check stream-narrow "A C" "a stream passes the narrow path" transfer A C 3 40
check stream-back "C A" "and back" transfer C A 3 40
check stream-wide "A B" "a stream passes the wide path" transfer A B 3 40
[[ $(counted C syns) -ge 1 ]] || fail "no connection was seen"
check clamped "A" "A clamped the MSS to $((INNER - 40))" same "$(counted C too-wide)" 0

# The wide path shrinks and grows while packets pass that need all of it. A ping may be cut inside the tunnel, so what
# is lost is lost because A took the path for wider than it is.
meta=$(meta_connections A B)
[[ -n $meta ]] || fail "there is no meta connection"
PING_LOG="$LAB_WORK/ping.large"
in_ns_background A "$PING_LOG" ping -n -D -i 0.1 -W 1 -M dont -s 1390 "$(mesh_address B)"
large=$!
sleep 1
stream() {
    transfer A B 20 60
    echo $? >"$LAB_WORK/stream.status"
}
stream &
streaming=$!
sleep 0.5
shrunk=$(now)
width 2 1300
SHRUNK=$(frame_for 1300 B)
check shrunk "A" "A finds $SHRUNK" wait_for 30 "A knows the smaller MTU" mtu_is A B "$SHRUNK"
wait "$streaming" || true
check stream-shrinks "A B" "a stream survives it" same "$(cat "$LAB_WORK/stream.status")" 0
sleep 2
gap=$(longest_gap "$shrunk")
say "  longest gap in large pings after the path shrank: $gap s"
check gap "A B" "no gap longer than 30 s" less "$gap" 30
if [[ ${VARIANT[icmp]:-yes} == yes ]]; then
    check gap-heard "A B" "no gap longer than 1 s where the routers are heard" less "$gap" 1
fi
grown=$(now)
width 2 1500
check grown "A B" "A finds $WIDE again" wait_for 30 "A knows the larger MTU" mtu_is A B "$WIDE"
check gap-grown "A B" "no gap longer than 1 s" less "$(longest_gap "$grown")" 1
check meta "A B" "the meta connection is the same" same "$meta" "$(meta_connections A B)"

# A forged message costs little and not for long.
if ours A && [[ ${VARIANT[icmp]:-yes}${VARIANT[outside]:-4} == yes4 ]]; then
    below() { [[ $(mtu_of A B) -lt $WIDE ]]; }
    forged=$(now)
    in_ns inet python3 "$LAB_DIR/forge.py" 10.1.0.1 10.1.0.2 10.12.0.2 68
    check forged "A" "A believes it" wait_for 2 "A knows a smaller MTU" below
    check forged-over "A B" "A finds $WIDE again" wait_for 30 "A knows the larger MTU" mtu_is A B "$WIDE"
    check forged-gap "A B" "no gap longer than 1 s" less "$(longest_gap "$forged")" 1
fi

# Shrunk again, without traffic that would tell: whole segments of the meta connection pass all the same.
width 2 1280
if ours B; then
    for number in $(seq 400); do echo "Subnet = 10.90.$((number / 200)).$((number % 200))"; done >>"$LAB_WORK/B/hosts/B"
    hup B
    learned() {
        [[ $(control A dump subnets | grep -c '^10\.90\.') == 400 ]]
    }
    ! ours A || check gossip "A B" "400 lines of gossip arrive" wait_for 10 "A knows 400 subnets" learned
fi
check meta-shrunk "A B" "the meta connection is the same" same "$meta" "$(meta_connections A B)"
kill -INT "$large" "$traffic"
wait "$large" "$traffic" 2>/dev/null || true
check lives "A" "A's daemon is up" alive A
passed
