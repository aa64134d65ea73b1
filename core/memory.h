/* Large blocks of memory and the arena that hands out pieces of them.
 *
 * All buffers are sized before the first step: a layout function runs twice over the same code, first on a measuring
 * arena (no memory, it only counts), then on a real one. Nothing is freed piecewise. Blocks are mapped with
 * transparent huge pages asked for: reading weights from 4 KB pages costs almost half of the memory bandwidth. */
#ifndef LS_CORE_MEMORY_H
#define LS_CORE_MEMORY_H

#include "core/status.h"

#include <stddef.h>

/* Maps `bytes` zeroed bytes, 2 MiB aligned. `what` names the block in the out-of-memory sentence. */
ls_status ls_memory_map(void **out, size_t bytes, const char *what);
void ls_memory_unmap(void *block, size_t bytes); /* NULL is fine */
/* Zeroes a part of a mapped block and gives its whole pages back until they are touched again. */
void ls_memory_discard(void *part, size_t bytes);

typedef struct ls_arena {
    unsigned char *base; /* NULL while measuring */
    size_t size;         /* bytes available; SIZE_MAX while measuring */
    size_t used;
} ls_arena;

ls_arena ls_arena_measure(void);                   /* counts only; take() returns NULL */
ls_arena ls_arena_over(void *block, size_t bytes); /* hands out pieces of a block owned elsewhere */
/* 64-byte aligned piece; NULL while measuring. Taking more than was measured is a bug and aborts. */
void *ls_arena_take(ls_arena *arena, size_t bytes);
#define LS_TAKE(arena, type, count) ((type *)ls_arena_take((arena), sizeof(type) * (size_t)(count)))

size_t ls_memory_peak_resident(void); /* high-water mark of this process in bytes (VmHWM), 0 where unknown */
void ls_memory_reset_peak(void);      /* the high-water mark becomes what is resident now, where Linux allows it */

#endif
