#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B; both have both kinds of keys
#
# From RSA to Ed25519. variants, by who has whose Ed25519 key at first:
#
#     knows=nobody  only RSA keys were exchanged (the default): the ends authenticate with them once, tell each other
#                   their Ed25519 keys, store them in hosts/ and connect anew with SPTPS
#     knows=A       A has B's key, B lacks A's: a stock acceptor hangs for ever (requirement 5)
#     knows=B       B has A's key, A lacks B's
#
# After that both work without RSA; and one that falls back to RSA is refused, with a word that helps (requirement 26).

source "$(dirname "$0")/lib.sh"

knows=${VARIANT[knows]:-nobody}
make_inet
host A 1
host B 2
node A ConnectTo=B
node B
share A B "$([[ $knows == B ]] && echo all || echo rsa)"
share B A "$([[ $knows == A ]] && echo all || echo rsa)"

# learned NAME OTHER: NAME's file for OTHER has the key that OTHER's own file has.
learned() {
    local key
    key=$(sed -n 's/^Ed25519PublicKey = //p' "$LAB_WORK/$2/hosts/$2")
    [[ ${#key} -eq 43 ]] && grep -qFx "Ed25519PublicKey = $key" "$LAB_WORK/$1/hosts/$2"
}
once() { [[ $(grep -c '^Ed25519PublicKey' "$LAB_WORK/$1/hosts/$2") -eq 1 ]]; }

start B A
check connects "A B" "A reaches B" wait_for 15 "A reaches B" reachable A B
check learns-A "A B" "A's hosts/B has B's Ed25519 key" wait_for 5 "it is there" learned A B
check learns-B "A B" "B's hosts/A has A's" wait_for 5 "it is there" learned B A
check once-A "A" "once" once A B
check once-B "B" "once" once B A

# The proof: without any RSA key they connect with what they have learned.
stop A
stop B
for pair in "A B" "B A"; do
    read -r name other <<<"$pair"
    cp "$LAB_WORK/$name/hosts/$other" "$LAB_WORK/$name.hosts.$other"
    sed -i '/BEGIN RSA/,/END RSA/d' "$LAB_WORK/$name/hosts/$other"
done
start B A
check sptps "A B" "they connect with Ed25519 alone" wait_for 15 "A reaches B" reachable A B
check udp "A B" "packets go by UDP" wait_for 20 "a burst by UDP" by_udp A B

# The way back is closed, and B says what happened, which file holds the key, and what to do.
stop A
cp "$LAB_WORK/A.hosts.B" "$LAB_WORK/A/hosts/B"
cp "$LAB_WORK/B.hosts.A" "$LAB_WORK/B/hosts/A"
sed -i '/^ExperimentalProtocol/d' "$LAB_WORK/A/tinc.conf"
echo "ExperimentalProtocol = no" >>"$LAB_WORK/A/tinc.conf"
start A
sleep 3 # attempts enough
refused() { ! reachable A B >/dev/null; }
check rollback "B" "A with RSA alone is refused" refused
check reason "B" "and B names the file" logged B "hosts/A"
for name in A B; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
