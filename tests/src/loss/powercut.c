/*
 * A disk that forgets: an LD_PRELOAD layer for the loss test's power cuts.
 *
 * SIGKILL leaves the page cache alone, so it cannot show a missing fsync. This layer keeps, for every
 * file below EIDER_POWERCUT_DATA, what each write since the file's last fsync replaced and what it
 * wrote, in a journal in EIDER_POWERCUT_JOURNAL. After the kill the test takes back those writes, all
 * or some (powercut.rs): what a disk may show after the power was cut.
 *
 * A journal record: u64 offset, u64 size of the file before, u32 length of old bytes, u32 length of
 * new bytes, the old bytes, the new bytes. A truncation is a record without new bytes and with the
 * bytes it cut off as old ones.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES_MAX 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journals[FILES_MAX]; /* by file descriptor: 0 unknown, -1 not ours, else journal + 1 */

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_close)(int);

__attribute__((constructor)) static void resolve(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_close = dlsym(RTLD_NEXT, "close");
}

static int open_journal(int fd) {
    const char *data = getenv("EIDER_POWERCUT_DATA");
    const char *directory = getenv("EIDER_POWERCUT_JOURNAL");
    char link[64], path[PATH_MAX], journal[PATH_MAX];
    struct stat st;
    if (!data || !directory || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return -1;
    path[length] = 0;
    size_t prefix = strlen(data);
    if (strncmp(path, data, prefix) != 0 || path[prefix] != '/' || strchr(path + prefix + 1, '/')) return -1;
    /* The index of SQLite's log is memory that is made anew after a crash. */
    if (length > 4 && strcmp(path + length - 4, "-shm") == 0) return -1;
    snprintf(journal, sizeof journal, "%s/%s", directory, path + prefix + 1);
    return open(journal, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The journal of a file, or -1 for a file that is none of ours. */
static int journal_of(int fd) {
    if (fd < 0 || fd >= FILES_MAX) return -1;
    if (journals[fd] == 0) {
        int journal = open_journal(fd);
        journals[fd] = journal < 0 ? -1 : journal + 1;
    }
    return journals[fd] < 0 ? -1 : journals[fd] - 1;
}

static void note(int fd, int journal, uint64_t offset, const void *bytes, size_t length, uint64_t cut) {
    struct stat st;
    if (fstat(fd, &st) != 0) return;
    uint64_t size = (uint64_t)st.st_size;
    uint64_t replaced = cut ? cut : (offset >= size ? 0 : size - offset < length ? size - offset : length);
    unsigned char *record = malloc(24 + replaced + length);
    if (!record) abort();
    ssize_t old = replaced ? pread(fd, record + 24, replaced, (off_t)offset) : 0;
    uint32_t old_length = old > 0 ? (uint32_t)old : 0, new_length = (uint32_t)length;
    memcpy(record, &offset, 8);
    memcpy(record + 8, &size, 8);
    memcpy(record + 16, &old_length, 4);
    memcpy(record + 20, &new_length, 4);
    if (length) memcpy(record + 24 + old_length, bytes, length);
    size_t all = 24 + old_length + length;
    if (real_write(journal, record, all) != (ssize_t)all) abort();
    free(record);
}

static ssize_t noted_pwrite(int fd, const void *bytes, size_t length, off64_t offset) {
    pthread_mutex_lock(&lock);
    int journal = journal_of(fd);
    if (journal >= 0) note(fd, journal, (uint64_t)offset, bytes, length, 0);
    ssize_t written = real_pwrite(fd, bytes, length, offset);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return noted_pwrite(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return noted_pwrite(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fd <= 2 || fd >= FILES_MAX || journals[fd] == -1) return real_write(fd, bytes, length);
    pthread_mutex_lock(&lock);
    int journal = journal_of(fd);
    if (journal >= 0) note(fd, journal, (uint64_t)lseek(fd, 0, SEEK_CUR), bytes, length, 0);
    ssize_t written = real_write(fd, bytes, length);
    pthread_mutex_unlock(&lock);
    return written;
}

static int noted_truncate(int fd, off64_t size) {
    pthread_mutex_lock(&lock);
    int journal = journal_of(fd);
    struct stat st;
    if (journal >= 0 && fstat(fd, &st) == 0 && st.st_size > size)
        note(fd, journal, (uint64_t)size, NULL, 0, (uint64_t)(st.st_size - size));
    int result = real_ftruncate(fd, size);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate64(int fd, off64_t size) { return noted_truncate(fd, size); }
int ftruncate(int fd, off_t size) { return noted_truncate(fd, size); }

static int synced(int fd, int (*sync)(int)) {
    pthread_mutex_lock(&lock);
    int result = sync(fd);
    int journal = journal_of(fd);
    if (result == 0 && journal >= 0 && real_ftruncate(journal, 0) != 0) abort();
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int close(int fd) {
    if (fd >= 0 && fd < FILES_MAX) {
        pthread_mutex_lock(&lock);
        int journal = journals[fd];
        journals[fd] = 0;
        pthread_mutex_unlock(&lock);
        if (journal > 0) real_close(journal - 1);
    }
    return real_close(fd);
}
