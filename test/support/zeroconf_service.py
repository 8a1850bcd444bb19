"""Answers questions of mDNS for a binary cache until its input ends, by the name that nix-cache-beacon uses.

Usage: zeroconf_service.py NAME PORT ADDRESS...   the addresses are those of one interface of this machine
"""

import ipaddress
import sys

from zeroconf import IPVersion, ServiceInfo, Zeroconf

name, port, *addresses = sys.argv[1:]
packed = [ipaddress.ip_address(address).packed for address in addresses]
only_ipv6 = all(":" in address for address in addresses)
service = "_nix_binary_cache._tcp.local."
info = ServiceInfo(service, f"{name}.{service}", port=int(port), addresses=packed, server=f"{name}.local.")
interfaces = addresses if not only_ipv6 else [int(open("/sys/class/net/eth0/ifindex").read())]
zeroconf = Zeroconf(interfaces=interfaces, ip_version=IPVersion.V6Only if only_ipv6 else IPVersion.V4Only)
zeroconf.registry.async_add(info)  # registering would refuse the name: RFC 6763 has 15 letters at most
print("ready", flush=True)
sys.stdin.read()
zeroconf.close()
