# What compiler and linker must be told for this architecture.

ARCH_CFLAGS := -fcf-protection=full
MAX_PAGE := 4096
