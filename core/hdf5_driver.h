/* How our HDF5 files are written: a file driver that remembers a failed write instead of reporting it.
 *
 * HDF5 1.10 loses its footing when a write fails while it flushes or closes (a full disk): H5Fclose dereferences freed
 * memory, or succeeds although data were lost. This driver therefore tells HDF5 that every write went well, keeps the
 * first errno, and core/hdf5_file.c asks for it after each dataset and after the close. */
#ifndef LS_CORE_HDF5_DRIVER_H
#define LS_CORE_HDF5_DRIVER_H

#include <hdf5.h>

/* A file access property list that uses the driver; close it with H5Pclose. Negative when HDF5 refuses. */
hid_t ls_hdf5_driver_access(void);
/* errno of the first failed write to the open `file`; 0: none so far, or the file has another driver. */
int ls_hdf5_driver_error(hid_t file);
/* The same for the file this thread closed last. Reading it resets it. */
int ls_hdf5_driver_closed_error(void);

#endif
