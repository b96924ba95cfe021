//! Lists the files of NVIDIA's driver, with the capabilities that need them.

use crate::Capabilities;

const COMPUTE: Capabilities = Capabilities::COMPUTE;
const UTILITY: Capabilities = Capabilities::UTILITY;
const GRAPHICS: Capabilities = Capabilities::GRAPHICS;
const VIDEO: Capabilities = Capabilities::VIDEO;
const DISPLAY: Capabilities = Capabilities::DISPLAY;
const NGX: Capabilities = Capabilities::NGX;

/// The variable that tells NVIDIA's own runtime that it has nothing to do.
pub(crate) const SEEN: &str = "NVIDIA_VISIBLE_DEVICES=void";

/// A library, by its name before `.so`.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) stem: &'static str,
    pub(super) capabilities: Capabilities,
    /// Whether the file's name may end in another version than the driver's.
    pub(super) has_own_version: bool,
}

const fn library(stem: &'static str, capabilities: Capabilities) -> Library {
    Library {
        stem,
        capabilities,
        has_own_version: false,
    }
}

const fn versioned(stem: &'static str, capabilities: Capabilities) -> Library {
    Library {
        stem,
        capabilities,
        has_own_version: true,
    }
}

pub(super) const LIBRARIES: &[Library] = &[
    library("libnvidia-ml", UTILITY),
    library("libnvidia-cfg", UTILITY),
    library("libnvidia-nscq", UTILITY),
    library("libcuda", COMPUTE),
    library("libcudadebugger", COMPUTE),
    library("libnvidia-opencl", COMPUTE),
    library("libnvidia-gpucomp", COMPUTE.union(GRAPHICS)),
    library("libnvidia-ptxjitcompiler", COMPUTE),
    library("libnvidia-fatbinaryloader", COMPUTE),
    library("libnvidia-allocator", COMPUTE.union(GRAPHICS)),
    library("libnvidia-compiler", COMPUTE),
    library("libnvidia-pkcs11", COMPUTE),
    library("libnvidia-pkcs11-openssl3", COMPUTE),
    versioned("libnvidia-nvvm", COMPUTE),
    versioned("libnvidia-nvvm70", COMPUTE),
    library("libnvidia-tileiras", COMPUTE),
    library("libvdpau_nvidia", VIDEO),
    library("libnvidia-encode", VIDEO),
    library("libnvidia-opticalflow", VIDEO),
    library("libnvcuvid", VIDEO),
    library("libnvidia-eglcore", GRAPHICS),
    library("libnvidia-glcore", GRAPHICS),
    library("libnvidia-tls", GRAPHICS),
    library("libnvidia-glsi", GRAPHICS),
    library("libnvidia-fbc", GRAPHICS),
    library("libnvidia-ifr", GRAPHICS),
    library("libnvidia-rtcore", GRAPHICS),
    library("libnvoptix", GRAPHICS),
    library("libGLX_nvidia", GRAPHICS),
    library("libEGL_nvidia", GRAPHICS),
    library("libGLESv2_nvidia", GRAPHICS),
    library("libGLESv1_CM_nvidia", GRAPHICS),
    library("libnvidia-glvkspirv", GRAPHICS),
    library("libnvidia-cbl", GRAPHICS),
    library("libnvidia-vulkan-producer", GRAPHICS),
    versioned("libnvidia-egl-gbm", GRAPHICS),
    versioned("libnvidia-egl-wayland", GRAPHICS),
    versioned("libnvidia-egl-wayland2", GRAPHICS),
    versioned("libnvidia-egl-xcb", GRAPHICS),
    versioned("libnvidia-egl-xlib", GRAPHICS),
    library("libnvidia-ngx", NGX),
];

/// Libraries of which each driver has at least one.
pub(super) const CORE: [&str; 2] = ["libcuda.so", "libnvidia-ml.so"];

/// Links that programs need although not every host has them, each with its library.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("libcuda.so", "libcuda"),
    ("libGLX_indirect.so.0", "libGLX_nvidia"),
    ("libnvidia-opticalflow.so", "libnvidia-opticalflow"),
    ("gbm/nvidia-drm_gbm.so", "libnvidia-allocator"),
];

/// Directories with libraries, which may also be in `vdpau` below them. If none of them has a
/// library of the driver, the dynamic linker's cache is searched.
pub(super) const LIBRARY_DIRECTORIES: &[&str] = &[
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/lib/i386-linux-gnu",
    "/run/opengl-driver/lib",
    "/run/opengl-driver-32/lib",
];

pub(super) const PROGRAM_DIRECTORIES: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/run/current-system/sw/bin",
];

/// Programs. In the container they are in /usr/bin.
pub(super) const PROGRAMS: &[(&str, Capabilities)] = &[
    ("nvidia-smi", UTILITY),
    ("nvidia-debugdump", UTILITY),
    ("nvidia-persistenced", UTILITY),
    ("nv-fabricmanager", UTILITY),
    ("nvidia-imex", UTILITY),
    ("nvidia-imex-ctl", UTILITY),
    ("nvidia-cuda-mps-control", COMPUTE),
    ("nvidia-cuda-mps-server", COMPUTE),
    ("nvidia-xconfig", DISPLAY),
];

/// Directories with the files of [`DATA`].
pub(super) const DATA_DIRECTORIES: &[&str] = &["/usr/local/share", "/usr/share", "/etc"];

/// Data files: those that lead other libraries to the driver's, such as OpenCL's nvidia.icd, and
/// those that the driver reads. Each entry has the container's directory, the path below it, and
/// the capabilities that need the file.
pub(super) const DATA: &[(&str, &str, Capabilities)] = &[
    ("/etc", "OpenCL/vendors/nvidia.icd", COMPUTE),
    ("/usr/share", "glvnd/egl_vendor.d/10_nvidia.json", GRAPHICS),
    (
        "/usr/share",
        "egl/egl_external_platform.d/15_nvidia_gbm.json",
        GRAPHICS,
    ),
    (
        "/usr/share",
        "egl/egl_external_platform.d/10_nvidia_wayland.json",
        GRAPHICS,
    ),
    (
        "/usr/share",
        "egl/egl_external_platform.d/09_nvidia_wayland2.json",
        GRAPHICS,
    ),
    (
        "/usr/share",
        "egl/egl_external_platform.d/20_nvidia_xcb.json",
        GRAPHICS,
    ),
    (
        "/usr/share",
        "egl/egl_external_platform.d/20_nvidia_xlib.json",
        GRAPHICS,
    ),
    ("/usr/share", "nvidia/nvoptix.bin", GRAPHICS),
    ("/usr/share", "X11/xorg.conf.d/10-nvidia.conf", DISPLAY),
    (
        "/usr/share",
        "X11/xorg.conf.d/nvidia-drm-outputclass.conf",
        DISPLAY,
    ),
    ("/etc", "vulkan/icd.d/nvidia_icd.json", GRAPHICS),
    ("/etc", "vulkan/icd.d/nvidia_icd.x86_64.json", GRAPHICS),
    ("/etc", "vulkan/icd.d/nvidia_icd.aarch64.json", GRAPHICS),
    ("/etc", "vulkan/icd.d/nvidia_layers.json", GRAPHICS),
    (
        "/etc",
        "vulkan/implicit_layer.d/nvidia_layers.json",
        GRAPHICS,
    ),
];

/// Sockets of services on the host.
pub(super) const SOCKETS: &[(&str, Capabilities)] = &[
    ("/run/nvidia-persistenced/socket", UTILITY),
    ("/run/nvidia-fabricmanager/socket", UTILITY),
    ("/tmp/nvidia-mps", COMPUTE),
];
