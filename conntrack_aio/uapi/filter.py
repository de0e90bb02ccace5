"""linux/bpf_common.h and linux/filter.h: classic BPF, which filters the packets of a socket."""

# Instruction classes.
BPF_LD = 0x00
BPF_LDX = 0x01
BPF_ST = 0x02
BPF_STX = 0x03
BPF_ALU = 0x04
BPF_JMP = 0x05
BPF_RET = 0x06
BPF_MISC = 0x07

# The size and the address mode of a load.
BPF_W = 0x00
BPF_H = 0x08
BPF_B = 0x10
BPF_IMM = 0x00
BPF_ABS = 0x20
BPF_IND = 0x40
BPF_MEM = 0x60

# The operation, the condition of a jump, and the source of the operand.
BPF_AND = 0x50
BPF_JA = 0x00
BPF_JEQ = 0x10
BPF_JGT = 0x20
BPF_JGE = 0x30
BPF_JSET = 0x40
BPF_K = 0x00
BPF_TAX = 0x00

BPF_MAXINSNS = 4096
BPF_MEMWORDS = 16

# Loads from these offsets do not read the packet, but return a value that the kernel computes.
SKF_AD_OFF = -0x1000
SKF_AD_NLATTR = 12
SKF_AD_NLATTR_NEST = 16
