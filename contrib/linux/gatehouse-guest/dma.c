// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private DMA: the device reads and writes the realm's protected memory at its
 * own address. With these ops set, dma-direct (which would use shared bounce
 * buffers in a realm) is out of the way. Coherent devices only.
 */
#include <linux/dma-map-ops.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>

#include "gatehouse.h"

#ifndef CONFIG_ARCH_HAS_DMA_OPS
#error "gatehouse-guest needs a kernel with CONFIG_ARCH_HAS_DMA_OPS=y (arm64: CONFIG_XEN=y selects it); without it a device cannot be given private DMA"
#endif

/* Registers of other devices, and memory that is shared with the host. */
static const unsigned long gh_refused_attrs = 0
#ifdef DMA_ATTR_MMIO
	| DMA_ATTR_MMIO
#endif
#ifdef DMA_ATTR_CC_SHARED
	| DMA_ATTR_CC_SHARED
#endif
	;

static u64 gh_limit(struct device *dev, u64 mask)
{
	return min_not_zero(mask, dev->bus_dma_limit);
}

static bool gh_reaches(struct device *dev, u64 mask, phys_addr_t phys,
		       size_t size)
{
	return phys + size - 1 <= gh_limit(dev, mask);
}

/* Zeroed, physically contiguous, below the coherent mask. */
static struct page *gh_get_pages(struct device *dev, size_t size, gfp_t gfp)
{
	u64 mask = dev->coherent_dma_mask;
	u64 limit = gh_limit(dev, mask);
	void *virt;

	gfp &= ~(__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM);
	if (limit < DMA_BIT_MASK(32))
		gfp |= GFP_DMA;
	else if (limit < virt_to_phys(high_memory - 1))
		gfp |= GFP_DMA32;

	virt = alloc_pages_exact(size, gfp | __GFP_ZERO);
	if (!virt)
		return NULL;
	if (!gh_reaches(dev, mask, virt_to_phys(virt), size)) {
		free_pages_exact(virt, size);
		return NULL;
	}
	return virt_to_page(virt);
}

static void *gh_alloc(struct device *dev, size_t size, dma_addr_t *handle,
		      gfp_t gfp, unsigned long attrs)
{
	struct page *page;

	if (attrs & gh_refused_attrs)
		return NULL;
	page = gh_get_pages(dev, PAGE_ALIGN(size), gfp);
	if (!page)
		return NULL;
	*handle = page_to_phys(page);
	return page_address(page);
}

static void gh_free(struct device *dev, size_t size, void *virt,
		    dma_addr_t handle, unsigned long attrs)
{
	free_pages_exact(virt, PAGE_ALIGN(size));
}

static struct page *gh_alloc_pages(struct device *dev, size_t size,
				   dma_addr_t *handle,
				   enum dma_data_direction dir, gfp_t gfp)
{
	struct page *page = gh_get_pages(dev, PAGE_ALIGN(size), gfp);

	if (page)
		*handle = page_to_phys(page);
	return page;
}

static void gh_free_pages(struct device *dev, size_t size, struct page *page,
			  dma_addr_t handle, enum dma_data_direction dir)
{
	free_pages_exact(page_address(page), PAGE_ALIGN(size));
}

static int gh_mmap(struct device *dev, struct vm_area_struct *vma, void *virt,
		   dma_addr_t handle, size_t size, unsigned long attrs)
{
	unsigned long want = vma_pages(vma);
	unsigned long have = PAGE_ALIGN(size) >> PAGE_SHIFT;

	if (vma->vm_pgoff >= have || want > have - vma->vm_pgoff)
		return -ENXIO;
	return remap_pfn_range(vma, vma->vm_start,
			       PHYS_PFN(handle) + vma->vm_pgoff,
			       want << PAGE_SHIFT, vma->vm_page_prot);
}

static int gh_get_sgtable(struct device *dev, struct sg_table *sgt, void *virt,
			  dma_addr_t handle, size_t size, unsigned long attrs)
{
	int ret = sg_alloc_table(sgt, 1, GFP_KERNEL);

	if (!ret)
		sg_set_page(sgt->sgl, pfn_to_page(PHYS_PFN(handle)),
			    PAGE_ALIGN(size), 0);
	return ret;
}

static dma_addr_t gh_map_phys(struct device *dev, phys_addr_t phys, size_t size,
			      enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & gh_refused_attrs ||
	    !gh_reaches(dev, *dev->dma_mask, phys, size)) {
		dev_warn_ratelimited(dev, "private DMA: no mapping for %pa size 0x%zx attrs 0x%lx\n",
				     &phys, size, attrs);
		return DMA_MAPPING_ERROR;
	}
	return phys;
}

/* Nothing was set up by a mapping. The same shape for pages. */
static void gh_unmap_phys(struct device *dev, dma_addr_t handle, size_t size,
			  enum dma_data_direction dir, unsigned long attrs)
{
}

#ifndef GATEHOUSE_MAP_PHYS
/* No map_resource: it would be for registers of other devices. */
static dma_addr_t gh_map_page(struct device *dev, struct page *page,
			      unsigned long offset, size_t size,
			      enum dma_data_direction dir, unsigned long attrs)
{
	return gh_map_phys(dev, page_to_phys(page) + offset, size, dir, attrs);
}
#endif

static int gh_map_sg(struct device *dev, struct scatterlist *sgl, int nents,
		     enum dma_data_direction dir, unsigned long attrs)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i) {
		dma_addr_t addr = gh_map_phys(dev, sg_phys(sg), sg->length, dir,
					      attrs);

		if (addr == DMA_MAPPING_ERROR)
			return -EIO;
		sg->dma_address = addr;
		sg_dma_len(sg) = sg->length;
	}
	return nents;
}

static void gh_unmap_sg(struct device *dev, struct scatterlist *sgl, int nents,
			enum dma_data_direction dir, unsigned long attrs)
{
}

static u64 gh_required_mask(struct device *dev)
{
	return DMA_BIT_MASK(fls64(virt_to_phys(high_memory - 1)));
}

/* No bounce buffers: a device that cannot reach all memory is refused. */
static int gh_dma_supported(struct device *dev, u64 mask)
{
	return gh_limit(dev, mask) >= gh_required_mask(dev);
}

static const struct dma_map_ops gh_dma_ops = {
	.alloc			= gh_alloc,
	.free			= gh_free,
	.alloc_pages_op		= gh_alloc_pages,
	.free_pages		= gh_free_pages,
	.mmap			= gh_mmap,
	.get_sgtable		= gh_get_sgtable,
#ifdef GATEHOUSE_MAP_PHYS
	.map_phys		= gh_map_phys,
	.unmap_phys		= gh_unmap_phys,
#else
	.map_page		= gh_map_page,
	.unmap_page		= gh_unmap_phys,
#endif
	.map_sg			= gh_map_sg,
	.unmap_sg		= gh_unmap_sg,
	.dma_supported		= gh_dma_supported,
	.get_required_mask	= gh_required_mask,
};

/*
 * False: somebody else's ops are there. Some kernels take ops away when a
 * driver is unbound, so this is needed again before each probe.
 */
bool gh_dma_give(struct device *dev)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);

	if (ops && ops != &gh_dma_ops)
		return false;
	set_dma_ops(dev, &gh_dma_ops);
	return true;
}

/* The kernel's own way, which in a realm is through shared bounce buffers? */
bool gh_dma_bounced(struct device *dev)
{
	return !get_dma_ops(dev);
}
