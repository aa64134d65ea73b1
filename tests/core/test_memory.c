/* Mapped blocks and the arena. */
#include "core_check.h"
#include "core/memory.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define HUGE_PAGE ((size_t)2 << 20)

static size_t shift; /* bytes by which the next mapping misses a huge-page boundary; newer kernels never miss one */

void *__real_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset);

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    if (shift == 0 || bytes < HUGE_PAGE) return __real_mmap(address, bytes, protection, flags, file, offset);
    unsigned char *raw = __real_mmap(address, bytes + 2 * HUGE_PAGE, protection, flags, file, offset);
    if (raw == MAP_FAILED) return raw;
    const size_t head = (HUGE_PAGE - (uintptr_t)raw % HUGE_PAGE) % HUGE_PAGE + shift;
    if (munmap(raw, head) != 0 || munmap(raw + head + bytes, 2 * HUGE_PAGE - head) != 0) return MAP_FAILED;
    return raw + head;
}

static void blocks_are_zeroed_and_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE + 7};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *block = NULL;
        CHECK_OK(ls_memory_map(&block, sizes[i], "a test"));
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % HUGE_PAGE, 0);
        const unsigned char *bytes = block;
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(bytes[j], 0);
        if (sizes[i] > 0) memset(block, 0xff, sizes[i]);
        ls_memory_unmap(block, sizes[i]);
    }
    ls_memory_unmap(NULL, 5);
}

static void unaligned_mappings_are_trimmed(void **state)
{
    (void)state;
    for (shift = 4096; shift < HUGE_PAGE; shift += HUGE_PAGE / 4 - 4096) {
        void *block = NULL;
        CHECK_OK(ls_memory_map(&block, HUGE_PAGE + 5, "a test"));
        assert_int_equal((uintptr_t)block % HUGE_PAGE, 0);
        memset(block, 0xff, HUGE_PAGE + 5);
        ls_memory_unmap(block, HUGE_PAGE + 5);
    }
    shift = 0;
}

static void too_much_is_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - HUGE_PAGE, SIZE_MAX / 2, (size_t)1 << 50};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *block = &block;
        CHECK_REFUSED(ls_memory_map(&block, sizes[i], "the key-value cache"), LS_NO_MEMORY, "the key-value cache");
        assert_null(block);
    }
}

static size_t lay_out(ls_arena *arena, unsigned char **pieces)
{
    pieces[0] = LS_TAKE(arena, unsigned char, 1);
    pieces[1] = (unsigned char *)LS_TAKE(arena, double, 100);
    pieces[2] = LS_TAKE(arena, unsigned char, 0);
    pieces[3] = LS_TAKE(arena, unsigned char, 65);
    return arena->used;
}

static void measuring_and_taking_agree(void **state)
{
    (void)state;
    unsigned char *pieces[4];
    ls_arena measure = ls_arena_measure();
    const size_t bytes = lay_out(&measure, pieces);
    for (int i = 0; i < 4; i++) assert_null(pieces[i]);
    void *block = NULL;
    CHECK_OK(ls_memory_map(&block, bytes, "a test"));
    ls_arena real = ls_arena_over(block, bytes);
    assert_int_equal(lay_out(&real, pieces), bytes);
    for (int i = 0; i < 4; i++) assert_int_equal((uintptr_t)pieces[i] % 64, 0);
    assert_true(pieces[1] >= pieces[0] + 1 && pieces[2] >= pieces[1] + 800 && pieces[3] >= pieces[2]);
    assert_true(pieces[3] + 65 <= (unsigned char *)block + bytes);
    ls_memory_unmap(block, bytes);
}

static void take_too_much(void *context)
{
    (void)context;
    static unsigned char block[128];
    ls_arena arena = ls_arena_over(block, sizeof block);
    (void)ls_arena_take(&arena, 128);
    (void)ls_arena_take(&arena, 1);
}

static void taking_more_than_measured_aborts(void **state)
{
    (void)state;
    char output[512];
    const int status = check_in_child(take_too_much, NULL, 2, output, sizeof output);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    check_text_has(output, "internal error");
}

static void peak_grows_with_use(void **state)
{
    (void)state;
    const size_t bytes = (size_t)48 << 20, before = ls_memory_peak_resident();
    void *block = NULL;
    assert_true(before > 0);
    CHECK_OK(ls_memory_map(&block, bytes, "a test"));
    memset(block, 1, bytes);
    assert_true(ls_memory_peak_resident() >= before + bytes / 2);
    ls_memory_unmap(block, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_zeroed_and_aligned),    cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(unaligned_mappings_are_trimmed),   cmocka_unit_test(measuring_and_taking_agree),
        cmocka_unit_test(taking_more_than_measured_aborts), cmocka_unit_test(peak_grows_with_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
