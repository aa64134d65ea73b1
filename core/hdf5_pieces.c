/* Parts of datasets: what one process of several reads and writes of a file. Called by train/checkpoint.c.
 *
 * A range of a matrix in row-major order is at most three rectangles: the end of a row, whole rows, the start of a row.
 */
#include "core/hdf5_file.h"

#include <string.h>

/* Adds `rows` x `cols` elements from (row, col) to the selection. */
static bool add_rectangle(hid_t space, int rank, int64_t row, int64_t col, int64_t rows, int64_t cols)
{
    const hsize_t start[2] = {(hsize_t)row, (hsize_t)col}, size[2] = {(hsize_t)rows, (hsize_t)cols};
    if (rows == 0 || cols == 0) return true;
    return H5Sselect_hyperslab(space, H5S_SELECT_OR, start + 2 - rank, NULL, size + 2 - rank, NULL) >= 0;
}

static bool add_range(hid_t space, int64_t cols, int64_t first, int64_t count)
{
    const int64_t row = first / cols, col = first % cols;
    const int64_t head = col == 0 ? 0 : count < cols - col ? count : cols - col;
    const int64_t whole = (count - head) / cols, tail = (count - head) % cols, next = row + (head > 0);
    return add_rectangle(space, 2, row, col, 1, head) && add_rectangle(space, 2, next, 0, whole, cols) &&
           add_rectangle(space, 2, next + whole, 0, 1, tail);
}

/* The pieces in the file's space and in memory, from `base` on. */
static bool select_pieces(hid_t file_space, hid_t *memory_space, int64_t cols, const ls_hdf5_piece *pieces, int count)
{
    const hsize_t length = count == 0 ? 1 : (hsize_t)(pieces[count - 1].place + pieces[count - 1].count);
    *memory_space = H5Screate_simple(1, &length, NULL);
    bool good = H5Sselect_none(file_space) >= 0 && H5Sselect_none(*memory_space) >= 0;
    for (int i = 0; i < count && good; i++) {
        good = add_rectangle(*memory_space, 1, 0, pieces[i].place, 1, pieces[i].count);
        if (good && cols > 0)
            good = add_range(file_space, cols, pieces[i].first, pieces[i].count);
        else if (good)
            good = add_rectangle(file_space, 1, 0, pieces[i].first, 1, pieces[i].count);
    }
    return good;
}

/* Columns of the dataset, 0 for a list; *fits: its shape is [rows, cols], where they are not negative. */
static int64_t columns(hid_t space, int64_t rows, int64_t cols, bool *fits)
{
    hsize_t sizes[H5S_MAX_RANK] = {0};
    const int rank = H5Sget_simple_extent_dims(space, sizes, NULL);
    const int64_t found = rank == 2 ? (int64_t)sizes[1] : 0;
    *fits = (rank == 1 || rank == 2) && (rows < 0 || ((int64_t)sizes[0] == rows && found == cols));
    return found;
}

ls_status ls_hdf5_read_pieces(hid_t file, const char *path, const char *name, int64_t rows, int64_t cols,
                              const ls_hdf5_piece *pieces, int count, float *base)
{
    const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) return LS_FAIL(LS_BAD_INPUT, "%s lacks the dataset %s, or is damaged", path, name);
    const hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    hid_t memory = H5I_INVALID_HID;
    bool fits;
    (void)columns(space, rows, cols, &fits);
    fits = fits && H5Tget_class(type) == H5T_FLOAT;
    const bool good = fits && select_pieces(space, &memory, cols, pieces, count) &&
                      (count == 0 || H5Dread(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, base) >= 0);
    if (memory >= 0) (void)H5Sclose(memory);
    (void)H5Tclose(type);
    (void)H5Sclose(space);
    (void)H5Dclose(dataset);
    if (!fits) return LS_FAIL(LS_BAD_INPUT, "the dataset %s of %s has another shape or type of number", name, path);
    return good ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s is damaged: its dataset %s cannot be read", path, name);
}

#ifdef LS_HAVE_MPI

ls_status ls_hdf5_open_shared(hid_t *out, const char *path)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    *out = H5I_INVALID_HID;
    if (access >= 0 && H5Pset_fapl_mpio(access, MPI_COMM_WORLD, MPI_INFO_NULL) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        *out = H5Fopen(path, H5F_ACC_RDWR, access);
    if (access >= 0) (void)H5Pclose(access);
    return *out >= 0 ? LS_OK : LS_FAIL(LS_IO, "cannot open %s for all processes at once", path);
}

ls_status ls_hdf5_write_pieces(hid_t file, const char *path, const char *name, const ls_hdf5_piece *pieces, int count,
                               const float *base)
{
    const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), transfer = H5Pcreate(H5P_DATASET_XFER);
    const hid_t space = dataset < 0 ? dataset : H5Dget_space(dataset);
    hid_t memory = H5I_INVALID_HID;
    bool good = space >= 0 && H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE) >= 0, fits = false;
    if (good) good = select_pieces(space, &memory, columns(space, -1, -1, &fits), pieces, count);
    good = H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory, space, transfer, base) >= 0 && good;
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    if (dataset >= 0 && H5Dclose(dataset) < 0) good = false;
    (void)H5Pclose(transfer);
    return good ? LS_OK : LS_FAIL(LS_IO, "cannot write %s to %s", name, path);
}

#else

ls_status ls_hdf5_open_shared(hid_t *out, const char *path)
{
    *out = H5I_INVALID_HID;
    return LS_FAIL(LS_UNSUPPORTED, "%s: this layerskip was built without MPI", path);
}

ls_status ls_hdf5_write_pieces(hid_t file, const char *path, const char *name, const ls_hdf5_piece *pieces, int count,
                               const float *base)
{
    (void)file;
    (void)pieces;
    (void)count;
    (void)base;
    return LS_FAIL(LS_UNSUPPORTED, "%s of %s: this layerskip was built without MPI", name, path);
}

#endif
