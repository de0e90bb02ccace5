"""The numbers and names of transport protocols. They are built in: the library reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ..plain import describe_value
from ..suggestions import similar_names, suggestion

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
DCCP: Final = 33
GRE: Final = 47
ESP: Final = 50
AH: Final = 51
ICMPV6: Final = 58
SCTP: Final = 132
UDPLITE: Final = 136

_IANA: Final = """
0 hopopt ip
1 icmp
2 igmp
3 ggp
4 ipencap ip-encap ipv4
5 st
6 tcp
7 cbt
8 egp
9 igp
10 bbn-rcc-mon bbn-rcc
11 nvp-ii nvp
12 pup
13 argus
14 emcon
15 xnet
16 chaos
17 udp
18 mux
19 dcn-meas dcn
20 hmp
21 prm
22 xns-idp
23 trunk-1
24 trunk-2
25 leaf-1
26 leaf-2
27 rdp
28 irtp
29 iso-tp4
30 netblt
31 mfe-nsp
32 merit-inp
33 dccp
34 3pc
35 idpr
36 xtp
37 ddp
38 idpr-cmtp
39 tp++
40 il
41 ipv6
42 sdrp
43 ipv6-route
44 ipv6-frag
45 idrp
46 rsvp
47 gre
48 dsr
49 bna
50 esp ipsec-esp ipv6-crypt
51 ah ipsec-ah ipv6-auth
52 i-nlsp
53 swipe
54 narp
55 mobile min-ipv4
56 tlsp
57 skip
58 icmpv6 ipv6-icmp icmp6
59 ipv6-nonxt
60 ipv6-opts
62 cftp
64 sat-expak
65 kryptolan
66 rvd
67 ippc
69 sat-mon
70 visa
71 ipcv
72 cpnx
73 cphb rspf
74 wsn
75 pvp
76 br-sat-mon
77 sun-nd
78 wb-mon
79 wb-expak
80 iso-ip
81 vmtp
82 secure-vmtp
83 vines
84 ttp iptm
85 nsfnet-igp
86 dgp
87 tcf
88 eigrp
89 ospf ospfigp
90 sprite-rpc
91 larp
92 mtp
93 ax.25
94 ipip
95 micp
96 scc-sp
97 etherip
98 encap
100 gmtp
101 ifmp
102 pnni
103 pim
104 aris
105 scps
106 qnx
107 a/n
108 ipcomp
109 snp
110 compaq-peer
111 ipx-in-ip
112 vrrp carp
113 pgm
115 l2tp
116 ddx
117 iatp
118 stp
119 srp
120 uti
121 smp
122 sm
123 ptp
124 isis
125 fire
126 crtp
127 crudp
128 sscopmce
129 iplt
130 sps
131 pipe
132 sctp
133 fc
134 rsvp-e2e-ignore
135 mobility-header mh ipv6-mh
136 udplite udp-lite
137 mpls-in-ip
138 manet
139 hip
140 shim6
141 wesp
142 rohc
143 ethernet
144 aggfrag
145 nsh
146 homa
147 bit-emu
"""
"""The names of IANA's "Assigned Internet Protocol Numbers", and other names for the same numbers
from ip6tables and from /etc/protocols of common distributions. The name that is shown comes
first."""


def _names() -> tuple[dict[str, int], dict[str, int]]:
    shown: dict[str, int] = {}
    aliases: dict[str, int] = {}
    for line in _IANA.split("\n")[1:-1]:
        number, name, *more = line.split(" ")
        shown[name] = int(number)
        aliases |= dict.fromkeys(more, int(number))
    return shown, aliases


_SHOWN, _ALIASES = _names()

PROTOCOL_NUMBERS: Final[Mapping[str, int]] = MappingProxyType(_SHOWN)
"""The number of each named protocol, by the name that is shown, in lower case."""

PROTOCOL_ALIASES: Final[Mapping[str, int]] = MappingProxyType(_ALIASES)
"""The numbers of protocols by their other names, in lower case."""

_COMMON: Final = frozenset({ICMP, TCP, UDP, DCCP, GRE, ESP, AH, ICMPV6, SCTP, UDPLITE})

PROTOCOL_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {number: name for name, number in PROTOCOL_NUMBERS.items() if number in _COMMON}
)
"""The names of common protocols, as flows and tuples show them."""


def unknown_protocol(name: str) -> str:
    """Return the error message for a name that no protocol has.

    It suggests a common protocol if the name resembles one, and otherwise any.
    """
    known: Iterable[str] = PROTOCOL_NAMES.values()
    if not similar_names(name, known):
        known = (*PROTOCOL_NUMBERS, *PROTOCOL_ALIASES)
    return (
        f"unknown protocol {describe_value(name)}; "
        f"expected a number or a name such as tcp, udp, icmp{suggestion(name, known)}"
    )
