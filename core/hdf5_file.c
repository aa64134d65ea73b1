/* Opening, closing, attributes and datasets of our HDF5 files. Every HDF5 handle opened here is closed here, but the
 * file's own. */
#include "core/hdf5_file.h"

#include "core/file.h"
#include "core/hdf5_driver.h"
#include "core/text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIND_ATTRIBUTE "layerskip_kind"
#define LONGEST_KIND 64

static void quiet(void) { (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }

static herr_t keep_lowest(unsigned n, const H5E_error2_t *error, void *context)
{
    char **out = context;
    if (n == 0 && error->desc != NULL) *out = ls_text_copy(error->desc, strcspn(error->desc, "\n"));
    return 0;
}

/* What the call that failed first inside HDF5 said; malloc'ed. */
static char *hdf5_reason(void)
{
    char *reason = NULL;
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_lowest, &reason);
    (void)H5Eclear2(H5E_DEFAULT);
    return reason != NULL ? reason : ls_text_format("no reason given");
}

static ls_status write_failure(const char *path, int error)
{
    return LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(error));
}

/* Name of the file that holds `object`; malloc'ed. */
static char *file_name(hid_t object)
{
    const ssize_t length = H5Fget_name(object, NULL, 0);
    if (length <= 0) return ls_text_format("the HDF5 file");
    char *name = ls_text_memory(NULL, (size_t)length + 1);
    (void)H5Fget_name(object, name, (size_t)length + 1);
    return name;
}

/* A call that writes failed: the disk's reason when there is one, else HDF5's. */
static ls_status failed_to_write(hid_t object, const char *name, int disk_error)
{
    char *path = file_name(object), *reason = hdf5_reason();
    const ls_status status = disk_error != 0 ? write_failure(path, disk_error)
                                             : LS_FAIL(LS_IO, "cannot write %s to %s: %s", name, path, reason);
    free(path);
    free(reason);
    return status;
}

/* ---- files ---- */

/* Tells a missing, unreadable, empty or foreign file before HDF5 sees it. Of HDF5's formats only those with checksums
 * on all metadata, which are the ones we write, are let through: the library believes what it reads in the older ones,
 * and version 1.10 crashes on many a damaged one. */
static ls_status check_signature(const char *path, const char *kind)
{
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    enum { OLDEST_CHECKED = 2 }; /* version of the superblock, the byte after the signature */
    struct stat about;
    if (stat(path, &about) != 0) return LS_FAIL(LS_IO, "cannot open %s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode))
        return LS_FAIL(LS_BAD_INPUT, "%s is %s, not a %s file", path,
                       S_ISDIR(about.st_mode) ? "a folder" : "no regular file", kind);
    FILE *file = fopen(path, "rbe");
    if (file == NULL) return LS_FAIL(LS_IO, "cannot open %s: %s", path, strerror(errno));
    unsigned char first[9];
    const size_t count = fread(first, 1, sizeof first, file);
    (void)fclose(file);
    if (count == 0) return LS_FAIL(LS_BAD_INPUT, "%s is empty, not a %s file", path, kind);
    if (count < sizeof first || memcmp(first, signature, sizeof signature) != 0)
        return LS_FAIL(LS_BAD_INPUT, "%s is not a %s file (it is not HDF5)", path, kind);
    if (first[8] < OLDEST_CHECKED)
        return LS_FAIL(LS_BAD_INPUT, "%s is not a %s file (it is HDF5 from another program)", path, kind);
    return LS_OK;
}

static ls_status open_failure(const char *path)
{
    char *reason = hdf5_reason();
    const ls_status status = strstr(reason, "truncated") != NULL
                                 ? LS_FAIL(LS_BAD_INPUT, "%s is cut short: parts of the file are missing", path)
                                 : LS_FAIL(LS_BAD_INPUT, "%s is damaged or still being written: %s", path, reason);
    free(reason);
    return status;
}

static ls_status read_kind(hid_t file, const char *path, const char *expected, char found[LONGEST_KIND])
{
    found[0] = '\0';
    if (H5Aexists(file, KIND_ATTRIBUTE) <= 0)
        return LS_FAIL(LS_BAD_INPUT, "%s is not a %s file (it is HDF5 from another program)", path, expected);
    const hid_t attribute = H5Aopen(file, KIND_ATTRIBUTE, H5P_DEFAULT);
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const bool fits = H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
                      H5Tget_size(type) < LONGEST_KIND && H5Sget_simple_extent_npoints(space) == 1;
    bool good = fits && H5Aread(attribute, type, found) >= 0;
    if (good) found[H5Tget_size(type)] = '\0';
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    (void)H5Aclose(attribute);
    return good ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s is damaged: its kind cannot be read", path);
}

static ls_status check_kind(hid_t file, const char *path, const char *kind)
{
    char found[LONGEST_KIND];
    int64_t version = 0;
    LS_TRY(read_kind(file, path, kind, found));
    if (strcmp(found, kind) != 0) return LS_FAIL(LS_BAD_INPUT, "%s is a %s file, not a %s file", path, found, kind);
    LS_TRY(ls_hdf5_read_int(file, path, LS_HDF5_VERSION, &version));
    if (version < LS_HDF5_FIRST_VERSION || version > LS_HDF5_NEWEST_VERSION)
        return LS_FAIL(LS_BAD_INPUT, "%s has file version %lld; this program reads versions %d to %d", path,
                       (long long)version, LS_HDF5_FIRST_VERSION, LS_HDF5_NEWEST_VERSION);
    return LS_OK;
}

ls_status ls_hdf5_open(hid_t *out, const char *path, const char *kind)
{
    *out = H5I_INVALID_HID;
    LS_TRY(check_signature(path, kind));
    quiet();
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    (void)H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    const ls_status status = file < 0 ? open_failure(path) : check_kind(file, path, kind);
    (void)H5Pclose(access);
    if (status != LS_OK) {
        if (file >= 0) (void)H5Fclose(file);
        return status;
    }
    *out = file;
    return LS_OK;
}

/* Without the times HDF5 would keep, so that the same content makes the same file. */
static hid_t untimed(hid_t class)
{
    const hid_t creation = H5Pcreate(class);
    (void)H5Pset_obj_track_times(creation, false);
    return creation;
}

static bool write_kind(hid_t file, const char *kind)
{
    const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    (void)H5Tset_size(type, strlen(kind));
    (void)H5Tset_strpad(type, H5T_STR_NULLPAD);
    const hid_t attribute = H5Acreate2(file, KIND_ATTRIBUTE, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool good = attribute >= 0 && H5Awrite(attribute, type, kind) >= 0;
    if (attribute >= 0) (void)H5Aclose(attribute);
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    return good;
}

ls_status ls_hdf5_create(hid_t *out, const char *path, const char *kind)
{
    *out = H5I_INVALID_HID;
    LS_ASSERT(kind[0] != '\0' && strlen(kind) < LONGEST_KIND);
    FILE *probe = fopen(path, "abe"); /* for a reason in plain words */
    if (probe == NULL) return LS_FAIL(LS_IO, "cannot create %s: %s", path, strerror(errno));
    (void)fclose(probe);
    quiet();
    const hid_t access = ls_hdf5_driver_access();
    const hid_t creation = untimed(H5P_FILE_CREATE);
    const hid_t file = access < 0 ? access : H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (access >= 0) (void)H5Pclose(access);
    (void)H5Pclose(creation);
    if (file < 0) {
        char *reason = hdf5_reason();
        const ls_status status = LS_FAIL(LS_IO, "cannot create %s: %s", path, reason);
        free(reason);
        return status;
    }
    *out = file;
    if (write_kind(file, kind) && ls_hdf5_write_int(file, LS_HDF5_VERSION, LS_HDF5_FIRST_VERSION) == LS_OK)
        return LS_OK;
    const ls_status status = failed_to_write(file, KIND_ATTRIBUTE, ls_hdf5_driver_error(file));
    *out = H5I_INVALID_HID;
    (void)H5Fclose(file);
    return status;
}

ls_status ls_hdf5_close(hid_t file, const char *path)
{
    (void)ls_hdf5_driver_closed_error();
    const herr_t flushed = H5Fflush(file, H5F_SCOPE_GLOBAL);
    const herr_t closed = H5Fclose(file);
    const int error = ls_hdf5_driver_closed_error();
    if (error != 0) return write_failure(path, error);
    if (flushed >= 0 && closed >= 0) return LS_OK;
    char *reason = hdf5_reason();
    const ls_status status = LS_FAIL(LS_IO, "cannot close %s: %s", path, reason);
    free(reason);
    return status;
}

/* ---- attributes ---- */

static ls_status write_number(hid_t object, const char *name, hid_t stored, hid_t type, const void *value)
{
    bool good = H5Aexists(object, name) <= 0 || H5Adelete(object, name) >= 0;
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = good ? H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT) : H5I_INVALID_HID;
    good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0) (void)H5Aclose(attribute);
    (void)H5Sclose(space);
    return good ? LS_OK : failed_to_write(object, name, 0);
}

ls_status ls_hdf5_write_int(hid_t object, const char *name, int64_t value)
{
    return write_number(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

ls_status ls_hdf5_write_double(hid_t object, const char *name, double value)
{
    return write_number(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

static ls_status read_number(hid_t object, const char *path, const char *name, H5T_class_t class, hid_t type, void *out)
{
    if (H5Aexists(object, name) <= 0) return LS_FAIL(LS_BAD_INPUT, "%s lacks the attribute %s", path, name);
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    const hid_t stored = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const bool fits =
        H5Tget_class(stored) == class && H5Tget_size(stored) <= 8 && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    const bool good = fits && H5Aread(attribute, type, out) >= 0;
    (void)H5Sclose(space);
    (void)H5Tclose(stored);
    (void)H5Aclose(attribute);
    if (!fits) return LS_FAIL(LS_BAD_INPUT, "the attribute %s of %s is not a number of the right type", name, path);
    return good ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s is damaged: its attribute %s cannot be read", path, name);
}

ls_status ls_hdf5_read_int(hid_t object, const char *path, const char *name, int64_t *out)
{
    return read_number(object, path, name, H5T_INTEGER, H5T_NATIVE_INT64, out);
}

ls_status ls_hdf5_read_double(hid_t object, const char *path, const char *name, double *out)
{
    return read_number(object, path, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, out);
}

/* ---- datasets ---- */

ls_status ls_hdf5_make_group(hid_t file, const char *name)
{
    if (H5Lexists(file, name, H5P_DEFAULT) > 0) return LS_OK;
    const hid_t creation = untimed(H5P_GROUP_CREATE);
    const hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    (void)H5Pclose(creation);
    if (group < 0 || H5Gclose(group) < 0) return failed_to_write(file, name, ls_hdf5_driver_error(file));
    return LS_OK;
}

/* The groups on the way to `name`. */
static ls_status make_groups(hid_t file, const char *name)
{
    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char *group = ls_text_copy(name, (size_t)(slash - name));
        const ls_status status = ls_hdf5_make_group(file, group);
        free(group);
        LS_TRY(status);
    }
    return LS_OK;
}

/* A new dataset in groups that are there. Its room is taken at once, so that a file does not tell who fills it. */
static hid_t create_dataset(hid_t file, const char *name, hid_t type, int64_t rows, int64_t cols)
{
    LS_ASSERT(rows >= 0 && cols >= 0);
    const hsize_t sizes[2] = {(hsize_t)rows, (hsize_t)cols};
    const hid_t space = H5Screate_simple(cols == 0 ? 1 : 2, sizes, NULL);
    const hid_t layout = untimed(H5P_DATASET_CREATE);
    (void)H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER);
    (void)H5Pset_alloc_time(layout, H5D_ALLOC_TIME_EARLY);
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    (void)H5Pclose(layout);
    (void)H5Sclose(space);
    return dataset;
}

/* Closes it; `good`: so far. */
static ls_status finish_dataset(hid_t file, const char *name, hid_t dataset, bool good)
{
    if (dataset >= 0 && H5Dclose(dataset) < 0) good = false;
    const int error = ls_hdf5_driver_error(file);
    return good && error == 0 ? LS_OK : failed_to_write(file, name, error);
}

ls_status ls_hdf5_write_array(hid_t file, const char *name, hid_t type, int64_t rows, int64_t cols, const void *data)
{
    LS_TRY(make_groups(file, name));
    const hid_t dataset = create_dataset(file, name, type, rows, cols);
    bool good = dataset >= 0;
    if (good && rows > 0) good = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    return finish_dataset(file, name, dataset, good);
}

ls_status ls_hdf5_reserve_array(hid_t file, const char *name, int64_t rows, int64_t cols)
{
    LS_TRY(make_groups(file, name));
    const hid_t dataset = create_dataset(file, name, H5T_NATIVE_FLOAT, rows, cols);
    return finish_dataset(file, name, dataset, dataset >= 0);
}

static ls_status open_dataset(hid_t *out, hid_t file, const char *path, const char *name)
{
    *out = H5Dopen2(file, name, H5P_DEFAULT);
    if (*out >= 0) return LS_OK;
    (void)H5Eclear2(H5E_DEFAULT);
    return LS_FAIL(LS_BAD_INPUT, "%s lacks the dataset %s, or is damaged", path, name);
}

/* "[3, 4]" for a message; malloc'ed. */
static char *shape_text(int rank, const hsize_t *sizes)
{
    ls_text text = {0};
    for (int i = 0; i < rank; i++) ls_text_addf(&text, "%s%llu", i == 0 ? "[" : ", ", (unsigned long long)sizes[i]);
    ls_text_addf(&text, rank == 0 ? "[]" : "]");
    return text.bytes;
}

ls_status ls_hdf5_array_offset(hid_t file, const char *path, const char *name, int64_t *offset)
{
    hid_t dataset;
    LS_TRY(open_dataset(&dataset, file, path, name));
    const haddr_t address = H5Dget_offset(dataset);
    (void)H5Dclose(dataset);
    if (address == HADDR_UNDEF) return LS_FAIL(LS_IO, "HDF5 did not take the room of %s in %s", name, path);
    *offset = (int64_t)address;
    return LS_OK;
}

static ls_status check_shape(hid_t dataset, const char *path, const char *name, int rank, const hsize_t *expected)
{
    hsize_t sizes[H5S_MAX_RANK] = {0};
    const hid_t space = H5Dget_space(dataset);
    const int found = H5Sget_simple_extent_dims(space, sizes, NULL);
    (void)H5Sclose(space);
    if (found == rank && memcmp(sizes, expected, (size_t)rank * sizeof *sizes) == 0) return LS_OK;
    char *is = shape_text(found < 0 ? 0 : found, sizes), *wanted = shape_text(rank, expected);
    const ls_status status =
        LS_FAIL(LS_BAD_INPUT, "the dataset %s of %s has the shape %s, not %s", name, path, is, wanted);
    free(is);
    free(wanted);
    return status;
}

/* Integers are read as integers that hold them, floats as floats: HDF5 itself would convert and clip silently. */
static ls_status check_type(hid_t dataset, const char *path, const char *name, hid_t type)
{
    const hid_t stored = H5Dget_type(dataset);
    const H5T_class_t class = H5Tget_class(type);
    const size_t size = H5Tget_size(stored), wanted = H5Tget_size(type);
    const bool same_sign = H5Tget_sign(stored) == H5Tget_sign(type);
    const bool holds = same_sign ? size <= wanted : H5Tget_sign(stored) == H5T_SGN_NONE && size < wanted;
    const bool fits = H5Tget_class(stored) == class && (class != H5T_INTEGER || holds);
    (void)H5Tclose(stored);
    return fits ? LS_OK : LS_FAIL(LS_BAD_INPUT, "the dataset %s of %s holds another type of number", name, path);
}

ls_status ls_hdf5_read_array(hid_t file, const char *path, const char *name, hid_t type, int64_t rows, int64_t cols,
                             void *data)
{
    const hsize_t sizes[2] = {(hsize_t)rows, (hsize_t)cols};
    hid_t dataset;
    LS_TRY(open_dataset(&dataset, file, path, name));
    ls_status status = check_shape(dataset, path, name, cols == 0 ? 1 : 2, sizes);
    if (status == LS_OK) status = check_type(dataset, path, name, type);
    if (status == LS_OK && rows > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = LS_FAIL(LS_BAD_INPUT, "%s is damaged: its dataset %s cannot be read", path, name);
    (void)H5Dclose(dataset);
    return status;
}

/* An extent that is wrong could ask for more memory than there is: a dataset as we write them lies whole in its file.
 */
static ls_status check_extent(hid_t file, hid_t dataset, const char *path, const char *name, hsize_t count)
{
    hsize_t bytes = 0;
    const hid_t type = H5Dget_type(dataset), creation = H5Dget_create_plist(dataset);
    const size_t width = H5Tget_size(type);
    const bool inside = H5Fget_filesize(file, &bytes) >= 0 && width > 0 && count <= bytes / width;
    const bool plain = H5Pget_nfilters(creation) == 0 && H5Pget_external_count(creation) == 0;
    (void)H5Pclose(creation);
    (void)H5Tclose(type);
    if (!plain) return LS_FAIL(LS_BAD_INPUT, "%s: %s is compressed or damaged", path, name);
    return inside ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s is damaged: its dataset %s is longer than the file", path, name);
}

ls_status ls_hdf5_array_length(hid_t file, const char *path, const char *name, int64_t *out)
{
    hid_t dataset;
    hsize_t sizes[H5S_MAX_RANK] = {0};
    LS_TRY(open_dataset(&dataset, file, path, name));
    const hid_t space = H5Dget_space(dataset);
    const int rank = H5Sget_simple_extent_dims(space, sizes, NULL);
    (void)H5Sclose(space);
    const ls_status status = rank == 1 ? check_extent(file, dataset, path, name, sizes[0])
                                       : LS_FAIL(LS_BAD_INPUT, "the dataset %s of %s is not a list", name, path);
    (void)H5Dclose(dataset);
    *out = (int64_t)sizes[0];
    return status;
}

ls_status ls_hdf5_write_text(hid_t file, const char *name, const char *text)
{
    return ls_hdf5_write_array(file, name, H5T_NATIVE_UINT8, (int64_t)strlen(text), 0, text);
}

ls_status ls_hdf5_read_text(hid_t file, const char *path, const char *name, char **text)
{
    int64_t length = 0;
    *text = NULL;
    LS_TRY(ls_hdf5_array_length(file, path, name, &length));
    char *bytes = calloc((size_t)length + 1, 1);
    if (bytes == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s of %s", name, path);
    const ls_status status = ls_hdf5_read_array(file, path, name, H5T_NATIVE_UINT8, length, 0, bytes);
    if (status != LS_OK) {
        free(bytes);
        return status;
    }
    *text = bytes;
    return LS_OK;
}
