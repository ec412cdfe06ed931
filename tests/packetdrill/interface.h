/* The table through which packetdrill drives a stack that is not its own kernel (its option --so_filename): the layout alone, in our
 * words, so that nothing of packetdrill is needed to build. A library exports packetdrill_interface_init, which fills the table; every
 * member gets `userdata` back as its first argument. Calls return what the system call of their name returns, with errno.
 *
 * netdev_send puts one IP packet into the stack. netdev_receive waits for the next one out: *count is the room and becomes the length,
 * *time_usecs when it left, on the clock of gettimeofday. Members must stay in this order. */
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct packetdrill_interface {
	void *userdata;
	void (*free)(void *ud);
	int (*socket)(void *ud, int domain, int type, int protocol);
	int (*bind)(void *ud, int fd, const struct sockaddr *addr, socklen_t n);
	int (*listen)(void *ud, int fd, int backlog);
	int (*accept)(void *ud, int fd, struct sockaddr *addr, socklen_t *n);
	int (*connect)(void *ud, int fd, const struct sockaddr *addr, socklen_t n);
	ssize_t (*read)(void *ud, int fd, void *buf, size_t n);
	ssize_t (*readv)(void *ud, int fd, const struct iovec *iov, int n);
	ssize_t (*recv)(void *ud, int fd, void *buf, size_t n, int flags);
	ssize_t (*recvfrom)(void *ud, int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *n_addr);
	ssize_t (*recvmsg)(void *ud, int fd, struct msghdr *msg, int flags);
	ssize_t (*write)(void *ud, int fd, const void *buf, size_t n);
	ssize_t (*writev)(void *ud, int fd, const struct iovec *iov, int n);
	ssize_t (*send)(void *ud, int fd, const void *buf, size_t n, int flags);
	ssize_t (*sendto)(void *ud, int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t n_addr);
	ssize_t (*sendmsg)(void *ud, int fd, const struct msghdr *msg, int flags);
	int (*fcntl)(void *ud, int fd, int cmd, ...);
	int (*ioctl)(void *ud, int fd, unsigned long request, ...);
	int (*close)(void *ud, int fd);
	int (*shutdown)(void *ud, int fd, int how);
	int (*getsockopt)(void *ud, int fd, int level, int name, void *value, socklen_t *n);
	int (*setsockopt)(void *ud, int fd, int level, int name, const void *value, socklen_t n);
	int (*poll)(void *ud, struct pollfd *fds, nfds_t n, int timeout_ms);
	int (*netdev_send)(void *ud, const void *packet, size_t n);
	int (*netdev_receive)(void *ud, void *packet, size_t *count, long long *time_usecs);
	int (*usleep)(void *ud, useconds_t us);
	int (*gettimeofday)(void *ud, struct timeval *tv, struct timezone *tz);
	int (*epoll_create)(void *ud, int size);
	int (*epoll_ctl)(void *ud, int epfd, int op, int fd, struct epoll_event *event);
	int (*epoll_wait)(void *ud, int epfd, struct epoll_event *events, int n_max, int timeout_ms);
	int (*pipe)(void *ud, int fds[2]);
	int (*splice)(void *ud, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out, size_t n, unsigned int flags);
};

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *ifc);
