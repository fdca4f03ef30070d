#include "kern/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

enum { STATS_MAX = 1024, STATS_NAME_MAX = 256 };

int kvm_ioctl(int fd, unsigned long request, const void *argument)
{
	int r;

	do {
		r = ioctl(fd, request, argument);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_ioctl_value(int fd, unsigned long request, unsigned long value)
{
	return kvm_ioctl(fd, request, (const void *) value);
}

int kvm_open(int fd)
{
	AUTO(fd_close) int kvm_fd = -1;
	int version;

	if (fd >= 0)
		kvm_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	else
		kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0)
		return -errno;
	version = kvm_ioctl_value(kvm_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return version;
	if (version != KVM_API_VERSION)
		return -ENOTSUP;
	return TAKE_FD(kvm_fd);
}

int kvm_check(int fd, int capability)
{
	int r = kvm_ioctl_value(fd, KVM_CHECK_EXTENSION, (unsigned long) capability);

	return r < 0 ? 0 : r;
}

static int cloexec(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

int kvm_vm_new(int kvm_fd)
{
	return cloexec(kvm_ioctl_value(kvm_fd, KVM_CREATE_VM, 0));
}

int kvm_vcpu_new(int vm_fd, unsigned int id)
{
	return cloexec(kvm_ioctl_value(vm_fd, KVM_CREATE_VCPU, id));
}

int kvm_run_size(int kvm_fd)
{
	return kvm_ioctl_value(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
}

int kvm_memory_set(int vm_fd, unsigned int slot, uint64_t guest_address, uint64_t size_bytes,
		   void *host, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = guest_address,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t) host,
	};

	return kvm_ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

int kvm_irqchip_new(int vm_fd, uint64_t tss_address, uint64_t identity_address)
{
	int r = kvm_ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_address);

	if (r == 0)
		r = kvm_ioctl_value(vm_fd, KVM_SET_TSS_ADDR, tss_address);
	if (r == 0)
		r = kvm_ioctl_value(vm_fd, KVM_CREATE_IRQCHIP, 0);
	return r;
}

int kvm_routes_set(int vm_fd, const struct kvm_irq_routing *routes)
{
	return kvm_ioctl(vm_fd, KVM_SET_GSI_ROUTING, routes);
}

int kvm_irqfd(int vm_fd, int fd, unsigned int gsi, bool assign)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t) fd,
		.gsi = gsi,
		.flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_ioctl(vm_fd, KVM_IRQFD, &irqfd);
}

int kvm_irq_line(int vm_fd, unsigned int gsi, bool up)
{
	struct kvm_irq_level level = { .irq = gsi, .level = up };

	return kvm_ioctl(vm_fd, KVM_IRQ_LINE, &level);
}

int kvm_ioeventfd(int vm_fd, uint64_t address, unsigned int size, int fd, int match, bool port_io,
		  bool assign)
{
	struct kvm_ioeventfd ioeventfd = {
		.addr = address,
		.len = size,
		.fd = fd,
		.datamatch = match >= 0 ? (uint64_t) match : 0,
		.flags = (match >= 0 ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) |
			 (port_io ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
			 (assign ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_ioctl(vm_fd, KVM_IOEVENTFD, &ioeventfd);
}

int kvm_cpuid_supported(int kvm_fd, struct kvm_cpuid2 **ret)
{
	AUTO(free)
	struct kvm_cpuid2 *cpuid = mem_zalloc(
		sizeof(*cpuid) + (size_t) KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
	int r;

	cpuid->nent = KVM_CPUID_MAX;
	r = kvm_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(cpuid);
	return 0;
}

int kvm_cpuid_set(int vcpu_fd, const struct kvm_cpuid2 *cpuid)
{
	return kvm_ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid);
}

int kvm_msr_indices(int kvm_fd, struct kvm_msr_list **ret)
{
	AUTO(free)
	struct kvm_msr_list *list =
		mem_zalloc(sizeof(*list) + KVM_MSRS_MAX * sizeof(list->indices[0]));
	int r;

	list->nmsrs = KVM_MSRS_MAX;
	r = kvm_ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(list);
	return 0;
}

/* A list of one. */
union one_msr {
	struct kvm_msrs list;
	char space[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

int kvm_msr_get(int vcpu_fd, struct kvm_msr_entry *entry)
{
	union one_msr one = { .list.nmsrs = 1 };
	int r;

	memcpy(one.space + sizeof(one.list), entry, sizeof(*entry));
	r = kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &one);
	if (r != 1)
		return r < 0 ? r : -EINVAL;
	memcpy(entry, one.space + sizeof(one.list), sizeof(*entry));
	return 0;
}

int kvm_msr_set(int vcpu_fd, const struct kvm_msr_entry *entry)
{
	union one_msr one = { .list.nmsrs = 1 };
	int r;

	memcpy(one.space + sizeof(one.list), entry, sizeof(*entry));
	r = kvm_ioctl(vcpu_fd, KVM_SET_MSRS, &one);
	return r < 0 ? r : r == 1 ? 0 : -EINVAL;
}

int kvm_stats_open(int fd)
{
	return cloexec(kvm_ioctl_value(fd, KVM_GET_STATS_FD, 0));
}

int kvm_stats_read(int stats_fd, kvm_stat_fn fn, void *data)
{
	struct kvm_stats_header header;
	AUTO(free) char *descriptors = NULL;
	size_t one, size;

	if (pread(stats_fd, &header, sizeof(header), 0) != sizeof(header))
		return -EIO;
	if (header.num_desc > STATS_MAX || header.name_size > STATS_NAME_MAX)
		return -EPROTO;
	one = sizeof(struct kvm_stats_desc) + header.name_size;
	size = one * header.num_desc;
	descriptors = mem_zalloc(size + 1);
	if (pread(stats_fd, descriptors, size, header.desc_offset) != (ssize_t) size)
		return -EIO;
	for (uint32_t i = 0; i < header.num_desc; i++) {
		struct kvm_stats_desc descriptor;
		char name[STATS_NAME_MAX + 1] = "";
		uint64_t value;

		memcpy(&descriptor, descriptors + i * one, sizeof(descriptor));
		memcpy(name, descriptors + i * one + sizeof(descriptor), header.name_size);
		if (descriptor.size != 1)
			continue;
		if (pread(stats_fd, &value, sizeof(value),
			  (off_t) header.data_offset + descriptor.offset) != sizeof(value))
			return -EIO;
		fn(data, name, value);
	}
	return 0;
}
