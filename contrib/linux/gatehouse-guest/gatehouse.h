/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The OS half of Gatehouse: one PCI host bridge whose functions were attested,
 * validated and started by the firmware before this kernel ran, or left
 * unattested on purpose (mode "shared").
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

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0) && !defined(GATEHOUSE_TEST_NO_REALM)
#error "gatehouse-guest needs Linux 6.13 or later: older arm64 kernels cannot run in a realm"
#endif
#if PAGE_SHIFT != 12
#error "gatehouse-guest needs a kernel with 4 KiB pages: RIPAS is kept per 4 KiB, and a larger ioremap page would mix private and shared registers"
#endif

#define GH_MAX_MSIX	8
#define GH_MAX_DEPTH	8	/* bridges above a function */

/* From the tree alone. */
enum gh_mode {
	GH_RUN,		/* attested, in RUN: private registers, private DMA */
	GH_SHARED,	/* not attested: shared registers, bounce buffers */
	GH_PIN,		/* attested, unlocked again: absent, nobody here locks it */
	GH_BRIDGE,	/* a PCI Express port on the way to one of those */
};

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

/* A bridge's memory window; last == 0: none. */
struct gh_window {
	u64 start;
	u64 last;
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

/* One node: a function, or a bridge. */
struct gh_function {
	struct list_head list;
	struct device_node *np;
	struct gh_function *above;	/* the bridge; NULL on the root bus */
	void __iomem *cfg;	/* its 4 KiB of ECAM */
	enum gh_mode mode;
	u8 bus;
	u8 devfn;
	bool multifunction;
	bool trusted;		/* checks at add passed */
	bool refused;		/* for good: absent until the next boot */
	u16 vendor, device, subvendor, subdevice;
	u8 revision;
	u32 class;

	/* GH_RUN */
	bool has_vdev;
	u64 vdev;		/* its id in RSI calls */
	u64 nonces[3];		/* lock, measurement, report */
	struct gh_msix_run msix[GH_MAX_MSIX];
	unsigned int num_msix;

	/* GH_RUN, GH_SHARED */
	struct gh_bar bars[PCI_STD_NUM_BARS];
	u32 bar_value[PCI_STD_NUM_BARS];	/* register as read */
	u32 bar_sizing[PCI_STD_NUM_BARS];	/* after all-ones were written */
	bool bar_latched[PCI_STD_NUM_BARS];	/* protected by pci_lock */

	/* GH_BRIDGE */
	u8 secondary, subordinate;
	u8 port;		/* PCI_EXP_TYPE_* */
	struct gh_window memory, prefetch;

	struct gh_reg regs[PCI_CFG_SPACE_EXP_SIZE / 4];
};

struct gh_host {
	struct device *dev;
	struct list_head functions;	/* a bridge before what is behind it */
};

extern const struct pci_ecam_ops gh_ecam_ops;

/* tree.c: all nodes to a list of struct gh_function */
int gh_ecam_init(struct pci_config_window *cfg);
struct gh_function *gh_find(struct gh_host *host, unsigned int bus,
			    unsigned int devfn);
void gh_close(struct gh_function *fn);

/* node.c: one node to a struct gh_function */
int gh_node_parse(struct gh_function *fn);
bool gh_page_is_msix(const struct gh_function *fn, unsigned int bar, u64 page);

/* seal.c: the registers of one function; bridge.c: those of a bridge */
int gh_seal(struct gh_function *fn);
int gh_seal_caps(struct gh_function *fn, u32 pos);
int gh_seal_bridge(struct gh_function *fn);
int gh_seal_port(struct gh_function *fn, u32 pos);
struct gh_reg *gh_reg(struct gh_function *fn, u32 off);
int gh_take(struct gh_function *fn, u32 off, u32 len, u32 limit);
int gh_take_cap(struct gh_function *fn, u32 pos, u32 len);
int gh_same(struct gh_function *fn, const char *what, u32 off, u32 mask,
	    u32 node);

/* config.c: accessors */
u32 gh_raw_read(const struct gh_function *fn, int where, int size);

/* resource.c: what the kernel made of BARs and windows, and their pages */
bool gh_check_resources(struct pci_dev *pdev, const struct gh_function *fn);
bool gh_check_ripas(const struct gh_function *fn, const char *name);
bool gh_claim(struct pci_dev *pdev, const struct gh_function *fn);
void gh_claim_windows(struct pci_dev *pdev, const struct gh_function *fn);
void gh_release(struct pci_dev *pdev);
u64 gh_private_pages(const struct gh_function *fn, int bar, u64 *bad);

/* device.c: checks when a function appears and when a driver binds */
int gh_device_init(void);
void gh_give_up(struct gh_host *host);

/* dma.c */
bool gh_dma_give(struct device *dev);
bool gh_dma_bounced(struct device *dev);

/* log.c: event log and evidence in sysfs */
void gh_log_init(void);

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

static inline bool gh_is_empty(phys_addr_t base, phys_addr_t end)
{
	return true;
}

static inline bool gh_is_ram(phys_addr_t base, phys_addr_t end)
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
bool gh_is_empty(phys_addr_t base, phys_addr_t end);
bool gh_is_ram(phys_addr_t base, phys_addr_t end);
bool gh_make_empty(phys_addr_t base, phys_addr_t end);
bool gh_vdev_ok(const struct gh_function *fn, const char *name);
void gh_vdev_close(const struct gh_function *fn);
#endif

#define gh_refuse(np, fmt, ...) \
	pr_err("%pOF: refused: " fmt "\n", np, ##__VA_ARGS__)

#endif /* GATEHOUSE_H */
