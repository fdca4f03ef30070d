#include "vmm/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/cpuid.h"
#include "vmm/options_internal.h"

static const char help[] =
	"Usage: brume-vmm --kernel FILE [OPTION...]\n"
	"       brume-vmm ctl SOCKET METHOD [ARGUMENT]   (see brume-vmm ctl --help)\n"
	"\n"
	"One virtual machine on /dev/kvm.  Where FILE stands, fd:N is a descriptor that was "
	"inherited.\n"
	"\n"
	"  --kernel FILE           an ELF vmlinux with a PVH entry, or a bzImage\n"
	"  --initrd FILE           an initramfs; more of them are loaded one behind the other\n"
	"  --append WORDS          the kernel's command line\n"
	"  --cpus N                1 to 64 (default 1)\n"
	"  --memory SIZE[,WORD...] like 512M or 4G (default 256M); words: overcommit (more than "
	"the host\n"
	"                          has), thp, mergeable, hugepages=2M or hugepages=1G\n"
	"  --cpu-baseline NAME     what the CPUs show: host (default), x86-64-v2, x86-64-v3\n"
	"  --disk FILE[,WORD...]   a raw disk; words: ro, id=NAME, serial=NAME, queues=N (1 to "
	"16),\n"
	"                          ops=N, bytes=N (per second)\n"
	"  --net TAP[,WORD...]     a network card; TAP: tap=NAME or fd:N; words: id=NAME, mac=M,\n"
	"                          mtu=N, queues=N (1 to 8, with tap=NAME), ops=N, bytes=N (per "
	"second)\n"
	"  --port name=NAME,fd=N   a named virtio-serial port; in=N for a descriptor to read from\n"
	"  --console WHERE         hvc0: stdio, fd:N, or a file for its last 64 KiB\n"
	"  --serial WHERE          ttyS0: stdio, none (default), or FILE\n"
	"  --vsock cid=N,path=P    a virtio-vsock device; its host side is the Unix socket P\n"
	"  --no-balloon            no balloon device\n"
	"  --control PATH          the control socket\n"
	"  --status FILE           how the guest's command ended, or why there is no guest\n"
	"  --metrics FILE          counters, as JSON, at the end\n"
	"  --log FILE              the monitor's own messages (default: standard error)\n"
	"  --no-reboot             end when the guest restarts\n"
	"  --paused                wait for resume on the control socket\n"
	"  --no-jail               do not limit the process itself (for debuggers)\n"
	"  --kvm FILE              instead of /dev/kvm\n"
	"  --version, --help\n"
	"\n"
	"Examples:\n"
	"  brume-vmm --kernel vmlinuz --initrd initrd.img --append console=hvc0 --console stdio\n"
	"  brume-vmm --kernel vmlinux --cpus 4 --memory 2G --disk root.img,serial=root \\\n"
	"            --net tap=tap0,mac=02:00:00:00:00:01 --append 'console=hvc0 root=/dev/vda'\n"
	"  brume-vmm ctl control.sock add_disk data.img,serial=data\n"
	"\n"
	"Exit codes: 0 the guest has powered off, 1 failed, 2 usage, 3 the guest asked for a "
	"restart\n"
	"(--no-reboot), 4 triple fault or kernel panic.\n";

/* ---- texts and descriptors that live as long as the options ---- */

char *options_keep(struct options *options, char *text)
{
	if (options->text_count < OPTIONS_TEXTS_MAX)
		return options->texts[options->text_count++] = text;
	free(text);
	return NULL;
}

int options_keep_fd(struct options *options, int fd, struct error *err)
{
	if (fd >= 0 && options->fd_count == OPTIONS_FDS_MAX) {
		close(fd);
		return error_say(err, -EINVAL, "too many files");
	}
	if (fd >= 0)
		options->fds[options->fd_count++] = fd;
	return fd;
}

int options_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
		   struct error *err)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < min || value > max)
		return error_say(err, -EINVAL, "%s: '%.40s' is not a number from %llu to %llu",
				 option, text, (unsigned long long) min, (unsigned long long) max);
	*ret = value;
	return 0;
}

int options_size(const char *option, const char *text, uint64_t *ret, struct error *err)
{
	static const char units[] = "KMGT";
	unsigned int shift = 0;
	unsigned long long value;
	const char *unit;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit)
		shift = 10 * (unsigned int) (unit - units + 1);
	if (*text < '0' || *text > '9' || errno || (*end && (!unit || end[1])) ||
	    value > UINT64_MAX >> shift)
		return error_say(err, -EINVAL, "%s: '%.40s' is not a size like 512M or 4G", option,
				 text);
	*ret = (uint64_t) value << shift;
	return 0;
}

int options_open(struct options *options, const char *option, const char *name, int flags,
		 struct error *err)
{
	uint64_t number;
	int fd, r;

	if (strncmp(name, "fd:", 3) == 0) {
		r = options_number(option, name + 3, 0, INT32_MAX, &number, err);
		if (r < 0)
			return r;
		/* A copy: what is inherited may be named twice, and is not close-on-exec. */
		fd = fcntl((int) number, F_DUPFD_CLOEXEC, 3);
	} else {
		fd = open(name, flags | O_CLOEXEC | O_NOCTTY, 0600);
	}
	if (fd < 0)
		return error_set(err, errno == EINVAL ? -EBADF : -errno, "%s %s", option, name);
	return options_keep_fd(options, fd, err);
}

bool options_word(char **at, char **ret_name, char **ret_value)
{
	char *word = *at, *comma, *equals;

	if (!word)
		return false;
	comma = strchr(word, ',');
	*at = comma ? comma + 1 : NULL;
	if (comma)
		*comma = '\0';
	equals = strchr(word, '=');
	if (equals)
		*equals = '\0';
	*ret_name = word;
	*ret_value = equals ? equals + 1 : NULL;
	return true;
}

/* ---- one function for each kind ---- */

static int parse_memory(struct options *options, char *text, struct error *err)
{
	struct guest_memory_options *memory = &options->vm.memory;
	char *name, *value;
	int r;

	options_word(&text, &name, &value);
	r = value ? -EINVAL : options_size("--memory", name, &memory->size_bytes, err);
	if (r < 0)
		return r;
	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "hugepages") == 0 && value)
			r = options_size("--memory hugepages", value, &memory->huge_page_bytes,
					 err);
		else if (strcmp(name, "overcommit") == 0 && !value)
			options->vm.overcommit = true;
		else if (strcmp(name, "thp") == 0 && !value)
			memory->thp = true;
		else if (strcmp(name, "mergeable") == 0 && !value)
			memory->mergeable = true;
		else
			r = error_say(err, -EINVAL,
				      "--memory: unknown word '%.40s'; there are overcommit, thp, "
				      "mergeable and hugepages=SIZE",
				      name);
	}
	return r;
}

int options_add_port(struct options *options, const char *name, int in_fd, int out_fd,
		     struct error *err)
{
	if (options->vm.port_count == VM_PORTS_MAX)
		return error_say(err, -EINVAL, "there can be %d ports", VM_PORTS_MAX);
	options->vm.ports[options->vm.port_count++] = (struct vm_port){ name, in_fd, out_fd, 0 };
	return 0;
}

/* "fd=N": brume.in reads from it, every other port writes to it. */
static int parse_port(struct options *options, char *text, struct error *err)
{
	char *name, *value, *port = NULL;
	uint64_t fd = UINT64_MAX, in = UINT64_MAX;
	int in_fd = -1, out_fd = -1, r = 0;

	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "name") == 0 && value)
			port = value;
		else if (strcmp(name, "fd") == 0 && value)
			r = options_number("--port fd", value, 0, INT32_MAX, &fd, err);
		else if (strcmp(name, "in") == 0 && value)
			r = options_number("--port in", value, 0, INT32_MAX, &in, err);
		else
			r = error_say(err, -EINVAL,
				      "--port: unknown word '%.40s'; like name=brume.out,fd=1",
				      name);
	}
	if (r < 0)
		return r;
	if (!port || !*port || (fd == UINT64_MAX && in == UINT64_MAX))
		return error_say(err, -EINVAL, "--port needs name=NAME and fd=N or in=N");
	if (strcmp(port, "brume.in") == 0 && in == UINT64_MAX) {
		in = fd;
		fd = UINT64_MAX;
	}
	if (fd == STDERR_FILENO)
		options->stderr_taken = true;
	if (fd != UINT64_MAX)
		out_fd = options_keep_fd(options, fcntl((int) fd, F_DUPFD_CLOEXEC, 3), err);
	if (in != UINT64_MAX)
		in_fd = options_keep_fd(options, fcntl((int) in, F_DUPFD_CLOEXEC, 3), err);
	if ((fd != UINT64_MAX && out_fd < 0) || (in != UINT64_MAX && in_fd < 0))
		return error_set(err, -EBADF, "--port %s", port);
	return options_add_port(options, port, in_fd, out_fd, err);
}

static int parse_console(struct options *options, const char *text, struct error *err)
{
	struct vm_config *vm = &options->vm;

	if (strcmp(text, "stdio") == 0) {
		vm->console_in_fd = options_open(options, "--console", "fd:0", 0, err);
		vm->console_out_fd = options_open(options, "--console", "fd:1", 0, err);
		return vm->console_in_fd < 0    ? vm->console_in_fd
		       : vm->console_out_fd < 0 ? vm->console_out_fd
						: 0;
	}
	if (strncmp(text, "fd:", 3) == 0)
		return vm->console_out_fd = options_open(options, "--console", text, 0, err);
	return vm->console_ring_fd =
		       options_open(options, "--console", text, O_RDWR | O_CREAT | O_TRUNC, err);
}

static int parse_serial(struct options *options, const char *text, struct error *err)
{
	struct vm_config *vm = &options->vm;

	if (strcmp(text, "none") == 0)
		return 0;
	vm->serial = true;
	if (strcmp(text, "stdio") == 0) {
		vm->serial_in_fd = options_open(options, "--serial", "fd:0", 0, err);
		text = "fd:1";
	}
	return vm->serial_out_fd =
		       options_open(options, "--serial", text, O_WRONLY | O_CREAT | O_TRUNC, err);
}

static int parse_kernel_file(struct options *options, const char *option, const char *text,
			     struct error *err)
{
	struct boot_options *boot = &options->vm.boot;
	int fd = options_open(options, option, text, O_RDONLY, err);

	if (fd < 0)
		return fd;
	if (strcmp(option, "--kernel") == 0) {
		boot->kernel_fd = fd;
		options->vm.has_kernel = true;
	} else if (boot->initrd_count == BOOT_INITRDS_MAX) {
		return error_say(err, -EINVAL, "there can be %d of --initrd", BOOT_INITRDS_MAX);
	} else {
		boot->initrd_fds[boot->initrd_count++] = fd;
	}
	return 0;
}

/* The file lies in the host's memory, and the guest says what is in it. */
enum { STATUS_BYTES_MAX = 4096 };

static int parse_status(struct options *options, const char *text, struct error *err)
{
	int fd = options_open(options, "--status", text, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
			      err);

	if (fd < 0)
		return fd;
	options->status_fd = fd;
	int r = options_add_port(options, "brume.status", -1, fd, err);
	if (r == 0)
		options->vm.ports[options->vm.port_count - 1].out_max_bytes = STATUS_BYTES_MAX;
	return r;
}

/* ---- all of them ---- */

enum {
	OPT_KERNEL = 1,
	OPT_INITRD,
	OPT_APPEND,
	OPT_CPUS,
	OPT_MEMORY,
	OPT_BASELINE,
	OPT_DISK,
	OPT_NET,
	OPT_PORT,
	OPT_CONSOLE,
	OPT_SERIAL,
	OPT_VSOCK,
	OPT_NO_BALLOON,
	OPT_CONTROL,
	OPT_STATUS,
	OPT_METRICS,
	OPT_LOG,
	OPT_NO_REBOOT,
	OPT_PAUSED,
	OPT_NO_JAIL,
	OPT_KVM,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "kernel", required_argument, NULL, OPT_KERNEL },
	{ "initrd", required_argument, NULL, OPT_INITRD },
	{ "append", required_argument, NULL, OPT_APPEND },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "memory", required_argument, NULL, OPT_MEMORY },
	{ "cpu-baseline", required_argument, NULL, OPT_BASELINE },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "net", required_argument, NULL, OPT_NET },
	{ "port", required_argument, NULL, OPT_PORT },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "serial", required_argument, NULL, OPT_SERIAL },
	{ "vsock", required_argument, NULL, OPT_VSOCK },
	{ "no-balloon", no_argument, NULL, OPT_NO_BALLOON },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "status", required_argument, NULL, OPT_STATUS },
	{ "metrics", required_argument, NULL, OPT_METRICS },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "no-reboot", no_argument, NULL, OPT_NO_REBOOT },
	{ "paused", no_argument, NULL, OPT_PAUSED },
	{ "no-jail", no_argument, NULL, OPT_NO_JAIL },
	{ "kvm", required_argument, NULL, OPT_KVM },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{},
};

struct parsing {
	const char *append, *log;
};

static int parse_cpus(struct options *options, const char *text, struct error *err)
{
	uint64_t cpus;
	int r = options_number("--cpus", text, 1, VM_CPUS_MAX, &cpus, err);

	if (r == 0)
		options->vm.cpus = (unsigned int) cpus;
	return r;
}

static int parse_baseline(struct options *options, const char *text, struct error *err)
{
	if (!cpuid_baseline_known(text))
		return error_say(err, -EINVAL,
				 "--cpu-baseline: there is no '%.40s'; there are host, x86-64-v2 "
				 "and x86-64-v3",
				 text);
	options->vm.baseline = text;
	return 0;
}

/* The ones that say something about the monitor. */
static int parse_outside(struct options *options, int option, char *text, struct parsing *parsing,
			 struct error *err)
{
	switch (option) {
	case OPT_CONTROL:
		if (strncmp(text, "fd:", 3) == 0)
			return options->control_fd =
				       options_open(options, "--control", text, 0, err);
		options->control_path = text;
		return 0;
	case OPT_STATUS:
		return parse_status(options, text, err);
	case OPT_METRICS:
		return options->metrics_fd = options_open(options, "--metrics", text,
							  O_WRONLY | O_CREAT | O_TRUNC, err);
	case OPT_LOG:
		parsing->log = text;
		return 0;
	case OPT_NO_REBOOT:
		options->vm.no_reboot = true;
		return 0;
	case OPT_PAUSED:
		options->paused = true;
		return 0;
	case OPT_NO_JAIL:
		options->no_jail = true;
		return 0;
	default:
		return options->vm.kvm_fd = options_open(options, "--kvm", text, O_RDWR, err);
	}
}

static int parse_one(struct options *options, int option, char *text, struct parsing *parsing,
		     struct error *err)
{
	switch (option) {
	case OPT_KERNEL:
		return parse_kernel_file(options, "--kernel", text, err);
	case OPT_INITRD:
		return parse_kernel_file(options, "--initrd", text, err);
	case OPT_APPEND:
		parsing->append = text;
		return 0;
	case OPT_CPUS:
		return parse_cpus(options, text, err);
	case OPT_MEMORY:
		return parse_memory(options, text, err);
	case OPT_BASELINE:
		return parse_baseline(options, text, err);
	case OPT_PORT:
		return parse_port(options, text, err);
	case OPT_CONSOLE:
		return parse_console(options, text, err);
	case OPT_SERIAL:
		return parse_serial(options, text, err);
	case OPT_DISK:
		return options_device(options, OPTIONS_DISK, "--disk", text, err);
	case OPT_NET:
		return options_device(options, OPTIONS_NET, "--net", text, err);
	case OPT_VSOCK:
		return options_device(options, OPTIONS_VSOCK, "--vsock", text, err);
	case OPT_NO_BALLOON:
		return options_device(options, OPTIONS_NO_BALLOON, "--no-balloon", text, err);
	default:
		return parse_outside(options, option, text, parsing, err);
	}
}

/* Where the guest writes to our standard error, our own words have no business. */
static int redirect_log(struct options *options, const char *where, struct error *err)
{
	int fd;

	if (!where && !options->stderr_taken)
		return 0;
	fd = options_open(options, "--log", where ? where : "/dev/null",
			  O_WRONLY | O_CREAT | O_APPEND, err);
	if (fd < 0)
		return fd;
	return dup2(fd, STDERR_FILENO) < 0 ? error_set(err, -errno, "--log") : 0;
}

static int finish(struct options *options, const struct parsing *parsing, struct error *err)
{
	char *line;

	if (!options->vm.has_kernel)
		return error_say(err, -EINVAL, "--kernel is missing; see --help");
	line = options_keep(options,
			    mem_printf("%s%s%s", BOOT_ARGUMENTS, parsing->append ? " " : "",
				       parsing->append ? parsing->append : ""));
	options->vm.boot.command_line = line;
	return redirect_log(options, parsing->log, err);
}

static void defaults(struct options *options)
{
	*options = (struct options){
		.vm = {
			.kvm_fd = -1,
			.cpus = 1,
			.baseline = "host",
			.memory = { .size_bytes = 256ull << 20, .fd = -1 },
			.serial_in_fd = -1,
			.serial_out_fd = -1,
			.console_in_fd = -1,
			.console_out_fd = -1,
			.console_ring_fd = -1,
			.balloon = true,
		},
		.control_fd = -1,
		.status_fd = -1,
		.metrics_fd = -1,
	};
}

int options_parse(int argc, char **argv, struct options *ret, struct error *err)
{
	struct parsing parsing = {};
	int option, r = 0;

	defaults(ret);
	opterr = 0;
	optind = 1;
	while (r >= 0 && (option = getopt_long(argc, argv, "+", long_options, NULL)) >= 0) {
		if (option == OPT_VERSION || option == OPT_HELP) {
			fputs(option == OPT_VERSION ? "brume-vmm " BRUME_VERSION "\n" : help,
			      stdout);
			return 1;
		}
		if (option == '?')
			return error_say(err, -EINVAL,
					 "unknown option or missing value '%.60s'; see --help",
					 argv[optind - 1]);
		r = parse_one(ret, option, optarg, &parsing, err);
	}
	if (r >= 0 && optind < argc)
		return error_say(err, -EINVAL, "'%.60s' is not an option; see --help",
				 argv[optind]);
	return r >= 0 ? finish(ret, &parsing, err) : r;
}

void options_done(struct options *options)
{
	for (unsigned int i = 0; i < options->text_count; i++)
		free(options->texts[i]);
	for (unsigned int i = 0; i < options->fd_count; i++)
		close(options->fds[i]);
}
