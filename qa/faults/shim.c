/* Preloaded under a process by the fault tests: counts the calls that change (or read) files below a folder, and does
 * something to the K-th. What to do stands in a page that shim.py maps as well (struct page is its FaultPage). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE, KILL, KILLMID, NOSPACE, EIO_ONCE, SHORT, EINTR_ONCE, ZERO, TRUNCATE, SCRIBBLE, SWAP, SIGNAL, PAUSE };
enum { DATA = 1, SPACE = 2, WAITS = 4, READS = 8 }; /* moves bytes, needs room, may say EINTR, reads */
enum { PASS, FAIL, HALF, NOTHING, THEN_DIE };
enum { ENTRIES = 8192 };

struct entry { char name[20]; uint32_t flags; char path[104]; };
struct page {
    int32_t armed, mode, reads, value; /* value: a signal, or the place in per cent of the file */
    int64_t at, count, fired;
    char prefix[512], other[512]; /* other: folder with what is swapped in */
    char only[24]; /* calls of this name alone are counted */
    int64_t no_exchange; /* this file system cannot swap two names */
    struct entry log[ENTRIES];
};

static struct page *page;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("FAULT_PAGE");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0)
        return;
    void *found = (void *)syscall(SYS_mmap, 0, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    page = found == MAP_FAILED ? NULL : found;
    syscall(SYS_close, fd);
}

/* Paths */

static const char *of_fd(int fd, char *out, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
    out[length > 0 ? length : 0] = 0;
    return out;
}

static const char *of_path(int folder, const char *path, char *out, size_t size)
{
    if (path == NULL || path[0] == 0)
        return of_fd(folder, out, size);
    if (path[0] == '/') {
        snprintf(out, size, "%s", path);
        return out;
    }
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, out, size) < 0)
            out[0] = 0;
    } else {
        of_fd(folder, out, size);
    }
    size_t length = strlen(out);
    snprintf(out + length, size - length, "/%s", path);
    return out;
}

/* What is done to a file that is being read */

static void scribble(const char *path)
{
    struct stat status;
    char byte;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        off_t place = (status.st_size - 1) * page->value / 100;
        syscall(SYS_pread64, fd, &byte, 1, place);
        byte ^= 0x55;
        syscall(SYS_pwrite64, fd, &byte, 1, place);
    }
    syscall(SYS_close, fd);
}

static void tamper(const char *path)
{
    struct stat status;
    char other[1100];
    if (page->mode == TRUNCATE && stat(path, &status) == 0)
        syscall(SYS_truncate, path, (status.st_size - 1) * page->value / 100);
    if (page->mode == SCRIBBLE)
        scribble(path);
    if (page->mode == SWAP) {
        const char *name = strrchr(path, '/');
        snprintf(other, sizeof other, "%s%s", page->other, name ? name : path);
        syscall(SYS_renameat2, AT_FDCWD, other, AT_FDCWD, path, 0);
    }
}

static void rest(void)
{
    struct timespec moment = {0, 1000000};
    while (__atomic_load_n(&page->armed, __ATOMIC_SEQ_CST))
        nanosleep(&moment, NULL);
}

/* The K-th call */

static int applies(int flags)
{
    switch (page->mode) {
    case NONE: return 0;
    case NOSPACE: return flags & SPACE;
    case SHORT: case ZERO: return flags & DATA;
    case EINTR_ONCE: return flags & WAITS;
    default: return 1;
    }
}

static int act(const char *path, int flags)
{
    __atomic_add_fetch(&page->fired, 1, __ATOMIC_SEQ_CST);
    switch (page->mode) {
    case KILL: kill(getpid(), SIGKILL); return PASS;
    case KILLMID: return THEN_DIE;
    case NOSPACE: errno = ENOSPC; return FAIL;
    case EIO_ONCE: errno = EIO; return FAIL;
    case EINTR_ONCE: errno = EINTR; return FAIL;
    case SHORT: return HALF;
    case ZERO: return NOTHING;
    case SIGNAL: kill(getpid(), page->value); return PASS;
    case PAUSE: rest(); return PASS;
    default: tamper(path); return PASS;
    }
}

static int enter(const char *name, const char *path, int flags)
{
    if (page == NULL || !page->armed || strncmp(path, page->prefix, strlen(page->prefix)) != 0 ||
        !(flags & READS) != !page->reads || (page->only[0] && strcmp(name, page->only) != 0))
        return PASS;
    int64_t number = __atomic_add_fetch(&page->count, 1, __ATOMIC_SEQ_CST);
    if (number <= ENTRIES) {
        struct entry *entry = &page->log[number - 1];
        size_t length = strlen(path), most = sizeof entry->path - 1;
        snprintf(entry->name, sizeof entry->name, "%s", name);
        snprintf(entry->path, sizeof entry->path, "%s", length > most ? path + length - most : path);
        entry->flags = flags;
    }
    int hit = page->mode == NOSPACE ? number >= page->at : number == page->at;
    return hit && applies(flags) ? act(path, flags) : PASS;
}

static long leave(int todo, long result)
{
    if (todo == THEN_DIE)
        kill(getpid(), SIGKILL);
    return result;
}

static size_t part(int todo, size_t length)
    { return (todo == HALF || todo == THEN_DIE) && length > 1 ? length / 2 : length; }

#define BEGIN(name, where, flags) \
    char room[1024]; \
    int todo = enter(name, where, flags); \
    if (todo == FAIL) return -1; \
    if (todo == NOTHING) return 0
#define FD(fd) of_fd(fd, room, sizeof room)
#define AT(folder, path) of_path(folder, path, room, sizeof room)
#define CALL(name, where, flags, ...) BEGIN(name, where, flags); return leave(todo, syscall(__VA_ARGS__))
#define ALSO(other, name) extern __typeof__(name) other __attribute__((alias(#name)))

/* Opening */

static int open_any(const char *name, int folder, const char *path, int flags, int mode)
{
    int writes = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
    BEGIN(name, AT(folder, path), WAITS | (writes ? 0 : READS) | (flags & O_CREAT ? SPACE : 0));
    return leave(todo, syscall(SYS_openat, folder, path, flags, mode));
}
#define MODE(last) int mode = 0; va_list more; va_start(more, last); \
    if (last & (O_CREAT | __O_TMPFILE)) mode = va_arg(more, int); va_end(more)
int open(const char *path, int flags, ...) { MODE(flags); return open_any("open", AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...)
    { MODE(flags); return open_any("openat", folder, path, flags, mode); }
int creat(const char *path, mode_t mode)
    { return open_any("creat", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
ALSO(open64, open); ALSO(openat64, openat); ALSO(creat64, creat);

/* Writing */

ssize_t write(int fd, const void *data, size_t length)
    { CALL("write", FD(fd), DATA | SPACE | WAITS, SYS_write, fd, data, part(todo, length)); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
    { CALL("pwrite", FD(fd), DATA | SPACE | WAITS, SYS_pwrite64, fd, data, part(todo, length), offset); }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    BEGIN("pwritev", FD(fd), DATA | SPACE | WAITS);
    if (todo != PASS)
        return leave(todo, syscall(SYS_pwrite64, fd, parts[0].iov_base, part(todo, parts[0].iov_len), offset));
    return syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
    { return pwritev2(fd, parts, count, offset, 0); }
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    BEGIN("writev", FD(fd), DATA | SPACE | WAITS);
    if (todo != PASS)
        return leave(todo, syscall(SYS_write, fd, parts[0].iov_base, part(todo, parts[0].iov_len)));
    return syscall(SYS_writev, fd, parts, count);
}
ALSO(pwrite64, pwrite); ALSO(pwritev64, pwritev); ALSO(pwritev64v2, pwritev2);

/* Copies read one file and write the other: which of both is meant stands in the page. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags)
{
    int reads = page && page->reads;
    BEGIN("copy_file_range", FD(reads ? in : out), DATA | WAITS | (reads ? READS : SPACE));
    return leave(todo, syscall(SYS_copy_file_range, in, from, out, to, part(todo, length), flags));
}
ssize_t sendfile(int out, int in, off_t *from, size_t length)
{
    int reads = page && page->reads;
    BEGIN("sendfile", FD(reads ? in : out), DATA | WAITS | (reads ? READS : SPACE));
    return leave(todo, syscall(SYS_sendfile, out, in, from, part(todo, length)));
}
ALSO(sendfile64, sendfile);

/* Reading */

ssize_t read(int fd, void *data, size_t length)
    { CALL("read", FD(fd), DATA | WAITS | READS, SYS_read, fd, data, part(todo, length)); }
ssize_t pread(int fd, void *data, size_t length, off_t offset)
    { CALL("pread", FD(fd), DATA | WAITS | READS, SYS_pread64, fd, data, part(todo, length), offset); }
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    BEGIN("preadv", FD(fd), DATA | WAITS | READS);
    if (todo != PASS)
        return leave(todo, syscall(SYS_pread64, fd, parts[0].iov_base, part(todo, parts[0].iov_len), offset));
    return syscall(SYS_preadv2, fd, parts, count, offset, 0, flags);
}
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t offset)
    { return preadv2(fd, parts, count, offset, 0); }
ssize_t readv(int fd, const struct iovec *parts, int count)
{
    BEGIN("readv", FD(fd), DATA | WAITS | READS);
    if (todo != PASS)
        return leave(todo, syscall(SYS_read, fd, parts[0].iov_base, part(todo, parts[0].iov_len)));
    return syscall(SYS_readv, fd, parts, count);
}
ssize_t __read_chk(int fd, void *data, size_t length, size_t room) { return read(fd, data, length); }
ssize_t __pread_chk(int fd, void *data, size_t length, off_t offset, size_t room)
    { return pread(fd, data, length, offset); }
ALSO(pread64, pread); ALSO(preadv64, preadv); ALSO(preadv64v2, preadv2); ALSO(__pread64_chk, __pread_chk);

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    char room[1024];
    if (fd >= 0 && enter("mmap", FD(fd), READS) == FAIL)
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
ALSO(mmap64, mmap);

/* Sizes, room, the way to the disk */

int ftruncate(int fd, off_t size) { CALL("ftruncate", FD(fd), WAITS, SYS_ftruncate, fd, size); }
int truncate(const char *path, off_t size) { CALL("truncate", AT(AT_FDCWD, path), WAITS, SYS_truncate, path, size); }
int fallocate(int fd, int mode, off_t offset, off_t size)
    { CALL("fallocate", FD(fd), SPACE | WAITS, SYS_fallocate, fd, mode, offset, size); }
int posix_fallocate(int fd, off_t offset, off_t size) { return fallocate(fd, 0, offset, size) ? errno : 0; }
int fsync(int fd) { CALL("fsync", FD(fd), WAITS, SYS_fsync, fd); }
int fdatasync(int fd) { CALL("fdatasync", FD(fd), WAITS, SYS_fdatasync, fd); }
int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
    { CALL("sync_file_range", FD(fd), 0, SYS_sync_file_range, fd, offset, size, flags); }
int flock(int fd, int operation) { CALL("flock", FD(fd), WAITS, SYS_flock, fd, operation); }
ALSO(ftruncate64, ftruncate); ALSO(truncate64, truncate);
ALSO(fallocate64, fallocate); ALSO(posix_fallocate64, posix_fallocate);

/* Names */

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    if (page && page->armed && page->no_exchange && flags & RENAME_EXCHANGE) {
        errno = EINVAL;
        return -1;
    }
    CALL(flags ? "renameat2" : "rename", AT(to, new), SPACE, SYS_renameat2, from, old, to, new, flags);
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags)
    { CALL("link", AT(to, new), SPACE, SYS_linkat, from, old, to, new, flags); }
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int symlinkat(const char *target, int folder, const char *path)
    { CALL("symlink", AT(folder, path), SPACE, SYS_symlinkat, target, folder, path); }
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }
int unlinkat(int folder, const char *path, int flags)
    { CALL(flags & AT_REMOVEDIR ? "rmdir" : "unlink", AT(folder, path), 0, SYS_unlinkat, folder, path, flags); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int folder, const char *path, mode_t mode)
    { CALL("mkdir", AT(folder, path), SPACE, SYS_mkdirat, folder, path, mode); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Owners, modes, times */

int fchmodat(int folder, const char *path, mode_t mode, int flags)
    { CALL("chmod", AT(folder, path), 0, SYS_fchmodat, folder, path, mode); }
int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
int fchmod(int fd, mode_t mode) { CALL("fchmod", FD(fd), 0, SYS_fchmod, fd, mode); }
int fchownat(int folder, const char *path, uid_t user, gid_t group, int flags)
    { CALL("chown", AT(folder, path), 0, SYS_fchownat, folder, path, user, group, flags); }
int chown(const char *path, uid_t user, gid_t group) { return fchownat(AT_FDCWD, path, user, group, 0); }
int lchown(const char *path, uid_t user, gid_t group)
    { return fchownat(AT_FDCWD, path, user, group, AT_SYMLINK_NOFOLLOW); }
int fchown(int fd, uid_t user, gid_t group) { CALL("fchown", FD(fd), 0, SYS_fchown, fd, user, group); }
int utimensat(int folder, const char *path, const struct timespec times[2], int flags)
    { CALL("utimens", AT(folder, path), 0, SYS_utimensat, folder, path, times, flags); }
int futimens(int fd, const struct timespec times[2]) { CALL("utimens", FD(fd), 0, SYS_utimensat, fd, NULL, times, 0); }
