// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host that answers as it likes. It has two images of the function's config
 * space and changes from the first to the second after some reads; then a
 * kernel walks what the module shows it. Whatever the host does, the module
 * refuses the function or the kernel sees nothing that could harm it.
 */
#include "check.h"
#include "../seal.c"
#undef pr_fmt
#include "../bridge.c"
#undef pr_fmt
#include "../config.c"

#define BAR		0x8000000000ULL
#define MSIX_PAGE	2	/* and 3; the BAR has 4 pages */

static u8 first[4096], second[4096];
static u8 seen[4096];		/* reads of this byte */
static long reads, turn;	/* second image from read @turn on; -1: from a byte's second read on */
static long writes;
static char window;		/* its address stands for the ECAM */
static struct gh_function *fn;
static struct gh_host host;
static struct pci_config_window cfg = { .priv = &host };
static struct pci_bus bus = { .sysdata = &cfg };

u32 host_read(void *addr, int size)
{
	u32 off = (u8 *)addr - (u8 *)&window, val = 0;
	bool late = turn < 0 ? seen[off] > 0 : reads >= turn;
	int i;

	if (off + size > 4096) {
		printf("FAILED %s: read beyond config space\n", test);
		exit(1);
	}
	reads++;
	for (i = 0; i < size; i++) {
		val |= (u32)(late ? second : first)[off + i] << 8 * i;
		if (seen[off + i] < 255)
			seen[off + i]++;
	}
	return val;
}

void host_write(void *addr, int size, u32 val)
{
	writes++;
}

int gh_ecam_init(struct pci_config_window *c)
{
	return -EINVAL;
}

struct gh_function *gh_find(struct gh_host *h, unsigned int number, unsigned int devfn)
{
	return fn;
}

bool gh_page_is_msix(const struct gh_function *f, unsigned int bar, u64 page)
{
	return bar == 0 && (page == MSIX_PAGE || page == MSIX_PAGE + 1);
}

static u32 kernel_read(int off, int size)
{
	u32 val = 0;

	gh_ecam_ops.pci_ops.read(&bus, 0, off, size, &val);
	return val;
}

static void put(u8 *image, int off, int size, u32 val)
{
	int i;

	for (i = 0; i < size && off + i < 4096; i++)
		image[off + i] = val >> 8 * i;
}

static void put_msix(u8 *image, int pos, int next, u32 table)
{
	put(image, pos, 4, 7u << 16 | next << 8 | PCI_CAP_ID_MSIX);
	put(image, pos + 4, 4, table);
	put(image, pos + 8, 4, 0x3000);
}

/* PCIe at 0x40, MSI-X at 0x80, vendor at 0x90; serial number, AER. */
static void good(u8 *image)
{
	memset(image, 0, 4096);
	put(image, 0x00, 4, 0x00101b36);
	put(image, 0x04, 4, 0x00100000);
	put(image, 0x08, 4, 0x01080202);
	put(image, 0x10, 4, (u32)BAR | 4);
	put(image, 0x14, 4, BAR >> 32);
	put(image, 0x2c, 4, 0x11001af4);
	put(image, 0x34, 1, 0x40);
	put(image, 0x3c, 2, 0x0100);
	put(image, 0x40, 4, 0x00028010);
	put(image, 0x44, 4, 0x10008000);
	put_msix(image, 0x80, 0x90, 0x2000);
	put(image, 0x90, 4, 0x00100009);
	put(image, 0x94, 4, 0x12345678);
	put(image, 0x100, 4, 0x15010003);
	put(image, 0x104, 4, 0xcafe);
	put(image, 0x150, 4, 0x00020001);
}

static void start(const char *name)
{
	test = name;
	good(first);
	good(second);
	turn = -1;
}

static int seal(void)
{
	memset(fn, 0, sizeof(*fn));
	fn->cfg = (void *)&window;
	fn->vendor = 0x1b36;
	fn->device = 0x10;
	fn->subvendor = 0x1af4;
	fn->subdevice = 0x1100;
	fn->revision = 2;
	fn->class = 0x010802;
	fn->bars[0].addr = BAR;
	fn->bars[0].size = 4 * SZ_4K;
	fn->bar_value[0] = (u32)BAR | 4;
	fn->bar_value[1] = BAR >> 32;
	fn->bar_sizing[0] = ~(4 * SZ_4K - 1) | 4;
	fn->bar_sizing[1] = ~0U;
	memset(seen, 0, sizeof(seen));
	reads = 0;
	return gh_seal(fn);
}

static bool area_ok(u32 reg, u32 len)
{
	u32 start = reg & ~7u;

	return !(reg & 7) && start >= MSIX_PAGE * SZ_4K && start + len <= 4 * SZ_4K;
}

/* What Linux finds, the way Linux looks. */
static bool walk(void)
{
	int pos = kernel_read(0x34, 1) & ~3, ttl;
	bool pcie = false;

	CHECK((kernel_read(4, 2) & 6) == 6, "decode or bus mastering shown as off");
	CHECK(kernel_read(0, 4) == 0x00101b36, "other ids");
	CHECK(kernel_read(0x10, 4) == ((u32)BAR | 4), "another BAR");
	for (ttl = 48; ttl && pos >= 0x40; ttl--) {
		u32 ent = kernel_read(pos, 2), size;

		switch (ent & 0xff) {
		case PCI_CAP_ID_MSIX:
			size = (kernel_read(pos + 2, 2) & 0x7ff) + 1;
			CHECK(area_ok(kernel_read(pos + 4, 4), 16 * size),
			      "MSI-X at 0x%x: table 0x%x", pos, kernel_read(pos + 4, 4));
			CHECK(area_ok(kernel_read(pos + 8, 4), DIV_ROUND_UP(size, 64) * 8),
			      "MSI-X at 0x%x: PBA 0x%x", pos, kernel_read(pos + 8, 4));
			break;
		case PCI_CAP_ID_EXP:
			pcie = true;
			CHECK(!(kernel_read(pos + 4, 4) & PCI_EXP_DEVCAP_FLR), "FLR");
			break;
		case PCI_CAP_ID_PM:
		case PCI_CAP_ID_AF:
		case PCI_CAP_ID_EA:
			CHECK(false, "capability 0x%x at 0x%x", ent & 0xff, pos);
		}
		pos = ent >> 8 & 0xfc;
	}
	CHECK(ttl, "the list has no end");
	for (ttl = 960, pos = 0x100; pcie && ttl && pos >= 0x100; ttl--) {
		u32 ent = kernel_read(pos, 4);

		CHECK((ent & 0xffff) != PCI_EXT_CAP_ID_SRIOV &&
		      (ent & 0xffff) != PCI_EXT_CAP_ID_REBAR,
		      "extended capability 0x%x at 0x%x", ent & 0xffff, pos);
		pos = ent >> 20 & 0xffc;
	}
	CHECK(ttl, "the extended list has no end");
	return true;
}

/* No register that decided anything changes with the host. */
static bool steady(void)
{
	static u8 before[4096];
	int off;

	for (off = 0; off < 4096; off += 4) {
		u32 one, two;

		turn = 1L << 40;
		one = kernel_read(off, 4);
		turn = 0;
		two = kernel_read(off, 4);
		put(before, off, 4, one ^ two);
	}
	for (off = 0; off < 4096; off++)
		CHECK(!before[off] || (off >= 4 && off < 8) ||		/* command, status */
		      (off >= 0x48 && off < 0x4c) ||			/* DEVCTL */
		      (off >= 0x50 && off < 0x54) ||			/* LNKCTL, read only */
		      (off >= 0x68 && off < 0x6c) ||			/* DEVCTL2 */
		      (off >= 0x70 && off < 0x74) ||			/* LNKCTL2 */
		      off == 0x83 ||					/* MSI-X enable */
		      (off >= 0x154 && off < 0x17c),			/* AER */
		      "byte 0x%x follows the host", off);
	return true;
}

static bool honest(void)
{
	int i;

	start("honest");
	CHECK(!seal(), "refused");
	for (i = 0; i < 4096; i++)
		CHECK(seen[i] <= 1, "0x%x was read %d times", i, seen[i]);
	CHECK(kernel_read(0x40, 4) == 0x00028010 && kernel_read(0x84, 4) == 0x2000 &&
	      kernel_read(0x94, 4) == 0x12345678 && kernel_read(0x104, 4) == 0xcafe,
	      "a capability is lost");
	memset(second, 0xff, sizeof(second));
	return walk() && steady();
}

/* A link that changes once it was read, to a capability that hides the real one. */
static void put_detour(void)
{
	put(first, 0xc0, 4, 0x00040009);
	put(second, 0xc0, 4, 0x00040009);
	put(second, 0x41, 1, 0xc0);
	put_msix(second, 0x80, 0x90, 0x0000);
}

static bool double_fetch(void)
{
	start("double fetch of a link");
	put_detour();
	if (seal())
		return true;
	turn = 0;
	return walk();
}

static bool turns(void)
{
	long at;

	start("change at any read");
	put_detour();
	put(second, 0x94, 4, PCI_CAP_ID_EA);
	for (at = 0; at < 200; at++) {
		turn = at;
		if (seal())
			continue;
		turn = 0;
		if (!walk())
			return false;
	}
	return true;
}

static bool refused(const char *name)
{
	int ret = seal();

	test = name;
	memset(second, 0xff, sizeof(second));
	CHECK(ret || walk(), "not sealed");
	CHECK(ret, "not refused");
	return true;
}

static bool overlaps(void)
{
	start("vendor capability over MSI-X");
	put(first, 0x34, 1, 0x40);
	put(first, 0x40, 4, 0x00605009);
	put_msix(first, 0x50, 0, 0x2000);
	put_msix(second, 0x50, 0, 0x0000);
	if (!seal() && !walk())
		return false;
	if (!refused("vendor capability over MSI-X"))
		return false;

	start("MSI-X over vendor capability");
	put(first, 0x90, 4, 0x00108409);
	if (!refused(test))
		return false;

	start("PCIe across 0x100");
	put(first, 0x34, 1, 0xd0);
	put(first, 0xd0, 4, 0x00020010);
	if (!refused(test))
		return false;

	start("MSI-X at the end");
	put(first, 0x81, 1, 0xfc);
	put_msix(first, 0xfc, 0, 0x2000);
	if (!refused(test))
		return false;

	start("capability in the header");
	put(first, 0x34, 1, 0x10);
	if (!refused(test))
		return false;

	start("loop");
	put(first, 0x91, 1, 0x40);
	if (!refused(test))
		return false;

	start("AER across 0x1000");
	put(first, 0x100, 4, 0xff010003);
	put(first, 0xff0, 4, 0x00020001);
	if (!refused(test))
		return false;

	start("AER over serial number");
	put(first, 0x100, 4, 0x10810001);
	put(first, 0x108, 4, 0x00010003);
	if (!refused(test))
		return false;

	start("extended list into the header");
	put(first, 0x100, 4, 0x04010003);
	return refused(test);
}

static bool bars(void)
{
	start("BARs");
	CHECK(!seal(), "refused");
	writes = 0;
	gh_ecam_ops.pci_ops.write(&bus, 0, 0x10, 4, 0x12345000);
	CHECK(kernel_read(0x10, 4) == ((u32)BAR | 4), "moved");
	gh_ecam_ops.pci_ops.write(&bus, 0, 0x10, 4, ~0U);
	CHECK(kernel_read(0x10, 4) == 0xffffc004, "size 0x%x", kernel_read(0x10, 4));
	gh_ecam_ops.pci_ops.write(&bus, 0, 0x30, 4, ~0U);
	gh_ecam_ops.pci_ops.write(&bus, 0, 0x84, 4, 0);
	gh_ecam_ops.pci_ops.write(&bus, 0, 0x94, 4, 0);
	CHECK(!writes, "%ld writes reached the host", writes);
	CHECK(kernel_read(4096, 4) == ~0U, "beyond its config space");
	return true;
}

static u32 random32(void)
{
	static u64 x = 0x9e3779b97f4a7c15ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 16;
}

/* A list of capabilities at random, which may overlap. */
static void random_caps(u8 *image)
{
	static const u8 ids[] = { 0x11, 0x11, 0x10, 0x09, 0x05, 0x03, 0x01, 0x13, 0x14 };
	static const u16 ext[] = { 0x01, 0x03, 0x10, 0x15, 0x0b };
	int pos = 0x40 + random32() % 16 * 4, i;

	put(image, 0x34, 1, pos);
	for (i = random32() % 6; pos && i >= 0; i--) {
		int next = i ? 0x40 + random32() % 48 * 4 : 0;

		put(image, pos, 4, ids[random32() % sizeof(ids)] | next << 8 |
		    (random32() & 0x82) << 16);
		put(image, pos + 4, 4, 0x2000 + (random32() & 1) * 0x1000);
		put(image, pos + 8, 4, random32() & 1 ? 0x3000 : 0x2000);
		pos = next;
	}
	for (pos = 0x100, i = random32() % 4; pos && i >= 0; i--) {
		int next = i ? 0x100 + random32() % 960 * 4 : 0;

		put(image, pos, 4, ext[random32() % 5] | 1 << 16 | next << 20);
		pos = next;
	}
}

static bool at_random(void)
{
	long i, sealed = 0;

	for (i = 0; i < 200000; i++) {
		start("random");
		random_caps(first);
		random_caps(second);
		turn = random32() & 1 ? -1 : random32() % 100;
		if (random32() % 4 == 0)
			put_msix(second, 0x40 + random32() % 45 * 4, 0, 0);
		if (seal())
			continue;
		sealed++;
		turn = 0;
		if (!walk())
			return false;
	}
	CHECK(sealed > 1000, "only %ld of %ld were sealed", sealed, i);
	return true;
}

int main(int argc, char **argv)
{
	verbose = argc > 1;
	fn = calloc(1, sizeof(*fn));
	honest();
	double_fetch();
	turns();
	overlaps();
	bars();
	at_random();
	free(fn);
	if (!failed)
		printf("sealed config space: all tests passed\n");
	return failed != 0;
}
