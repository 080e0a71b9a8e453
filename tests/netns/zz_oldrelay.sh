source "$(dirname "$0")/lib.sh"
make_inet
host A 1
host B 2
host C 3
node A ConnectTo=B PingInterval=10
node B PingInterval=10 ExperimentalProtocol=no
node C ConnectTo=B PingInterval=10
share A B rsa
share B A rsa
share B C rsa
share C B rsa
share A C all
share C A all
block meta l4proto udp drop
start B A C
wait_for 20 "A reaches C" reachable A C
wait_for 10 "C reaches A" reachable C A
wait_for 15 "through B" relayed A C B
in_ns A ping -c 20 -i 0.05 -W 1 10.200.0.3 | tail -3
control A dump edges; control C dump edges; control A dump nodes
in_ns A ping -c 5 -s 1300 -i 0.2 -W 1 10.200.0.3 | tail -3
tail -20 $LAB_WORK/A.log; echo; tail -30 $LAB_WORK/B.log; echo; tail -20 $LAB_WORK/C.log
unblock
block ip saddr 10.1.0.2 ip daddr 10.3.0.2 drop
block ip saddr 10.3.0.2 ip daddr 10.1.0.2 drop
wait_for 20 "a burst by UDP" by_udp A C B
control A dump nodes
passed
