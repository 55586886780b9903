/* The memory a debugger needs to know which modules are loaded where. */
#ifndef SF_MODULES_H
#define SF_MODULES_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the auxiliary vector; the kernel's is 20 to 24 pairs. */
#define SF_AUXV_BYTES 768

/* Reads the process's auxiliary vector; returns its bytes, 0 if unreadable. */
size_t sf_auxv_read(uint64_t ret[SF_AUXV_BYTES / sizeof(uint64_t)]);

/* Adds to sf_ranges: the executable's program headers and dynamic section,
 * r_debug, each link_map with its name and dynamic section, the first page of
 * each mapped ELF file, the vDSO, and what glibc's abort() printed.  Needs
 * sf_maps. */
void sf_modules_add(const uint64_t *auxv, size_t auxv_bytes);

#endif
