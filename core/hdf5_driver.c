/* The file driver: plain pread and pwrite, and a memory for the first write that failed. */
#include "core/hdf5_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST_ADDRESS ((haddr_t)INT64_MAX)
#define LARGEST_PIECE ((size_t)1 << 30) /* of one pread or pwrite */

typedef struct guarded_file {
    H5FD_t shared; /* HDF5's part; must come first */
    int descriptor;
    int error;                  /* errno of the first write that failed */
    haddr_t allocated, written; /* end of what HDF5 handed out, end of the file */
    dev_t device;
    ino_t inode;
} guarded_file;

static _Thread_local int closed_error;

static guarded_file *guarded(H5FD_t *file) { return (guarded_file *)file; }

static const guarded_file *guarded_const(const H5FD_t *file) { return (const guarded_file *)file; }

static void remember(guarded_file *file, int error)
{
    if (file->error == 0) file->error = error == 0 ? EIO : error;
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t largest)
{
    (void)access;
    (void)largest;
    int mode = (flags & H5F_ACC_RDWR) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & H5F_ACC_TRUNC) != 0) mode |= O_TRUNC;
    if ((flags & H5F_ACC_CREAT) != 0) mode |= O_CREAT;
    if ((flags & H5F_ACC_EXCL) != 0) mode |= O_EXCL;
    const int descriptor = open(name, mode | O_CLOEXEC, 0666);
    if (descriptor < 0) return NULL;
    struct stat about;
    guarded_file *file = fstat(descriptor, &about) == 0 ? calloc(1, sizeof *file) : NULL;
    if (file == NULL) {
        (void)close(descriptor);
        return NULL;
    }
    file->descriptor = descriptor;
    file->written = (haddr_t)about.st_size;
    file->device = about.st_dev;
    file->inode = about.st_ino;
    return &file->shared;
}

static herr_t driver_close(H5FD_t *shared)
{
    guarded_file *file = guarded(shared);
    if (close(file->descriptor) != 0) remember(file, errno);
    closed_error = file->error;
    free(file);
    return 0;
}

static int driver_compare(const H5FD_t *one, const H5FD_t *two)
{
    const guarded_file *const a = guarded_const(one), *const b = guarded_const(two);
    if (a->device != b->device) return a->device < b->device ? -1 : 1;
    if (a->inode != b->inode) return a->inode < b->inode ? -1 : 1;
    return 0;
}

static herr_t driver_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t driver_get_allocated(const H5FD_t *file, H5FD_mem_t kind)
{
    (void)kind;
    return guarded_const(file)->allocated;
}

static herr_t driver_set_allocated(H5FD_t *file, H5FD_mem_t kind, haddr_t address)
{
    (void)kind;
    guarded(file)->allocated = address;
    return 0;
}

static haddr_t driver_get_written(const H5FD_t *file, H5FD_mem_t kind)
{
    (void)kind;
    return guarded_const(file)->written;
}

static herr_t driver_get_handle(H5FD_t *file, hid_t access, void **handle)
{
    (void)access;
    *handle = &guarded(file)->error;
    return 0;
}

static herr_t driver_read(H5FD_t *shared, H5FD_mem_t kind, hid_t transfer, haddr_t address, size_t size, void *buffer)
{
    (void)kind;
    (void)transfer;
    const guarded_file *const file = guarded(shared);
    unsigned char *bytes = buffer;
    while (size > 0) {
        const size_t piece = size < LARGEST_PIECE ? size : LARGEST_PIECE;
        const ssize_t count = pread(file->descriptor, bytes, piece, (off_t)address);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        if (count == 0) {
            memset(bytes, 0, size); /* handed out but never written */
            return 0;
        }
        bytes += count;
        address += (haddr_t)count;
        size -= (size_t)count;
    }
    return 0;
}

/* Goes on writing after a failure: what can still be stored keeps HDF5's view of its own metadata whole. */
static herr_t driver_write(H5FD_t *shared, H5FD_mem_t kind, hid_t transfer, haddr_t address, size_t size,
                           const void *buffer)
{
    (void)kind;
    (void)transfer;
    guarded_file *file = guarded(shared);
    const unsigned char *bytes = buffer;
    while (size > 0) {
        const size_t piece = size < LARGEST_PIECE ? size : LARGEST_PIECE;
        const ssize_t count = pwrite(file->descriptor, bytes, piece, (off_t)address);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            remember(file, count < 0 ? errno : ENOSPC);
            address += size;
            break;
        }
        bytes += count;
        address += (haddr_t)count;
        size -= (size_t)count;
    }
    if (address > file->written) file->written = address;
    return 0;
}

static herr_t driver_truncate(H5FD_t *shared, hid_t transfer, hbool_t closing)
{
    (void)transfer;
    (void)closing;
    guarded_file *file = guarded(shared);
    if (file->allocated == file->written) return 0;
    if (ftruncate(file->descriptor, (off_t)file->allocated) != 0) remember(file, errno);
    file->written = file->allocated;
    return 0;
}

static const H5FD_class_t driver = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = 600, /* 0 to 511 are the HDF Group's */
#endif
    .name = "layerskip_guarded",
    .maxaddr = LARGEST_ADDRESS,
    .fc_degree = H5F_CLOSE_STRONG,
    .open = driver_open,
    .close = driver_close,
    .cmp = driver_compare,
    .query = driver_query,
    .get_eoa = driver_get_allocated,
    .set_eoa = driver_set_allocated,
    .get_eof = driver_get_written,
    .get_handle = driver_get_handle,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* H5FDregister hands out a new number each time; the one in use stays valid until HDF5 itself ends. */
static hid_t driver_number(void)
{
    static hid_t number = H5I_INVALID_HID;
    if (number < 0 || H5Iis_valid(number) <= 0) number = H5FDregister(&driver);
    return number;
}

hid_t ls_hdf5_driver_access(void)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0) return access;
    /* In this format all of HDF5's metadata carries checksums: damage is found before it is believed. */
    if (H5Pset_driver(access, driver_number(), NULL) >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0)
        return access;
    (void)H5Pclose(access);
    return H5I_INVALID_HID;
}

int ls_hdf5_driver_error(hid_t file)
{
    void *handle = NULL;
    int error = 0;
    const hid_t access = H5Fget_access_plist(file);
    if (access < 0) return 0;
    if (H5Pget_driver(access) == driver_number() && H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) >= 0)
        error = *(const int *)handle;
    (void)H5Pclose(access);
    return error;
}

int ls_hdf5_driver_closed_error(void)
{
    const int error = closed_error;
    closed_error = 0;
    return error;
}
