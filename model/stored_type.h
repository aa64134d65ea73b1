/* The number types that weights are kept in, and their conversion to and from fp32.
 *
 * To fp32 is exact, and so is the way back from what came from there; a NaN keeps its sign and is quiet. Rounding is to
 * nearest, ties to even. */
#ifndef LS_MODEL_STORED_TYPE_H
#define LS_MODEL_STORED_TYPE_H

#include <stddef.h>
#include <stdint.h>

typedef enum ls_stored_type { LS_STORED_F32 = 0, LS_STORED_F16, LS_STORED_BF16 } ls_stored_type;

/* "fp32", "fp16", "bf16" and "float32", "float16", "bfloat16"; NULL-terminated, in enum order. */
extern const char *const ls_stored_type_names[];
extern const char *const ls_stored_type_long_names[];

size_t ls_stored_type_size(ls_stored_type type); /* 4 or 2 */
/* values[count] of `type` to fp32, and fp32 to out[count] of `type`. */
void ls_stored_to_float(float *out, const void *values, ls_stored_type type, int64_t count);
void ls_stored_from_float(void *out, ls_stored_type type, const float *values, int64_t count);

#endif
