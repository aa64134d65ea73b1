/* The real cuDNN, without a GPU: every attention graph that the program claims gets a plan for an A100 and an H100, and
 * what it refuses is known, and that workspaces keep within what is set aside. Prints a line a graph. Where the library
 * cannot be loaded the tests are skipped, not passed. */
#include "kernels/cuda/sdpa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static ls_cudnn cudnn;
static char reason[200];

/* The descriptor of a device from its file in LS_DEVICES. */
static cudnnBackendDescriptor_t describe(const char *name)
{
    char path[512], text[4096];
    (void)snprintf(path, sizeof path, "%s/%s.json", LS_DEVICES, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    while (length > 0 && text[length - 1] == '\n') length--;
    cudnnBackendDescriptor_t made = NULL;
    assert_int_equal(cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &made), 0);
    assert_int_equal(cudnn.cudnnBackendSetAttribute(made, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                                    (int64_t)length, text),
                     0);
    assert_int_equal(cudnn.cudnnBackendFinalize(made), 0);
    return made;
}

/* Documents in backward are a third vector along the queries, beside lse and the sum of dout * out; the kernels for
 * compute capability 8 take two. */
static bool is_refused(const char *device, const ls_sdpa_shape *shape)
{
    return strcmp(device, "a100") == 0 && shape->documents && shape->backward;
}

static int try_shape(const char *device, cudnnBackendDescriptor_t properties, const ls_sdpa_shape *shape)
{
    ls_sdpa_plan *plan = malloc(sizeof *plan);
    assert_non_null(plan);
    ls_sdpa_plan_make(plan, &cudnn, shape, NULL, properties);
    const bool found = plan->found, wanted = !is_refused(device, shape);
    const size_t bound = ls_sdpa_workspace_bound(shape);
    const bool fits = !found || (plan->workspace_bytes >= 0 && (size_t)plan->workspace_bytes <= bound);
    if (!fits) print_error("the bound on its workspace is %.1f MiB\n", (double)bound / 1048576.0);
    print_message("%s %s n=%d T=%d H=%d G=%d D=%d%s: %s, workspace %.1f MiB\n", device,
                  shape->backward ? "backward" : "forward", (int)shape->n, (int)shape->T, (int)shape->H, (int)shape->G,
                  (int)shape->D, shape->documents ? " documents" : "", found ? "a plan" : "no plan",
                  (double)plan->workspace_bytes / 1048576.0);
    if (plan->status != CUDNN_STATUS_SUCCESS) print_error("%s: status %d\n", plan->what, (int)plan->status);
    ls_sdpa_plan_destroy(plan, &cudnn);
    free(plan);
    return found == wanted && fits ? 0 : 1;
}

static void run_device(const char *device)
{
    if (cudnn.library == NULL) {
        print_message("skipped: %s\n", reason);
        skip();
    }
    static const int64_t sizes[] = {32, 64, 80, 96, 128};
    const cudnnBackendDescriptor_t properties = describe(device);
    int failures = 0;
    for (size_t d = 0; d < sizeof sizes / sizeof sizes[0]; d++)
        for (int kind = 0; kind < 4; kind++) {
            /* Shared and own heads, even and odd lengths, in turn. */
            const bool shared = (d + (size_t)kind) % 2 == 0;
            const ls_sdpa_shape shape = {.n = 2,
                                         .T = d % 2 == 0 ? 1024 : 333,
                                         .H = 8,
                                         .G = shared ? 2 : 8,
                                         .D = sizes[d],
                                         .documents = (kind & 1) != 0,
                                         .backward = (kind & 2) != 0};
            failures += try_shape(device, properties, &shape);
        }
    (void)cudnn.cudnnBackendDestroyDescriptor(properties);
    assert_int_equal(failures, 0);
}

static void test_h100(void **state)
{
    (void)state;
    run_device("h100");
}

static void test_a100(void **state)
{
    (void)state;
    run_device("a100");
}

int main(void)
{
    (void)ls_cudnn_load(&cudnn, reason, sizeof reason);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_h100), cmocka_unit_test(test_a100)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
