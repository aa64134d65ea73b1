/* The table of the reference backend. */
#include "kernels/ref/ref.h"

const ls_backend *ls_backend_ref(void)
{
    static const ls_backend backend = {.name = "reference",
#define LS_REF_ENTRY(op) .op = ls_##op##_ref,
                                       LS_OP_LIST(LS_REF_ENTRY)
#undef LS_REF_ENTRY
    };
    return &backend;
}
