/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of the kernel as seal.c and config.c need. */
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
#define SZ_4K		4096
#define GFP_KERNEL	0
#define KERNEL_VERSION(a, b, c)	((a) << 16 | (b) << 8 | (c))
#define LINUX_VERSION_CODE	KERNEL_VERSION(7, 0, 0)

#define round_up(x, y)		((((x) - 1) | ((y) - 1)) + 1)
#define round_down(x, y)	((x) & ~((y) - 1))
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define GENMASK(h, l)		(((~0UL) << (l)) & (~0UL >> (63 - (h))))
#define pr_err(...)		do { if (verbose) fprintf(stderr, __VA_ARGS__); } while (0)
static bool verbose;

#define PCI_STD_NUM_BARS	6
#ifndef PCI_HEADER_TYPE_MFD	/* newer than some user-space headers */
#define PCI_HEADER_TYPE_MFD	0x80
#endif
#define PCI_SLOT(devfn)		((devfn) >> 3)
#define PCI_SET_ERROR_RESPONSE(val)	(*(val) = ~0U)
#define PCIBIOS_SUCCESSFUL	0
#define PCIBIOS_DEVICE_NOT_FOUND	0x86
#define PCIE_ECAM_OFFSET(bus, devfn, where)	((devfn) << 12)

struct list_head { struct list_head *next, *prev; };
#define INIT_LIST_HEAD(l)	((l)->next = (l)->prev = (l))
#define list_entry_of(p, type)	((type *)(p))	/* the list is the first member */
#define list_for_each_entry(p, head, member) \
	for (p = list_entry_of((head)->next, __typeof__(*p)); &p->member != (head); \
	     p = list_entry_of(p->member.next, __typeof__(*p)))
#define list_for_each_entry_safe(p, n, head, member) \
	for (p = list_entry_of((head)->next, __typeof__(*p)); \
	     n = list_entry_of(p->member.next, __typeof__(*p)), &p->member != (head); p = n)
static inline void list_add_tail(struct list_head *new, struct list_head *head)
{
	new->prev = head->prev;
	new->next = head;
	head->prev->next = new;
	head->prev = new;
}
static inline void list_del(struct list_head *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
}

struct device_node { int unused; };
struct device { struct device_node *of_node; };
struct pci_bus { u8 number; void *sysdata; };
struct pci_config_window {
	struct { u64 start; } busr;
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
#define of_node_get(np)		(np)
#define of_property_present(np, name)	((np) != NULL)
#define for_each_child_of_node_scoped(parent, np) \
	for (struct device_node *np = (parent); np; np = NULL)
#define devm_kzalloc(dev, size, flags)	calloc(1, size)

/* The host: seal.c (of the tests) answers. */
u32 host_read(void *addr, int size);
void host_write(void *addr, int size, u32 val);
#define readb(a)	host_read(a, 1)
#define readw(a)	host_read(a, 2)
#define readl(a)	host_read(a, 4)
#define writeb(v, a)	host_write(a, 1, v)
#define writew(v, a)	host_write(a, 2, v)
#define writel(v, a)	host_write(a, 4, v)
