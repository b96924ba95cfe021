//! The flags of mount(2) and the attributes of mount_setattr(2), as wide as the two calls
//! take them.

use linux_raw_sys::general;

/// Widens the kernel's constants.
macro_rules! flags {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("The kernel's `", stringify!($name), "`.")]
            pub const $name: u64 = general::$name as u64;
        )*
    };
}

flags! {
    MS_BIND MS_DIRSYNC MS_I_VERSION MS_LAZYTIME MS_MANDLOCK MS_NOATIME MS_NODEV MS_NODIRATIME
    MS_NOEXEC MS_NOSUID MS_NOSYMFOLLOW MS_PRIVATE MS_RDONLY MS_REC MS_RELATIME MS_REMOUNT
    MS_SHARED MS_SILENT MS_SLAVE MS_STRICTATIME MS_SYNCHRONOUS MS_UNBINDABLE
    MOUNT_ATTR__ATIME MOUNT_ATTR_NOATIME MOUNT_ATTR_NODEV MOUNT_ATTR_NODIRATIME
    MOUNT_ATTR_NOEXEC MOUNT_ATTR_NOSUID MOUNT_ATTR_NOSYMFOLLOW MOUNT_ATTR_RDONLY
    MOUNT_ATTR_RELATIME MOUNT_ATTR_STRICTATIME
}
