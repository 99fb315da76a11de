/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tree.c: a good tree with a switch, the config spaces of an honest host
 * for it, and what is left of both when the module looked at them.
 */
#include "check.h"
#include "../node.c"
#undef pr_fmt
#include "../tree.c"
#undef pr_fmt
#include "../seal.c"
#undef pr_fmt
#include "../bridge.c"
#undef pr_fmt
#include "../config.c"

#define RID(bus, dev, f)	((bus) << 8 | (dev) << 3 | (f))

/* The tree: root port, switch with two ports, a function behind each, one beside. */
enum { PORT, UP, DOWN0, DOWN1, RUN, SHARED, SIDE, COUNT };
static const u16 rids[COUNT] = {
	RID(0, 5, 0), RID(1, 0, 0), RID(2, 0, 0), RID(2, 1, 0), RID(3, 0, 0),
	RID(4, 0, 0), RID(0, 2, 0),
};
static const u8 buses[COUNT][2] = { { 1, 4 }, { 2, 4 }, { 3, 3 }, { 4, 4 } };
static const u8 ports[COUNT] = {
	PCI_EXP_TYPE_ROOT_PORT, PCI_EXP_TYPE_UPSTREAM, PCI_EXP_TYPE_DOWNSTREAM,
	PCI_EXP_TYPE_DOWNSTREAM,
};
#define MEMORY		0x10000000U	/* window, up to 0x101fffff */
#define PREFETCH	0x8000000000ULL	/* window, 2 MiB */
#define RUN_BAR		PREFETCH
#define SHARED_BAR	MEMORY
#define SIDE_BAR	0x20000000U

static struct device_node root, nodes[COUNT];
static u8 image[COUNT][4096];
static u16 image_rid[COUNT];
static long writes[COUNT];
static char window;		/* its address stands for the ECAM */
static struct device device = { .of_node = &root };
static struct pci_config_window cfg;
static struct pci_bus bus = { .sysdata = &cfg };
static int closed[8], num_closed;
static void *allocated[64];
static int num_allocated;

void *devm_kzalloc(struct device *dev, size_t size, int flags)
{
	return allocated[num_allocated++] = calloc(1, size);
}

void gh_vdev_close(const struct gh_function *fn)
{
	closed[num_closed++] = fn->vdev;
}

static int image_of(size_t off)
{
	int i;

	for (i = 0; i < COUNT; i++)
		if (image_rid[i] == off >> 12)
			return i;
	return -1;
}

u32 host_read(void *addr, int size)
{
	size_t off = (char *)addr - &window;
	int i, at = image_of(off);
	u32 val = 0;

	for (i = 0; i < size; i++)
		val |= (u32)(at < 0 ? 0xff : image[at][(off & 4095) + i]) << 8 * i;
	return val;
}

/* Keeps everything, so that a write that should not have come shows. */
void host_write(void *addr, int size, u32 val)
{
	size_t off = (char *)addr - &window;
	int i, at = image_of(off);

	if (at < 0)
		abort();
	writes[at]++;
	for (i = 0; i < size; i++)
		image[at][(off & 4095) + i] = val >> 8 * i;
}

static void put(int at, int off, int size, u64 val)
{
	int i;

	for (i = 0; i < size; i++)
		image[at][off + i] = val >> 8 * i;
}

static u32 get(int at, int off)
{
	u32 val;

	memcpy(&val, &image[at][off], 4);
	return val;
}

static void add(struct device_node *np, const char *name, const void *data, int len)
{
	struct property *p = of_find(np, name);
	int i;

	for (i = 0; !p; i++)
		if (!np->props[i].name)
			p = &np->props[i];
	p->name = name;
	p->len = len;
	memcpy(p->data, data, len);
}

static void cells(struct device_node *np, const char *name, int n, const u32 *v)
{
	u8 data[96];
	int i;

	for (i = 0; i < 4 * n; i++)
		data[i] = v[i / 4] >> 8 * (3 - i % 4);
	add(np, name, data, 4 * n);
}

#define CELLS(np, name, ...) do { \
	const u32 v_[] = { __VA_ARGS__ }; \
	cells(np, name, ARRAY_SIZE(v_), v_); \
} while (0)
#define TEXT(np, name, text)	add(np, name, text, sizeof(text))

static void drop(struct device_node *np, const char *name)
{
	of_find(np, name)->name = "dropped";
}

static void make_bridge(int i)
{
	struct device_node *np = &nodes[i];

	TEXT(np, "device_type", "pci");
	CELLS(np, "vendor-id", 0x1b36);
	CELLS(np, "device-id", 0xc + i);
	CELLS(np, "revision-id", 1);
	CELLS(np, "class-code", 0x060400);
	CELLS(np, "bus-range", buses[i][0], buses[i][1]);
	CELLS(np, "ranges",
	      0x02000000, 0, MEMORY, 0x02000000, 0, MEMORY, 0, 2 * SZ_1M,
	      0x43000000, PREFETCH >> 32, (u32)PREFETCH,
	      0x43000000, PREFETCH >> 32, (u32)PREFETCH, 0, 2 * SZ_1M);

	put(i, 0, 4, (0xc + i) << 16 | 0x1b36);
	put(i, 4, 4, 0x00100406);
	put(i, 8, 4, 0x06040001);
	put(i, 0x0c, 4, 0x00010010);
	put(i, 0x18, 4, rids[i] >> 8 | buses[i][0] << 8 | buses[i][1] << 16);
	put(i, 0x1c, 4, 0x000001f1);
	put(i, 0x20, 4, 0x10101000);
	put(i, 0x24, 4, 0x00110001);
	put(i, 0x28, 4, 0x80);
	put(i, 0x2c, 4, 0x80);
	put(i, 0x34, 1, 0x48);
	put(i, 0x3c, 4, 0x000301ff);
	put(i, 0x48, 4, 0x01036005);			/* MSI */
	put(i, 0x60, 4, 0x01029c10 | ports[i] << 20);
	put(i, 0x64, 4, 0x10008000);
	put(i, 0x68, 4, 0x000f5810);
	put(i, 0x6c, 4, 0x01737d13);
	put(i, 0x70, 4, 0x68110042);
	put(i, 0x74, 4, 0x0004007f);			/* slot */
	put(i, 0x78, 4, 0x00481000);
	put(i, 0x7c, 4, 0x0001001f);			/* root */
	put(i, 0x84, 4, 0x00000820);			/* ARI, LTR */
	put(i, 0x8c, 4, 0x0000001e);
	put(i, 0x9c, 4, 0xc8030001);			/* PM */
	put(i, 0xc8, 4, 0x0000000d);
	put(i, 0x100, 4, 0x15010001);			/* AER */
	put(i, 0x150, 4, 0x0001000d);			/* ACS */
}

static void make_function(int i, u32 vdev, u64 bar, u32 size, bool wide)
{
	struct device_node *np = &nodes[i];
	u32 hi = rids[i] << 8 | 0x10 | (wide ? 0x43000000 : 0x02000000);

	TEXT(np, "gatehouse,mode", "run");
	TEXT(np, "gatehouse,rule", "required-slot");
	CELLS(np, "gatehouse,vdev-id", 0, vdev);
	CELLS(np, "gatehouse,nonces", 0, 1, 0, 2, 0, 3);
	CELLS(np, "gatehouse,msix-pages", 0, 2, 2);
	CELLS(np, "vendor-id", 0x1b36);
	CELLS(np, "device-id", 0x10);
	CELLS(np, "subsystem-vendor-id", 0x1af4);
	CELLS(np, "subsystem-id", 0x1100);
	CELLS(np, "revision-id", 2);
	CELLS(np, "class-code", 0x010802);
	CELLS(np, "assigned-addresses", hi, bar >> 32, bar, 0, size);

	put(i, 0, 4, 0x00101b36);
	put(i, 4, 4, 0x00100006);
	put(i, 8, 4, 0x01080202);
	put(i, 0x10, 4, (u32)bar | (wide ? 0xc : 0));
	put(i, 0x14, 4, bar >> 32);
	put(i, 0x2c, 4, 0x11001af4);
	put(i, 0x34, 1, 0x40);
	put(i, 0x40, 4, 0x00028010);			/* PCIe, with FLR */
	put(i, 0x44, 4, 0x10008000);
	put(i, 0x48, 4, 0x00002930);
	put(i, 0x68, 4, 0x00000420);
	put(i, 0x50, 4, 0x00110040);
	put(i, 0x80, 4, 0x0007a011);			/* MSI-X */
	put(i, 0x84, 4, 0x2000);
	put(i, 0x88, 4, 0x3000);
	put(i, 0xa0, 4, 0x0003b001);			/* PM */
	put(i, 0xb0, 4, 0x0080c005);			/* MSI */
	put(i, 0xc0, 4, 0x00000003);			/* VPD */
	put(i, 0x100, 4, 0x15010001);			/* AER */
	put(i, 0x150, 4, 0x20010010);			/* SR-IOV */
	put(i, 0x158, 4, 0x00000001);
	put(i, 0x200, 4, 0x21010015);			/* resizable BAR */
	put(i, 0x210, 4, 0x2201000f);			/* ATS */
	put(i, 0x220, 4, 0x0001001b);			/* PASID */
}

static void make_shared(int i)
{
	struct device_node *np = &nodes[i];

	TEXT(np, "gatehouse,mode", "shared");
	drop(np, "gatehouse,vdev-id");
	drop(np, "gatehouse,nonces");
	add(np, "gatehouse,msix-pages", "", 0);
	put(i, 0x84, 4, 0x0000);			/* MSI-X where it likes */
	put(i, 0x88, 4, 0x0800);
}

static void good(const char *name)
{
	int i;

	test = name;
	memset(&root, 0, sizeof(root));
	memset(nodes, 0, sizeof(nodes));
	memset(image, 0, sizeof(image));
	memset(writes, 0, sizeof(writes));
	for (i = 0; i < COUNT; i++) {
		CELLS(&nodes[i], "reg", rids[i] << 8, 0, 0, 0, 0);
		image_rid[i] = rids[i];
		if (i <= DOWN1)
			make_bridge(i);
	}
	make_function(RUN, 0x300, RUN_BAR, 4 * SZ_4K, true);
	make_function(SHARED, 0x400, SHARED_BAR, 2 * SZ_4K, false);
	make_shared(SHARED);
	make_function(SIDE, 0x10, SIDE_BAR, 4 * SZ_4K, false);
	root.child[0] = &nodes[SIDE];
	root.child[1] = &nodes[PORT];
	nodes[PORT].child[0] = &nodes[UP];
	nodes[UP].child[0] = &nodes[DOWN0];
	nodes[UP].child[1] = &nodes[DOWN1];
	nodes[DOWN0].child[0] = &nodes[RUN];
	nodes[DOWN1].child[0] = &nodes[SHARED];
}

static struct gh_host *host(void)
{
	return cfg.priv;
}

static int start(void)
{
	while (num_allocated)
		free(allocated[--num_allocated]);
	num_closed = 0;
	cfg = (struct pci_config_window){ .busr = { 0, 255 }, .parent = &device, .win = &window };
	return gh_ecam_init(&cfg);
}

static struct gh_function *fn_of(int i)
{
	struct gh_function *fn;

	list_for_each_entry(fn, &host()->functions, list)
		if (fn->np == &nodes[i])
			return fn;
	abort();
}

static u32 kernel_read(int i, int off, int size)
{
	u32 val = 0;

	bus.number = rids[i] >> 8;
	gh_ecam_ops.pci_ops.read(&bus, rids[i] & 0xff, off, size, &val);
	return val;
}

static void kernel_write(int i, int off, int size, u32 val)
{
	bus.number = rids[i] >> 8;
	gh_ecam_ops.pci_ops.write(&bus, rids[i] & 0xff, off, size, val);
}

static u32 random32(void)
{
	static u64 x = 0x9e3779b97f4a7c15ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 16;
}

#define ALL	((1 << COUNT) - 1)

/* The host follows the nodes, so that nothing but a rule about nodes refuses. */
static void agree(void)
{
	u32 v;
	int i;

	for (i = 0; i < COUNT; i++) {
		const struct device_node *np = &nodes[i];

		if (!of_property_read_u32(np, "reg", &v)) {
			image_rid[i] = v >> 8;
			if (i <= DOWN1)
				image[i][0x18] = v >> 16;
		}
		if (!of_property_read_u32(np, "class-code", &v))
			put(i, 9, 3, v);
		if (!of_property_read_u32(np, "bus-range", &v))
			image[i][0x19] = v;
		if (!of_property_read_u32_index(np, "bus-range", 1, &v))
			image[i][0x1a] = v;
		if (!of_property_read_u32_index(np, "assigned-addresses", 2, &v))
			put(i, 0x10, 4, v | (image[i][0x10] & 0xf));
	}
}

/* As config space says, unless another node has its place. */
static bool is_shown(int i)
{
	struct gh_function *fn;
	u32 val = 0;

	list_for_each_entry(fn, &host()->functions, list) {
		if (fn->np != &nodes[i])
			continue;
		if (gh_find(host(), fn->bus, fn->devfn) != fn)
			return false;
		bus.number = fn->bus;
		gh_ecam_ops.pci_ops.read(&bus, fn->devfn, 0, 4, &val);
		return val != ~0U;
	}
	return false;
}

/* Exactly these are shown, and DMA of all others that have any is closed. */
static bool shown(unsigned int want)
{
	static const int vdevs[COUNT] = { [RUN] = 0x300, [SIDE] = 0x10 };
	int i, j;

	CHECK(!start(), "no bridge at all");
	for (i = 0; i < COUNT; i++) {
		bool is = is_shown(i), was = false;

		CHECK(is == (want >> i & 1), "%d is %s", i, is ? "shown" : "absent");
		if (!vdevs[i])
			continue;
		for (j = 0; j < num_closed; j++)
			was |= closed[j] == vdevs[i];
		CHECK(was == !is, "%d is %s and its DMA %s", i, is ? "shown" : "absent",
		      was ? "closed" : "open");
	}
	return true;
}
