// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nodes, bridges, shared functions, and what a write may reach. A good tree and
 * an honest host first; then each rule is broken once, by the tree or by the
 * host, and exactly what the rule is about must be refused.
 */
#include "world.h"

static bool honest(void)
{
	good("honest, but for the windows of a bridge");
	memset(&image[UP][0x1c], 0x5a, 0x18);
	if (!shown(ALL))
		return false;
	CHECK(!num_closed, "closed %d", num_closed);
	CHECK(fn_of(RUN)->mode == GH_RUN && fn_of(SHARED)->mode == GH_SHARED &&
	      fn_of(UP)->mode == GH_BRIDGE, "modes");
	CHECK(!fn_of(DOWN0)->multifunction && !fn_of(SIDE)->multifunction, "multifunction");
	CHECK(kernel_read(PORT, 0x18, 4) == 0x00040100, "bus numbers %x", kernel_read(PORT, 0x18, 4));
	CHECK(kernel_read(UP, 0x20, 4) == 0x10101000, "memory window");
	CHECK(kernel_read(UP, 0x24, 4) == 0x00110001 && kernel_read(UP, 0x28, 4) == 0x80 &&
	      kernel_read(UP, 0x2c, 4) == 0x80, "prefetchable window");
	CHECK(kernel_read(UP, 0x0c, 4) == 0x00010000, "header type");
	CHECK((kernel_read(UP, 4, 2) & 7) == 6, "command");
	return true;
}

/* What Linux would start a port service for, or wait for. */
static bool quiet_port(void)
{
	int pos, i;

	good("no port service");
	start();
	for (i = PORT; i <= DOWN1; i++) {
		u32 cap = kernel_read(i, 0x60, 4);

		for (pos = kernel_read(i, 0x34, 1); pos; pos = kernel_read(i, pos + 1, 1))
			CHECK(pos == 0x60 || !kernel_read(i, pos, 1), "capability at 0x%x", pos);
		CHECK((cap & 0xff) == PCI_CAP_ID_EXP && (cap >> 20 & 15) == ports[i], "port type");
		CHECK(!(cap & PCI_EXP_FLAGS_SLOT << 16), "slot");
		CHECK(!kernel_read(i, 0x60 + PCI_EXP_SLTCAP, 4) &&
		      !kernel_read(i, 0x60 + PCI_EXP_SLTCTL, 4), "slot registers");
		CHECK(!kernel_read(i, 0x60 + PCI_EXP_RTCTL, 4) &&
		      !kernel_read(i, 0x60 + PCI_EXP_RTSTA, 4), "root registers");
		CHECK(!(kernel_read(i, 0x60 + PCI_EXP_LNKCAP, 4) &
			(PCI_EXP_LNKCAP_LBNC | PCI_EXP_LNKCAP_DLLLARC | PCI_EXP_LNKCAP_ASPMS)),
		      "link management");
		CHECK(!(kernel_read(i, 0x60 + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_LT), "link training");
		CHECK(!kernel_read(i, 0x60 + PCI_EXP_DEVCAP2, 4), "ARI or LTR");
		CHECK(!kernel_read(i, 0x3c, 4), "interrupt or bridge control");
		CHECK(!kernel_read(i, 0x100, 4), "extended capabilities");
	}
	return true;
}

/* A bridge is frozen both ways. */
static bool frozen_bridge(void)
{
	u32 before[1024];
	long n;
	int off;

	good("frozen bridge");
	start();
	for (off = 0; off < 4096; off += 4)
		before[off / 4] = kernel_read(UP, off, 4);
	for (n = 0; n < 40000; n++) {
		int size = 1 << random32() % 3;

		kernel_write(UP, random32() % (n & 1 ? 256 : 4096) & ~(size - 1), size,
			     n & 2 ? random32() : n & 4 ? ~0U : 0);
	}
	CHECK(!writes[UP], "%ld writes reached the host", writes[UP]);
	memset(image[UP], 0x5a, 4096);
	for (off = 0; off < 4096; off += 4)
		CHECK(kernel_read(UP, off, 4) == before[off / 4], "0x%x follows the host", off);
	return true;
}

/* What TDISP locks, seen from the device after any writes. */
static bool locked(int i, const u8 *before, bool is_run)
{
	u32 old;

	CHECK(get(i, 4) & PCI_COMMAND_MEMORY, "memory decode cleared");
	CHECK(!is_run || get(i, 4) & PCI_COMMAND_MASTER, "bus mastering cleared");
	CHECK(!(get(i, 4) & PCI_COMMAND_IO), "I/O decode set");
	CHECK(!memcmp(&image[i][8], before + 8, 0x38), "header changed: BAR, ROM or line size");
	memcpy(&old, before + 0x48, 4);
	CHECK(!((get(i, 0x48) ^ old) & (PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_PHANTOM |
		PCI_EXP_DEVCTL_AUX_PME | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_PAYLOAD |
		PCI_EXP_DEVCTL_BCR_FLR)), "device control 0x%x", get(i, 0x48));
	memcpy(&old, before + 0x68, 4);
	CHECK(!((get(i, 0x68) ^ old) & 0xffe0), "device control 2");
	CHECK(!memcmp(&image[i][0x50], before + 0x50, 0x18), "link control");
	CHECK(!memcmp(&image[i][0x6c], before + 0x6c, 0x80 - 0x6c), "link control 2");
	CHECK(!memcmp(&image[i][0x84], before + 0x84, 0xb0 - 0x84), "MSI-X place or PM");
	CHECK(!(image[i][0xc3] & 0x80) && !get(i, 0xc4), "VPD written");
	CHECK(!memcmp(&image[i][0xc8], before + 0xc8, 0x104 - 0xc8), "beyond the capabilities");
	CHECK(!memcmp(&image[i][0x12c], before + 0x12c, 0x1000 - 0x12c),
	      "SR-IOV, resizable BAR, ATS or PASID");
	return true;
}

/* Every register, every width: nothing locked moves, in either mode. */
static bool any_write(void)
{
	static u8 before[4096];
	int i;
	long n;

	good("any write");
	start();
	for (i = RUN; i <= SHARED; i++) {
		memcpy(before, image[i], 4096);
		for (n = 0; n < 60000; n++) {
			int size = 1 << random32() % 3;

			kernel_write(i, random32() % (n & 1 ? 256 : 4096) & ~(size - 1), size,
				     n & 2 ? random32() : n & 4 ? ~0U : 0);
			if (!locked(i, before, i == RUN))
				return false;
		}
		CHECK(writes[i], "nothing passes");
	}
	return true;
}

static bool shared_registers(void)
{
	good("shared registers");
	start();
	kernel_write(SHARED, 4, 2, 0);
	CHECK((get(SHARED, 4) & 7) == PCI_COMMAND_MEMORY, "command 0x%x", get(SHARED, 4));
	CHECK((kernel_read(SHARED, 4, 2) & 7) == PCI_COMMAND_MEMORY, "shown");
	kernel_write(SHARED, 4, 2, 6);
	CHECK((get(SHARED, 4) & 7) == 6, "command 0x%x", get(SHARED, 4));
	kernel_write(SHARED, 0x10, 4, ~0U);
	CHECK(kernel_read(SHARED, 0x10, 4) == 0xffffe000, "size");
	kernel_write(SHARED, 0x10, 4, SHARED_BAR + SZ_1M);
	CHECK(kernel_read(SHARED, 0x10, 4) == SHARED_BAR && get(SHARED, 0x10) == SHARED_BAR, "moved");
	CHECK(!(kernel_read(SHARED, 0x44, 4) & PCI_EXP_DEVCAP_FLR), "FLR");
	CHECK(!kernel_read(SHARED, 0xa0, 1), "PM");
	CHECK(kernel_read(SHARED, 0x84, 4) == 0, "MSI-X table");
	return true;
}

/* A function that the tree runs is not shared because the host says so, nor the reverse. */
static bool mode_is_the_trees(void)
{
	int i;

	for (i = 0; i < 200; i++) {
		good("mode is the tree's");
		if (i) {
			int at = 0x34 + random32() % 0x100;

			image[RUN][at] = random32();
			image[SHARED][at] = random32();
		}
		start();
		CHECK(fn_of(RUN)->mode == GH_RUN && fn_of(SHARED)->mode == GH_SHARED, "changed");
		CHECK(fn_of(RUN)->refused || (kernel_read(RUN, 4, 2) & 6) == 6, "command");
	}
	return true;
}

static bool small_bars(void)
{
	good("shared BARs smaller than a page");
	CELLS(&nodes[SHARED], "assigned-addresses",
	      rids[SHARED] << 8 | 0x10 | 0x02000000, 0, SHARED_BAR, 0, 0x40);
	put(SHARED, 0x80, 4, 0x0000a011);
	put(SHARED, 0x88, 4, 0x0010);
	if (!shown(ALL))
		return false;
	kernel_write(SHARED, 0x10, 4, ~0U);
	CHECK(kernel_read(SHARED, 0x10, 4) == 0xffffffc0, "size");

	good("shared without BAR");
	drop(&nodes[SHARED], "assigned-addresses");
	put(SHARED, 0x80, 1, 0x09);
	put(SHARED, 0x82, 1, 0x0c);
	if (!shown(ALL))
		return false;

	good("shared without BAR but with MSI-X");
	drop(&nodes[SHARED], "assigned-addresses");
	return shown(ALL & ~(1 << SHARED));
}

/* Verified and unlocked again: absent, said once, and nobody else loses anything. */
static bool pinned(void)
{
	struct device_node *run = &nodes[RUN];
	struct gh_function *fn;

	good("pinned");
	TEXT(run, "gatehouse,mode", "pin");
	drop(run, "gatehouse,nonces");
	drop(run, "gatehouse,msix-pages");
	TEXT(run, "gatehouse,pin-report", "pin");
	num_info = 0;
	CHECK(!start(), "no bridge at all");
	fn = fn_of(RUN);
	CHECK(fn->mode == GH_PIN && !is_shown(RUN), "shown");
	CHECK(fn->bus == 3 && !fn->devfn, "place %u %u", fn->bus, fn->devfn);
	CHECK(num_info == 1, "said %d times", num_info);
	CHECK(!num_closed && !writes[RUN], "it was touched");
	CHECK(kernel_read(RUN, 0x10, 4) == ~0U, "its BAR is shown");
	kernel_write(RUN, 4, 2, 6);
	CHECK(!writes[RUN], "a write reached it");
	CHECK(is_shown(SIDE) && is_shown(SHARED) && is_shown(DOWN0), "others are absent");
	CHECK(!fn_of(SIDE)->refused && !fn_of(DOWN0)->refused, "others are refused");

	good("pinned without reg");
	TEXT(run, "gatehouse,mode", "pin");
	drop(run, "reg");
	CHECK(!start() && fn_of(RUN)->refused && is_shown(SIDE), "not refused");
	return true;
}

static bool multifunction(void)
{
	good("multi-function ports");
	CELLS(&nodes[DOWN1], "reg", RID(2, 0, 1) << 8, 0, 0, 0, 0);
	start();
	CHECK(fn_of(DOWN0)->multifunction && fn_of(DOWN1)->multifunction, "not seen");
	CHECK(kernel_read(DOWN0, 0x0c, 4) == 0x00810000, "header type");
	return true;
}

/* Each rule broken once; @want is what is left. */
#define BREAK(name, want, ...) do { \
	good(name); \
	__VA_ARGS__; \
	if (!shown(want)) \
		return false; \
} while (0)
#define BREAK_NODE(name, want, ...)	BREAK(name, want, __VA_ARGS__; agree())
#define BEHIND_UP	(1 << DOWN0 | 1 << DOWN1 | 1 << RUN | 1 << SHARED)
#define BEHIND_PORT	(1 << UP | BEHIND_UP)
#define NO_PORT		(ALL & ~(1 << PORT | BEHIND_PORT))
#define NO_UP		(ALL & ~BEHIND_PORT)
#define NO_DOWN0	(ALL & ~(1 << DOWN0 | 1 << RUN))
#define NO_DOWN1	(ALL & ~(1 << DOWN1 | 1 << SHARED))
#define NO_RUN		(ALL & ~(1 << RUN))
#define NO_SHARED	(ALL & ~(1 << SHARED))

/* A run function with one BAR of this size and neither MSI-X nor other registers there. */
static void small_run(u32 size)
{
	CELLS(&nodes[RUN], "assigned-addresses", rids[RUN] << 8 | 0x43000010, PREFETCH >> 32, 0, 0,
	      size);
	drop(&nodes[RUN], "gatehouse,msix-pages");
	put(RUN, 0x80, 1, 0x01);
}

static void small_shared(u32 at, u32 size)
{
	CELLS(&nodes[SHARED], "assigned-addresses", rids[SHARED] << 8 | 0x02000010, 0, MEMORY + at,
	      0, size);
	put(SHARED, 0x80, 1, 0x01);
}

static bool bad_bridge_nodes(void)
{
	struct device_node *port = &nodes[PORT], *up = &nodes[UP], *down = &nodes[DOWN0];

	BREAK_NODE("no bus-range", NO_PORT, drop(port, "bus-range"));
	BREAK_NODE("bus above 255", NO_PORT, CELLS(port, "bus-range", 257, 4));
	BREAK_NODE("secondary is the own bus", NO_PORT, CELLS(port, "bus-range", 0, 4));
	BREAK_NODE("subordinate below secondary", NO_DOWN0, CELLS(down, "bus-range", 4, 3));
	BREAK_NODE("beyond the bridge above", NO_UP, CELLS(up, "bus-range", 2, 5));
	BREAK_NODE("bus numbers of a sibling", NO_DOWN1, CELLS(&nodes[DOWN1], "bus-range", 3, 3));
	BREAK_NODE("subordinate above 255", NO_PORT, CELLS(port, "bus-range", 1, 260));
	BREAK_NODE("class of a function", NO_PORT, CELLS(port, "class-code", 0x010802));
	BREAK_NODE("no ids", NO_DOWN0, drop(down, "device-id"));
	BREAK_NODE("no reg", NO_DOWN0, drop(down, "reg"));
	BREAK_NODE("on another bus", NO_DOWN0, CELLS(down, "reg", RID(1, 3, 0) << 8, 0, 0, 0, 0));
	BREAK_NODE("ranges cut short", NO_DOWN0, of_find(down, "ranges")->len = 28);
	BREAK_NODE("ranges empty", NO_DOWN0, of_find(down, "ranges")->len = 0);
	BREAK_NODE("no identity", NO_DOWN0,
	      CELLS(down, "ranges", 0x02000000, 0, MEMORY, 0x02000000, 0, 0, 0, SZ_1M));
	BREAK_NODE("half a MiB", NO_DOWN0,
	      CELLS(down, "ranges", 0x02000000, 0, MEMORY, 0x02000000, 0, MEMORY, 0, SZ_1M / 2));
	BREAK_NODE("memory window above 4 GiB", NO_DOWN0,
	      CELLS(down, "ranges", 0x02000000, 1, 0, 0x02000000, 1, 0, 0, SZ_1M));
	BREAK_NODE("an I/O window", NO_DOWN0,
	      CELLS(down, "ranges", 0x01000000, 0, MEMORY, 0x01000000, 0, MEMORY, 0, SZ_1M));
	BREAK_NODE("two memory windows", NO_DOWN0,
	      CELLS(down, "ranges", 0x02000000, 0, MEMORY, 0x02000000, 0, MEMORY, 0, SZ_1M,
		    0x02000000, 0, MEMORY, 0x02000000, 0, MEMORY, 0, SZ_1M));
	BREAK_NODE("no windows", ALL, drop(down, "ranges"));
	CHECK(kernel_read(DOWN0, 0x20, 4) == 0xfff0 && kernel_read(DOWN0, 0x24, 4) == 0xfff0 &&
	      kernel_read(DOWN0, 0x1c, 4) == 0xf0, "windows shown");
	BREAK_NODE("neither function nor bridge", NO_PORT, TEXT(port, "device_type", "isa"));
	return true;
}

static bool bad_function_nodes(void)
{
	struct device_node *run = &nodes[RUN], *shared = &nodes[SHARED];

	BREAK_NODE("unknown mode", NO_SHARED, TEXT(shared, "gatehouse,mode", "hide"));
	BREAK_NODE("run without vdev-id", NO_SHARED, TEXT(shared, "gatehouse,mode", "run"));
	BREAK_NODE("run without nonces", NO_RUN, drop(run, "gatehouse,nonces"));
	BREAK_NODE("run with four nonces", NO_RUN,
		   CELLS(run, "gatehouse,nonces", 0, 1, 0, 2, 0, 3, 0, 4));
	BREAK_NODE("run with a BAR below 4 KiB", NO_RUN, small_run(2048));
	BREAK_NODE("run with a BAR of 4 KiB", ALL, small_run(4096));
	BREAK_NODE("run without BARs", NO_RUN, small_run(4096); drop(run, "assigned-addresses"));
	BREAK_NODE("shared with MSI-X pages", NO_SHARED, CELLS(shared, "gatehouse,msix-pages", 0, 0, 1));
	BREAK_NODE("shared BAR inside a page", NO_SHARED, small_shared(64, 64));
	BREAK_NODE("shared BAR of 8 bytes", NO_SHARED, small_shared(0, 8));
	BREAK_NODE("shared BAR of 16 bytes", ALL, small_shared(0, 16));
	BREAK_NODE("a function on the wrong bus", NO_RUN, small_run(4096);
		   CELLS(run, "reg", RID(4, 1, 0) << 8, 0, 0, 0, 0);
		   CELLS(run, "assigned-addresses", RID(4, 1, 0) << 8 | 0x43000010,
			 PREFETCH >> 32, 0, 0, 4096));
	return true;
}

static bool bad_hosts(void)
{
	BREAK("bridge with another id", NO_DOWN0, image[DOWN0][2]++);
	BREAK("bridge with another class", NO_DOWN0, image[DOWN0][0xb] = 1);
	BREAK("bridge with a function's header", NO_DOWN0, image[DOWN0][0xe] = 0);
	BREAK("bridge with other bus numbers", NO_UP, image[UP][0x19] = 3);
	BREAK("root port in a switch", NO_DOWN0, put(DOWN0, 0x62, 2, 0x0142));
	BREAK("upstream port on the root bus", NO_PORT, put(PORT, 0x62, 2, 0x0152));
	BREAK("downstream port below a root port", NO_UP, put(UP, 0x62, 2, 0x0162));
	BREAK("upstream port below an upstream port", NO_DOWN0, put(DOWN0, 0x62, 2, 0x0152));
	BREAK("endpoint as a port", NO_DOWN0, put(DOWN0, 0x62, 2, 0x0102));
	BREAK("version 1 port", NO_DOWN0, put(DOWN0, 0x62, 2, 0x0161));
	BREAK("no PCIe capability", NO_DOWN0, put(DOWN0, 0x49, 1, 0x9c));
	BREAK("PCIe capability across 0x100", NO_DOWN0, (put(DOWN0, 0x49, 1, 0xe0),
	      put(DOWN0, 0xe0, 4, 0x00620010)));
	BREAK("loop", NO_DOWN0, put(DOWN0, 0x9d, 1, 0x48));
	BREAK("bridge gone", NO_PORT, memset(image[PORT], 0xff, 4096));
	BREAK("function as a bridge", NO_RUN, put(RUN, 0xe, 1, 1));
	BREAK("shared function with a port's type", NO_SHARED, put(SHARED, 0x42, 1, 0x42));
	BREAK("shared function with another BAR", NO_SHARED, put(SHARED, 0x10, 4, 0));
	BREAK("shared function with MSI-X beyond its BAR", NO_SHARED, put(SHARED, 0x84, 4, 0x2000));
	return true;
}

static bool twice(void)
{
	static struct device_node twin;

	good("a second node for a function");
	twin = nodes[SIDE];
	CELLS(&twin, "gatehouse,vdev-id", 0, 0x11);
	root.child[2] = &twin;
	if (!shown(ALL))
		return false;
	CHECK(num_closed == 1 && closed[0] == 0x11, "not refused");
	return true;
}

static bool too_deep(void)
{
	static struct device_node chain[12];
	int i;

	good("too deep");
	memset(chain, 0, sizeof(chain));
	root.child[2] = &chain[0];
	for (i = 0; i < 12; i++) {
		chain[i] = nodes[UP];
		memset(chain[i].child, 0, sizeof(chain[i].child));
		CELLS(&chain[i], "reg", RID(i ? 9 + i : 0, 7, 0) << 8, 0, 0, 0, 0);
		CELLS(&chain[i], "bus-range", 10 + i, 30);
		chain[i].child[0] = i < 11 ? &chain[i + 1] : NULL;
	}
	if (!shown(ALL))
		return false;
	for (i = 0; num_allocated && i < num_allocated; i++)
		;
	/* the host, seven good nodes, eight of the chain and the one too many */
	CHECK(i == 1 + COUNT + GH_MAX_DEPTH + 1, "%d nodes were looked at", i - 1);
	return true;
}

int main(int argc, char **argv)
{
	verbose = argc > 1;
	honest();
	quiet_port();
	frozen_bridge();
	any_write();
	shared_registers();
	mode_is_the_trees();
	small_bars();
	pinned();
	multifunction();
	bad_bridge_nodes();
	bad_function_nodes();
	bad_hosts();
	twice();
	too_deep();
	while (num_allocated)
		free(allocated[--num_allocated]);
	if (!failed)
		printf("tree, bridges and shared functions: all tests passed\n");
	return failed != 0;
}
