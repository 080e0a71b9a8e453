#!/usr/bin/env bash
#      S1 ... Sn --- [inet] --- C        each S: ConnectTo = C, and algorithms of its own
#
# Kinds: C's and that of all S. Who receives chooses the algorithms, so with a stock C the S open what it sealed with
# them, and with stock S it is C that seals; a stream and its echo through each pair pass both.
#
# variants: set=some (the default)    a handful of combinations
#           cipher=NAME               this cipher with every digest; MAC lengths and compression levels take turns, so
#                                     that over all ciphers every two values of two options meet
#
# Stock daemons run with OpenSSL's legacy provider, without which some ciphers are only names to them. gmesh runs with it
# too, for the one digest (whirlpool) that no other library has.

source "$(dirname "$0")/lib.sh"

declare -A NID=([none]=0 [aes-128-cbc]=419 [aes-192-cbc]=423 [aes-256-cbc]=427 [bf-cbc]=91 [des-ede3-cbc]=44
    [cast5-cbc]=108 [camellia-128-cbc]=751 [camellia-192-cbc]=752 [camellia-256-cbc]=753 [sm4-cbc]=1134
    [md5]=4 [sha1]=64 [ripemd160]=117 [sha224]=675 [sha256]=672 [sha384]=673 [sha512]=674 [whirlpool]=804
    [sha3-256]=1097 [sha3-512]=1099 [blake2b512]=1056 [blake2s256]=1057)
declare -A SIZE=([none]=0 [md5]=16 [sha1]=20 [ripemd160]=20 [sha224]=28 [sha256]=32 [sha384]=48 [sha512]=64
    [whirlpool]=64 [sha3-256]=32 [sha3-512]=64 [blake2b512]=64 [blake2s256]=32)
CIPHERS=(none aes-128-cbc aes-192-cbc aes-256-cbc bf-cbc des-ede3-cbc cast5-cbc camellia-128-cbc camellia-192-cbc
    camellia-256-cbc sm4-cbc)
DIGESTS=(none md5 sha1 ripemd160 sha224 sha256 sha384 sha512 whirlpool sha3-256 sha3-512 blake2b512 blake2s256)
LEVELS=(0 1 9 10 11)

# Rows "cipher digest MACLength compression", one for each S.
rows() {
    if [[ -z ${VARIANT[cipher]:-} ]]; then
        echo "bf-cbc sha1 4 0
            aes-128-cbc sha512 64 9
            camellia-256-cbc ripemd160 12 10
            cast5-cbc md5 0 11
            des-ede3-cbc blake2b512 16 1
            aes-256-cbc none 4 10
            none sha256 32 0
            none none 4 9"
        return
    fi
    local c d digest length
    for c in "${!CIPHERS[@]}"; do [[ ${CIPHERS[c]} != "${VARIANT[cipher]}" ]] || break; done
    [[ ${CIPHERS[c]} == "${VARIANT[cipher]}" ]] || fail "unknown cipher ${VARIANT[cipher]}"
    for d in "${!DIGESTS[@]}"; do
        digest=${DIGESTS[d]}
        case $(((d + 2 * c) % 4)) in
            0) length=0 ;;
            1) length=4 ;;
            2) length=$((SIZE[$digest] / 2)) ;;
            3) length=${SIZE[$digest]} ;;
        esac
        echo "${CIPHERS[c]} $digest $length ${LEVELS[$(((d + c) % 5))]}"
    done
}

# Two key pairs do for all: one for C, one for all S.
make_keys() {
    local whose=S file
    [[ $1 != C ]] || whose=C
    if [[ ! -e $LAB_WORK/keys.$whose ]]; then
        mkdir -p "$LAB_WORK/keys.$whose/hosts"
        echo "Name = $1" >"$LAB_WORK/keys.$whose/tinc.conf"
        "$TINCD10" -c "$LAB_WORK/keys.$whose" -K2048 </dev/null >/dev/null 2>&1 || fail "no keys for $1"
    fi
    for file in "$LAB_WORK/keys.$whose/hosts"/*; do cat "$file" >>"$LAB_WORK/$1/hosts/$1"; done
    cp "$LAB_WORK/keys.$whose/rsa_key.priv" "$LAB_WORK/$1/"
}

cat >"$LAB_WORK/openssl.conf" <<'CONF'
openssl_conf = all
[all]
providers = both
[both]
default = on
legacy = on
[on]
activate = 1
CONF
export OPENSSL_CONF="$LAB_WORK/openssl.conf"

mapfile -t ROWS < <(rows | sed 's/^ *//')
center=${KINDS[0]:-gmesh}
spoke=${KINDS[1]:-gmesh}
KINDS=("$center")
for row in "${ROWS[@]}"; do KINDS+=("$spoke"); done

options() { echo "Cipher=$1 Digest=$2 MACLength=$3 Compression=$4"; }

make_inet
host C 100
read -ra own <<<"${ROWS[-1]}"
[[ -n ${VARIANT[cipher]:-} ]] || own=(aes-256-cbc sha256 4 0)
# shellcheck disable=SC2046 # a list of options
node C $(options "${own[@]}")
names=()
for number in "${!ROWS[@]}"; do
    name="S$((number + 1))"
    names+=("$name")
    host "$name" "$((number + 1))"
    # shellcheck disable=SC2046,SC2086
    node "$name" ConnectTo=C $(options ${ROWS[number]})
    introduce "$name" C
    count "$name" udp meta l4proto udp
done

start C
# A few at a time: a dozen interpreters that start at once take long.
for ((number = 0; number < ${#names[@]}; number += 4)); do start "${names[@]:number:4}"; done

# described FROM TO: FROM's own words about TO, by the dump that SIGUSR2 asks for.
described() { grep -E " $2 at .*\(min [0-9]+" "$LAB_WORK/$1.log" | tail -n 1; }
dumps() { grep -c "End of nodes" "$LAB_WORK/$1.log"; }
more_dumps() { [[ $(dumps "$1") -gt $2 ]]; }
ask() {
    local before
    before=$(dumps "$1") || true
    kill -USR2 "${PID[$1]}"
    wait_for 5 "$1 answers" more_dumps "$1" "$before" >/dev/null
}

# confirmed FROM TO: UDP from FROM to TO is proved to work.
confirmed() { ask "$1" && described "$1" "$2" | grep -qE "\(min [1-9]"; }

# agrees FROM TO cipher digest length level: FROM seals for TO with these.
agrees() {
    local length=$5
    [[ $4 != none ]] || length='[0-9]+'
    described "$1" "$2" | grep -qE "cipher ${NID[$3]} digest ${NID[$4]} maclength $length compression $6 "
}

in_ns_background C "$LAB_WORK/echo" python3 -u "$LAB_DIR/exchange.py" serve "$(mesh_address C)"
need 10 "the echo server runs" grep -q serving "$LAB_WORK/echo"

# pair NAME cipher digest length level: what has to hold between C and this S. Prints what does not.
pair() {
    local name=$1 before packets
    shift
    wait_for 20 "UDP to C confirmed" confirmed "$name" C || return 1
    wait_for 20 "UDP from C confirmed" confirmed C "$name" || return 1
    agrees "$name" C "${own[@]}" || { echo "it says: $(described "$name" C)" && return 1; }
    agrees C "$name" "$@" || { echo "C says: $(described C "$name")" && return 1; }
    before=$(counted "$name" udp)
    in_ns "$name" timeout 30 python3 "$LAB_DIR/exchange.py" compare "$(mesh_address C)" 25 2>&1 || return 1
    packets=$(($(counted "$name" udp) - before))
    # 500 kB each way are 700 packets or more. While MTU discovery goes on some of them take TCP.
    [[ $packets -ge 300 ]] || { echo "only $packets packets by UDP" && return 1; }
}

failures=0
for number in "${!ROWS[@]}"; do
    read -ra row <<<"${ROWS[number]}"
    if words=$(pair "${names[number]}" "${row[@]}"); then
        say "  ${row[*]}: UDP both ways, stream and echo intact"
    else
        say "  ${row[*]}: FAILED"$'\n'"$words"
        failures=$((failures + 1))
    fi
done
for name in C "${names[@]}"; do alive "$name" || fail "$name's daemon died"; done
[[ $failures -eq 0 ]] || fail "$failures of ${#ROWS[@]} combinations"
passed
