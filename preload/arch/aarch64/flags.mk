# What compiler and linker must be told for this architecture.

# Without -mno-outline-atomics gcc calls libgcc's helpers, whose strong
# undefined symbols keep every preloaded process from starting.
ARCH_CFLAGS := -mno-outline-atomics -mbranch-protection=standard

# Kernels with 4, 16 and 64 KiB pages load it.
MAX_PAGE := 65536
ARCH_SO_LDFLAGS := -Wl,-T,arch/aarch64/library.ld
