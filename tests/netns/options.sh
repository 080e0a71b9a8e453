#!/usr/bin/env bash
#      A --- B --- C             A and C: ConnectTo = B
#
# What options do to a mesh, seen from outside. variants: set=tunnel, strict, relay, edges, broadcast, subnets, sizes,
# sockets, renewal, nearby, graph (one group of options each; the comments at the functions below say which).

# shellcheck disable=SC2317 # functions are called by check, need and wait_for
source "$(dirname "$0")/lib.sh"

set=${VARIANT[set]:-tunnel}
make_inet

# chain OPTIONS...: the three hosts and their directories. An option "A:KEY=VALUE" is for one node, others are for all.
chain() {
    local name option number=0
    for name in A B C; do
        number=$((number + 1))
        [[ -n ${SKIP_HOSTS:-} ]] || host "$name" "$number"
        local mine=()
        [[ $name == B ]] || mine+=("ConnectTo=B")
        for option in "$@"; do
            case $option in
                "$name":*) mine+=("${option#*:}") ;;
                [ABC]:*) ;;
                *) mine+=("$option") ;;
            esac
        done
        node "$name" "${mine[@]}"
    done
    introduce A B
    introduce B C
}

# configure NAME OPTION VALUE: in tinc.conf, instead of what it says now.
configure() {
    sed -i "/^$2 *=/d" "$LAB_WORK/$1/tinc.conf"
    echo "$2 = $3" >>"$LAB_WORK/$1/tinc.conf"
}
# restart NAME: and the others connect to it at once, however long they would wait by now.
restart() {
    local other
    stop "$1"
    start "$1"
    for other in A B C; do [[ $other == "$1" ]] || kill -ALRM "${PID[$other]}"; done
}
ping_to() { in_ns "$1" ping -n -c 1 -W 0.5 "${@:3}" "$2"; }
# never SECONDS COMMAND...: it fails every time.
never() {
    local limit=$1 start
    start=$(now)
    shift
    while less "$(elapsed "$start")" "$limit"; do
        if "$@" >/dev/null 2>&1; then return 1; fi
        sleep 0.1
    done
}
listens() { in_ns "$1" ss -Hln "$2" | awk '{ print $4 }' | grep -Fxq "$3"; }
dumped() {
    if [[ ${KIND[$1]} == tinc11 ]]; then
        { control "$1" dump nodes && control "$1" dump edges; } | grep -q -- "$2"
    else
        kill -USR2 "${PID[$1]}"
        sleep 0.2
        logged "$1" "$2"
    fi
}

# TunnelServer and what it implies, in B.
tunnel() {
    chain B:TunnelServer=yes
    echo "Subnet = 10.201.0.0/24" >>"$LAB_WORK/A/hosts/A" # which B's file does not give to A
    start B A C
    ip -n "$(space A)" addr add 10.201.0.1/32 dev lo
    for name in B C; do ip -n "$(space "$name")" route add 10.201.0.0/24 dev vpn0; done
    check ends "B" "B reaches both ends" wait_for 10 "B reaches A" reachable B A
    check other-end "B" "B reaches both ends" wait_for 10 "B reaches C" reachable B C
    check apart "B" "the ends do not know of each other" never 2 reachable A C
    check silent "B" "A has not heard of C" never 0.5 dumped A " C "
    check strict "B" "B does not use a subnet that its files do not have" never 1 ping_to B 10.201.0.1
    check unsaid "B" "and C has not heard of it" never 0.5 ping_to C 10.201.0.1
}

# StrictSubnets in B, with a reload; A and C believe what they hear.
strict() {
    chain B:StrictSubnets=yes
    cat >"$LAB_WORK/B/subnet-up" <<SCRIPT
#!/bin/sh
echo "\$NODE \$SUBNET" >>"$LAB_WORK/B.subnets"
SCRIPT
    chmod 755 "$LAB_WORK/B/subnet-up"
    start B A C
    need 10 "A reaches C" reachable A C
    ip -n "$(space A)" addr add 10.201.0.1/32 dev lo
    for name in B C; do ip -n "$(space "$name")" route add 10.201.0.0/24 dev vpn0; done
    echo "Subnet = 10.201.0.0/24" >>"$LAB_WORK/A/hosts/A"
    restart A # stock daemons do not reload subnets
    check passed-on "B" "C hears of the subnet through B" wait_for 10 "C reaches it" ping_to C 10.201.0.1
    check unused "B" "B does not use it" never 1 ping_to B 10.201.0.1
    sleep 1.1 # a host file's time has to differ for a stock daemon to notice
    sed -i '1i Subnet = 10.201.0.0/24' "$LAB_WORK/B/hosts/A"
    hup B
    check reload "B" "B uses it when its file has it" wait_for 10 "B reaches it" ping_to B 10.201.0.1
    check script "B" "subnet-up runs" wait_for 3 "A's subnet is up" grep -q "^A 10.201.0.0/24" "$LAB_WORK/B.subnets"
    check kept "B" "all still works" wait_for 5 "A reaches C" reachable A C
}

# Forwarding and DirectOnly; IndirectData makes B carry everything between A and C.
relay() {
    chain host.IndirectData=yes
    start B A C
    ttl() { [[ $(ping_to A "$(mesh_address C)" | sed -nE 's/.* ttl=([0-9]+).*/\1/p') == "$1" ]]; }
    check internal "A B C" "B forwards by itself" wait_for 10 "A reaches C" ttl 64
    check indirect "A C" "B carries what the ends say to each other" wait_for 5 "through B" relayed A C B
    configure B Forwarding off
    restart B
    check off-own "B" "what is for B arrives" wait_for 10 "A reaches B" reachable A B
    check off "B" "B forwards nothing" never 1.5 reachable A C
    if ! second A C; then # what SPTPS seals from end to end is not for the relay's kernel to see
        configure B Forwarding kernel
        restart B
        make_router B
        in_ns B sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.vpn0.send_redirects=0 net.ipv4.conf.all.rp_filter=0
        check kernel "B" "B's kernel forwards" wait_for 10 "A reaches C with a hop more" ttl 63
    fi
    configure B Forwarding internal
    configure A DirectOnly yes
    restart B
    restart A
    check direct-own "A" "a direct node is reached" wait_for 10 "A reaches B" reachable A B
    check direct-only "A" "A uses no relay" never 1.5 reachable A C
}

# TCPOnly, Weight, PriorityInheritance, and IndirectData of one node.
edges() {
    chain A:TCPOnly=yes C:host.IndirectData=yes C:PriorityInheritance=yes
    sed -i '1i Weight = 70' "$LAB_WORK/B/hosts/A"
    sed -i '1i Weight = 30' "$LAB_WORK/A/hosts/B"
    count inet tcponly ip saddr 10.1.0.2 meta l4proto udp
    count inet marked ip saddr 10.3.0.2 udp dport 655 ip dscp af41
    start B A C
    need 10 "A reaches C" reachable A C
    check tcp-arrives "A B" "A's packets arrive" wait_for 5 "a burst" burst A C 100
    check tcp-only "A" "and none of them by UDP" same "$(counted inet tcponly)" 0
    check weight "A B" "the edge's weight is the average" wait_for 5 "B says 50" dumped B "B to A at .* weight 50$"
    check options "A B" "the edge is indirect and TCP only" wait_for 5 "options" dumped C "B to A at .* options [0-9a-f]*[37bf] "
    need 20 "C uses UDP" uses_udp
    in_ns C ping -n -q -c 20 -i 0.02 -Q 0x88 "$(mesh_address B)" >/dev/null || true
    check tos "C" "the outer packets have the inner ones' TOS" less 15 "$(counted inet marked)"
}
uses_udp() { logged_udp C; }
logged_udp() {
    [[ -e $LAB_WORK/count.udp ]] || { count inet "udp" ip saddr 10.3.0.2 udp length 400-700 && touch "$LAB_WORK/count.udp"; }
    local before
    before=$(counted inet udp)
    burst "$1" B 20 >/dev/null
    [[ $(counted inet udp) -ge $((before + 18)) ]]
}

# Broadcast of router mode: mst, direct, no; and BroadcastSubnet.
broadcast() {
    local stray=()
    ! all_ours || stray=("BroadcastSubnet=10.202.0.255")
    chain "${stray[@]}"
    start B A C
    need 10 "A reaches C" reachable A C
    for name in A B C; do ip -n "$(space "$name")" route add 224.0.0.0/4 dev vpn0; done
    ip -n "$(space A)" route add 10.202.0.0/24 dev vpn0
    ip -n "$(space C)" addr add 10.202.0.255/32 dev lo
    for name in B C; do # counted before the kernel drops what it has not joined
        rules "$name" <<'RULES'
table inet count_group {
    counter c { }
    chain early { type filter hook prerouting priority -300; iifname "vpn0" ip daddr 224.0.0.77 counter name c; }
}
RULES
    done
    hears() {
        local before
        before=$(counted "$1" group)
        in_ns A ping -n -q -c 3 -i 0.05 -W 0.1 224.0.0.77 >/dev/null 2>&1 || true
        sleep 0.2
        [[ $(counted "$1" group) -eq $((before + 3)) ]]
    }
    check mst "A B C" "everybody hears it once" wait_for 3 "C hears it" hears C
    check mst-near "A B C" "the neighbour too" wait_for 3 "B hears it" hears B
    if all_ours; then
        check subnet "A B C" "BroadcastSubnet is broadcast" wait_for 3 "C answers" ping_to A 10.202.0.255 -b
    fi
    for name in A B C; do
        configure "$name" Broadcast direct
        restart "$name"
        ip -n "$(space "$name")" route add 224.0.0.0/4 dev vpn0
    done
    need 10 "A reaches C" reachable A C
    check direct "A B C" "straight to everybody" wait_for 5 "C hears it" hears C
    configure A Broadcast no
    restart A
    ip -n "$(space A)" route add 224.0.0.0/4 dev vpn0
    need 10 "A reaches C" reachable A C
    check none "A" "nobody hears it" never 1 hears C
}
all_ours() { [[ " ${KINDS[*]}" != *" tinc"* ]]; }

# Overlapping and weighted subnets: the next best owner takes over, and gives back.
subnets() {
    chain B:host.Subnet=10.201.0.0/24#5 C:host.Subnet=10.201.0.0/24#20
    echo "Subnet = 10.202.0.0/16" >>"$LAB_WORK/B/hosts/B"
    echo "Subnet = 10.202.3.0/24" >>"$LAB_WORK/C/hosts/C"
    introduce A C
    echo "ConnectTo = C" >>"$LAB_WORK/A/tinc.conf"
    start B C A
    for name in B C; do
        in_ns "$name" ip addr add 10.201.0.1/32 dev lo
        in_ns "$name" ip addr add 10.202.3.1/32 dev lo
        count "$name" heavy iifname vpn0 ip daddr 10.201.0.1
        count "$name" narrow iifname vpn0 ip daddr 10.202.3.1
    done
    for net in 10.201.0.0/24 10.202.0.0/16; do ip -n "$(space A)" route add "$net" dev vpn0; done
    answers() { # answers NODE LABEL ADDRESS: this node got the ping
        local before
        before=$(counted "$1" "$2")
        ping_to A "$3" >/dev/null || return 1
        [[ $(counted "$1" "$2") -eq $((before + 1)) ]]
    }
    check light "A" "the lighter subnet wins" wait_for 10 "B answers" answers B heavy 10.201.0.1
    check specific "A" "the longer prefix wins" wait_for 5 "C answers" answers C narrow 10.202.3.1
    kill9 C
    check wider "A" "the wider subnet takes over" wait_for 10 "B answers" answers B narrow 10.202.3.1
    start C
    check back "A" "and gives back" wait_for 10 "C answers" answers C narrow 10.202.3.1
    kill9 B
    check heavier "A" "the heavier subnet takes over" wait_for 10 "C answers" answers C heavy 10.201.0.1
}

# PMTU (tinc.conf and host file), PMTUDiscovery = no, ClampMSS.
sizes() {
    chain A:PMTU=1000 B:ClampMSS=no
    sed -i '1i PMTU = 900' "$LAB_WORK/B/hosts/C"
    sed -i '1i ClampMSS = no' "$LAB_WORK/C/hosts/B" # A's option holds for its edge to B, whatever B has
    start B A C
    need 10 "A reaches C" reachable A C
    too_big() { ! in_ns "$1" ping -n -c 1 -W 0.5 -M "do" -s "$3" "$(mesh_address "$2")" && in_ns "$1" ip route get "$(mesh_address "$2")" | grep -q "mtu $4"; }
    check pmtu "A" "PMTU of tinc.conf bounds" wait_for 40 "A learns of 986" too_big A B 1100 986
    check pmtu-host "B" "PMTU of a host file bounds" wait_for 40 "B learns of 886" too_big B C 1100 886
    mss() { # mss FROM TO LIMIT: a SYN from there arrives with an MSS up to this
        in_ns "$2" nft delete table inet mss 2>/dev/null || true
        rules "$2" <<RULES
table inet mss {
    counter c { }
    chain input { type filter hook input priority 0; iifname "vpn0" tcp flags syn tcp option maxseg size $3 counter name c; }
}
RULES
        in_ns "$1" timeout 1 bash -c ": </dev/tcp/$(mesh_address "$2")/9" 2>/dev/null || true
        [[ $(in_ns "$2" nft list counter inet mss c | awk '/packets/ { print $2 }') -ge 1 ]]
    }
    ip -n "$(space A)" route flush cache
    check clamp "A" "the MSS of connections is lowered" wait_for 5 "MSS up to 946" mss A B 1-946
    check no-clamp "C" "not where ClampMSS = no" wait_for 5 "MSS above 1300" mss C B 1300-1500
    for name in A B C; do
        sed -i '/^PMTU/d' "$LAB_WORK/$name/tinc.conf" "$LAB_WORK"/"$name"/hosts/*
        configure "$name" PMTUDiscovery no
        restart "$name"
    done
    need 25 "A reaches C" reachable A C
    count inet udp ip saddr 10.1.0.2 meta l4proto udp
    check trusted "A B" "without PMTUDiscovery UDP is used unproved" wait_for 20 "by UDP" unproved
}
unproved() {
    local before
    before=$(counted inet udp)
    [[ $(burst A B 50) -ge 49 && $(counted inet udp) -ge $((before + 45)) ]]
}

# BindToAddress, ListenAddress, BindToInterface, Port = 0, Port by name, AddressFamily, FWMark, UDPRcvBuf, MaxTimeout.
sockets() {
    local extra=()
    ! all_ours || extra=(A:FWMark=77 A:UDPRcvBuf=20000 C:ListenAddress=10.3.0.2 C:ListenAddress=127.0.0.3 B:ListenAddress="10.2.0.2 5555")
    chain "A:BindToAddress=10.1.0.77" C:BindToInterface=eth0 C:host.Port=0 B:AddressFamily=ipv4 B:BindToAddress="10.2.0.2 http" \
        MaxTimeout=1 A:ProcessPriority=Low "${extra[@]}"
    [[ ${#extra[@]} -gt 0 ]] || echo "BindToAddress = 10.2.0.2 5555" >>"$LAB_WORK/B/tinc.conf"
    sed -i 's/^Address = 10.2.0.2/& 5555/' "$LAB_WORK/A/hosts/B" "$LAB_WORK/C/hosts/B"
    [[ ${#extra[@]} -eq 0 ]] || count A marked meta mark 77
    launch A
    launch C
    # After two failures a stock daemon would wait for 10 s, were it not for MaxTimeout.
    need 40 "C has tried in vain" tried_again C
    start B
    check ports "B" "B listens on both ports" listens B -t 10.2.0.2:80
    check ports-udp "B" "by UDP too" listens B -u 10.2.0.2:5555
    check family "B" "and not on IPv6" never 0.3 listens B -t "[::]:655"
    check port-0 "C" "C is reached although its port is the system's choice" wait_for 3 "C reaches B" reachable C B
    check port-0-udp "B C" "by UDP too" wait_for 15 "UDP" port_of_c
    check nice "A" "A is nice" same "$(ps -o ni= -p "${PID[A]}" | tr -d ' ')" 10
    bound() { in_ns C ss -Hlnu | grep -q "%eth0:"; }
    check interface "C" "C's sockets are bound to the interface" bound
    if all_ours; then
        check absent "A" "A runs although its address is not there" alive A
        check unreachable "A" "and is not reached" never 0.3 reachable B A
    fi
    ip -n "$(space A)" addr add 10.1.0.77/24 dev eth0
    ours A || { alive A || start A; }
    check appears "A" "A connects once it is there" wait_for 3 "A reaches B" reachable A B
    from_there() { in_ns A ss -Htn state established | awk '{ print $3 }' | grep -q "^10.1.0.77:"; }
    check source "A" "from that address" from_there
    if all_ours; then
        check mark "A" "its packets are marked" less 0 "$(counted A marked)"
        rcvbuf() { in_ns A ss -Hlnum | grep -q "rb40000"; }
        check buffer "A" "its buffer is as small as was asked" rcvbuf
        check listen "C" "C listens on its ListenAddress too" listening_there
    fi
    # MaxTimeout: two rounds of 5 s more each would be over 10 s.
    stop B
    sleep 3
    start B
    check max-timeout "A" "the wait between attempts is bounded" wait_for 2.5 "A reaches B" reachable A B
}
tried_again() { [[ $(last_life "$1" | grep -c "Trying to re-establish outgoing connection") -ge 2 ]]; }
listening_there() { in_ns C ss -Hlnt | grep -q "127.0.0.3%eth0:"; }
port_of_c() {
    [[ -e $LAB_WORK/count.c ]] || { count inet c ip daddr 10.3.0.2 meta l4proto udp udp dport != 655 && touch "$LAB_WORK/count.c"; }
    local before
    before=$(counted inet c)
    burst B C 20 >/dev/null
    [[ $(counted inet c) -ge $((before + 20)) ]]
}

# KeyExpire short under traffic, also without a replay window; DeviceStandby.
renewal() {
    chain KeyExpire=2 C:ReplayWindow=0 PingInterval=5 B:DeviceStandby=yes
    printf '#!/bin/sh\necho down >>"%s"\n' "$LAB_WORK/B.down" >"$LAB_WORK/B/tinc-down"
    chmod 755 "$LAB_WORK/B/tinc-down"
    standing_by() { ! ip -n "$(space B)" addr show vpn0 | grep -q 10.200.0.2; }
    start B
    check standby "B" "no tinc-up while nobody is there" standing_by
    start A C
    need 10 "A reaches C" reachable A C
    need 30 "B carries nothing" direct A C B
    check renewals "A C" "900 packets in 9 s and four renewals: none is lost" same "$(burst A C 900)" 900
    check back "A C" "nor in the other direction" same "$(burst C A 300)" 300
    stop A
    check standby-one "B" "no tinc-down while one is there" never 0.5 test -e "$LAB_WORK/B.down"
    stop C
    check standby-down "B" "tinc-down with the last" wait_for 5 "it ran" test -e "$LAB_WORK/B.down"
    stop B
    check standby-once "B" "and not again at the end" same "$(cat "$LAB_WORK/B.down")" down
    start B A C
}

# LocalDiscovery: A and C in one LAN behind a NAT that lets nothing back in.
nearby() {
    host B 2
    nat natA 1 drop
    lan natA 1 A C
    SKIP_HOSTS=yes chain LocalDiscovery=yes C:host.Port=6656
    count A shout ip daddr 255.255.255.255
    start B A C
    need 10 "A reaches C" reachable A C
    check near "A C" "they find each other in the LAN" wait_for 20 "nobody carries it for them" alone
    check broadcast "A" "by broadcast" less 0 "$(counted A shout)"
    straight() { [[ $(carried C A natA 100) -lt 50 ]]; }
    check straight "A C" "nor does the NAT" straight
}
alone() { [[ $(carried A C B 100) -lt 50 ]]; }

# GraphDumpFile.
graph() {
    chain "A:GraphDumpFile=$LAB_WORK/graph" "C:GraphDumpFile=|cat >$LAB_WORK/piped"
    start B A C
    need 10 "A reaches C" reachable A C
    expected() {
        diff <(printf 'digraph {\n'
            for name in A B C; do printf '\t"%s" [label = "%s"];\n' "$name" "$name"; done
            printf '\t"%s" -> "%s";\n' A B B A B C C B
            printf '}\n') "$1" >"$LAB_WORK/graph.diff" 2>&1
    }
    check file "A" "the graph is written" wait_for 125 "to the file" expected "$LAB_WORK/graph"
    check pipe "C" "and into the command" wait_for 125 "to the command" expected "$LAB_WORK/piped"
}

declare -F "$set" >/dev/null || fail "no such set: $set"
"$set"
for name in A B C; do
    [[ $set == subnets && $name == B ]] || check "lives-$name" "$name" "$name's daemon is up" alive "$name"
done
passed
