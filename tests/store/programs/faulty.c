/* A library to preload: the n-th change below one folder fails, is cut short, is made and denied, or kills the process.

   Whoever makes the change (Python, ctypes, SQLite, DuckDB) goes through the C library, and so through here.
   Says on a descriptor which operation it was. Linux only. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, FAIL_ONCE, FAIL_ON, KILL, CUT, DENY };

static char root[PATH_MAX];
static size_t root_length;
static enum mode mode = OFF;
static long target;
static int code, report_fd;
static atomic_long count;

void faulty_arm(const char *folder, long number, int how, int error, int report) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    target = number, code = error, report_fd = report;
    atomic_store(&count, 0);
    mode = (enum mode)how;
}

long faulty_count(void) { return atomic_load(&count); }

static int is_inside(const char *path) {
    return mode != OFF && path && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}

/* SQLite's shared memory: no data, and half of all operations. */
static int is_memory(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

static int is_file_inside(int fd, char *path) {
    char link[64];
    if (mode == OFF || fd == report_fd) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_inside(path) && !is_memory(path);
}

/* 0: go on. 1: fail with errno set. 2: take half of it. 3: do it, and say that it failed. */
static int happens(const char *operation, const char *path) {
    long number = atomic_fetch_add(&count, 1) + 1;
    if (number < target || (number > target && mode != FAIL_ON)) return 0;
    if (number == target) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "fired %s %s\n", operation, path + root_length);
        syscall(SYS_write, report_fd, line, (size_t)length);
    }
    if (mode == KILL) syscall(SYS_kill, getpid(), SIGKILL), pause();
    if (mode == CUT) return 2;
    if (mode == DENY) return 3;
    errno = code;
    return 1;
}

static int denied(void) {
    errno = code;
    return -1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define ON_PATH(result, name, parameters, path, arguments) \
    result name parameters { \
        REAL(name); \
        if (is_inside(path)) switch (happens(#name, path)) { \
            case 1: return -1; \
            case 3: real arguments; return denied(); \
        } \
        return real arguments; \
    }

#define ON_FILE(name, parameters, arguments) \
    int name parameters { \
        char path[PATH_MAX]; \
        REAL(name); \
        if (is_file_inside(fd, path)) switch (happens(#name, path)) { \
            case 1: return -1; \
            case 3: real arguments; return denied(); \
        } \
        return real arguments; \
    }

ON_PATH(int, rename, (const char *from, const char *to), to, (from, to))
ON_PATH(int, renameat, (int a, const char *from, int b, const char *to), to, (a, from, b, to))
ON_PATH(int, link, (const char *from, const char *to), to, (from, to))
ON_PATH(int, linkat, (int a, const char *from, int b, const char *to, int flags), to, (a, from, b, to, flags))
ON_PATH(int, unlink, (const char *path), path, (path))
ON_PATH(int, mkdir, (const char *path, mode_t bits), path, (path, bits))
ON_PATH(int, rmdir, (const char *path), path, (path))
ON_PATH(int, chmod, (const char *path, mode_t bits), path, (path, bits))
ON_PATH(int, truncate, (const char *path, off_t size), path, (path, size))
ON_FILE(fsync, (int fd), (fd))
ON_FILE(fdatasync, (int fd), (fd))
ON_FILE(ftruncate, (int fd, off_t size), (fd, size))
ON_FILE(ftruncate64, (int fd, off64_t size), (fd, size))
ON_FILE(fallocate, (int fd, int how, off_t start, off_t size), (fd, how, start, size))

#define ON_OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t bits = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        REAL(name); \
        if (is_inside(path) && !is_memory(path)) switch (happens(#name, path)) { \
            case 1: return -1; \
            case 3: close(real(path, flags, bits)); return denied(); \
        } \
        return real(path, flags, bits); \
    }

ON_OPEN(open)
ON_OPEN(open64)

#define ON_WRITE(name, parameters, short_arguments, arguments) \
    ssize_t name parameters { \
        char path[PATH_MAX]; \
        REAL(name); \
        if (is_file_inside(fd, path)) switch (happens(#name, path)) { \
            case 1: return -1; \
            case 2: if (size > 1) return real short_arguments; else break; \
            case 3: real arguments; return denied(); \
        } \
        return real arguments; \
    }

ON_WRITE(write, (int fd, const void *data, size_t size), (fd, data, size / 2), (fd, data, size))
ON_WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size / 2, at), (fd, data, size, at))
ON_WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size / 2, at), (fd, data, size, at))
