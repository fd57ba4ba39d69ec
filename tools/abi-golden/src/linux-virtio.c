/* What Debian's linux-libc-dev: the ring and the transports says. */
#include <linux/virtio_ids.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_pci.h>
#include <linux/pci_regs.h>

#include "emit.h"

static void virtio_ids(void)
{
    HEADER_FIRST("linux/virtio_ids.h");
    CONSTANTS();
    K(VIRTIO_ID_NET);
    K(VIRTIO_ID_BLOCK);
    K(VIRTIO_ID_CONSOLE);
    K(VIRTIO_ID_RNG);
    K(VIRTIO_ID_BALLOON);
    K(VIRTIO_ID_SCSI);
    K(VIRTIO_ID_9P);
    K(VIRTIO_ID_GPU);
    K(VIRTIO_ID_INPUT);
    K(VIRTIO_ID_VSOCK);
    K(VIRTIO_ID_CRYPTO);
    K(VIRTIO_ID_IOMMU);
    K(VIRTIO_ID_MEM);
    K(VIRTIO_ID_SOUND);
    K(VIRTIO_ID_FS);
    K(VIRTIO_ID_PMEM);
    K(VIRTIO_TRANS_ID_NET);
    K(VIRTIO_TRANS_ID_BLOCK);
    K(VIRTIO_TRANS_ID_BALLOON);
    K(VIRTIO_TRANS_ID_CONSOLE);
    K(VIRTIO_TRANS_ID_SCSI);
    K(VIRTIO_TRANS_ID_RNG);
    K(VIRTIO_TRANS_ID_9P);
    END_CONSTANTS();
    END_HEADER();
}

static void virtio_config(void)
{
    HEADER("linux/virtio_config.h");
    CONSTANTS();
    K(VIRTIO_CONFIG_S_ACKNOWLEDGE);
    K(VIRTIO_CONFIG_S_DRIVER);
    K(VIRTIO_CONFIG_S_DRIVER_OK);
    K(VIRTIO_CONFIG_S_FEATURES_OK);
    K(VIRTIO_CONFIG_S_NEEDS_RESET);
    K(VIRTIO_CONFIG_S_FAILED);
    K(VIRTIO_TRANSPORT_F_START);
    K(VIRTIO_TRANSPORT_F_END);
    K(VIRTIO_F_NOTIFY_ON_EMPTY);
    K(VIRTIO_F_ANY_LAYOUT);
    K(VIRTIO_F_VERSION_1);
    K(VIRTIO_F_ACCESS_PLATFORM);
    K(VIRTIO_F_RING_PACKED);
    K(VIRTIO_F_IN_ORDER);
    K(VIRTIO_F_ORDER_PLATFORM);
    K(VIRTIO_F_SR_IOV);
    K(VIRTIO_F_RING_RESET);
    END_CONSTANTS();
    END_HEADER();
}

static void virtio_ring(void)
{
    HEADER("linux/virtio_ring.h");
    CONSTANTS();
    K(VRING_DESC_F_NEXT);
    K(VRING_DESC_F_WRITE);
    K(VRING_DESC_F_INDIRECT);
    K(VRING_PACKED_DESC_F_AVAIL);
    K(VRING_PACKED_DESC_F_USED);
    K(VRING_USED_F_NO_NOTIFY);
    K(VRING_AVAIL_F_NO_INTERRUPT);
    K(VRING_PACKED_EVENT_FLAG_ENABLE);
    K(VRING_PACKED_EVENT_FLAG_DISABLE);
    K(VRING_PACKED_EVENT_FLAG_DESC);
    K(VRING_PACKED_EVENT_F_WRAP_CTR);
    K(VIRTIO_RING_F_INDIRECT_DESC);
    K(VIRTIO_RING_F_EVENT_IDX);
    K(VRING_AVAIL_ALIGN_SIZE);
    K(VRING_USED_ALIGN_SIZE);
    K(VRING_DESC_ALIGN_SIZE);
    END_CONSTANTS();
    STRUCTS();
    STRUCT("vring_desc", struct vring_desc);
    F(struct vring_desc, addr);
    F(struct vring_desc, len);
    F(struct vring_desc, flags);
    F(struct vring_desc, next);
    END_STRUCT();
    STRUCT("vring_avail", struct vring_avail);
    F(struct vring_avail, flags);
    F(struct vring_avail, idx);
    F(struct vring_avail, ring);
    END_STRUCT();
    STRUCT("vring_used", struct vring_used);
    F(struct vring_used, flags);
    F(struct vring_used, idx);
    F(struct vring_used, ring);
    END_STRUCT();
    STRUCT("vring_used_elem", struct vring_used_elem);
    F(struct vring_used_elem, id);
    F(struct vring_used_elem, len);
    END_STRUCT();
    STRUCT("vring_packed_desc", struct vring_packed_desc);
    F(struct vring_packed_desc, addr);
    F(struct vring_packed_desc, len);
    F(struct vring_packed_desc, id);
    F(struct vring_packed_desc, flags);
    END_STRUCT();
    STRUCT("vring_packed_desc_event", struct vring_packed_desc_event);
    F(struct vring_packed_desc_event, off_wrap);
    F(struct vring_packed_desc_event, flags);
    END_STRUCT();
    END_STRUCTS();
    open_section("vring_size");
    for (unsigned int num = 1; num <= 32768; num *= 2) {
        char name[16];
        snprintf(name, sizeof(name), "%u", num);
        item(name, vring_size(num, 4096));
    }
    close_section();
    END_HEADER();
}

static void virtio_pci(void)
{
    HEADER("linux/virtio_pci.h");
    CONSTANTS();
    K(VIRTIO_PCI_HOST_FEATURES);
    K(VIRTIO_PCI_GUEST_FEATURES);
    K(VIRTIO_PCI_QUEUE_PFN);
    K(VIRTIO_PCI_QUEUE_NUM);
    K(VIRTIO_PCI_QUEUE_SEL);
    K(VIRTIO_PCI_QUEUE_NOTIFY);
    K(VIRTIO_PCI_STATUS);
    K(VIRTIO_PCI_ISR);
    K(VIRTIO_MSI_CONFIG_VECTOR);
    K(VIRTIO_MSI_QUEUE_VECTOR);
    K(VIRTIO_PCI_ABI_VERSION);
    K(VIRTIO_PCI_QUEUE_ADDR_SHIFT);
    K(VIRTIO_PCI_VRING_ALIGN);
    K(VIRTIO_PCI_ISR_CONFIG);
    K(VIRTIO_MSI_NO_VECTOR);
    K(VIRTIO_PCI_CAP_COMMON_CFG);
    K(VIRTIO_PCI_CAP_NOTIFY_CFG);
    K(VIRTIO_PCI_CAP_ISR_CFG);
    K(VIRTIO_PCI_CAP_DEVICE_CFG);
    K(VIRTIO_PCI_CAP_PCI_CFG);
    K(VIRTIO_PCI_CAP_SHARED_MEMORY_CFG);
    K(VIRTIO_PCI_CAP_VNDR);
    K(VIRTIO_PCI_CAP_NEXT);
    K(VIRTIO_PCI_CAP_LEN);
    K(VIRTIO_PCI_CAP_CFG_TYPE);
    K(VIRTIO_PCI_CAP_BAR);
    K(VIRTIO_PCI_CAP_OFFSET);
    K(VIRTIO_PCI_CAP_LENGTH);
    K(VIRTIO_PCI_NOTIFY_CAP_MULT);
    K(VIRTIO_PCI_COMMON_DFSELECT);
    K(VIRTIO_PCI_COMMON_DF);
    K(VIRTIO_PCI_COMMON_GFSELECT);
    K(VIRTIO_PCI_COMMON_GF);
    K(VIRTIO_PCI_COMMON_MSIX);
    K(VIRTIO_PCI_COMMON_NUMQ);
    K(VIRTIO_PCI_COMMON_STATUS);
    K(VIRTIO_PCI_COMMON_CFGGENERATION);
    K(VIRTIO_PCI_COMMON_Q_SELECT);
    K(VIRTIO_PCI_COMMON_Q_SIZE);
    K(VIRTIO_PCI_COMMON_Q_MSIX);
    K(VIRTIO_PCI_COMMON_Q_ENABLE);
    K(VIRTIO_PCI_COMMON_Q_NOFF);
    K(VIRTIO_PCI_COMMON_Q_DESCLO);
    K(VIRTIO_PCI_COMMON_Q_DESCHI);
    K(VIRTIO_PCI_COMMON_Q_AVAILLO);
    K(VIRTIO_PCI_COMMON_Q_AVAILHI);
    K(VIRTIO_PCI_COMMON_Q_USEDLO);
    K(VIRTIO_PCI_COMMON_Q_USEDHI);
    K(VIRTIO_PCI_COMMON_Q_NDATA);
    K(VIRTIO_PCI_COMMON_Q_RESET);
    item("VIRTIO_PCI_CONFIG_OFF(0)", VIRTIO_PCI_CONFIG_OFF(0));
    item("VIRTIO_PCI_CONFIG_OFF(1)", VIRTIO_PCI_CONFIG_OFF(1));
    END_CONSTANTS();
    STRUCTS();
    STRUCT("virtio_pci_cap", struct virtio_pci_cap);
    F(struct virtio_pci_cap, cap_vndr);
    F(struct virtio_pci_cap, cap_next);
    F(struct virtio_pci_cap, cap_len);
    F(struct virtio_pci_cap, cfg_type);
    F(struct virtio_pci_cap, bar);
    F(struct virtio_pci_cap, id);
    F(struct virtio_pci_cap, padding);
    F(struct virtio_pci_cap, offset);
    F(struct virtio_pci_cap, length);
    END_STRUCT();
    STRUCT("virtio_pci_cap64", struct virtio_pci_cap64);
    F(struct virtio_pci_cap64, cap);
    F(struct virtio_pci_cap64, offset_hi);
    F(struct virtio_pci_cap64, length_hi);
    END_STRUCT();
    STRUCT("virtio_pci_notify_cap", struct virtio_pci_notify_cap);
    F(struct virtio_pci_notify_cap, cap);
    F(struct virtio_pci_notify_cap, notify_off_multiplier);
    END_STRUCT();
    STRUCT("virtio_pci_cfg_cap", struct virtio_pci_cfg_cap);
    F(struct virtio_pci_cfg_cap, cap);
    F(struct virtio_pci_cfg_cap, pci_cfg_data);
    END_STRUCT();
    STRUCT("virtio_pci_common_cfg", struct virtio_pci_common_cfg);
    F(struct virtio_pci_common_cfg, device_feature_select);
    F(struct virtio_pci_common_cfg, device_feature);
    F(struct virtio_pci_common_cfg, guest_feature_select);
    F(struct virtio_pci_common_cfg, guest_feature);
    F(struct virtio_pci_common_cfg, msix_config);
    F(struct virtio_pci_common_cfg, num_queues);
    F(struct virtio_pci_common_cfg, device_status);
    F(struct virtio_pci_common_cfg, config_generation);
    F(struct virtio_pci_common_cfg, queue_select);
    F(struct virtio_pci_common_cfg, queue_size);
    F(struct virtio_pci_common_cfg, queue_msix_vector);
    F(struct virtio_pci_common_cfg, queue_enable);
    F(struct virtio_pci_common_cfg, queue_notify_off);
    F(struct virtio_pci_common_cfg, queue_desc_lo);
    F(struct virtio_pci_common_cfg, queue_desc_hi);
    F(struct virtio_pci_common_cfg, queue_avail_lo);
    F(struct virtio_pci_common_cfg, queue_avail_hi);
    F(struct virtio_pci_common_cfg, queue_used_lo);
    F(struct virtio_pci_common_cfg, queue_used_hi);
    END_STRUCT();
    END_STRUCTS();
    END_HEADER();
}

static void pci_regs(void)
{
    HEADER("linux/pci_regs.h");
    CONSTANTS();
    K(PCI_CFG_SPACE_SIZE);
    K(PCI_CFG_SPACE_EXP_SIZE);
    K(PCI_STD_HEADER_SIZEOF);
    K(PCI_STD_NUM_BARS);
    K(PCI_VENDOR_ID);
    K(PCI_DEVICE_ID);
    K(PCI_COMMAND);
    K(PCI_STATUS);
    K(PCI_CLASS_REVISION);
    K(PCI_REVISION_ID);
    K(PCI_CLASS_PROG);
    K(PCI_CLASS_DEVICE);
    K(PCI_CACHE_LINE_SIZE);
    K(PCI_LATENCY_TIMER);
    K(PCI_HEADER_TYPE);
    K(PCI_BIST);
    K(PCI_BASE_ADDRESS_0);
    K(PCI_BASE_ADDRESS_1);
    K(PCI_BASE_ADDRESS_2);
    K(PCI_BASE_ADDRESS_3);
    K(PCI_BASE_ADDRESS_4);
    K(PCI_BASE_ADDRESS_5);
    K(PCI_CARDBUS_CIS);
    K(PCI_SUBSYSTEM_VENDOR_ID);
    K(PCI_SUBSYSTEM_ID);
    K(PCI_ROM_ADDRESS);
    K(PCI_CAPABILITY_LIST);
    K(PCI_INTERRUPT_LINE);
    K(PCI_INTERRUPT_PIN);
    K(PCI_MIN_GNT);
    K(PCI_MAX_LAT);
    K(PCI_COMMAND_IO);
    K(PCI_COMMAND_MEMORY);
    K(PCI_COMMAND_MASTER);
    K(PCI_COMMAND_PARITY);
    K(PCI_COMMAND_SERR);
    K(PCI_COMMAND_INTX_DISABLE);
    K(PCI_STATUS_INTERRUPT);
    K(PCI_STATUS_CAP_LIST);
    K(PCI_HEADER_TYPE_MASK);
    K(PCI_HEADER_TYPE_NORMAL);
    K(PCI_BASE_ADDRESS_SPACE);
    K(PCI_BASE_ADDRESS_SPACE_IO);
    K(PCI_BASE_ADDRESS_SPACE_MEMORY);
    K(PCI_BASE_ADDRESS_MEM_TYPE_MASK);
    K(PCI_BASE_ADDRESS_MEM_TYPE_32);
    K(PCI_BASE_ADDRESS_MEM_TYPE_64);
    K(PCI_BASE_ADDRESS_MEM_PREFETCH);
    K32(PCI_BASE_ADDRESS_MEM_MASK);
    K32(PCI_BASE_ADDRESS_IO_MASK);
    K(PCI_CAP_LIST_ID);
    K(PCI_CAP_LIST_NEXT);
    K(PCI_CAP_FLAGS);
    K(PCI_CAP_ID_PM);
    K(PCI_CAP_ID_MSI);
    K(PCI_CAP_ID_VNDR);
    K(PCI_CAP_ID_EXP);
    K(PCI_CAP_ID_MSIX);
    K(PCI_MSIX_FLAGS);
    K(PCI_MSIX_FLAGS_QSIZE);
    K(PCI_MSIX_FLAGS_MASKALL);
    K(PCI_MSIX_FLAGS_ENABLE);
    K(PCI_MSIX_TABLE);
    K(PCI_MSIX_TABLE_BIR);
    K(PCI_MSIX_TABLE_OFFSET);
    K(PCI_MSIX_PBA);
    K(PCI_MSIX_PBA_BIR);
    K(PCI_MSIX_PBA_OFFSET);
    K(PCI_CAP_MSIX_SIZEOF);
    K(PCI_MSIX_ENTRY_SIZE);
    K(PCI_MSIX_ENTRY_LOWER_ADDR);
    K(PCI_MSIX_ENTRY_UPPER_ADDR);
    K(PCI_MSIX_ENTRY_DATA);
    K(PCI_MSIX_ENTRY_VECTOR_CTRL);
    K(PCI_MSIX_ENTRY_CTRL_MASKBIT);
    END_CONSTANTS();
    END_HEADER();
}

int main(void)
{
    printf("{");
    virtio_ids();
    virtio_config();
    virtio_ring();
    virtio_pci();
    pci_regs();
    printf("\n}\n");
    return 0;
}
