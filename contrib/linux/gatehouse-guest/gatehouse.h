/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The OS half of Gatehouse: one PCI host bridge whose functions were attested,
 * validated and started by the firmware before this kernel ran.
 *
 * Who is believed: the device tree (measured, made by the firmware) and the
 * RMM. Not believed: everything that config space answers, because the host
 * emulates it.
 */
#ifndef GATEHOUSE_H
#define GATEHOUSE_H

#include <linux/list.h>
#include <linux/of.h>
#include <linux/pci.h>
#include <linux/pci-ecam.h>
#include <linux/pgtable.h>
#include <linux/version.h>

#define GH_NAME		"gatehouse-guest"

#if PAGE_SHIFT != 12
#error "gatehouse-guest needs a kernel with 4 KiB pages: RIPAS is kept per 4 KiB, and a larger ioremap page would mix private and shared registers"
#endif

#define GH_MAX_MSIX	8

/* A run of 4 KiB pages of one BAR that hold the MSI-X table or PBA. */
struct gh_msix_run {
	u32 bar;
	u32 first;
	u32 count;
};

struct gh_bar {
	u64 addr;		/* bus address == IPA, without alias bit */
	u64 size;		/* 0: not implemented */
	u32 flags;		/* low bits of the BAR register */
};

/*
 * One register (four bytes) of config space.
 * Read:  (host & live) | (value & ~live)
 * Write: (new & pass) | (host & keep) | ones; dropped when no bit passes.
 * All zero, which is what nobody claimed: reads as 0, writes are dropped.
 */
struct gh_reg {
	u32 value;
	u32 live;
	u32 pass;
	u32 keep;
	u32 ones;
	bool taken;
};

struct gh_function {
	struct list_head list;
	struct device_node *np;
	void __iomem *cfg;	/* its 4 KiB of ECAM */
	u8 bus;
	u8 devfn;
	bool multifunction;
	bool trusted;		/* checks at add passed */
	bool refused;		/* for good: absent until the next boot */
	u16 vendor, device, subvendor, subdevice;
	u8 revision;
	u32 class;
	u64 vdev;		/* its id in RSI calls */
	u64 nonces[3];		/* lock, measurement, report */

	struct gh_bar bars[PCI_STD_NUM_BARS];
	u32 bar_value[PCI_STD_NUM_BARS];	/* register as read */
	u32 bar_sizing[PCI_STD_NUM_BARS];	/* after all-ones were written */
	bool bar_latched[PCI_STD_NUM_BARS];	/* protected by pci_lock */

	struct gh_msix_run msix[GH_MAX_MSIX];
	unsigned int num_msix;

	struct gh_reg regs[PCI_CFG_SPACE_EXP_SIZE / 4];
};

struct gh_host {
	struct device *dev;
	struct list_head functions;
};

extern const struct pci_ecam_ops gh_ecam_ops;

/* node.c: device tree to struct gh_function */
int gh_node_parse(struct gh_function *fn);
bool gh_page_is_msix(const struct gh_function *fn, unsigned int bar, u64 page);

/* seal.c: the registers of one function */
int gh_seal(struct gh_function *fn);

/* config.c: accessors */
u32 gh_raw_read(const struct gh_function *fn, int where, int size);
struct gh_function *gh_find(struct gh_host *host, unsigned int bus,
			    unsigned int devfn);

/* device.c: checks when a function appears and when a driver binds */
int gh_device_init(void);
void gh_give_up(struct gh_host *host);

/* dma.c */
void gh_dma_give(struct device *dev);
bool gh_dma_given(struct device *dev);

/* realm.c: realm calls, replaced in the test build */
#ifdef GATEHOUSE_TEST_NO_REALM
static inline bool gh_in_realm(void)
{
	return true;
}

static inline bool gh_is_dev(phys_addr_t base, phys_addr_t end)
{
	return true;
}

static inline bool gh_make_empty(phys_addr_t base, phys_addr_t end)
{
	return true;
}

static inline bool gh_vdev_ok(const struct gh_function *fn, const char *name)
{
	return true;
}

static inline void gh_vdev_close(const struct gh_function *fn)
{
}
#else
bool gh_in_realm(void);
bool gh_is_dev(phys_addr_t base, phys_addr_t end);
bool gh_make_empty(phys_addr_t base, phys_addr_t end);
bool gh_vdev_ok(const struct gh_function *fn, const char *name);
void gh_vdev_close(const struct gh_function *fn);
#endif

#define gh_refuse(np, fmt, ...) \
	pr_err("%pOF: refused: " fmt "\n", np, ##__VA_ARGS__)

#endif /* GATEHOUSE_H */
