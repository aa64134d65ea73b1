/* Blocks on huge pages, and the arena over them. */
#include "core/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define PIECE_ALIGNMENT ((size_t)64)

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

ls_status ls_memory_map(void **out, size_t bytes, const char *what)
{
    *out = NULL;
    if (bytes == 0) bytes = 1;
    /* Over-map by one huge page and trim, so that the block starts on a huge-page boundary. */
    const size_t size = round_up(bytes, HUGE_PAGE);
    unsigned char *raw = size + HUGE_PAGE < bytes
                             ? MAP_FAILED
                             : mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return LS_FAIL(LS_NO_MEMORY, "cannot get %.1f MiB of memory for %s", (double)bytes / 1048576.0, what);
    const size_t head = (HUGE_PAGE - (uintptr_t)raw % HUGE_PAGE) % HUGE_PAGE;
    if (head > 0) (void)munmap(raw, head);
    if (HUGE_PAGE > head) (void)munmap(raw + head + size, HUGE_PAGE - head);
    (void)madvise(raw + head, size, MADV_HUGEPAGE);
    *out = raw + head;
    return LS_OK;
}

void ls_memory_unmap(void *block, size_t bytes)
{
    if (block != NULL) (void)munmap(block, round_up(bytes == 0 ? 1 : bytes, HUGE_PAGE));
}

void ls_memory_discard(void *part, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)part, end = begin + bytes;
    const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first >= last || madvise((void *)first, last - first, MADV_DONTNEED) != 0) {
        memset(part, 0, bytes);
        return;
    }
    memset(part, 0, first - begin);
    memset((void *)last, 0, end - last);
}

ls_arena ls_arena_measure(void) { return (ls_arena){NULL, SIZE_MAX, 0}; }

ls_arena ls_arena_over(void *block, size_t bytes) { return (ls_arena){block, bytes, 0}; }

void *ls_arena_take(ls_arena *arena, size_t bytes)
{
    const size_t start = round_up(arena->used, PIECE_ALIGNMENT);
    LS_ASSERT(start <= arena->size && bytes <= arena->size - start);
    arena->used = start + bytes;
    return arena->base == NULL ? NULL : arena->base + start;
}

size_t ls_memory_peak_resident(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) return 0;
    char line[256];
    size_t kilobytes = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %zu kB", &kilobytes) == 1) break;
    (void)fclose(file);
    return kilobytes * 1024;
}

void ls_memory_reset_peak(void)
{
    FILE *const file = fopen("/proc/self/clear_refs", "we");
    if (file == NULL) return;
    (void)fputs("5", file);
    (void)fclose(file);
}
