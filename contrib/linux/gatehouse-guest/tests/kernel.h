/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of the kernel as tree.c, node.c, seal.c, bridge.c and config.c need. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/pci_regs.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef u64 phys_addr_t;
#define __iomem
#define PAGE_SHIFT	12
#define SZ_16		0x10
#define SZ_4K		4096
#define SZ_1M		0x100000
#define U32_MAX		UINT32_MAX
#define BIT(n)		(1UL << (n))
#define ARRAY_SIZE(a)	((int)(sizeof(a) / sizeof((a)[0])))
#define max_t(type, a, b)	((type)(a) > (type)(b) ? (type)(a) : (type)(b))
#define is_power_of_2(n)	((n) && !((n) & ((n) - 1)))
#define upper_32_bits(n)	((u32)((u64)(n) >> 32))
#define lower_32_bits(n)	((u32)(n))
#define GFP_KERNEL	0
#define KERNEL_VERSION(a, b, c)	((a) << 16 | (b) << 8 | (c))
#define LINUX_VERSION_CODE	KERNEL_VERSION(7, 0, 0)

#define round_up(x, y)		((((x) - 1) | ((y) - 1)) + 1)
#define round_down(x, y)	((x) & ~((y) - 1))
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define GENMASK(h, l)		(((~0UL) << (l)) & (~0UL >> (63 - (h))))
#define pr_err(...)		do { if (verbose) fprintf(stderr, __VA_ARGS__); } while (0)
#define pr_info(...)		do { num_info++; pr_err(__VA_ARGS__); } while (0)
static bool verbose;
static int num_info __attribute__((unused));	/* lines that are no errors */

#define PCI_STD_NUM_BARS	6
#ifndef PCI_HEADER_TYPE_MFD	/* newer than some user-space headers */
#define PCI_HEADER_TYPE_MFD	0x80
#endif
#define PCI_CLASS_BRIDGE_PCI	0x0604
#define PCI_SLOT(devfn)		((devfn) >> 3)
/* newer than some user-space headers */
#ifndef PCI_EXP_LNKCAP_ASPMS
#define PCI_EXP_LNKCAP_ASPMS	0x00000c00
#endif
#define PCI_SET_ERROR_RESPONSE(val)	(*(val) = ~0U)
#define PCIBIOS_SUCCESSFUL	0
#define PCIBIOS_DEVICE_NOT_FOUND	0x86
#define PCIE_ECAM_OFFSET(bus, devfn, where)	((bus) << 20 | (devfn) << 12)

struct list_head { struct list_head *next, *prev; };
#define INIT_LIST_HEAD(l)	((l)->next = (l)->prev = (l))
#define list_entry_of(p, type)	((type *)(p))	/* the list is the first member */
#define list_for_each_entry(p, head, member) \
	for (p = list_entry_of((head)->next, __typeof__(*p)); &p->member != (head); \
	     p = list_entry_of(p->member.next, __typeof__(*p)))
static inline void list_add_tail(struct list_head *new, struct list_head *head)
{
	new->prev = head->prev;
	new->next = head;
	head->prev->next = new;
	head->prev = new;
}

/* A node: properties as in the tree, big endian. */
struct property { const char *name; int len; u8 data[96]; };
struct device_node {
	struct property props[20];
	struct device_node *child[8];
};
static inline struct property *of_find(const struct device_node *np, const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(np->props) && np->props[i].name; i++)
		if (!strcmp(np->props[i].name, name))
			return (struct property *)&np->props[i];
	return NULL;
}
static inline bool of_property_present(const struct device_node *np, const char *name)
{
	return of_find(np, name) != NULL;
}
static inline int of_count(const struct device_node *np, const char *name, int size)
{
	struct property *p = of_find(np, name);

	return !p || p->len % size ? -EINVAL : p->len / size;	/* 0 when empty */
}
#define of_property_count_u32_elems(np, name)	of_count(np, name, 4)
#define of_property_count_u64_elems(np, name)	of_count(np, name, 8)
static inline int of_property_read_u32_index(const struct device_node *np, const char *name,
					     int i, u32 *v)
{
	struct property *p = of_find(np, name);

	if (!p)
		return -EINVAL;
	if (4 * i + 4 > p->len)
		return -EOVERFLOW;
	*v = (u32)p->data[4 * i] << 24 | p->data[4 * i + 1] << 16 | p->data[4 * i + 2] << 8 |
	     p->data[4 * i + 3];
	return 0;
}
#define of_property_read_u32(np, name, v)	of_property_read_u32_index(np, name, 0, v)
static inline int of_property_read_u64_index(const struct device_node *np, const char *name,
					     int i, u64 *v)
{
	u32 hi, lo;
	int ret = of_property_read_u32_index(np, name, 2 * i, &hi) ?:
		  of_property_read_u32_index(np, name, 2 * i + 1, &lo);

	if (!ret)
		*v = (u64)hi << 32 | lo;
	return ret;
}
#define of_property_read_u64(np, name, v)	of_property_read_u64_index(np, name, 0, v)
static inline int of_property_read_string(const struct device_node *np, const char *name,
					  const char **v)
{
	struct property *p = of_find(np, name);

	if (!p || !p->len || p->data[p->len - 1])
		return -EINVAL;
	*v = (const char *)p->data;
	return 0;
}
static inline bool of_node_is_type(const struct device_node *np, const char *type)
{
	const char *v;

	return !of_property_read_string(np, "device_type", &v) && !strcmp(v, type);
}
#define of_node_get(np)		(np)
#define for_each_child_of_node_scoped(parent, np) \
	for (struct device_node **at_ = (parent)->child, *np; (np = *at_); at_++)

struct device { struct device_node *of_node; };
struct pci_dev;
struct pci_bus { u8 number; void *sysdata; };
struct pci_config_window {
	struct { u64 start, end; } busr;
	struct device *parent;
	void *win, *priv;
};
struct pci_ops {
	void *map_bus;
	int (*read)(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val);
	int (*write)(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val);
};
struct pci_ecam_ops { int (*init)(struct pci_config_window *cfg); struct pci_ops pci_ops; };
#define pci_ecam_map_bus	NULL
void *devm_kzalloc(struct device *dev, size_t size, int flags);

/* The host: seal.c (of the tests) answers. */
u32 host_read(void *addr, int size);
void host_write(void *addr, int size, u32 val);
#define readb(a)	host_read(a, 1)
#define readw(a)	host_read(a, 2)
#define readl(a)	host_read(a, 4)
#define writeb(v, a)	host_write(a, 1, v)
#define writew(v, a)	host_write(a, 2, v)
#define writel(v, a)	host_write(a, 4, v)
