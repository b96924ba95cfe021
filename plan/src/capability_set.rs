//! Sets of capabilities (capabilities(7)).

use linux_raw_sys::general;

bitflags::bitflags! {
    /// A set of capabilities, as the kernel numbers them. It may have bits of a newer kernel,
    /// for which there is no name.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct CapabilitySet: u64 {
        /// `CAP_CHOWN`.
        const CHOWN = 1 << general::CAP_CHOWN;
        /// `CAP_DAC_OVERRIDE`.
        const DAC_OVERRIDE = 1 << general::CAP_DAC_OVERRIDE;
        /// `CAP_DAC_READ_SEARCH`.
        const DAC_READ_SEARCH = 1 << general::CAP_DAC_READ_SEARCH;
        /// `CAP_FOWNER`.
        const FOWNER = 1 << general::CAP_FOWNER;
        /// `CAP_FSETID`.
        const FSETID = 1 << general::CAP_FSETID;
        /// `CAP_KILL`.
        const KILL = 1 << general::CAP_KILL;
        /// `CAP_SETGID`.
        const SETGID = 1 << general::CAP_SETGID;
        /// `CAP_SETUID`.
        const SETUID = 1 << general::CAP_SETUID;
        /// `CAP_SETPCAP`.
        const SETPCAP = 1 << general::CAP_SETPCAP;
        /// `CAP_LINUX_IMMUTABLE`.
        const LINUX_IMMUTABLE = 1 << general::CAP_LINUX_IMMUTABLE;
        /// `CAP_NET_BIND_SERVICE`.
        const NET_BIND_SERVICE = 1 << general::CAP_NET_BIND_SERVICE;
        /// `CAP_NET_BROADCAST`.
        const NET_BROADCAST = 1 << general::CAP_NET_BROADCAST;
        /// `CAP_NET_ADMIN`.
        const NET_ADMIN = 1 << general::CAP_NET_ADMIN;
        /// `CAP_NET_RAW`.
        const NET_RAW = 1 << general::CAP_NET_RAW;
        /// `CAP_IPC_LOCK`.
        const IPC_LOCK = 1 << general::CAP_IPC_LOCK;
        /// `CAP_IPC_OWNER`.
        const IPC_OWNER = 1 << general::CAP_IPC_OWNER;
        /// `CAP_SYS_MODULE`.
        const SYS_MODULE = 1 << general::CAP_SYS_MODULE;
        /// `CAP_SYS_RAWIO`.
        const SYS_RAWIO = 1 << general::CAP_SYS_RAWIO;
        /// `CAP_SYS_CHROOT`.
        const SYS_CHROOT = 1 << general::CAP_SYS_CHROOT;
        /// `CAP_SYS_PTRACE`.
        const SYS_PTRACE = 1 << general::CAP_SYS_PTRACE;
        /// `CAP_SYS_PACCT`.
        const SYS_PACCT = 1 << general::CAP_SYS_PACCT;
        /// `CAP_SYS_ADMIN`.
        const SYS_ADMIN = 1 << general::CAP_SYS_ADMIN;
        /// `CAP_SYS_BOOT`.
        const SYS_BOOT = 1 << general::CAP_SYS_BOOT;
        /// `CAP_SYS_NICE`.
        const SYS_NICE = 1 << general::CAP_SYS_NICE;
        /// `CAP_SYS_RESOURCE`.
        const SYS_RESOURCE = 1 << general::CAP_SYS_RESOURCE;
        /// `CAP_SYS_TIME`.
        const SYS_TIME = 1 << general::CAP_SYS_TIME;
        /// `CAP_SYS_TTY_CONFIG`.
        const SYS_TTY_CONFIG = 1 << general::CAP_SYS_TTY_CONFIG;
        /// `CAP_MKNOD`.
        const MKNOD = 1 << general::CAP_MKNOD;
        /// `CAP_LEASE`.
        const LEASE = 1 << general::CAP_LEASE;
        /// `CAP_AUDIT_WRITE`.
        const AUDIT_WRITE = 1 << general::CAP_AUDIT_WRITE;
        /// `CAP_AUDIT_CONTROL`.
        const AUDIT_CONTROL = 1 << general::CAP_AUDIT_CONTROL;
        /// `CAP_SETFCAP`.
        const SETFCAP = 1 << general::CAP_SETFCAP;
        /// `CAP_MAC_OVERRIDE`.
        const MAC_OVERRIDE = 1 << general::CAP_MAC_OVERRIDE;
        /// `CAP_MAC_ADMIN`.
        const MAC_ADMIN = 1 << general::CAP_MAC_ADMIN;
        /// `CAP_SYSLOG`.
        const SYSLOG = 1 << general::CAP_SYSLOG;
        /// `CAP_WAKE_ALARM`.
        const WAKE_ALARM = 1 << general::CAP_WAKE_ALARM;
        /// `CAP_BLOCK_SUSPEND`.
        const BLOCK_SUSPEND = 1 << general::CAP_BLOCK_SUSPEND;
        /// `CAP_AUDIT_READ`.
        const AUDIT_READ = 1 << general::CAP_AUDIT_READ;
        /// `CAP_PERFMON`.
        const PERFMON = 1 << general::CAP_PERFMON;
        /// `CAP_BPF`.
        const BPF = 1 << general::CAP_BPF;
        /// `CAP_CHECKPOINT_RESTORE`.
        const CHECKPOINT_RESTORE = 1 << general::CAP_CHECKPOINT_RESTORE;
        // Declare all other bits as known, so that the complement of a set also contains
        // capabilities that are newer than this list.
        const _ = !0;
    }
}
