/* Datasets of weights in their own type, see stored_tensor.h. */
#include "model/stored_tensor.h"

#include "core/file.h"
#include "core/hdf5_driver.h"

/* The HDF5 type; the caller closes it. Little endian, as safetensors are. */
static hid_t hdf5_type(ls_stored_type type)
{
    const hid_t out = H5Tcopy(H5T_IEEE_F32LE);
    if (type == LS_STORED_F32) return out;
    const size_t exponent = type == LS_STORED_F16 ? 5 : 8, fraction = 15 - exponent;
    (void)H5Tset_fields(out, 15, fraction, exponent, 0, fraction);
    (void)H5Tset_size(out, 2);
    (void)H5Tset_ebias(out, type == LS_STORED_F16 ? 15 : 127);
    return out;
}

static hid_t space_of(int64_t rows, int64_t cols)
{
    const hsize_t sizes[2] = {(hsize_t)rows, (hsize_t)cols};
    return H5Screate_simple(cols == 0 ? 1 : 2, sizes, NULL);
}

ls_status ls_stored_tensor_create(ls_stored_tensor *out, hid_t file, const char *path, const char *name,
                                  ls_stored_type type, int64_t rows, int64_t cols)
{
    *out = (ls_stored_tensor){
        .dataset = H5I_INVALID_HID, .path = path, .name = name, .type = type, .rows = rows, .cols = cols};
    const hid_t stored = hdf5_type(type), space = space_of(rows, cols), layout = H5Pcreate(H5P_DATASET_CREATE);
    (void)H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER);
    (void)H5Pset_obj_track_times(layout, false); /* the same content makes the same file */
    out->dataset = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    (void)H5Pclose(layout);
    (void)H5Sclose(space);
    (void)H5Tclose(stored);
    return out->dataset >= 0 ? LS_OK : LS_FAIL(LS_IO, "cannot write %s to %s", name, path);
}

static bool has_shape(hid_t dataset, int64_t rows, int64_t cols)
{
    hsize_t sizes[H5S_MAX_RANK] = {0};
    const hid_t space = H5Dget_space(dataset);
    const int rank = H5Sget_simple_extent_dims(space, sizes, NULL);
    (void)H5Sclose(space);
    return rank == (cols == 0 ? 1 : 2) && sizes[0] == (hsize_t)rows && (cols == 0 || sizes[1] == (hsize_t)cols);
}

static bool find_type(hid_t dataset, ls_stored_type *out)
{
    bool found = false;
    const hid_t stored = H5Dget_type(dataset);
    for (ls_stored_type type = LS_STORED_F32; type <= LS_STORED_BF16 && !found; type++) {
        const hid_t known = hdf5_type(type);
        found = H5Tequal(stored, known) > 0;
        if (found) *out = type;
        (void)H5Tclose(known);
    }
    (void)H5Tclose(stored);
    return found;
}

ls_status ls_stored_tensor_open(ls_stored_tensor *out, hid_t file, const char *path, const char *name, int64_t rows,
                                int64_t cols)
{
    *out = (ls_stored_tensor){
        .dataset = H5Dopen2(file, name, H5P_DEFAULT), .path = path, .name = name, .rows = rows, .cols = cols};
    if (out->dataset < 0) return LS_FAIL(LS_BAD_INPUT, "%s lacks the dataset %s, or is damaged", path, name);
    ls_status status = LS_OK;
    if (!has_shape(out->dataset, rows, cols))
        status = LS_FAIL(LS_BAD_INPUT, "the dataset %s of %s has another shape than [%lld%s%lld]", name, path,
                         (long long)rows, cols == 0 ? "] or [" : ", ", (long long)(cols == 0 ? rows : cols));
    else if (!find_type(out->dataset, &out->type))
        status = LS_FAIL(LS_BAD_INPUT, "the dataset %s of %s holds another type of number", name, path);
    if (status != LS_OK) ls_stored_tensor_close(out);
    return status;
}

void ls_stored_tensor_close(ls_stored_tensor *tensor)
{
    if (tensor->dataset >= 0) (void)H5Dclose(tensor->dataset);
    tensor->dataset = H5I_INVALID_HID;
}

/* Reads into `in`, or writes from `out`, whichever is given: same type in memory as in the file, so nothing changes. */
static bool transfer(const ls_stored_tensor *tensor, int64_t first_row, int64_t rows, void *in, const void *out)
{
    const int rank = tensor->cols == 0 ? 1 : 2;
    const hsize_t start[2] = {(hsize_t)first_row, 0}, size[2] = {(hsize_t)rows, (hsize_t)tensor->cols};
    const hid_t type = hdf5_type(tensor->type), memory = H5Screate_simple(rank, size, NULL);
    const hid_t place = H5Dget_space(tensor->dataset);
    bool good = H5Sselect_hyperslab(place, H5S_SELECT_SET, start, NULL, size, NULL) >= 0;
    if (good && in != NULL) good = H5Dread(tensor->dataset, type, memory, place, H5P_DEFAULT, in) >= 0;
    if (good && out != NULL) good = H5Dwrite(tensor->dataset, type, memory, place, H5P_DEFAULT, out) >= 0;
    (void)H5Sclose(place);
    (void)H5Sclose(memory);
    (void)H5Tclose(type);
    return good;
}

ls_status ls_stored_tensor_write(const ls_stored_tensor *tensor, int64_t first_row, int64_t rows, const void *values)
{
    const bool good = transfer(tensor, first_row, rows, NULL, values);
    const hid_t file = H5Iget_file_id(tensor->dataset);
    const int error = ls_hdf5_driver_error(file);
    if (file >= 0) (void)H5Fclose(file);
    if (error != 0) return LS_FAIL(LS_IO, "cannot write %s: %s", tensor->path, ls_file_reason(error));
    return good ? LS_OK : LS_FAIL(LS_IO, "cannot write %s to %s", tensor->name, tensor->path);
}

ls_status ls_stored_tensor_read(const ls_stored_tensor *tensor, int64_t first_row, int64_t rows, void *values)
{
    if (transfer(tensor, first_row, rows, values, NULL)) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "%s is damaged: its dataset %s cannot be read", tensor->path, tensor->name);
}
