#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B, Proxy = ...; no TCP between A and B
#               |
#               P                P: a proxy that wants a user and, where it can, a password
#
# variants: proxy=socks4 socks4a socks5 http     B is known by its address
#           proxy=socks5-name http-name          B is known by a name that only P can look up
#           proxy=exec                           a command relays; there is no P and TCP passes
#
# A reaches B, and although the meta connection passes P the packets do not: the edge has B's own address. Where only P
# knows that, nobody does, and the packets take the meta connection.

source "$(dirname "$0")/lib.sh"

proxy=${VARIANT[proxy]:-socks5}
make_inet
host A 1
host B 2
host P 3
address=${ADDRESS[B]}
[[ $proxy != *-name ]] || ADDRESS[B]=b.example
node A ConnectTo=B
case ${proxy%-name} in
    socks4 | socks4a) value="${proxy} 10.3.0.2 1080 joe" ;;
    socks5) value="socks5 10.3.0.2 1081 joe secret" ;;
    http) value="http 10.3.0.2 8080" ;;
    exec) value="exec python3 $LAB_DIR/proxy.py relay $LAB_WORK/relayed" ;;
    *) fail "unknown proxy $proxy" ;;
esac
echo "Proxy = $value" >>"$LAB_WORK/A/tinc.conf"
node B
introduce A B
if [[ $proxy != exec ]]; then
    block ip saddr 10.1.0.2 ip daddr 10.2.0.2 tcp dport 655 drop
    export B_ADDRESS=$address
    in_ns_background P "$LAB_WORK/proxy" python3 -u "$LAB_DIR/proxy.py" serve 10.3.0.2
    for port in 1080 1081 8080; do need 10 "the proxy runs" grep -q "serving $port" "$LAB_WORK/proxy"; done
fi

start B A
check reaches "A" "A reaches B" wait_for 15 "A reaches B" reachable A B
direct_udp() {
    local before after back
    [[ -e $LAB_WORK/counting ]] || { count B udp meta l4proto udp meta length "400-900" && touch "$LAB_WORK/counting"; }
    before=$(counted B udp)
    back=$(burst A B 50)
    after=$(counted B udp)
    [[ $back -ge 49 && $((after - before)) -ge 98 ]]
}
if [[ $proxy == *-name ]]; then
    check transfer "A" "5 MB arrive whole through the proxy" transfer A B 5 60
else
    check udp "A" "packets go by UDP, without the proxy" wait_for 20 "a burst goes by UDP" direct_udp
fi
if [[ $proxy == exec ]]; then
    check environment "A" "the command is told where to" \
        grep -q "^NAME=A NODE=B REMOTEADDRESS=$address REMOTEPORT=655$" "$LAB_WORK/relayed"
fi
check alive "A" "A's daemon is up" alive A
passed
